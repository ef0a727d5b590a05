//! The reason a proof is refused, with the value that was found and the limit it broke.

use super::Check;
use crate::credit::CreditUnits;
use crate::target::{CompactTarget, Target};
use crate::units::{Digest, HeaderHash};
use core::fmt;

/// What a check looked at, and what it compares with. Its text follows the check's demand.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Detail {
    /// The demand says it all.
    None,
    /// Exactly this many are wanted.
    Count {
        /// Number found.
        found: u64,
        /// Number wanted.
        wanted: u64,
    },
    /// At least this many are wanted.
    AtLeast {
        /// Number found.
        found: u64,
        /// Least number.
        least: u64,
    },
    /// At most this many are allowed.
    AtMost {
        /// Number found.
        found: u64,
        /// Greatest number.
        limit: u64,
    },
    /// A whole number with two limits.
    Between {
        /// Number found.
        found: u64,
        /// Least number.
        least: u64,
        /// Greatest number.
        limit: u64,
    },
    /// A number with two limits.
    Range {
        /// Number found.
        found: f32,
        /// Least number.
        low: f32,
        /// Greatest number.
        high: f32,
    },
    /// A number that must be finite.
    Finite(f32),
    /// A draw, which lies in `[0, 1)`.
    Draw(f32),
    /// A number that must be near another.
    Near {
        /// Number found.
        found: f32,
        /// Number it belongs to.
        wanted: f32,
        /// Greatest distance.
        within: f32,
    },
    /// A draw and its interval, which is widened by the tolerance.
    Interval {
        /// The recomputed draw.
        draw: f32,
        /// Lower bound.
        lower: f32,
        /// Upper bound.
        upper: f32,
    },
    /// Bounds of a step.
    Bounds {
        /// Lower bound.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// Sampling settings.
    Profile {
        /// Temperature.
        temperature: f32,
        /// Top-p.
        top_p: f32,
        /// Top-k.
        top_k: u32,
        /// Repetition penalty.
        repetition_penalty: f32,
    },
    /// The claimed closing digest and the recomputed one.
    Digest {
        /// What the proof claims; none when it has another length.
        found: Option<Digest>,
        /// What its window gives.
        wanted: Digest,
    },
    /// A compact target.
    Bits(CompactTarget),
    /// Two targets.
    Target {
        /// What the proof claims.
        found: Target,
        /// What its prefix says.
        wanted: Target,
    },
    /// A hash and its threshold.
    Hash {
        /// The hash.
        found: HeaderHash,
        /// The threshold.
        target: Target,
    },
    /// A model difficulty.
    Difficulty(i64),
    /// Credited entropy and the least that is wanted.
    Credit {
        /// What the window has.
        found: CreditUnits,
        /// What is wanted.
        least: CreditUnits,
    },
    /// A reuse-entropy score and the greatest allowed, in units of 2^-32.
    Score {
        /// The score.
        found: u64,
        /// Greatest score.
        limit: u64,
    },
    /// A reason of the admission puzzle, in words.
    Words(&'static str),
}

/// A 2^-32 count as a number with decimals, for display.
#[allow(clippy::cast_precision_loss)] // shown with a few decimals
fn of_2_to_32(score: u64) -> f64 {
    score as f64 / 4_294_967_296.0
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Count { found, wanted } => write!(f, "{found}, wanted {wanted}"),
            Self::AtLeast { found, least } => write!(f, "{found}, at least {least}"),
            Self::AtMost { found, limit } => write!(f, "{found}, at most {limit}"),
            Self::Between { found, least, limit } => write!(f, "{found}, from {least} to {limit}"),
            Self::Range { found, low, high } => write!(f, "{found}, from {low} to {high}"),
            Self::Finite(found) => write!(f, "{found}"),
            Self::Draw(found) => write!(f, "{found}, at least 0 and below 1"),
            Self::Near { found, wanted, within } => {
                write!(f, "{found}, wanted {wanted} within {within:e}")
            }
            Self::Interval { draw, lower, upper } => {
                write!(f, "{draw}, interval {lower} to {upper} within 0.0001")
            }
            Self::Bounds { lower, upper } => write!(f, "{lower} to {upper}"),
            Self::Profile { temperature, top_p, top_k, repetition_penalty } => write!(
                f,
                "temperature {temperature}, top_p {top_p}, top_k {top_k}, \
                 repetition_penalty {repetition_penalty}"
            ),
            Self::Digest { found: Some(found), wanted } => {
                write!(f, "{found:x}, wanted {wanted:x}")
            }
            Self::Digest { found: None, wanted } => write!(f, "wanted {wanted:x}"),
            Self::Bits(bits) => write!(f, "{bits}"),
            Self::Target { found, wanted } => write!(f, "{found}, wanted {wanted}"),
            Self::Hash { found, target } => write!(f, "{}, at most {target}", found.display()),
            Self::Difficulty(found) => write!(f, "{found}"),
            Self::Credit { found, least } => {
                write!(f, "{:.3} bits, at least {:.3}", found.bits(), least.bits())
            }
            Self::Score { found, limit } => {
                write!(f, "{:.6}, at most {:.6}", of_2_to_32(*found), of_2_to_32(*limit))
            }
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// The first check that does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// The check.
    pub check: Check,
    /// The step, for checks that are made per step.
    pub step: Option<u32>,
    /// The value and its limit.
    pub detail: Detail,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.check.id())?;
        if let Some(step) = self.step {
            write!(f, " at step {step}")?;
        }
        write!(f, ": {}", self.check.demand())?;
        match self.detail {
            Detail::None => Ok(()),
            detail => write!(f, " ({detail})"),
        }
    }
}

impl core::error::Error for Failure {}
