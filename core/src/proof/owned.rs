//! The proof as an owned record, for those that build or change proofs field by field.

use super::canonical::{TooLong, canonical_len};
use super::flat::MAX_MESSAGE_LEN;
use super::mask::PadMask;
use super::record::ProofRef;
use super::rows::Rows;
use super::words::Words;
use alloc::vec::Vec;

/// A proof that owns its lists; fields as in [`ProofRef`].
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // each field is documented at `ProofRef`
pub struct Proof {
    pub version: u8,
    pub tick: u64,
    pub timestamp: u64,
    pub target: Vec<u8>,
    pub vdf: Vec<u8>,
    pub hash: Vec<u8>,
    pub block_hash: Vec<u8>,
    pub header_prefix: Vec<u8>,
    pub is_solution: bool,
    pub model_identifier: Vec<u8>,
    pub compute_precision: Vec<u8>,
    pub ipfs_cid: Vec<u8>,
    pub extra_flags: Vec<u8>,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub repetition_penalty: f32,
    pub chosen_tokens: Vec<u32>,
    pub chosen_probs: Vec<f32>,
    pub sampling_u: Vec<f32>,
    pub softmax_normalizers: Vec<f32>,
    pub prompt_tokens: Vec<u32>,
    pub pad_mask: Vec<u8>,
    pub topk_logits: Vec<Vec<f32>>,
    pub topk_indices: Vec<Vec<u32>>,
    pub logsumexp_stats: Vec<Vec<f32>>,
}

impl Proof {
    /// The proof as a borrowed record.
    #[must_use]
    pub fn as_ref(&self) -> ProofRef<'_> {
        ProofRef {
            version: self.version,
            tick: self.tick,
            timestamp: self.timestamp,
            target: &self.target,
            vdf: &self.vdf,
            hash: &self.hash,
            block_hash: &self.block_hash,
            header_prefix: &self.header_prefix,
            is_solution: self.is_solution,
            model_identifier: &self.model_identifier,
            compute_precision: &self.compute_precision,
            ipfs_cid: &self.ipfs_cid,
            extra_flags: &self.extra_flags,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            repetition_penalty: self.repetition_penalty,
            chosen_tokens: Words::Native(&self.chosen_tokens),
            chosen_probs: Words::Floats(&self.chosen_probs),
            sampling_u: Words::Floats(&self.sampling_u),
            softmax_normalizers: Words::Floats(&self.softmax_normalizers),
            prompt_tokens: Words::Native(&self.prompt_tokens),
            pad_mask: PadMask::Bytes(&self.pad_mask),
            topk_logits: Rows::Floats(&self.topk_logits),
            topk_indices: Rows::Native(&self.topk_indices),
            logsumexp_stats: Rows::Floats(&self.logsumexp_stats),
        }
    }
}

/// Copies every list.
impl TryFrom<&ProofRef<'_>> for Proof {
    type Error = TooLong;

    /// # Errors
    /// [`TooLong`] when the copy would be longer than any message: the rows of a hostile buffer may
    /// overlap, so a small buffer can describe an enormous proof.
    fn try_from(proof: &ProofRef<'_>) -> Result<Self, TooLong> {
        let len = canonical_len(proof);
        if len > MAX_MESSAGE_LEN {
            return Err(TooLong { len, limit: MAX_MESSAGE_LEN });
        }
        let floats = |rows: Rows<'_>| rows.iter().map(|row| row.iter_f32().collect()).collect();
        Ok(Self {
            version: proof.version,
            tick: proof.tick,
            timestamp: proof.timestamp,
            target: proof.target.to_vec(),
            vdf: proof.vdf.to_vec(),
            hash: proof.hash.to_vec(),
            block_hash: proof.block_hash.to_vec(),
            header_prefix: proof.header_prefix.to_vec(),
            is_solution: proof.is_solution,
            model_identifier: proof.model_identifier.to_vec(),
            compute_precision: proof.compute_precision.to_vec(),
            ipfs_cid: proof.ipfs_cid.to_vec(),
            extra_flags: proof.extra_flags.to_vec(),
            temperature: proof.temperature,
            top_p: proof.top_p,
            top_k: proof.top_k,
            repetition_penalty: proof.repetition_penalty,
            chosen_tokens: proof.chosen_tokens.iter().collect(),
            chosen_probs: proof.chosen_probs.iter_f32().collect(),
            sampling_u: proof.sampling_u.iter_f32().collect(),
            softmax_normalizers: proof.softmax_normalizers.iter_f32().collect(),
            prompt_tokens: proof.prompt_tokens.iter().collect(),
            pad_mask: proof.pad_mask.iter().collect(),
            topk_logits: floats(proof.topk_logits),
            topk_indices: proof.topk_indices.iter().map(|row| row.iter().collect()).collect(),
            logsumexp_stats: floats(proof.logsumexp_stats),
        })
    }
}
