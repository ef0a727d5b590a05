//! The 256-bit target and its text forms; its compact form ("bits"); and what the difficulty of a
//! model does to block and share targets ([`adjust_for_model`], [`share_target`]).

mod adjust;
mod compact;
mod difficulty;

pub use adjust::{
    AdjustError, Adjusted, RatioError, ShareTargetError, adjust_for_model, check_adjusted_ratio,
    parse_base_share_target, share_target,
};
pub use compact::{CompactError, CompactTarget, Expanded};
pub use difficulty::{Difficulty, DifficultyError, Normalizer};

use crate::units::{HeaderHash, HexError, decode_hex};
use core::fmt;
use crypto_bigint::{Encoding, U256};

/// Hex digits of a target.
const DIGITS: usize = 64;

/// An unsigned 256-bit threshold for a hash read as a number. Orders as the number.
/// spec: targets §1
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(U256);

/// Why a text is no target of up to 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetHexError {
    /// The text is empty.
    Empty,
    /// The text has more than 64 characters.
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// The byte at this position is not a hexadecimal digit.
    Digit {
        /// Position in the text.
        at: usize,
    },
}

impl fmt::Display for TargetHexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty text is no target"),
            Self::TooLong { found } => {
                write!(f, "a target has at most {DIGITS} hex digits, not {found}")
            }
            Self::Digit { at } => write!(f, "character {at} is not a hex digit"),
        }
    }
}

impl core::error::Error for TargetHexError {}

impl Target {
    /// Zero: no hash but the zero hash meets it.
    pub const ZERO: Self = Self(U256::ZERO);

    /// 2^256 − 1: every hash meets it.
    pub const MAX: Self = Self(U256::MAX);

    /// The easiest block target of every tensor network, 2^255 − 1. spec: targets §1
    pub const POW_LIMIT_TENSOR: Self = Self(U256::MAX.wrapping_shr_vartime(1));

    /// Takes 32 bytes, most significant first: the order of `Proof.target`. spec: targets §1
    #[must_use]
    pub fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }

    /// The 32 bytes, most significant first: the order of `Proof.target`. spec: targets §1
    #[must_use]
    pub fn to_be_bytes(&self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// Reads exactly 64 plain hex digits, most significant first. spec: targets §1
    ///
    /// # Errors
    /// [`HexError`] for another length or another character.
    pub fn from_hex_strict(text: &str) -> Result<Self, HexError> {
        let mut bytes = [0; 32];
        decode_hex(text, &mut bytes)?;
        Ok(Self::from_be_bytes(bytes))
    }

    /// Reads hex the way a sampler library does: fewer than 64 digits are padded with zeros on the
    /// left, of more than 64 the last 64 count and the rest is not looked at. The payload door is
    /// stricter and uses [`Self::from_hex_strict`]. spec: targets §4
    ///
    /// # Errors
    /// [`TargetHexError::Empty`], which means "no share threshold" for a share target, or
    /// [`TargetHexError::Digit`].
    pub fn from_hex_padded(text: &str) -> Result<Self, TargetHexError> {
        let skipped = text.len().saturating_sub(DIGITS);
        let last = text.as_bytes().get(skipped..).unwrap_or_default();
        Self::from_digits(last).map_err(|error| match error {
            TargetHexError::Digit { at } => TargetHexError::Digit { at: skipped + at },
            other => other,
        })
    }

    /// 1 to 64 hex digits, most significant first.
    fn from_digits(digits: &[u8]) -> Result<Self, TargetHexError> {
        if digits.is_empty() {
            return Err(TargetHexError::Empty);
        }
        if digits.len() > DIGITS {
            return Err(TargetHexError::TooLong { found: digits.len() });
        }
        let mut value = U256::ZERO;
        for (at, &byte) in digits.iter().enumerate() {
            let digit = char::from(byte).to_digit(16).ok_or(TargetHexError::Digit { at })?;
            value = value.wrapping_shl_vartime(4) | U256::from_u32(digit);
        }
        Ok(Self(value))
    }

    /// True for zero, which cannot be mined.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The header test: the hash, read with byte 31 as the most significant, is not above the
    /// target. Equality passes. spec: targets §5.1
    #[must_use]
    pub fn is_met_by(&self, hash: &HeaderHash) -> bool {
        U256::from_le_bytes(*hash.as_bytes()) <= self.0
    }
}

/// 64 lowercase hex digits, most significant first: the text form of payloads and messages.
/// spec: targets §1
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_be_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::LowerHex for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_hash_equal_to_the_target_meets_it_and_one_above_does_not() {
        let mut bytes = [0; 32];
        bytes[0] = 0x10;
        bytes[31] = 0x05;
        let target = Target::from_be_bytes(bytes);
        bytes.reverse();
        assert!(target.is_met_by(&HeaderHash::from_bytes(bytes)));
        bytes[0] += 1;
        assert!(!target.is_met_by(&HeaderHash::from_bytes(bytes)));
    }

    #[test]
    fn the_pow_limit_is_7f_and_31_times_ff() {
        let mut bytes = [0xff; 32];
        bytes[0] = 0x7f;
        assert_eq!(Target::POW_LIMIT_TENSOR.to_be_bytes(), bytes);
    }

    #[test]
    fn padded_hex_ignores_what_precedes_the_last_64_digits() {
        let long = std::format!("not hex é{:064x}", 0xabc);
        assert_eq!(Target::from_hex_padded(&long), Target::from_hex_padded("abc"));
        assert_eq!(Target::from_hex_padded(""), Err(TargetHexError::Empty));
        let bad = std::format!("00z{:063x}", 0);
        assert_eq!(Target::from_hex_padded(&bad), Err(TargetHexError::Digit { at: 2 }));
        // The cut may fall inside a character: the rest of it is simply no digit.
        let split = std::format!("é{:063x}", 0);
        assert_eq!(Target::from_hex_padded(&split), Err(TargetHexError::Digit { at: 1 }));
    }

    #[test]
    fn strict_hex_takes_64_digits_and_prints_them_back() {
        let text = std::format!("{:064x}", 0x1234_u32);
        assert_eq!(Target::from_hex_strict(&text).unwrap().to_string(), text);
        assert_eq!(
            Target::from_hex_strict("1234"),
            Err(HexError::Length { expected: 64, found: 4 })
        );
    }
}
