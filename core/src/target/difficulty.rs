//! The two numbers that scale targets: the difficulty a model is registered with and the network's
//! normalizer.

use core::fmt;
use core::num::NonZeroI64;
use crypto_bigint::{NonZero, U64};

/// The registered difficulty of a model: 1 to 2^63 − 1, higher is harder. spec: targets §3.2
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Difficulty(NonZeroI64);

/// A model difficulty is zero or negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DifficultyError {
    /// The value found.
    pub found: i64,
}

impl fmt::Display for DifficultyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a model difficulty is at least 1, not {}", self.found)
    }
}

impl core::error::Error for DifficultyError {}

impl Difficulty {
    /// Takes the registry's value.
    ///
    /// # Errors
    /// [`DifficultyError`] when it is not positive.
    pub const fn new(difficulty: i64) -> Result<Self, DifficultyError> {
        match NonZeroI64::new(difficulty) {
            Some(positive) if difficulty > 0 => Ok(Self(positive)),
            _ => Err(DifficultyError { found: difficulty }),
        }
    }

    /// The value, at least 1.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0.get()
    }

    /// The value as `MiningResponse.difficulty` holds it: larger ones become 2^32 − 1.
    /// spec: proof-encoding §5.1
    #[must_use]
    pub fn saturated_u32(self) -> u32 {
        u32::try_from(self.get()).unwrap_or(u32::MAX)
    }

    /// The value as a divisor.
    pub(super) fn divisor(self) -> NonZero<U64> {
        NonZero::<U64>::from_u64(self.0.unsigned_abs())
    }
}

/// `ModelDifficultyNormalizer`: the difficulty that leaves a target unchanged. For block targets 0
/// counts as 1, for share targets it turns shares off. spec: targets §3.2, §5.2
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Normalizer(pub u64);

impl Normalizer {
    /// The value of every tensor network.
    pub const DEFAULT: Self = Self(1_000_000);
}

impl Default for Normalizer {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difficulty_is_positive() {
        for found in [0, -1, i64::MIN] {
            assert_eq!(Difficulty::new(found), Err(DifficultyError { found }));
        }
        assert_eq!(Difficulty::new(i64::MAX).unwrap().get(), i64::MAX);
        assert_eq!(Difficulty::new(i64::MAX).unwrap().saturated_u32(), u32::MAX);
        assert_eq!(Difficulty::new(7).unwrap().saturated_u32(), 7);
    }
}
