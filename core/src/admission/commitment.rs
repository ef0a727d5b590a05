//! The hash that binds a puzzle to everything the model saw before the window.

use crate::proof::{PadMask, Words};
use crate::units::PromptCommitment;
use core::fmt;
use sha2::{Digest as _, Sha256};

/// What the hash begins with. spec: admission §1
const TAG: &[u8; 16] = b"TC_V3_PROMPT_CTX";
/// Ids turned to bytes at a time before they go to the hash.
const RUN: usize = 256;

/// Why a prompt has no commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromptError {
    /// The mask speaks about another number of tokens.
    MaskLength {
        /// Tokens of the prompt.
        tokens: usize,
        /// Bytes of the mask.
        mask: usize,
    },
    /// The number of tokens does not fit `u32`.
    TooLong {
        /// Tokens of the prompt.
        tokens: usize,
    },
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaskLength { tokens, mask } => {
                write!(f, "the mask has {mask} bytes for {tokens} prompt tokens")
            }
            Self::TooLong { tokens } => write!(f, "{tokens} prompt tokens do not fit u32"),
        }
    }
}

impl core::error::Error for PromptError {}

/// The commitment to everything the model saw before the window. `None` for the mask means that no
/// token is padding; an empty mask is one for an empty prompt. Any byte of a mask but zero counts
/// as one. spec: admission §8
///
/// # Errors
/// [`PromptError`] when the mask has another length than the prompt, or a length does not fit.
pub fn prompt_commitment(
    tokens: Words<'_>,
    mask: Option<PadMask<'_>>,
) -> Result<PromptCommitment, PromptError> {
    let length = tokens.len();
    let count = u32::try_from(length).map_err(|_| PromptError::TooLong { tokens: length })?;
    let mask = mask.unwrap_or(PadMask::Zeros(length));
    if mask.len() != length {
        return Err(PromptError::MaskLength { tokens: length, mask: mask.len() });
    }
    let mut hash = Sha256::new();
    hash.update(TAG);
    hash.update(count.to_le_bytes());
    let mut room = [0; RUN * 8];
    let mut tokens = tokens.iter();
    absorb(&mut hash, length, &mut room, 8, |place| {
        let id = tokens.next().unwrap_or(0);
        place.copy_from_slice(&u64::from(id).to_le_bytes());
    });
    hash.update(count.to_le_bytes());
    let mut flags = mask.iter();
    absorb(&mut hash, length, &mut room, 1, |place| {
        place.fill(u8::from(flags.next().is_some_and(|flag| flag != 0)));
    });
    Ok(PromptCommitment::from_bytes(hash.finalize().into()))
}

/// Hashes `count` items of `size` bytes each, a roomful at a time.
fn absorb(
    hash: &mut Sha256,
    count: usize,
    room: &mut [u8; RUN * 8],
    size: usize,
    mut write: impl FnMut(&mut [u8]),
) {
    let mut left = count;
    while left > 0 {
        let run = left.min(RUN);
        let bytes = room.get_mut(..run * size).unwrap_or_default();
        bytes.chunks_exact_mut(size).for_each(&mut write);
        hash.update(bytes);
        left -= run;
    }
}

#[cfg(test)]
mod tests {
    use super::{PromptError, TAG, prompt_commitment};
    use crate::proof::{PadMask, Words};
    use sha2::{Digest as _, Sha256};
    use std::vec::Vec;

    #[test]
    fn ids_and_flags_enter_with_their_numbers() {
        let tokens: Vec<u32> = (0..700).map(|i| i * 6_000_000).collect();
        let mask: Vec<u8> = (0..700_u32).map(|i| (i % 3) as u8).collect();
        let mut message = TAG.to_vec();
        message.extend(700_u32.to_le_bytes());
        message.extend(tokens.iter().flat_map(|id| i64::from(*id).to_le_bytes()));
        message.extend(700_u32.to_le_bytes());
        message.extend(mask.iter().map(|flag| u8::from(*flag != 0)));
        let words = Words::Native(&tokens);
        let found = prompt_commitment(words, Some(PadMask::Bytes(&mask))).unwrap();
        assert_eq!(found.as_bytes()[..], Sha256::digest(&message)[..]);
        let none = prompt_commitment(words, None);
        assert_eq!(none, prompt_commitment(words, Some(PadMask::Zeros(700))));
        assert_eq!(
            prompt_commitment(words, Some(PadMask::default())),
            Err(PromptError::MaskLength { tokens: 700, mask: 0 })
        );
    }
}
