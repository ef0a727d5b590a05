//! The puzzle's numbers: how many tries a model's difficulty stands for, the target that follows,
//! and the test of a digest against it.

use crate::units::PuzzleDigest;
use core::fmt;

/// What turns a model's difficulty into a number of tries. The networks share [`Self::NETWORK`];
/// other values only occur in tests. spec: admission §1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PuzzleParams {
    /// Share of the decoding time that the puzzle takes, numerator.
    pub alpha_num: u64,
    /// Share of the decoding time that the puzzle takes, denominator.
    pub alpha_den: u64,
    /// Microseconds of decoding a window at the normalizer's difficulty.
    pub decode_us: u64,
    /// Microseconds of one try.
    pub argon_ref_us: u64,
    /// Difficulty of the model that the times were measured with.
    pub normalizer: u64,
}

impl PuzzleParams {
    /// The parameters of every network. spec: admission §1
    pub const NETWORK: Self = Self {
        alpha_num: 4,
        alpha_den: 100,
        decode_us: 6_000_000,
        argon_ref_us: 4_000,
        normalizer: 1_000_000,
    };
}

impl Default for PuzzleParams {
    fn default() -> Self {
        Self::NETWORK
    }
}

/// Why a difficulty stands for no number of tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriesError {
    /// The difficulty is zero or negative.
    Difficulty {
        /// The difficulty.
        found: i64,
    },
    /// The parameters make the denominator zero.
    ZeroDenominator,
    /// The number of tries does not fit `u64`.
    Overflow,
}

impl fmt::Display for TriesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Difficulty { found } => write!(f, "difficulty {found} is not positive"),
            Self::ZeroDenominator => f.write_str("the parameters make the denominator zero"),
            Self::Overflow => f.write_str("the expected tries do not fit u64"),
        }
    }
}

impl core::error::Error for TriesError {}

/// The expected number of tries:
/// `max(1, ⌊alpha_num · decode_us · normalizer / (alpha_den · argon_ref_us · difficulty)⌋)`.
/// spec: admission §8
///
/// # Errors
/// [`TriesError`]; with the network's parameters only a difficulty that is not positive is one.
pub fn expected_tries(difficulty: i64, params: &PuzzleParams) -> Result<u64, TriesError> {
    let found = TriesError::Difficulty { found: difficulty };
    let difficulty = u64::try_from(difficulty).ok().filter(|d| *d > 0).ok_or(found)?;
    let product = |factors: [u64; 3]| {
        factors.into_iter().try_fold(1_u128, |product, factor| product.checked_mul(factor.into()))
    };
    let numerator = product([params.alpha_num, params.decode_us, params.normalizer]);
    let denominator = product([params.alpha_den, params.argon_ref_us, difficulty]);
    if denominator == Some(0) {
        return Err(TriesError::ZeroDenominator);
    }
    let (Some(numerator), Some(denominator)) = (numerator, denominator) else {
        return Err(TriesError::Overflow);
    };
    let tries = u64::try_from(numerator / denominator).map_err(|_| TriesError::Overflow)?;
    Ok(tries.max(1))
}

/// Attempts that a window is given: the expected number times a factor of at least one. The chance
/// of none succeeding is about e^−factor. spec: admission §10.1
#[must_use]
pub const fn max_tries(expected: u64, factor: u32) -> u64 {
    expected.saturating_mul(if factor == 0 { 1 } else { factor as u64 })
}

/// What [`max_tries`] is asked for unless an operator says otherwise. spec: admission §10.1
pub const DEFAULT_TRIES_FACTOR: u32 = 16;

/// The number a digest must stay below, kept little-endian as digests are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PuzzleTarget([u8; 32]);

/// The target of a number of tries: `⌊(2^256 − 1) / tries⌋`. Zero tries count as one.
/// spec: admission §8
#[must_use]
#[allow(clippy::cast_possible_truncation)] // a remainder below a u64 leaves quotients below 2^64
pub fn target(tries: u64) -> PuzzleTarget {
    let divisor = u128::from(tries.max(1));
    let mut bytes = [0; 32];
    let mut rest = 0_u128;
    for limb in bytes.rchunks_exact_mut(8) {
        let part = rest << 64 | u128::from(u64::MAX);
        limb.copy_from_slice(&((part / divisor) as u64).to_le_bytes());
        rest = part % divisor;
    }
    PuzzleTarget(bytes)
}

impl PuzzleTarget {
    /// 2^256 − 1: every digest but the one of 32 bytes `ff` meets it.
    pub const MAX: Self = Self([0xff; 32]);

    /// Takes 32 bytes, least significant first.
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, least significant first.
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; 32] {
        self.0
    }

    /// True when the digest, read as a little-endian number, is strictly below. spec: admission §8
    #[must_use]
    pub fn is_met_by(&self, digest: &PuzzleDigest) -> bool {
        digest.as_bytes().iter().rev().lt(self.0.iter().rev())
    }
}

impl fmt::Debug for PuzzleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PuzzleTarget(")?;
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        PuzzleDigest, PuzzleParams, PuzzleTarget, TriesError, expected_tries, max_tries, target,
    };
    use crypto_bigint::{NonZero, U256};

    #[test]
    fn tries_of_the_specified_difficulties() {
        for (difficulty, tries) in [
            (1, 60_000_000),
            (500_000, 120),
            (1_000_000, 60),
            (3_000_000, 20),
            (20_000_000, 3),
            (20_000_001, 2),
            (30_000_000, 2),
            (30_000_001, 1),
            (i64::MAX, 1),
        ] {
            assert_eq!(expected_tries(difficulty, &PuzzleParams::NETWORK), Ok(tries));
        }
        for found in [0, -1, i64::MIN] {
            let error = Err(TriesError::Difficulty { found });
            assert_eq!(expected_tries(found, &PuzzleParams::NETWORK), error);
        }
        assert_eq!(max_tries(60, 0), 60);
        assert_eq!(max_tries(u64::MAX, 16), u64::MAX);
    }

    #[test]
    fn targets_are_quotients_of_all_ones() {
        for tries in [1, 2, 3, 60, 963, 60_000_000, u64::MAX - 1, u64::MAX] {
            let divisor = NonZero::new(U256::from_u64(tries)).unwrap();
            let quotient = U256::MAX.wrapping_div(&divisor);
            assert_eq!(target(tries).to_le_bytes(), quotient.to_le_bytes(), "{tries}");
        }
        assert_eq!(target(0), PuzzleTarget::MAX);
    }

    #[test]
    fn a_digest_must_be_strictly_below() {
        let mut bytes = [7; 32];
        let limit = PuzzleTarget::from_le_bytes(bytes);
        assert!(!limit.is_met_by(&PuzzleDigest::from_bytes(bytes)));
        bytes[0] = 6;
        assert!(limit.is_met_by(&PuzzleDigest::from_bytes(bytes)));
        bytes[1] = 8;
        assert!(!limit.is_met_by(&PuzzleDigest::from_bytes(bytes)));
    }
}
