//! The commitment over a proof: four leaves and their Merkle root, streamed through SHA-256 without
//! collecting the canonical bytes first. spec: proof-encoding §6

use super::canonical::{ByteSink, TooLong, check_canonical_len, write_canonical};
use super::record::ProofRef;
use crate::units::HashPow;
use sha2::{Digest as _, Sha256};

/// The leaves of a proof and the root that the block header holds. spec: proof-encoding §6
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    /// Leaf 1, over the tick.
    pub tick_leaf: [u8; 32],
    /// Leaf 2, over the VDF blob.
    pub vdf_leaf: [u8; 32],
    /// Leaf 3, over the version and the model hash.
    pub meta_leaf: [u8; 32],
    /// Leaf 4, over the canonical bytes.
    pub rest_leaf: [u8; 32],
    /// `hashPoW`.
    pub root: HashPow,
}

/// Computes the commitment. spec: proof-encoding §6
///
/// # Errors
/// [`TooLong`] for a proof no block may carry; this also bounds the time that hostile rows, which
/// may overlap in their buffer, can cost.
pub fn commit(proof: &ProofRef<'_>) -> Result<Commitment, TooLong> {
    let len = check_canonical_len(proof)?;
    let tick_leaf = leaf(1, 8, |sink| sink.put(&proof.tick.to_le_bytes()));
    let vdf_leaf = leaf(2, proof.vdf.len() as u64, |sink| sink.put(proof.vdf));
    let meta_leaf = leaf(3, 33, |sink| {
        sink.put(&[proof.version]);
        sink.put(&model_hash(proof.model_identifier));
    });
    let rest_leaf = leaf(4, len, |sink| write_canonical(proof, sink));
    let root = pair(&pair(&tick_leaf, &vdf_leaf), &pair(&meta_leaf, &rest_leaf));
    Ok(Commitment { tick_leaf, vdf_leaf, meta_leaf, rest_leaf, root: HashPow::from_bytes(root) })
}

/// SHA-256 of the identifier if it contains a `@`, else zeros. spec: proof-encoding §6
#[must_use]
pub fn model_hash(model_identifier: &[u8]) -> [u8; 32] {
    if model_identifier.contains(&b'@') { Sha256::digest(model_identifier).into() } else { [0; 32] }
}

/// The hash proofs had before the Merkle commitment; no block of the tensor networks is committed
/// to by it. spec: proof-encoding §6
///
/// # Errors
/// [`TooLong`] for a proof no block may carry.
pub fn legacy_hash(proof: &ProofRef<'_>) -> Result<[u8; 32], TooLong> {
    check_canonical_len(proof)?;
    let mut sink = Hashing(Sha256::new());
    write_canonical(proof, &mut sink);
    Ok(sink.finish())
}

/// `leaf(t, x) = D(ff 50 4f 57 00 ‖ t ‖ u32 len(x) ‖ x)`; `len` never exceeds
/// [`super::MAX_CANONICAL_LEN`]. spec: proof-encoding §6
fn leaf(tag: u8, len: u64, content: impl FnOnce(&mut Hashing)) -> [u8; 32] {
    let mut sink = Hashing(Sha256::new());
    sink.put(b"\xffPOW\0");
    sink.put(&[tag]);
    let [a, b, c, d, ..] = len.to_le_bytes();
    sink.put(&[a, b, c, d]);
    content(&mut sink);
    sink.finish()
}

/// `D(left ‖ right)`.
fn pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut sink = Hashing(Sha256::new());
    sink.put(left);
    sink.put(right);
    sink.finish()
}

/// Double SHA-256 of what is put.
struct Hashing(Sha256);

impl Hashing {
    fn finish(self) -> [u8; 32] {
        Sha256::digest(self.0.finalize()).into()
    }
}

impl ByteSink for Hashing {
    fn put(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
