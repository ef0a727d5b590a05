//! The interval of one step, rebuilt from its evidence the way every verifier does: the bounds
//! between which the draw must lie for the chosen token. Nothing here trusts the evidence.
//!
//! [`Row`] follows the rule as it reads, for any row. Rows as miners record them take a shorter
//! way to the same bits. What the bounds are summed up to is [`ReuseScore`] and
//! [`crate::credit`].

mod reuse;
mod row;
mod short;

pub use reuse::ReuseScore;
pub use row::{Row, Slot};

use crate::proof::Words;
use core::fmt;

/// Slack of the interval test, the f32 nearest to 0.0001. spec: verification §6
pub const TOLERANCE: f32 = f32::from_bits(0x38D1_B717);

/// Slots of working memory per entry of the widest row.
pub const SLOTS_PER_ENTRY: usize = 2;

/// The four sampling numbers of a proof, as recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recorded {
    /// Divides every logit.
    pub temperature: f32,
    /// Divides logits of ids in the context; 0 and 1 do nothing.
    pub repetition_penalty: f32,
    /// Rank of the first value dropped.
    pub top_k: u32,
    /// Mass kept.
    pub top_p: f32,
}

impl Recorded {
    /// True when the penalty changes anything. spec: verification §6 step 3
    #[must_use]
    pub fn penalises(&self) -> bool {
        self.repetition_penalty != 0.0 && self.repetition_penalty != 1.0
    }
}

/// The interval of the chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// CDF edge below the token.
    pub lower: f32,
    /// CDF edge at the token.
    pub upper: f32,
    /// The draw lies inside, within [`TOLERANCE`].
    pub inside: bool,
}

impl Interval {
    /// Whether the draw lies between the bounds. spec: verification §6 step 11
    fn around(draw: f32, (lower, upper): (f32, f32)) -> Self {
        let inside = draw > lower - TOLERANCE && draw <= upper + TOLERANCE;
        Self { lower, upper, inside }
    }

    /// Distance of a draw from the nearer edge of the widened interval; negative outside.
    #[must_use]
    pub fn margin(&self, draw: f32) -> f32 {
        (draw - (self.lower - TOLERANCE)).min(self.upper + TOLERANCE - draw)
    }
}

/// Why a row has no interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowFault {
    /// Logits and ids differ in number.
    Ragged,
    /// The row is empty, which the node would read out of bounds.
    Empty,
    /// The caller's slots are too few for the row; says nothing about the row.
    Scratch {
        /// Slots needed.
        needed: usize,
        /// Slots there.
        found: usize,
    },
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ragged => f.write_str("logits and ids of the row differ in number"),
            Self::Empty => f.write_str("the row is empty"),
            Self::Scratch { needed, found } => {
                write!(f, "the row needs {needed} working slots, {found} are there")
            }
        }
    }
}

impl core::error::Error for RowFault {}

/// Rebuilds the interval of step j. `in_context` says whether an id occurs in the prompt or among
/// the tokens chosen before; it is asked only when [`Recorded::penalises`]. `scratch` holds
/// [`SLOTS_PER_ENTRY`] slots per entry of the row. spec: verification §6
///
/// # Errors
/// [`RowFault`] when the row is no evidence at all, or the scratch is too short.
pub fn interval(
    logits: Words<'_>,
    ids: Words<'_>,
    recorded: Recorded,
    chosen: u32,
    draw: f32,
    in_context: impl Fn(u32) -> bool,
    scratch: &mut [Slot],
) -> Result<Interval, RowFault> {
    if let Some(interval) = short::interval(logits, ids, recorded, chosen, draw) {
        return Ok(interval);
    }
    plainly(logits, ids, recorded, chosen, draw, in_context, scratch)
}

