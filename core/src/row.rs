//! A logits row made ready for mining: seen as rounded to the declared grid and free of everything a
//! verifier refuses. The engine's values are neither changed nor copied; whoever reads one rounds it.

use crate::precision::Snap;
use crate::select::RowScratch;
use crate::simd::{self, Extremes, GROUPS, Path};
use core::fmt;

/// Fewest logits a mined row has. spec: sampler §5.3
pub const MIN_VOCAB: usize = 128;

/// A row of finite logits on the declared grid, one per token id, at least [`MIN_VOCAB`] of them.
#[derive(Debug)]
pub struct Row<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) path: Path,
    pub(crate) max: f32,
    /// Low bits that are zero in every value of the grid.
    pub(crate) zero_bits: u32,
    /// Holds the maxima of the groups, on the grid.
    pub(crate) scratch: &'a mut RowScratch,
}

/// The engine's logits, and what each of them counts as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) raw: &'a [f32],
    pub(crate) snap: Snap,
    /// What −∞ becomes.
    pub(crate) floor: f32,
}

impl<'a> Values<'a> {
    pub(crate) fn get(self, id: usize) -> Option<f32> {
        self.raw.get(id).map(|raw| self.settled(*raw))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = f32> + 'a {
        self.raw.iter().map(move |raw| self.settled(*raw))
    }

    fn settled(self, raw: f32) -> f32 {
        let logit = self.snap.apply(raw);
        if logit == f32::NEG_INFINITY { self.floor } else { logit }
    }
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
    /// Reads `logits` once and applies the policy for values that are not finite on the grid: NaN,
    /// +∞ or a row without finite values stop mining; −∞ becomes the row's smallest finite value.
    /// spec: sampler §5.1
    ///
    /// # Errors
    /// [`RowError`] when the row must not be mined.
    pub fn prepare(
        logits: &'a [f32],
        grid: Grid,
        scratch: &'a mut RowScratch,
    ) -> Result<Self, RowError> {
        Self::prepare_on(Path::best(), logits, grid, scratch)
    }

    /// [`Row::prepare`] with given instructions.
    ///
    /// # Errors
    /// As [`Row::prepare`].
    pub fn prepare_on(
        path: Path,
        logits: &'a [f32],
        grid: Grid,
        scratch: &'a mut RowScratch,
    ) -> Result<Self, RowError> {
        if logits.len() < MIN_VOCAB {
            return Err(RowError::Width { expected: MIN_VOCAB, found: logits.len() });
        }
        let extremes = path.scan(logits, &mut scratch.maxima);
        let bf16_already = extremes.union & 0xFFFF == 0;
        let snap = match grid {
            Grid::Bf16Exact if !bf16_already => {
                let id = logits.iter().position(|l| l.to_bits() & 0xFFFF != 0).unwrap_or(0);
                return Err(RowError::OffGrid { id });
            }
            Grid::Bf16Exact => Snap::None,
            // The logits of a bf16 head need no rounding.
            Grid::Snapped(Snap::Bf16) if bf16_already => Snap::None,
            Grid::Snapped(snap) => snap,
        };
        let floor =
            if all_finite(extremes, snap) { f32::NEG_INFINITY } else { floor(logits, snap)? };
        Ok(Self::scanned(path, logits, snap, floor, bf16_already, scratch))
    }

    /// The row as the library primitives take it: at least 50 values, neither rounded nor checked.
    /// For tests against the reference; a mined row comes from [`Row::prepare`].
    #[must_use]
    pub fn without_policy(logits: &'a [f32], scratch: &'a mut RowScratch) -> Option<Self> {
        let path = Path::best();
        path.scan(logits, &mut scratch.maxima);
        let floor = f32::NEG_INFINITY;
        (logits.len() >= crate::units::TOP_SLOTS)
            .then(|| Self::scanned(path, logits, Snap::None, floor, false, scratch))
    }

    fn scanned(
        path: Path,
        logits: &'a [f32],
        snap: Snap,
        floor: f32,
        bf16_already: bool,
        scratch: &'a mut RowScratch,
    ) -> Self {
        let used = logits.len().min(GROUPS);
        let maxima = scratch.maxima.get_mut(..used).unwrap_or_default();
        simd::settle(maxima, snap, floor);
        let (_, max) = simd::range(maxima);
        let zero_bits = match snap {
            Snap::Bf16 => 16,
            Snap::Fp16 => 13,
            _ if bf16_already => 16,
            _ => 0,
        };
        Self { values: Values { raw: logits, snap, floor }, path, max, zero_bits, scratch }
    }

    /// Logits in the row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.values.raw.len()
    }

    /// The logit of a token id.
    #[must_use]
    pub fn logit(&self, id: usize) -> Option<f32> {
        self.values.get(id)
    }

    /// The logits in the order of their ids.
    pub fn logits(&self) -> impl Iterator<Item = f32> + 'a {
        self.values.iter()
    }
}

/// True when every value stays finite on the grid.
fn all_finite(extremes: Extremes, snap: Snap) -> bool {
    // The smallest bit pattern of a value that does not.
    let limit: u32 = match snap {
        Snap::Bf16 => 0x7F7F_8000,
        Snap::Fp16 => 0x477F_F000,
        Snap::None | Snap::Int8 => 0x7F80_0000,
    };
    extremes.signed < limit.cast_signed() && extremes.unsigned < limit | 1 << 31
}

/// What −∞ becomes: the smallest finite value. spec: sampler §5.1
fn floor(logits: &[f32], snap: Snap) -> Result<f32, RowError> {
    let mut min = f32::INFINITY;
    let mut unordered = false;
    for raw in logits {
        let l = snap.apply(*raw);
        // Rounding would turn some NaN patterns into numbers.
        unordered |= raw.is_nan() | (l == f32::INFINITY);
        min = if l < min && l > f32::NEG_INFINITY { l } else { min };
    }
    if unordered {
        return Err(match logits.iter().position(|l| l.is_nan()) {
            Some(id) => RowError::Nan { id },
            None => {
                let infinite = |l: &f32| snap.apply(*l) == f32::INFINITY;
                RowError::Infinite { id: logits.iter().position(infinite).unwrap_or(0) }
            }
        });
    }
    if min == f32::INFINITY { Err(RowError::NothingFinite) } else { Ok(min) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn prepare(logits: &[f32], grid: Grid) -> Result<Vec<f32>, RowError> {
        let mut scratch = RowScratch::new();
        Row::prepare(logits, grid, &mut scratch).map(|row| row.logits().collect())
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
