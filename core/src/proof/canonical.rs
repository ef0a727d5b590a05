//! The canonical bytes of a proof, the only form that is ever hashed. One function says the order
//! and the encoding; measuring, hashing and collecting differ only in the sink. spec:
//! proof-encoding §6

use super::mask::PadMask;
use super::record::ProofRef;
use super::words::Words;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

/// Canonical bytes of the longest proof a block may carry (`bad-pow-blob-size` above it).
/// spec: proof-encoding §8
pub const MAX_CANONICAL_LEN: u64 = 1_000_000;

/// Something is longer than the network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Its length in bytes.
    pub len: u64,
    /// The greatest length allowed.
    pub limit: u64,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, at most {} are allowed", self.len, self.limit)
    }
}

impl core::error::Error for TooLong {}

/// Takes canonical bytes in order.
pub trait ByteSink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Takes the next words, little-endian. Words that already lie little-endian are passed on as
    /// they are, others in blocks: a hasher is not called word by word.
    fn put_words(&mut self, words: Words<'_>) {
        if let Words::LittleEndian(bytes) = words {
            return self.put(bytes.get(..4 * words.len()).unwrap_or(bytes));
        }
        let mut block = [0; 1024];
        let mut start = 0;
        while start < words.len() {
            let count = (words.len() - start).min(block.len() / 4);
            if let (Some(part), Some(room)) =
                (words.slice(start, count), block.get_mut(..4 * count))
            {
                part.copy_le(room);
                self.put(room);
            }
            start += count;
        }
    }

    /// Takes the next mask, its bytes as they are.
    fn put_mask(&mut self, mask: PadMask<'_>) {
        if let PadMask::Bytes(bytes) = mask {
            return self.put(bytes);
        }
        let mut block = [0; 256];
        let mut bytes = mask.iter().peekable();
        while bytes.peek().is_some() {
            let filled = block.iter_mut().zip(&mut bytes).map(|(room, byte)| *room = byte).count();
            self.put(block.get(..filled).unwrap_or(&block));
        }
    }
}

#[cfg(feature = "alloc")]
impl ByteSink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Only measures.
struct Length(u64);

impl ByteSink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len() as u64);
    }

    fn put_words(&mut self, words: Words<'_>) {
        self.0 = self.0.saturating_add(4 * words.len() as u64);
    }

    fn put_mask(&mut self, mask: PadMask<'_>) {
        self.0 = self.0.saturating_add(mask.len() as u64);
    }
}

/// Exact number of canonical bytes; the time it takes grows with the rows, not with their words.
#[must_use]
pub fn canonical_len(proof: &ProofRef<'_>) -> u64 {
    let mut length = Length(0);
    write_canonical(proof, &mut length);
    length.0
}

/// The rule of the block check: canonical bytes within [`MAX_CANONICAL_LEN`]. Returns their number.
/// spec: proof-encoding §8
///
/// # Errors
/// [`TooLong`] for a proof no block may carry.
pub fn check_canonical_len(proof: &ProofRef<'_>) -> Result<u64, TooLong> {
    match canonical_len(proof) {
        len @ 0..=MAX_CANONICAL_LEN => Ok(len),
        len => Err(TooLong { len, limit: MAX_CANONICAL_LEN }),
    }
}

/// The canonical bytes, collected.
///
/// # Errors
/// [`TooLong`] for a proof no block may carry.
#[cfg(feature = "alloc")]
pub fn canonical_to_vec(proof: &ProofRef<'_>) -> Result<Vec<u8>, TooLong> {
    let len = check_canonical_len(proof)?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    write_canonical(proof, &mut bytes);
    Ok(bytes)
}

/// Hands all 26 items to the sink, without tags. spec: proof-encoding §6
pub fn write_canonical(proof: &ProofRef<'_>, sink: &mut impl ByteSink) {
    sink.put(&[proof.version]);
    sink.put(&proof.tick.to_le_bytes());
    sink.put(&proof.timestamp.to_le_bytes());
    for bytes in [proof.target, proof.vdf, proof.hash, proof.block_hash, proof.header_prefix] {
        put_bytes(sink, bytes);
    }
    sink.put(&[u8::from(proof.is_solution)]);
    for text in [proof.model_identifier, proof.compute_precision, proof.ipfs_cid, proof.extra_flags]
    {
        put_bytes(sink, text);
    }
    sink.put(&proof.temperature.to_le_bytes());
    sink.put(&proof.top_p.to_le_bytes());
    sink.put(&proof.top_k.to_le_bytes());
    sink.put(&proof.repetition_penalty.to_le_bytes());
    for words in [
        proof.chosen_tokens,
        proof.chosen_probs,
        proof.sampling_u,
        proof.softmax_normalizers,
        proof.prompt_tokens,
    ] {
        put_words(sink, words);
    }
    put_count(sink, proof.pad_mask.len());
    sink.put_mask(proof.pad_mask);
    for rows in [proof.topk_logits, proof.topk_indices, proof.logsumexp_stats] {
        put_count(sink, rows.len());
        rows.iter().for_each(|row| put_words(sink, row));
    }
}

fn put_bytes(sink: &mut impl ByteSink, bytes: &[u8]) {
    put_count(sink, bytes.len());
    sink.put(bytes);
}

fn put_words(sink: &mut impl ByteSink, words: Words<'_>) {
    put_count(sink, words.len());
    sink.put_words(words);
}

/// `CS(n)`, the CompactSize of a count. spec: proof-encoding §6
fn put_count(sink: &mut impl ByteSink, count: usize) {
    let count = count as u64;
    let wide = count.to_le_bytes();
    let (tag, len) = match count {
        0..=0xfc => (None, 1),
        0xfd..=0xffff => (Some(0xfd), 2),
        0x1_0000..=0xffff_ffff => (Some(0xfe), 4),
        _ => (Some(0xff), 8),
    };
    if let Some(tag) = tag {
        sink.put(&[tag]);
    }
    sink.put(wide.get(..len).unwrap_or(&wide));
}
