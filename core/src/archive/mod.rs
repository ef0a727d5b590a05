//! The compact form of a proof: what is stored and cached, never what is hashed or sent.
//!
//! [`encode`] takes any proof that a block may carry, also a strange one, and [`decode`] gives back
//! a proof with the identical canonical bytes, hence the same commitment. A proof by the rules
//! shrinks to about a fifth of its FlatBuffer: logits to the precision they really have, token ids
//! to places in a dictionary, and everything that follows from something else to nothing.
//!
//! An archive is a magic with the version of the form, the [`Key`] (BLAKE3 of the canonical bytes),
//! a postcard record of everything that is no list, and the lists as one range-coded string.
//! [`decode`] checks the key, so an archive that was damaged is refused and never misread. Whoever
//! only wants the key, say to look a proof up in a cache, takes it from the front with [`key_of`].

mod body;
mod dictionary;
mod error;
mod number;
mod plain;
mod range;
mod record;
mod steps;

pub use error::DecodeError;

use crate::admission;
use crate::proof::canonical::{canonical_to_vec, check_canonical_len};
use crate::proof::{MAX_CANONICAL_LEN, Proof, ProofRef, TooLong};
use crate::units::{AdmissionNonce, Tick};
use alloc::vec::Vec;
use body::{Body, Shape};
use core::fmt;
use range::{Decoder, Encoder};
use record::Record;
use steps::Replay;

/// The first bytes of an archive; the last of them is the version of the form.
pub const MAGIC: [u8; 5] = *b"TPWA\x01";
/// Longest precision label of a proof whose draws are replayed; it enters every digest.
const MAX_REPLAYED_LABEL: usize = 64;

/// What a proof is stored under: the BLAKE3 hash of its canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::LowerHex for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self:x})")
    }
}

/// The key of a proof.
///
/// # Errors
/// [`TooLong`] for a proof no block may carry.
pub fn key(proof: &ProofRef<'_>) -> Result<Key, TooLong> {
    // Collected first: the hash is several times faster on one long string than on its pieces.
    canonical_to_vec(proof).map(|bytes| Key(blake3::hash(&bytes).into()))
}

/// The key that an archive says it has, without decoding it.
///
/// # Errors
/// [`DecodeError`] when the bytes do not begin like an archive of this version.
pub fn key_of(archive: &[u8]) -> Result<Key, DecodeError> {
    split(archive).map(|(key, _)| key)
}

/// The key, and the record behind it.
fn split(archive: &[u8]) -> Result<(Key, &[u8]), DecodeError> {
    let rest = archive.strip_prefix(&MAGIC[..MAGIC.len() - 1]).ok_or(DecodeError::NoArchive)?;
    let (version, rest) = rest.split_first().ok_or(DecodeError::NoArchive)?;
    if *version != MAGIC[MAGIC.len() - 1] {
        return Err(DecodeError::Version { found: *version });
    }
    let (key, record) = rest.split_first_chunk().ok_or(DecodeError::Record)?;
    Ok((Key(*key), record))
}

/// The compact form of a proof.
///
/// # Errors
/// [`TooLong`] for a proof no block may carry.
pub fn encode(proof: &ProofRef<'_>) -> Result<Vec<u8>, TooLong> {
    let canonical_len = u32::try_from(check_canonical_len(proof)?).unwrap_or(u32::MAX);
    let key = key(proof)?;
    let (mut body, mut shape) = Body::of(proof);
    let replay = replay(proof, &shape);
    shape.replayed = replay.is_some();
    let mut record = Record::of(proof, canonical_len, shape);
    record.nonce = replay.as_ref().and_then(|replay| replay.nonce).map(|nonce| *nonce.as_bytes());
    let mut coder = Encoder::new();
    // Only a decoder can run out of room.
    let _ = body.code(&mut coder, record.params(), &record.shape, replay, usize::MAX);
    let mut archive = Vec::new();
    archive.extend_from_slice(&MAGIC);
    archive.extend_from_slice(key.as_bytes());
    // A `Vec` takes all that a record holds; no proof comes to this error.
    let mut archive = postcard::to_extend(&record, archive)
        .map_err(|_| TooLong { len: canonical_len.into(), limit: MAX_CANONICAL_LEN })?;
    archive.extend_from_slice(&coder.finish());
    Ok(archive)
}

/// The proof in an archive.
///
/// What is allocated stays within a small multiple of the canonical bytes that the archive
/// declares, of which there are at most 1 000 000, whatever the bytes say.
///
/// # Errors
/// [`DecodeError`] when the bytes are no archive of this version, or a damaged one.
pub fn decode(archive: &[u8]) -> Result<Proof, DecodeError> {
    let (expected, record) = split(archive)?;
    let (record, code) =
        postcard::take_from_bytes::<Record<'_>>(record).map_err(|_| DecodeError::Record)?;
    record.check()?;
    let replay = match (record.shape.replayed, record.compute_precision) {
        (false, _) => None,
        (true, label) if label.len() > MAX_REPLAYED_LABEL => return Err(DecodeError::Record),
        (true, label) => {
            let nonce = record.nonce.map(AdmissionNonce::from_bytes);
            let tick = Tick(record.tick);
            Some(Replay { nonce, ..Replay::new(record.header_prefix, record.vdf, tick, label) })
        }
    };
    let mut decoder = Decoder::new(code);
    let mut body = Body::shaped(&record.shape);
    let room = record.canonical_len as usize / 4;
    let closing = body.code(&mut decoder, record.params(), &record.shape, replay, room);
    let closing = closing.ok_or(DecodeError::Code)?;
    // An encoder leaves out zeros at the end, so that no two strings are the same code.
    if !decoder.finished() || code.last() == Some(&0) {
        return Err(DecodeError::Code);
    }
    let proof = record.into_proof(body, closing)?;
    match key(&proof.as_ref()) {
        Ok(found) if found == expected => Ok(proof),
        _ => Err(DecodeError::Key),
    }
}

/// The digests of a window whose `hash` they lead to, with the nonce they are made with: none, or
/// the one that `extra_flags` carries. spec: verification §5
fn replay<'a>(proof: &ProofRef<'a>, shape: &Shape) -> Option<Replay<'a>> {
    if !(shape.lists.tokens && shape.lists.draws)
        || proof.compute_precision.len() > MAX_REPLAYED_LABEL
    {
        return None;
    }
    let mut replay =
        Replay::new(proof.header_prefix, proof.vdf, Tick(proof.tick), proof.compute_precision);
    let mut end = replay.clone();
    end.push_prompt(proof.prompt_tokens);
    proof.chosen_tokens.iter().for_each(|token| end.context.push(token));
    [None, admission::extract(proof.extra_flags)]
        .into_iter()
        .any(|nonce| {
            replay.nonce = nonce;
            end.nonce = nonce;
            end.digest(0).as_bytes() == proof.hash
        })
        .then_some(replay)
}
