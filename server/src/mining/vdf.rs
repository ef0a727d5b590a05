//! The seam to the verifiable delay function: who holds the latest proof for a parent block, and
//! who checks the proof that a result carries. Core's class-group prover stands behind it; the
//! development chain's is in [`crate::devnet::vdf`].

use tensorpow_core::units::{BlockHash, Tick, VdfBlob};

/// A VDF proof together with the challenge it answers. spec: proxy §2
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VdfState {
    /// The parent block the proof is for; a proof for another parent is never used.
    pub challenge: BlockHash,
    /// Squarings behind the proof.
    pub tick: Tick,
    /// The proof.
    pub blob: VdfBlob,
}

/// Makes and checks VDF proofs.
pub trait VdfSource: Send + Sync {
    /// The best finished proof for `challenge`, if there is one yet.
    fn latest(&self, challenge: &BlockHash) -> Option<VdfState>;

    /// True when `blob` proves `tick` squarings on `challenge`.
    fn verify(&self, challenge: &BlockHash, tick: Tick, blob: &[u8]) -> bool;
}
