//! What the registered difficulty of a model does to the thresholds: the block target a job is
//! really mined against, the node's check of it, and the share target. All three scale a target by
//! normalizer / difficulty, exactly, in wide arithmetic.

use super::{CompactError, CompactTarget, Difficulty, Normalizer, Target, TargetHexError};
use core::fmt;
use crypto_bigint::{U64, U256, U320};

/// The thresholds of a job after the model adjustment. spec: targets §3.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjusted {
    /// The easiest target consensus allows for the job and the model.
    pub max_target: Target,
    /// Compact form of `max_target`: what goes into the mined header.
    pub bits: CompactTarget,
    /// Expansion of `bits`: the target that is mined, never zero, at most `max_target`.
    pub target: Target,
}

/// Why a job cannot be mined with a model. spec: targets §3.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdjustError {
    /// The job's compact target is not valid.
    InvalidBits {
        /// The job's nBits.
        bits: CompactTarget,
        /// What is wrong with it.
        reason: CompactError,
    },
    /// The difficulty makes the target zero.
    Unminable {
        /// The job's nBits.
        bits: CompactTarget,
        /// The model's difficulty.
        difficulty: Difficulty,
    },
}

impl fmt::Display for AdjustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidBits { bits, reason } => write!(f, "nBits {bits}: {reason}"),
            Self::Unminable { bits, difficulty } => write!(
                f,
                "nBits {bits} with model difficulty {} leaves a target of zero",
                difficulty.get()
            ),
        }
    }
}

impl core::error::Error for AdjustError {}

/// Why the node rejects a block's pair of compact targets. spec: targets §3.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RatioError {
    /// nBits or the adjusted bits are no valid target.
    BadDiffTarget,
    /// The registered difficulty is not positive.
    BadModelDiff,
    /// The adjusted target is easier than the model allows.
    BadAdjustedBits,
}

impl RatioError {
    /// The node's reject code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadDiffTarget => "bad-diff-target",
            Self::BadModelDiff => "bad-model-diff",
            Self::BadAdjustedBits => "bad-adjusted-bits",
        }
    }
}

impl fmt::Display for RatioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for RatioError {}

/// Why a request has no share target although the broker sent a base. spec: targets §5.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareTargetError {
    /// The normalizer is 0.
    Disabled,
}

impl fmt::Display for ShareTargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shares are disabled: the model difficulty normalizer is 0")
    }
}

impl core::error::Error for ShareTargetError {}

/// `min(floor(target · normalizer / difficulty), limit)`, exact.
fn scale(target: &Target, normalizer: u64, difficulty: Difficulty, limit: &Target) -> Target {
    let product: U320 = target.0.widening_mul(&U64::from_u64(normalizer));
    let quotient = product.wrapping_div_vartime(&difficulty.divisor());
    // The quotient may need all 320 bits; the smaller of the two fits 256.
    let capped: U256 = quotient.min(limit.0.resize()).resize();
    Target(capped)
}

/// The easiest block target consensus allows. spec: targets §3.2
fn max_target(target: &Target, d: Difficulty, n: Normalizer, pow_limit: &Target) -> Target {
    scale(target, n.0.max(1), d, pow_limit)
}

/// The block target for a job with nBits `base` and a model of difficulty `d`.
/// spec: targets §3.2
///
/// # Errors
/// [`AdjustError`] when nBits is invalid or the result is zero; the job must not be mined then.
pub fn adjust_for_model(
    base: CompactTarget,
    d: Difficulty,
    n: Normalizer,
    pow_limit: &Target,
) -> Result<Adjusted, AdjustError> {
    let target =
        base.derive(pow_limit).map_err(|reason| AdjustError::InvalidBits { bits: base, reason })?;
    let max_target = max_target(&target, d, n, pow_limit);
    let bits = max_target.compact();
    let target = bits.expand().target;
    if target.is_zero() {
        return Err(AdjustError::Unminable { bits: base, difficulty: d });
    }
    Ok(Adjusted { max_target, bits, target })
}

