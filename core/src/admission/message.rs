//! The message a puzzle hashes: the window's first step message without a nonce, the prompt
//! commitment, the model, and the nonce as its last 32 bytes, the only ones that change.

use crate::context::Context;
use crate::units::{AdmissionNonce, PromptCommitment, Tick, WINDOW};
use core::fmt;

/// The parts of a window's first step message. The context is always as wide as the network's
/// window. spec: admission §4, §8
#[derive(Debug, Clone, Copy)]
pub struct FirstStep<'a> {
    /// The 76-byte header prefix.
    pub header: &'a [u8],
    /// The VDF blob.
    pub vdf: &'a [u8],
    /// VDF squarings.
    pub tick: Tick,
    /// The last tokens before the window.
    pub context: &'a Context,
    /// The precision label's bytes.
    pub precision: &'a [u8],
}

impl FirstStep<'_> {
    /// Bytes of the message, given those of its parts that vary.
    const fn length_with(header: usize, vdf: usize, precision: usize) -> usize {
        const FIXED: usize = 4 + 4 + 8 * WINDOW;
        header.saturating_add(vdf).saturating_add(precision).saturating_add(FIXED)
    }

    /// Bytes of the message.
    #[must_use]
    pub const fn length(&self) -> usize {
        Self::length_with(self.header.len(), self.vdf.len(), self.precision.len())
    }

    /// Writes the message to the front of `out`; none when it is too small. spec: admission §4
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let room = out.get_mut(..self.length())?;
        let (header, room) = room.split_at_mut(self.header.len());
        let (vdf, room) = room.split_at_mut(self.vdf.len());
        let (tick, room) = room.split_at_mut(4);
        let (step, room) = room.split_at_mut(4);
        let (context, precision) = room.split_at_mut(8 * WINDOW);
        header.copy_from_slice(self.header);
        vdf.copy_from_slice(self.vdf);
        tick.copy_from_slice(&self.tick.preimage_bytes());
        step.fill(0);
        for (place, id) in context.chunks_exact_mut(8).zip(self.context.iter()) {
            place.copy_from_slice(&u64::from(id).to_le_bytes());
        }
        precision.copy_from_slice(self.precision);
        Some(self.length())
    }
}

/// Why a puzzle's message cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The model identifier's length does not fit `u16`.
    ModelTooLong {
        /// Bytes found.
        found: usize,
    },
    /// The caller's buffer is too small.
    Buffer {
        /// Bytes of the message.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModelTooLong { found } => {
                write!(f, "a model identifier has at most 65535 bytes, not {found}")
            }
            Self::Buffer { needed, found } => {
                write!(f, "the puzzle's message needs {needed} bytes, the buffer has {found}")
            }
        }
    }
}

impl core::error::Error for MessageError {}

/// Bytes of a puzzle's message. spec: admission §8
#[must_use]
pub const fn length(first_step: usize, model: usize) -> usize {
    const FIXED: usize = 32 + 2 + AdmissionNonce::LEN;
    first_step.saturating_add(model).saturating_add(FIXED)
}

/// Bytes of the message of a puzzle with these parts. spec: admission §8
#[must_use]
pub(super) const fn length_of_parts(
    header: usize,
    vdf: usize,
    precision: usize,
    model: usize,
) -> usize {
    length(FirstStep::length_with(header, vdf, precision), model)
}

/// A puzzle's message in the caller's buffer; its nonce is zero until one is set.
#[derive(Debug)]
pub struct Message<'b> {
    bytes: &'b mut [u8],
}

impl<'b> Message<'b> {
    /// Builds the message at the front of `buffer`. `model` is the string that the proof carries.
    /// spec: admission §8
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn build(
        buffer: &'b mut [u8],
        first_step: &FirstStep<'_>,
        commitment: &PromptCommitment,
        model: &[u8],
    ) -> Result<Self, MessageError> {
        Self::with(buffer, first_step.length(), commitment, model, |room| {
            first_step.write(room).is_some()
        })
    }

