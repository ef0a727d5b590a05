//! Does any buffer make a reader panic, and does what it accepts survive being written again?
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::proof::{
    BlockHeaderMessage, Encode, MiningResponseRef, Proof, ProofRef, ValidationRequestRef,
    ValidationResponseRef, commit,
};

fuzz_target!(|bytes: &[u8]| {
    let _ = BlockHeaderMessage::read(bytes);
    let _ = ValidationRequestRef::read(bytes);
    let _ = ValidationResponseRef::read(bytes);
    let response = MiningResponseRef::read(bytes).ok().and_then(|r| r.pow_blob);
    for proof in [ProofRef::read(bytes).ok(), response].into_iter().flatten() {
        let Ok(commitment) = commit(&proof) else { continue };
        let owned = Proof::try_from(&proof).expect("a proof that can be committed to is small");
        assert_eq!(commit(&owned.as_ref()).map(|c| c.root), Ok(commitment.root));
        // A transported −0.0 scalar becomes 0.0, so compare what a reader of ours would send.
        let sent = proof.as_transported();
        if let Ok(written) = sent.encode_to_vec() {
            let again = ProofRef::read(&written).expect("what we write we read");
            assert_eq!(commit(&again).map(|c| c.root), commit(&sent).map(|c| c.root));
        }
    }
});