/// The node's check of a block's two compact targets against the registered difficulty: the
/// adjusted one may be harder than [`adjust_for_model`] gives, never easier. spec: targets §3.2
///
/// # Errors
/// [`RatioError`], whose [`as_str`](RatioError::as_str) is the reject code.
pub fn check_adjusted_ratio(
    bits: CompactTarget,
    adjusted_bits: CompactTarget,
    difficulty: i64,
    n: Normalizer,
    pow_limit: &Target,
) -> Result<(), RatioError> {
    let base = bits.derive(pow_limit).map_err(|_| RatioError::BadDiffTarget)?;
    let adjusted = adjusted_bits.derive(pow_limit).map_err(|_| RatioError::BadDiffTarget)?;
    let d = Difficulty::new(difficulty).map_err(|_| RatioError::BadModelDiff)?;
    if adjusted > max_target(&base, d, n, pow_limit) {
        return Err(RatioError::BadAdjustedBits);
    }
    Ok(())
}

/// Reads a broker's `base_share_target`: 1 to 64 plain hex digits, most significant first; no
/// sign, no `0x`, no blanks. spec: targets §5.2
///
/// # Errors
/// [`TargetHexError`]; it means "no share for this request", mining continues.
pub fn parse_base_share_target(text: &str) -> Result<Target, TargetHexError> {
    Target::from_digits(text.as_bytes())
}

