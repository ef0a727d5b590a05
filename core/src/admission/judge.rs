//! The judgement of a claimed nonce: is the puzzle of this proof solved by it?

use super::argon2id::{Block, HashError, MEMORY_BLOCKS, argon2id};
use super::commitment::{PromptError, prompt_commitment};
use super::message::{FirstStep, Message, MessageError, length_of_parts};
use super::puzzle::{PuzzleParams, TriesError, expected_tries, target};
use crate::proof::ProofRef;
use crate::replay::prompt_context;
use crate::units::{AdmissionNonce, Tick};
use core::fmt;

/// Room that the caller lends for one puzzle; its content does not matter.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// At least [`message_len`] bytes.
    pub message: &'a mut [u8],
    /// At least [`MEMORY_BLOCKS`] blocks.
    pub memory: &'a mut [Block],
}

/// Bytes of the message of a proof's puzzle: what [`Scratch::message`] must hold.
#[must_use]
pub fn message_len(proof: &ProofRef<'_>) -> usize {
    length_of_parts(
        proof.header_prefix.len(),
        proof.vdf.len(),
        proof.compute_precision.len(),
        proof.model_identifier.len(),
    )
}

/// Why a claim could not be judged by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdmissionFault {
    /// The mask has neither no byte nor one per prompt token: the proof is rejected (Q74).
    MaskLength {
        /// Tokens of the prompt.
        tokens: usize,
        /// Bytes of the mask.
        mask: usize,
    },
    /// The prompt's length does not fit: the proof is rejected (Q76).
    Prompt(PromptError),
    /// The model identifier's length does not fit: the proof is rejected (Q76).
    ModelTooLong {
        /// Bytes found.
        found: usize,
    },
    /// The difficulty stands for no number of tries: the proof is rejected (Q76; the caller has
    /// refused a difficulty that is not positive before, as Q73).
    Tries(TriesError),
    /// Argon2 does not take the message: the proof is rejected (Q76).
    Hash(HashError),
    /// The lent room is too small; nothing is known about the proof.
    Scratch {
        /// Bytes of the message.
        message: usize,
        /// Blocks of memory.
        blocks: usize,
    },
}

impl AdmissionFault {
    /// True when the fault is the caller's and says nothing about the proof.
    #[must_use]
    pub const fn is_no_verdict(&self) -> bool {
        matches!(self, Self::Scratch { .. })
    }
}

impl fmt::Display for AdmissionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaskLength { tokens, mask } => {
                write!(f, "pad_mask has {mask} bytes for {tokens} prompt tokens")
            }
            Self::Prompt(why) => why.fmt(f),
            Self::ModelTooLong { found } => MessageError::ModelTooLong { found: *found }.fmt(f),
            Self::Tries(why) => why.fmt(f),
            Self::Hash(why) => why.fmt(f),
            Self::Scratch { message, blocks } => {
                write!(f, "the puzzle needs room for {message} bytes and {blocks} memory blocks")
            }
        }
    }
}

impl core::error::Error for AdmissionFault {}

/// Is the puzzle of this proof, at the registered difficulty of its model, solved by the nonce it
/// claims? An empty mask reads as zeros. Costs one try. spec: admission §8, verification Q74–Q76
///
/// # Errors
/// [`AdmissionFault`]: a reason to reject the proof, or, when [`AdmissionFault::is_no_verdict`],
/// scratch that is too small.
pub fn judge(
    proof: &ProofRef<'_>,
    nonce: &AdmissionNonce,
    difficulty: i64,
    scratch: &mut Scratch<'_>,
) -> Result<bool, AdmissionFault> {
    let mask = (!proof.pad_mask.is_empty()).then_some(proof.pad_mask);
    let commitment = prompt_commitment(proof.prompt_tokens, mask).map_err(|why| match why {
        PromptError::MaskLength { tokens, mask } => AdmissionFault::MaskLength { tokens, mask },
        other => AdmissionFault::Prompt(other),
    })?;
    let tries =
        expected_tries(difficulty, &PuzzleParams::NETWORK).map_err(AdmissionFault::Tries)?;
    let needed = message_len(proof);
    let small = AdmissionFault::Scratch { message: needed, blocks: MEMORY_BLOCKS };
    let context = prompt_context(proof);
    let first_step = FirstStep {
        header: proof.header_prefix,
        vdf: proof.vdf,
        tick: Tick(proof.tick),
        context: &context,
        precision: proof.compute_precision,
    };
    let message = Message::build(scratch.message, &first_step, &commitment, proof.model_identifier);
    let mut message = message.map_err(|why| match why {
        MessageError::ModelTooLong { found } => AdmissionFault::ModelTooLong { found },
        MessageError::Buffer { .. } => small,
    })?;
    message.set_nonce(nonce);
    let digest = argon2id(message.as_bytes(), scratch.memory).map_err(|why| match why {
        HashError::Memory { .. } => small,
        other => AdmissionFault::Hash(other),
    })?;
    Ok(target(tries).is_met_by(&digest))
}
