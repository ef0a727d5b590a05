//! The proof as a borrowed record: every field of the table, with its lists wherever they lie.

use super::flat::{Encode, Field, Fields, FlatError, Out, WriteTable, read_root};
use super::mask::PadMask;
use super::rows::Rows;
use super::words::Words;

/// A proof whose lists are borrowed. Absent fields are zero or empty, which no reader and no hash
/// tells apart from fields that are there. spec: proof-encoding §3
#[derive(Debug, Clone, Copy, Default)]
pub struct ProofRef<'a> {
    /// Proof version. spec: proof-encoding §4
    pub version: u8,
    /// VDF squarings behind `vdf`; a producer keeps it below 2^32.
    pub tick: u64,
    /// Creation time in UNIX seconds; hashed, checked by nobody.
    pub timestamp: u64,
    /// The adjusted target, most significant byte first.
    pub target: &'a [u8],
    /// The VDF blob as produced.
    pub vdf: &'a [u8],
    /// The final sampling digest, in the order SHA-256 outputs it.
    pub hash: &'a [u8],
    /// The parent's long hash, internal order.
    pub block_hash: &'a [u8],
    /// The block header without its nonce, its bits field already adjusted.
    pub header_prefix: &'a [u8],
    /// True when the header meets the block target, false for shares and audits.
    pub is_solution: bool,
    /// `name@commit` as bytes; a producer writes UTF-8.
    pub model_identifier: &'a [u8],
    /// Precision label, part of every preimage; a producer writes UTF-8.
    pub compute_precision: &'a [u8],
    /// Model CID of the registry; may be empty; a producer writes UTF-8.
    pub ipfs_cid: &'a [u8],
    /// Opaque to the node except for the admission nonce; a producer writes UTF-8.
    pub extra_flags: &'a [u8],
    /// Sampling temperature.
    pub temperature: f32,
    /// Nucleus mass.
    pub top_p: f32,
    /// Survivors at most.
    pub top_k: u32,
    /// Repetition penalty.
    pub repetition_penalty: f32,
    /// The window's token ids, oldest first.
    pub chosen_tokens: Words<'a>,
    /// Probability of each chosen token (f32).
    pub chosen_probs: Words<'a>,
    /// Draw of each step (f32).
    pub sampling_u: Words<'a>,
    /// Normalizer of each step (f32).
    pub softmax_normalizers: Words<'a>,
    /// Token ids before the window.
    pub prompt_tokens: Words<'a>,
    /// One byte per prompt token.
    pub pad_mask: PadMask<'a>,
    /// Evidence logits of each step (f32).
    pub topk_logits: Rows<'a>,
    /// Token ids of the evidence logits.
    pub topk_indices: Rows<'a>,
    /// Statistics of each step (f32).
    pub logsumexp_stats: Rows<'a>,
}

impl<'a> ProofRef<'a> {
    /// Reads a standalone proof in place, with or without file identifier. spec: proof-encoding §7
    ///
    /// # Errors
    /// [`FlatError`] for bytes the node's verifier would refuse.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlatError> {
        read_root(bytes, Self::read_fields)
    }

    /// The fields of the table in declaration order. spec: proof-encoding §3
    pub(super) fn read_fields(fields: &mut Fields<'a, '_>) -> Result<Self, FlatError> {
        Ok(Self {
            version: fields.u8()?,
            tick: fields.u64()?,
            timestamp: fields.u64()?,
            target: fields.bytes()?,
            vdf: fields.bytes()?,
            hash: fields.bytes()?,
            block_hash: fields.bytes()?,
            header_prefix: fields.bytes()?,
            is_solution: fields.bool()?,
            model_identifier: fields.text()?,
            compute_precision: fields.text()?,
            ipfs_cid: fields.text()?,
            extra_flags: fields.text()?,
            temperature: fields.f32()?,
            top_p: fields.f32()?,
            top_k: fields.u32()?,
            repetition_penalty: fields.f32()?,
            chosen_tokens: fields.words()?,
            chosen_probs: fields.words()?,
            sampling_u: fields.words()?,
            softmax_normalizers: fields.words()?,
            prompt_tokens: fields.words()?,
            pad_mask: fields.mask()?,
            topk_logits: fields.rows()?,
            topk_indices: fields.rows()?,
            logsumexp_stats: fields.rows()?,
        })
    }

    /// The proof as every reader gets it: a scalar of -0.0 is not written, so it arrives as +0.0.
    /// Equal to the record itself unless a sampler setting is -0.0. spec: proof-encoding §3
    #[must_use]
    pub fn as_transported(&self) -> Self {
        // -0.0 + 0.0 is +0.0, but an addition would also quiet a signalling NaN.
        let unsigned_zero = |value: f32| if value == 0.0 { 0.0 } else { value };
        Self {
            temperature: unsigned_zero(self.temperature),
            top_p: unsigned_zero(self.top_p),
            repetition_penalty: unsigned_zero(self.repetition_penalty),
            ..*self
        }
    }

    /// The matrices with their field names.
    pub(super) fn matrices(&self) -> [(&'static str, Rows<'a>); 3] {
        [
            ("topk_logits", self.topk_logits),
            ("topk_indices", self.topk_indices),
            ("logsumexp_stats", self.logsumexp_stats),
        ]
    }
}

/// A standalone proof file carries the identifier `PROF`; inside another message it has none.
impl Encode for ProofRef<'_> {
    const IDENTIFIER: Option<[u8; 4]> = Some(*b"PROF");
}

impl WriteTable for ProofRef<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        out.table(&[
            Field::Byte(self.version),
            Field::Long(self.tick),
            Field::Long(self.timestamp),
            Field::Bytes(self.target),
            Field::Bytes(self.vdf),
            Field::Bytes(self.hash),
            Field::Bytes(self.block_hash),
            Field::Bytes(self.header_prefix),
            Field::Byte(u8::from(self.is_solution)),
            Field::Text(self.model_identifier),
            Field::Text(self.compute_precision),
            Field::Text(self.ipfs_cid),
            Field::Text(self.extra_flags),
            Field::Float(self.temperature),
            Field::Float(self.top_p),
            Field::Word(self.top_k),
            Field::Float(self.repetition_penalty),
            Field::Words(self.chosen_tokens),
            Field::Words(self.chosen_probs),
            Field::Words(self.sampling_u),
            Field::Words(self.softmax_normalizers),
            Field::Words(self.prompt_tokens),
            Field::Mask(self.pad_mask),
            Field::Rows(self.topk_logits),
            Field::Rows(self.topk_indices),
            Field::Rows(self.logsumexp_stats),
        ])
    }
}
