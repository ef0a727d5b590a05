//! The development chain's stand-in for the verifiable delay function: a fixed blob per parent
//! block, with the size and tick of a first checkpoint. It delays nothing and proves nothing;
//! development blocks do not verify the VDF yet.

use crate::mining::vdf::{VdfSource, VdfState};
use sha2::{Digest as _, Sha256};
use tensorpow_core::units::{BlockHash, Tick, VdfBlob};

/// Squarings of one checkpoint. spec: proxy §20.1
pub const TICK: Tick = Tick(32_768);
/// Bytes of a live proof. spec: proof-encoding §3
const BLOB_LEN: usize = 200;

/// The stand-in.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedVdf;

/// The blob of a parent: SHA-256 in counter mode over a label and the hash.
fn blob(challenge: &BlockHash) -> [u8; BLOB_LEN] {
    let mut blob = [0; BLOB_LEN];
    for (counter, room) in (0_u32..).zip(blob.chunks_mut(32)) {
        let block = Sha256::new()
            .chain_update(b"tensorpow devnet vdf")
            .chain_update(challenge.as_bytes())
            .chain_update(counter.to_le_bytes())
            .finalize();
        room.copy_from_slice(&block[..room.len()]);
    }
    blob
}

impl VdfSource for FixedVdf {
    fn latest(&self, challenge: &BlockHash) -> Option<VdfState> {
        let blob = VdfBlob::from_slice(&blob(challenge)).ok()?;
        Some(VdfState { challenge: *challenge, tick: TICK, blob })
    }

    fn verify(&self, challenge: &BlockHash, tick: Tick, proof: &[u8]) -> bool {
        tick == TICK && proof == blob(challenge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_belongs_to_its_parent() {
        let (a, b) = (BlockHash::from_bytes([1; 32]), BlockHash::from_bytes([2; 32]));
        let state = FixedVdf.latest(&a).unwrap();
        assert!(FixedVdf.verify(&a, state.tick, state.blob.as_bytes()));
        assert!(!FixedVdf.verify(&b, state.tick, state.blob.as_bytes()));
        assert!(!FixedVdf.verify(&a, Tick(1), state.blob.as_bytes()));
    }
}
