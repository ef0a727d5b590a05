//! Does any proof make the self-check panic?
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::replay;
use tensorpow_core::selfcheck::{Expected, Purpose, selfcheck};

fuzz_target!(|bytes: &[u8]| {
    let response = MiningResponseRef::read(bytes).ok().and_then(|r| r.pow_blob);
    for proof in [ProofRef::read(bytes).ok(), response].into_iter().flatten() {
        let expected = Expected { header_prefix: None, nonce: None, v3_active: true };
        let _ = selfcheck(&proof, &expected, Purpose::Solution);
        let _ = selfcheck(&proof, &expected, Purpose::Audit);
        for step in replay::steps(&proof, None).take(4) {
            let _ = step.interval;
        }
    }
});