/// The share threshold for a broker's base target and a model: not rounded through the compact
/// form, capped at 2^256 − 1 only. It may be zero. spec: targets §5.2
///
/// # Errors
/// [`ShareTargetError::Disabled`] for a normalizer of 0; mining continues without shares.
pub fn share_target(
    base: &Target,
    d: Difficulty,
    n: Normalizer,
) -> Result<Target, ShareTargetError> {
    if n.0 == 0 {
        return Err(ShareTargetError::Disabled);
    }
    Ok(scale(base, n.0, d, &Target::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Target = Target::POW_LIMIT_TENSOR;
    const GENESIS: CompactTarget = CompactTarget::from_bits(0x1f5b_05b0);

    fn difficulty(value: i64) -> Difficulty {
        Difficulty::new(value).unwrap()
    }

    fn adjust(bits: u32, d: i64) -> Result<Adjusted, AdjustError> {
        let bits = CompactTarget::from_bits(bits);
        adjust_for_model(bits, difficulty(d), Normalizer::DEFAULT, &LIMIT)
    }

    #[test]
    fn the_normalizer_as_difficulty_leaves_canonical_bits_alone() {
        assert_eq!(adjust(GENESIS.to_bits(), 1_000_000).unwrap().bits, GENESIS);
    }

    #[test]
    fn a_harder_model_has_a_smaller_target() {
        let adjusted = adjust(GENESIS.to_bits(), 2_000_000).unwrap();
        assert_eq!(adjusted.bits.to_bits(), 0x1f2d_82d8);
        assert_eq!(adjusted.target, adjusted.max_target);
    }

    #[test]
    fn an_easier_model_stops_at_the_limit() {
        let adjusted = adjust(GENESIS.to_bits(), 1).unwrap();
        assert_eq!(adjusted.max_target, LIMIT);
        assert_eq!(adjusted.bits.to_bits(), 0x207f_ffff);
    }

    #[test]
    fn a_zero_normalizer_counts_as_one_for_blocks_and_disables_shares() {
        let [zero, one] =
            [0, 1].map(|n| adjust_for_model(GENESIS, difficulty(3), Normalizer(n), &LIMIT));
        assert_eq!(zero, one);
        let disabled = share_target(&LIMIT, difficulty(1), Normalizer(0));
        assert_eq!(disabled, Err(ShareTargetError::Disabled));
    }

    #[test]
    fn what_cannot_be_mined_is_refused() {
        let reason = CompactError::Zero;
        let bits = CompactTarget::from_bits(0);
        assert_eq!(adjust(0, 1), Err(AdjustError::InvalidBits { bits, reason }));
        assert!(matches!(adjust(0x0300_0001, 1_000_001), Err(AdjustError::Unminable { .. })));
    }

    #[test]
    fn the_ratio_check_looks_at_targets_before_the_difficulty() {
        let check = |adjusted, d| {
            let adjusted = CompactTarget::from_bits(adjusted);
            check_adjusted_ratio(GENESIS, adjusted, d, Normalizer::DEFAULT, &LIMIT)
        };
        assert_eq!(check(0, 0), Err(RatioError::BadDiffTarget));
        assert_eq!(check(0x1f5b_05b0, 0), Err(RatioError::BadModelDiff));
        assert_eq!(check(0x1f5b_05b0, 1_000_001), Err(RatioError::BadAdjustedBits));
        assert_eq!(check(0x1f5b_05b1, 1_000_000), Err(RatioError::BadAdjustedBits));
        assert_eq!(check(0x1f5b_05b0, 1_000_000), Ok(()));
        assert_eq!(check(0x1e00_0001, 1_000_000), Ok(()));
    }

    #[test]
    fn a_share_target_is_exact_and_capped_at_256_bits() {
        let share = |base: &Target, d| share_target(base, difficulty(d), Normalizer::DEFAULT);
        assert_eq!(share(&Target::MAX, 1), Ok(Target::MAX));
        assert_eq!(share(&Target::MAX, 1_000_000), Ok(Target::MAX));
        let one = parse_base_share_target("1").unwrap();
        assert_eq!(share(&one, 1_000_001), Ok(Target::ZERO));
        assert_eq!(share(&one, 1), Ok(parse_base_share_target("f4240").unwrap()));
    }

    #[test]
    fn a_base_share_target_has_1_to_64_plain_digits() {
        let nine = parse_base_share_target("9").unwrap();
        assert_eq!(nine, Target::from_hex_padded("9").unwrap());
        assert_eq!(
            parse_base_share_target(&"0".repeat(65)),
            Err(TargetHexError::TooLong { found: 65 })
        );
        for text in ["", "0x10", " 10", "+5", "-1", "1_0", "é"] {
            assert!(parse_base_share_target(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_adjusted_target_is_legal_and_the_next_easier_one_is_not(
            mantissa in 1_u32..0x0080_0000,
            exponent in 3_u32..=0x20,
            d in 1..=i64::MAX,
            n: u64,
        ) {
            let bits = CompactTarget::from_bits(exponent << 24 | mantissa);
            let n = Normalizer(n);
            if let Ok(adjusted) = adjust_for_model(bits, difficulty(d), n, &LIMIT) {
                prop_assert!(adjusted.target <= adjusted.max_target);
                prop_assert!(adjusted.max_target <= LIMIT);
                prop_assert_eq!(check_adjusted_ratio(bits, adjusted.bits, d, n, &LIMIT), Ok(()));
                let easier = CompactTarget::from_bits(adjusted.bits.to_bits() + 1);
                // Below four bytes the compact form has digits that do not count.
                if easier.expand().target != adjusted.target {
                    prop_assert!(check_adjusted_ratio(bits, easier, d, n, &LIMIT).is_err());
                }
            }
        }

        #[test]
        fn a_share_target_is_the_floor_of_the_quotient(
            base: u128,
            d in 1..=i64::MAX,
            n in 1..=u64::MAX,
        ) {
            // Small enough for plain integers to be the judge.
            let base = base >> 64;
            let quotient = base * u128::from(n) / u128::from(d.unsigned_abs());
            let text = |value: u128| std::format!("{value:x}");
            let base = parse_base_share_target(&text(base)).unwrap();
            prop_assert_eq!(
                share_target(&base, difficulty(d), Normalizer(n)).unwrap(),
                parse_base_share_target(&text(quotient)).unwrap()
            );
        }
    }
}
