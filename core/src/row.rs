//! A logits row made ready for mining: rounded to the declared grid and free of everything a
//! verifier refuses.

use crate::precision::Snap;
use core::fmt;

/// Fewest logits a mined row has. spec: sampler §5.3
pub const MIN_VOCAB: usize = 128;

/// A row of finite logits on the declared grid, one per token id, at least [`MIN_VOCAB`] of them.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    logits: &'a [f32],
    max: f32,
}

/// Why a row ends the mining of its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// The row is not as wide as the vocabulary the sequence began with.
    Width {
        /// Logits expected.
        expected: usize,
        /// Logits found.
        found: usize,
    },
    /// The caller's working row is shorter than the vocabulary.
    Scratch {
        /// Values needed.
        needed: usize,
        /// Values there.
        found: usize,
    },
    /// A logit is not a number.
    Nan {
        /// Its token id.
        id: usize,
    },
    /// A logit is plus infinity, or became so when it was rounded.
    Infinite {
        /// Its token id.
        id: usize,
    },
    /// No logit is finite.
    NothingFinite,
    /// The label promises bf16 values without rounding, and a logit has more bits.
    OffGrid {
        /// Its token id.
        id: usize,
    },
}

impl RowError {
    /// A short name for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Width { .. } => "row_width",
            Self::Scratch { .. } => "row_scratch",
            Self::Nan { .. } => "logits_nan",
            Self::Infinite { .. } => "logits_infinite",
            Self::NothingFinite => "logits_nothing_finite",
            Self::OffGrid { .. } => "logits_off_grid",
        }
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Width { expected, found } => {
                write!(f, "the row has {found} logits, the sequence began with {expected}")
            }
            Self::Scratch { needed, found } => {
                write!(f, "the working row holds {found} values, {needed} are needed")
            }
            Self::Nan { id } => write!(f, "logit {id} is not a number"),
            Self::Infinite { id } => write!(f, "logit {id} is plus infinity on the declared grid"),
            Self::NothingFinite => f.write_str("no logit is finite"),
            Self::OffGrid { id } => {
                write!(f, "logit {id} has more bits than bf16, which the label promises")
            }
        }
    }
}

impl core::error::Error for RowError {}

/// How a row reaches the declared grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Round every logit.
    Snapped(Snap),
    /// The engine's logits must already be bf16 values.
    Bf16Exact,
}

impl Grid {
    /// The grid a precision label stands for, of those that are mined. spec: sampler §5.1
    #[must_use]
    pub fn for_label(label: &str) -> Option<Self> {
        match label {
            "bf16" | "fp16" => Some(Self::Snapped(Snap::for_label(label))),
            "fp8" => Some(Self::Bf16Exact),
            _ => None,
        }
    }

    /// True for a value that the grid leaves as it is.
    #[must_use]
    pub fn holds(self, logit: f32) -> bool {
        match self {
            Self::Snapped(snap) => snap.apply(logit).to_bits() == logit.to_bits(),
            Self::Bf16Exact => logit.to_bits() & 0xFFFF == 0,
        }
    }
}

impl<'a> Row<'a> {
    /// Rounds `logits` into `scratch` and applies the policy for values that are not finite: NaN,
    /// +∞ or a row without finite values stop mining; −∞ becomes the row's smallest finite value.
    /// spec: sampler §5.1
    ///
    /// # Errors
    /// [`RowError`] when the row must not be mined.
    pub fn prepare(logits: &[f32], grid: Grid, scratch: &'a mut [f32]) -> Result<Self, RowError> {
        let found = scratch.len();
        let Some(row) = scratch.get_mut(..logits.len()) else {
            return Err(RowError::Scratch { needed: logits.len(), found });
        };
        if logits.len() < MIN_VOCAB {
            return Err(RowError::Width { expected: MIN_VOCAB, found: logits.len() });
        }
        match grid {
            // Written out per grid, so that each loop is a plain one.
            Grid::Snapped(Snap::None) => row.copy_from_slice(logits),
            Grid::Snapped(Snap::Bf16) => {
                for (to, from) in row.iter_mut().zip(logits) {
                    // Rounding would turn some NaN patterns into infinity; see the check below.
                    *to = if from.is_nan() { f32::NAN } else { crate::precision::bf16(*from) };
                }
            }
            Grid::Snapped(snap) => {
                for (to, from) in row.iter_mut().zip(logits) {
                    *to = if from.is_nan() { f32::NAN } else { snap.apply(*from) };
                }
            }
            Grid::Bf16Exact => {
                row.copy_from_slice(logits);
                if let Some(id) = row.iter().position(|l| l.to_bits() & 0xFFFF != 0) {
                    return Err(RowError::OffGrid { id });
                }
            }
        }
        Self::settle(row)
    }

