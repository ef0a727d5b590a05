//! Does any proof make the verification or the self-check panic?
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::selfcheck::{Expected, Purpose, selfcheck};
use tensorpow_core::verify::{Chain, Context, Registry, Vdf, Workspace, quick, steps};

fuzz_target!(|bytes: &[u8]| {
    let response = MiningResponseRef::read(bytes).ok().and_then(|r| r.pow_blob);
    for proof in [ProofRef::read(bytes).ok(), response].into_iter().flatten() {
        let chain = Chain::assumed(true, 1_000_000);
        let (registry, vdf) = (Registry::Absent, Vdf::Skip);
        let expected = Expected { header_prefix: None, chain, registry, vdf };
        let context = Context { chain: None, registry, vdf };
        let mut workspace = Workspace::new();
        let mut scratch = workspace.scratch(&proof, Some(&chain));
        let _ = selfcheck(&proof, &expected, Purpose::Solution, &mut scratch);
        let _ = selfcheck(&proof, &expected, Purpose::Audit, &mut scratch);
        let _ = quick(&proof, &context, &mut scratch);
        let _ = steps(&proof, None, &mut scratch, |_| {});
    }
});
