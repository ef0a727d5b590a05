//! The test a producer of version-3 proofs makes at its start: can this machine grind at all?

use super::argon2id::{HashError, argon2id};
use super::commitment::{PromptError, prompt_commitment};
use super::grind::{Grind, Progress};
use super::judge::Scratch;
use super::message::{FirstStep, Message, MessageError, length_of_parts};
use super::puzzle::PuzzleTarget;
use crate::context::Context;
use crate::proof::Words;
use crate::units::{AdmissionNonce, Tick};
use core::fmt;

const HEADER: &[u8] = &[0; 76];
const VDF: &[u8] = &[0; 32];
const PRECISION: &[u8] = b"selftest";
const MODEL: &[u8] = b"v3-selftest";
/// Attempts; each succeeds unless its digest is all ones.
const TRIES: u64 = 4;

/// What Argon2id gives for the empty message under the puzzle's parameters.
const EMPTY: [u8; 32] = [
    0x6c, 0x67, 0x2e, 0x8f, 0x53, 0x89, 0xb1, 0xde, 0x40, 0xae, 0x20, 0x40, 0x73, 0xe9, 0xdf, 0x9f,
    0xbb, 0xf2, 0x9f, 0x75, 0x94, 0x40, 0x2a, 0x39, 0x39, 0x60, 0x12, 0xab, 0xb7, 0xe6, 0xa5, 0x6d,
];

/// Bytes that [`Scratch::message`] must hold for [`self_test`].
pub const SELF_TEST_MESSAGE: usize =
    length_of_parts(HEADER.len(), VDF.len(), PRECISION.len(), MODEL.len());

/// Why no grinding is possible: refuse to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelfTestError {
    /// The message could not be built.
    Message(MessageError),
    /// The empty prompt has no commitment.
    Prompt(PromptError),
    /// A try could not be made.
    Hash(HashError),
    /// No attempt met the easiest target.
    NothingFound,
    /// Argon2id does not give what it should.
    WrongDigest,
}

impl fmt::Display for SelfTestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the admission self-test failed: ")?;
        match self {
            Self::Message(why) => why.fmt(f),
            Self::Prompt(why) => why.fmt(f),
            Self::Hash(why) => why.fmt(f),
            Self::NothingFound => write!(f, "no nonce in {TRIES} tries at the easiest target"),
            Self::WrongDigest => f.write_str("Argon2id gave a wrong digest for a known message"),
        }
    }
}

impl core::error::Error for SelfTestError {}

/// Grinds the specified easy puzzle from `start` and hashes a message whose digest is known.
/// spec: admission §10.3, sampler §10
///
/// # Errors
/// [`SelfTestError`]; a producer of version-3 proofs must not start then.
pub fn self_test(
    start: AdmissionNonce,
    scratch: &mut Scratch<'_>,
) -> Result<AdmissionNonce, SelfTestError> {
    let context = Context::default();
    let first_step = FirstStep {
        header: HEADER,
        vdf: VDF,
        tick: Tick(0),
        context: &context,
        precision: PRECISION,
    };
    let commitment = prompt_commitment(Words::default(), None).map_err(SelfTestError::Prompt)?;
    let mut message = Message::build(scratch.message, &first_step, &commitment, MODEL)
        .map_err(SelfTestError::Message)?;
    let found = Grind::new(start, TRIES, PuzzleTarget::MAX)
        .run(TRIES, &mut message, scratch.memory, || true)
        .map_err(SelfTestError::Hash)?;
    let known = argon2id(&[], scratch.memory).map_err(SelfTestError::Hash)?;
    match found {
        _ if known.as_bytes() != &EMPTY => Err(SelfTestError::WrongDigest),
        Progress::Found(solution) => Ok(solution.nonce),
        Progress::Exhausted | Progress::Paused => Err(SelfTestError::NothingFound),
    }
}
