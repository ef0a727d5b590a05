//! What stands in an archive beside the coded lists: scalars and texts as they are, the shape of
//! the lists, and which fields are left out because others say the same.

use super::body::{Body, Shape};
use super::error::DecodeError;
use crate::proof::{MAX_CANONICAL_LEN, PadMask, Proof, ProofRef};
use crate::sampler::Params;
use crate::units::{Digest, HeaderPrefix};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The record of a proof. Floats are bit patterns; a field that is `None` follows from others.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    /// Canonical bytes of the proof, which bound everything that is allocated for it.
    pub(super) canonical_len: u32,
    version: u8,
    pub(super) tick: u64,
    timestamp: u64,
    /// `None`: the expansion of the prefix's compact target.
    #[serde(borrow)]
    target: Option<&'a [u8]>,
    pub(super) vdf: &'a [u8],
    /// `None`: the closing digest of the replayed window.
    pub(super) hash: Option<&'a [u8]>,
    /// `None`: the parent in the prefix.
    block_hash: Option<&'a [u8]>,
    pub(super) header_prefix: &'a [u8],
    is_solution: bool,
    model_identifier: &'a [u8],
    pub(super) compute_precision: &'a [u8],
    ipfs_cid: &'a [u8],
    extra_flags: &'a [u8],
    temperature: u32,
    top_p: u32,
    top_k: u32,
    repetition_penalty: u32,
    /// `None`: a zero for each prompt token.
    #[serde(borrow)]
    pad_mask: Option<Cow<'a, [u8]>>,
    /// The admission nonce that the digests are made with.
    pub(super) nonce: Option<[u8; 32]>,
    pub(super) shape: Shape,
}

impl<'a> Record<'a> {
    /// The record of a proof of `canonical_len` bytes.
    pub(super) fn of(proof: &ProofRef<'a>, canonical_len: u32, shape: Shape) -> Self {
        let prefix = prefix(proof.header_prefix);
        let same_target = prefix.is_some_and(|prefix| proof.target == target(&prefix));
        let same_parent =
            prefix.is_some_and(|prefix| proof.block_hash == prefix.parent().as_bytes());
        let pads_nothing = proof.pad_mask == PadMask::Zeros(proof.prompt_tokens.len());
        Self {
            canonical_len,
            version: proof.version,
            tick: proof.tick,
            timestamp: proof.timestamp,
            target: (!same_target).then_some(proof.target),
            vdf: proof.vdf,
            hash: (!shape.replayed).then_some(proof.hash),
            block_hash: (!same_parent).then_some(proof.block_hash),
            header_prefix: proof.header_prefix,
            is_solution: proof.is_solution,
            model_identifier: proof.model_identifier,
            compute_precision: proof.compute_precision,
            ipfs_cid: proof.ipfs_cid,
            extra_flags: proof.extra_flags,
            temperature: proof.temperature.to_bits(),
            top_p: proof.top_p.to_bits(),
            top_k: proof.top_k,
            repetition_penalty: proof.repetition_penalty.to_bits(),
            pad_mask: (!pads_nothing).then(|| proof.pad_mask.iter().collect()),
            nonce: None,
            shape,
        }
    }

    /// The sampling parameters, which predict the choices.
    pub(super) fn params(&self) -> Params {
        Params {
            temperature: f32::from_bits(self.temperature),
            top_k: self.top_k,
            top_p: f32::from_bits(self.top_p),
        }
    }

    /// Refuses what no encoder writes, before anything is allocated for it.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let len = u64::from(self.canonical_len);
        if len > MAX_CANONICAL_LEN {
            return Err(DecodeError::TooLong { len });
        }
        if self.shape.least_len() > len || !self.shape.is_sound() {
            return Err(DecodeError::Record);
        }
        if self.shape.replayed != self.hash.is_none() {
            return Err(DecodeError::Record);
        }
        Ok(())
    }

    /// The proof with these lists; `closing` is the digest of the replayed window.
    pub(super) fn into_proof(
        self,
        body: Body,
        closing: Option<Digest>,
    ) -> Result<Proof, DecodeError> {
        let prefix = prefix(self.header_prefix);
        let implied = |bytes: Option<&[u8]>, rule: fn(&HeaderPrefix) -> [u8; 32]| match bytes {
            Some(bytes) => Ok(bytes.to_vec()),
            None => prefix.as_ref().map(|prefix| rule(prefix).to_vec()).ok_or(DecodeError::Record),
        };
        let target = implied(self.target, target)?;
        let block_hash = implied(self.block_hash, |prefix| *prefix.parent().as_bytes())?;
        let hash = match (self.hash, closing) {
            (Some(hash), _) => hash.to_vec(),
            (None, Some(digest)) => digest.as_bytes().to_vec(),
            (None, None) => return Err(DecodeError::Record),
        };
        let Body { plain, rows, .. } = body.without_steps(self.shape.lists);
        let [chosen_tokens, edges, draws, normalizers, prompt_tokens] = plain;
        let [logits, topk_indices, stats] = rows;
        let pad_mask = match self.pad_mask {
            Some(mask) => mask.into_owned(),
            None => alloc::vec![0; prompt_tokens.len()],
        };
        Ok(Proof {
            version: self.version,
            tick: self.tick,
            timestamp: self.timestamp,
            target,
            vdf: self.vdf.to_vec(),
            hash,
            block_hash,
            header_prefix: self.header_prefix.to_vec(),
            is_solution: self.is_solution,
            model_identifier: self.model_identifier.to_vec(),
            compute_precision: self.compute_precision.to_vec(),
            ipfs_cid: self.ipfs_cid.to_vec(),
            extra_flags: self.extra_flags.to_vec(),
            temperature: f32::from_bits(self.temperature),
            top_p: f32::from_bits(self.top_p),
            top_k: self.top_k,
            repetition_penalty: f32::from_bits(self.repetition_penalty),
            chosen_tokens,
            chosen_probs: floats(edges),
            sampling_u: floats(draws),
            softmax_normalizers: floats(normalizers),
            prompt_tokens,
            pad_mask,
            topk_logits: logits.into_iter().map(floats).collect(),
            topk_indices,
            logsumexp_stats: stats.into_iter().map(floats).collect(),
        })
    }
}

fn prefix(bytes: &[u8]) -> Option<HeaderPrefix> {
    bytes.try_into().ok().map(HeaderPrefix::from_bytes)
}

/// The target that a prefix implies. spec: targets §2
fn target(prefix: &HeaderPrefix) -> [u8; 32] {
    prefix.bits().expand().target.to_be_bytes()
}

fn floats(words: Vec<u32>) -> Vec<f32> {
    words.into_iter().map(f32::from_bits).collect()
}