    /// Builds the message of a first step message that is at hand.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn of_bytes(
        buffer: &'b mut [u8],
        first_step: &[u8],
        commitment: &PromptCommitment,
        model: &[u8],
    ) -> Result<Self, MessageError> {
        Self::with(buffer, first_step.len(), commitment, model, |room| {
            room.copy_from_slice(first_step);
            true
        })
    }

    fn with(
        buffer: &'b mut [u8],
        first_step: usize,
        commitment: &PromptCommitment,
        model: &[u8],
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> Result<Self, MessageError> {
        let too_long = MessageError::ModelTooLong { found: model.len() };
        let model_length = u16::try_from(model.len()).map_err(|_| too_long)?;
        let (needed, found) = (length(first_step, model.len()), buffer.len());
        let too_small = MessageError::Buffer { needed, found };
        let bytes = buffer.get_mut(..needed).ok_or(too_small)?;
        let (head, tail) = bytes.split_at_mut(first_step);
        if !write(head) {
            return Err(too_small);
        }
        let parts: [&[u8]; 4] =
            [commitment.as_bytes(), &model_length.to_le_bytes(), model, &[0; AdmissionNonce::LEN]];
        let mut rest = tail;
        for part in parts {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
        Ok(Self { bytes })
    }

    /// The message of a puzzle that was built before and kept; none when it is too short to end in
    /// a nonce.
    #[must_use]
    pub fn again(bytes: &'b mut [u8]) -> Option<Self> {
        (bytes.len() >= AdmissionNonce::LEN).then_some(Self { bytes })
    }

    /// Replaces the nonce.
    pub fn set_nonce(&mut self, nonce: &AdmissionNonce) {
        if let Some(place) = self.bytes.last_chunk_mut() {
            *place = *nonce.as_bytes();
        }
    }

    /// The whole message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{FirstStep, Message, MessageError, PromptCommitment};
    use crate::context::Context;
    use crate::preimage::StepHasher;
    use crate::units::{AdmissionNonce, Tick};
    use sha2::{Digest as _, Sha256};

    #[test]
    fn the_first_step_message_is_the_one_the_sampler_hashes() {
        let context = Context::of_prompt(&[7, u32::MAX, 9]);
        let (header, vdf, tick) = (&[1; 76], &[2; 200], Tick(0x1_0000_0003));
        let first = FirstStep { header, vdf, tick, context: &context, precision: b"bf16" };
        let mut bytes = [0xee; 3000];
        let length = first.write(&mut bytes).unwrap();
        let sampled = StepHasher::new(header, vdf, tick).step(0, &context, b"bf16", None);
        assert_eq!(Sha256::digest(&bytes[..length])[..], sampled.as_bytes()[..]);
        assert_eq!(first.write(&mut bytes[..length - 1]), None);
    }

    #[test]
    fn a_message_ends_in_its_nonce() {
        let (mut buffer, commitment) = ([0xee; 100], PromptCommitment::from_bytes([3; 32]));
        let mut message = Message::of_bytes(&mut buffer, b"first", &commitment, b"a@b").unwrap();
        message.set_nonce(&AdmissionNonce::from_bytes([5; 32]));
        let expected = [&b"first"[..], &[3; 32], &[3, 0], b"a@b", &[5; 32]].concat();
        assert_eq!(message.as_bytes(), expected);
        let needed = expected.len();
        assert_eq!(
            Message::of_bytes(&mut buffer[..needed - 1], b"first", &commitment, b"a@b").err(),
            Some(MessageError::Buffer { needed, found: needed - 1 })
        );
        assert_eq!(
            Message::of_bytes(&mut buffer, b"first", &commitment, &[b'm'; 65_536]).err(),
            Some(MessageError::ModelTooLong { found: 65_536 })
        );
    }
}