    /// The row as the library primitives take it: at least 50 values, neither rounded nor checked.
    /// For tests against the reference; a mined row comes from [`Row::prepare`].
    #[must_use]
    pub fn without_policy(logits: &'a [f32]) -> Option<Self> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (logits.len() >= crate::units::TOP_SLOTS).then_some(Self { logits, max })
    }

    /// The policy part of [`Row::prepare`].
    fn settle(row: &'a mut [f32]) -> Result<Self, RowError> {
        let mut max = f32::NEG_INFINITY;
        let mut min = f32::INFINITY;
        let mut unordered = false;
        let mut masked = false;
        for l in row.iter() {
            unordered |= l.is_nan() | (*l == f32::INFINITY);
            masked |= *l == f32::NEG_INFINITY;
            max = if *l > max { *l } else { max };
            min = if *l < min && *l > f32::NEG_INFINITY { *l } else { min };
        }
        if unordered {
            return Err(match row.iter().position(|l| l.is_nan()) {
                Some(id) => RowError::Nan { id },
                None => RowError::Infinite {
                    id: row.iter().position(|l| *l == f32::INFINITY).unwrap_or(0),
                },
            });
        }
        if max == f32::NEG_INFINITY {
            return Err(RowError::NothingFinite);
        }
        if masked {
            for l in row.iter_mut().filter(|l| **l == f32::NEG_INFINITY) {
                *l = min;
            }
        }
        Ok(Self { logits: row, max })
    }

    /// The logits, one per token id.
    #[must_use]
    pub fn logits(&self) -> &'a [f32] {
        self.logits
    }

    /// The largest logit.
    #[must_use]
    pub fn max(&self) -> f32 {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn prepare(logits: &[f32], grid: Grid) -> Result<Vec<f32>, RowError> {
        let mut scratch = vec![0.0; logits.len()];
        Row::prepare(logits, grid, &mut scratch).map(|row| row.logits().to_vec())
    }

    #[test]
    fn minus_infinity_becomes_the_smallest_finite_logit() {
        let mut logits = vec![1.0_f32; 128];
        logits[3] = f32::NEG_INFINITY;
        logits[9] = -4.0;
        let row = prepare(&logits, Grid::Snapped(Snap::Bf16)).unwrap();
        assert_eq!((row[3], row[9], row[0]), (-4.0, -4.0, 1.0));
    }

    #[test]
    fn what_a_verifier_refuses_stops_mining_and_is_named() {
        let mut logits = vec![1.0_f32; 128];
        logits[5] = f32::NAN;
        let grid = Grid::Snapped(Snap::Bf16);
        assert_eq!(prepare(&logits, grid), Err(RowError::Nan { id: 5 }));
        // This NaN would round to +∞.
        logits[5] = f32::from_bits(0x7FFF_FFFF);
        assert_eq!(prepare(&logits, grid), Err(RowError::Nan { id: 5 }));
        logits[5] = f32::MAX; // rounds to +∞ in bf16
        assert_eq!(prepare(&logits, grid), Err(RowError::Infinite { id: 5 }));
        assert_eq!(prepare(&[f32::NEG_INFINITY; 128], grid), Err(RowError::NothingFinite));
        assert_eq!(prepare(&[1.0; 127], grid), Err(RowError::Width { expected: 128, found: 127 }));
        logits[5] = 1.0 + f32::EPSILON;
        assert_eq!(prepare(&logits, Grid::Bf16Exact), Err(RowError::OffGrid { id: 5 }));
    }
}
