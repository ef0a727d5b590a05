//! Real VDF proofs of the network, up to 55.9 million squarings, and damaged copies of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod real_proofs;

use real_proofs::folder;
use tensorpow_core::proof::ProofRef;
use tensorpow_core::units::HeaderPrefix;
use tensorpow_core::vdf::{VdfError, verify};

#[test]
fn the_networks_own_vdf_proofs_verify_and_no_other_tick_does() {
    let Some(folder) = folder("the_networks_own_vdf_proofs_verify_and_no_other_tick_does") else {
        return;
    };
    for (name, tick) in [
        ("proof_genesis_mainnet", 55_869_440),
        ("proof_genesis_tensor_test", 0),
        ("proof_v1_roundtrip", 0),
    ] {
        let file = std::fs::read(folder.join(format!("{name}.bin"))).expect(name);
        let proof = ProofRef::read(&file).unwrap();
        let parent = HeaderPrefix::from_bytes(proof.header_prefix.try_into().unwrap()).parent();
        if tick != 0 {
            assert_eq!(proof.tick, tick, "{name}");
        }
        assert_eq!(verify(&parent, proof.tick, proof.vdf), Ok(()), "{name}");
        let next = verify(&parent, proof.tick + 1, proof.vdf);
        assert_eq!(next, Err(VdfError::Equation), "{name}");
    }
}