/// The rule as it reads.
fn plainly(
    logits: Words<'_>,
    ids: Words<'_>,
    recorded: Recorded,
    chosen: u32,
    draw: f32,
    in_context: impl Fn(u32) -> bool,
    scratch: &mut [Slot],
) -> Result<Interval, RowFault> {
    let row = Row::rebuild(logits, ids, recorded, in_context, scratch)?;
    let judged = Interval::around(draw, row.bounds(chosen, row.main()));
    let Some((high, low)) = row.borderline().filter(|_| !judged.inside) else {
        return Ok(judged);
    };
    // No tolerance here. spec: verification §6 step 12
    let (lower, upper) = row.bounds(chosen, high);
    let bounds =
        if draw > lower && draw <= upper { (lower, upper) } else { row.bounds(chosen, low) };
    Ok(Interval::around(draw, bounds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Rows as miners record them, and rows nearly so: few distinct logits and ids, so that ties
    /// and repetitions are common, the beginning sorted more often than not.
    fn rows() -> impl Strategy<Value = Vec<(u32, f32)>> {
        let entry = (0_u32..90, prop_oneof![-3.0_f32..3.0, (-12_i8..12).prop_map(f32::from)]);
        let row = (prop::collection::vec(entry, 1..130), 0_u8..4, 1.0_f32..30.0);
        row.prop_map(|(mut row, kind, scale)| {
            row.iter_mut().for_each(|(_, l)| *l *= scale);
            if kind > 0 {
                row.sort_by(|a, b| b.1.total_cmp(&a.1));
            }
            if kind > 1 {
                row.iter_mut().zip((0..).step_by(7)).for_each(|((id, _), own)| *id = own % 1009);
            }
            if kind > 2 && row.len() > 60 {
                // Probes that repeat a leading entry, and ones that stand alone.
                let leading = row[..20].to_vec();
                row.truncate(50);
                row.extend(leading);
                row.push((5000, -300.0));
            }
            row
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn both_ways_lead_to_the_same_bits(
            row in rows(),
            top_k in 1_u32..52,
            temperature in prop_oneof![Just(1.0_f32), 0.25_f32..2.0],
            draw in 0.0_f32..1.0,
            chosen: prop::sample::Index,
        ) {
            let recorded = Recorded { temperature, repetition_penalty: 1.0, top_k, top_p: 1.0 };
            let (ids, logits): (Vec<_>, Vec<_>) = row.into_iter().unzip();
            let chosen = ids[chosen.index(ids.len())];
            let (logits, ids) = (Words::Floats(&logits), Words::Native(&ids));
            let mut scratch = [Slot::default(); 260];
            let plain = plainly(logits, ids, recorded, chosen, draw, |_| false, &mut scratch);
            if let Some(short) = short::interval(logits, ids, recorded, chosen, draw) {
                let plain = plain.unwrap();
                prop_assert_eq!(short.lower.to_bits(), plain.lower.to_bits());
                prop_assert_eq!(short.upper.to_bits(), plain.upper.to_bits());
                prop_assert_eq!(short.inside, plain.inside);
            }
        }
    }

    #[test]
    fn rows_as_miners_record_them_take_the_short_way() {
        let leading = (0..50_u32).map(|rank| (9973 * rank % 2003, 20.0 - rank as f32 / 4.0));
        // Probe 1 repeats the first entry's id and logit.
        let probes = (0..20).map(|i| if i == 1 { (0, 20.0) } else { (3000 + i, -40.0) });
        let (ids, logits): (Vec<_>, Vec<_>) = leading.chain(probes).unzip();
        let recorded =
            Recorded { temperature: 1.0, repetition_penalty: 1.0, top_k: 50, top_p: 1.0 };
        let (logits, ids) = (Words::Floats(&logits), Words::Native(&ids));
        let short = short::interval(logits, ids, recorded, ids.get(3).unwrap(), 0.5);
        let mut scratch = [Slot::default(); 140];
        let plain =
            plainly(logits, ids, recorded, ids.get(3).unwrap(), 0.5, |_| false, &mut scratch);
        assert_eq!(short, plain.ok());
        assert!(short.is_some());
    }

    #[test]
    fn rows_that_are_no_evidence_are_refused() {
        let recorded =
            Recorded { temperature: 1.0, repetition_penalty: 1.0, top_k: 50, top_p: 1.0 };
        let of = |l: &[f32], ids: &[u32], slots: usize| {
            let mut scratch = [Slot::default(); 4];
            let scratch = &mut scratch[..slots];
            interval(Words::Floats(l), Words::Native(ids), recorded, 0, 0.5, |_| false, scratch)
        };
        assert_eq!(of(&[], &[], 4), Err(RowFault::Empty));
        assert_eq!(of(&[1.0], &[], 4), Err(RowFault::Ragged));
        assert_eq!(of(&[1.0; 2], &[0; 2], 3), Err(RowFault::Scratch { needed: 4, found: 3 }));
        // Two equal candidates, k above their number: each has half.
        let both = of(&[1.0, 1.0], &[0, 7], 4).unwrap();
        assert_eq!((both.lower, both.upper, both.inside), (0.0, 0.5, true));
    }

    #[test]
    fn a_token_without_mass_passes_only_for_the_smallest_draws() {
        let recorded = Recorded { temperature: 1.0, repetition_penalty: 1.0, top_k: 5, top_p: 1.0 };
        let of = |draw: f32| {
            let (l, ids) = ([1.0, 2.0, 3.0], [10, 11, 12]);
            let scratch = &mut [Slot::default(); 6];
            interval(Words::Floats(&l), Words::Native(&ids), recorded, 9, draw, |_| false, scratch)
        };
        let nothing = |inside| Ok(Interval { lower: 0.0, upper: 0.0, inside });
        assert_eq!(of(TOLERANCE), nothing(true));
        assert_eq!(of(f32::from_bits(TOLERANCE.to_bits() + 1)), nothing(false));
    }
}
