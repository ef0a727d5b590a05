//! The interval of one step, rebuilt from its evidence the way every verifier does: the bounds
//! between which the draw must lie for the chosen token. Nothing here trusts the evidence.

use crate::math;
use crate::proof::Words;

/// Slack of the interval test, the f32 nearest to 0.0001. spec: verification §6
pub const TOLERANCE: f32 = f32::from_bits(0x38D1_B717);

/// Widest evidence row taken. Proofs carry 70 entries a row. spec: verification §16
pub const MAX_WIDTH: usize = 256;

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

/// Why a row has no interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowFault {
    /// Logits and ids differ in number.
    Ragged,
    /// The row is empty, which the node would read out of bounds.
    Empty,
    /// The row is wider than [`MAX_WIDTH`].
    TooWide,
}

/// Distinct ids of a row in ascending order with their current value; −∞ = masked.
struct Candidates {
    ids: [u32; MAX_WIDTH],
    values: [f32; MAX_WIDTH],
    len: usize,
}

/// Which cut of top-p is meant: at `P`, or a tolerance beside it. spec: verification §6 step 7
#[derive(Clone, Copy)]
enum Cut {
    Main,
    High,
    Low,
}

/// Rebuilds the interval of step j. `in_context` says whether an id occurs in the prompt or among
/// the tokens chosen before; it is asked only when the penalty is neither 0 nor 1.
/// spec: verification §6
///
/// # Errors
/// [`RowFault`] when the row is no evidence at all.
pub fn interval(
    logits: Words<'_>,
    ids: Words<'_>,
    recorded: Recorded,
    chosen: u32,
    draw: f32,
    in_context: impl Fn(u32) -> bool,
) -> Result<Interval, RowFault> {
    let mut row = Candidates::distinct(logits, ids)?;
    for (id, l) in row.ids.iter().zip(&mut row.values).take(row.len) {
        *l /= recorded.temperature;
        let penalty = recorded.repetition_penalty;
        if penalty != 0.0 && penalty != 1.0 && in_context(*id) {
            *l /= penalty;
        }
    }
    row.strict_top_k(recorded.top_k);
    let (main, borderline) = row.cut_top_p(recorded.top_p, Cut::Main);
    let (mut lower, mut upper) = main.bounds(chosen);
    let inside = |lower: f32, upper: f32| draw > lower - TOLERANCE && draw <= upper + TOLERANCE;
    if !inside(lower, upper) && borderline {
        (lower, upper) = row.cut_top_p(recorded.top_p, Cut::High).0.bounds(chosen);
        if !(draw > lower && draw <= upper) {
            (lower, upper) = row.cut_top_p(recorded.top_p, Cut::Low).0.bounds(chosen);
        }
    }
    Ok(Interval { lower, upper, inside: inside(lower, upper) })
}

impl Candidates {
    /// Keeps the largest logit of each id. spec: verification §6 step 1
    fn distinct(logits: Words<'_>, ids: Words<'_>) -> Result<Self, RowFault> {
        let width = logits.len();
        if ids.len() != width {
            return Err(RowFault::Ragged);
        }
        if width == 0 {
            return Err(RowFault::Empty);
        }
        let mut pairs = [(0_u32, 0.0_f32); MAX_WIDTH];
        let Some(pairs) = pairs.get_mut(..width) else { return Err(RowFault::TooWide) };
        for (pair, (id, l)) in pairs.iter_mut().zip(ids.iter().zip(logits.iter_f32())) {
            *pair = (id, l);
        }
        // Larger logits of an id come first and later ones are dropped. A sort that swaps equal
        // pairs is no matter: only the sign of a zero could differ.
        pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut row = Self { ids: [0; MAX_WIDTH], values: [0.0; MAX_WIDTH], len: 0 };
        for (id, l) in pairs {
            if row.len == 0 || row.ids[row.len - 1] != *id {
                row.ids[row.len] = *id;
                row.values[row.len] = *l;
                row.len += 1;
            }
        }
        Ok(row)
    }

    fn values(&self) -> &[f32] {
        &self.values[..self.len]
    }

    /// Masks everything not above the k-th largest value; of none left, the largest with the
    /// smallest id comes back. spec: verification §6 steps 4–6
    fn strict_top_k(&mut self, k: u32) {
        let k = usize::try_from(k).unwrap_or(usize::MAX).max(1);
        if k >= self.len {
            return;
        }
        let before = self.values;
        let mut ranked = before;
        let ranked = &mut ranked[..self.len];
        ranked.sort_unstable_by(|a, b| b.total_cmp(a));
        let threshold = ranked[k - 1];
        for l in &mut self.values[..self.len] {
            if *l <= threshold {
                *l = f32::NEG_INFINITY;
            }
        }
        if self.values().iter().all(|l| *l == f32::NEG_INFINITY) {
            let best = ranked[0];
            if let Some(at) = before.iter().take(self.len).position(|l| *l == best) {
                self.values[at] = best;
            }
        }
    }

    /// Applies top-p at a cut and says whether an edge lies within the tolerance of `P`.
    /// spec: verification §6 step 7
    fn cut_top_p(&self, p: f32, cut: Cut) -> (Self, bool) {
        let mut kept = Self { ids: self.ids, values: self.values, len: self.len };
        let mut order = [0_usize; MAX_WIDTH];
        let mut finite = 0;
        for (at, l) in self.values().iter().enumerate() {
            if l.is_finite() {
                order[finite] = at;
                finite += 1;
            }
        }
        // Not `p < 1.0` alone: a NaN cuts nothing.
        if !matches!(p.partial_cmp(&1.0), Some(core::cmp::Ordering::Less)) || finite <= 1 {
            return (kept, false);
        }
        let order = &mut order[..finite];
        order.sort_unstable_by(|a, b| {
            self.values[*b].total_cmp(&self.values[*a]).then(self.ids[*a].cmp(&self.ids[*b]))
        });
        let log_z = math::log_sum_exp(order.iter().map(|at| self.values[*at]));
        let limit = match cut {
            Cut::Main => p,
            Cut::High => p - TOLERANCE,
            Cut::Low => p + TOLERANCE,
        };
        let mut running = 0.0_f64;
        let mut borderline = false;
        for (rank, at) in order.iter().enumerate() {
            #[allow(clippy::cast_possible_truncation)] // the rule rounds here
            let before = running as f32;
            running += f64::from(math::probability(self.values[*at], log_z));
            borderline |= (before - p).abs() < TOLERANCE;
            if rank > 0 && before >= limit {
                kept.values[*at] = f32::NEG_INFINITY;
            }
        }
        (kept, borderline)
    }

    /// CDF edges around an id; (0, 0) when it has no mass. spec: verification §6 steps 8–10
    fn bounds(&self, chosen: u32) -> (f32, f32) {
        let log_z = math::log_sum_exp(self.values().iter().copied());
        let mut running = 0.0_f64;
        let mut below = 0.0_f32;
        for (id, l) in self.ids.iter().zip(self.values()) {
            let p = if *l == f32::NEG_INFINITY { 0.0 } else { math::probability(*l, log_z) };
            if p > 0.0 {
                running += f64::from(p);
                #[allow(clippy::cast_possible_truncation)] // edges are f32 by rule
                let edge = running as f32;
                if *id == chosen {
                    return (below, edge);
                }
                below = edge;
            }
        }
        (0.0, 0.0)
    }
}

/// The reuse-entropy score of a proof: how much of the window could be had for less than a forward
/// pass, in units of 2^-32. spec: verification §7
#[derive(Debug, Clone, Copy, Default)]
pub struct ReuseScore {
    prefix: u32,
    score: u64,
}

/// The interval bounds of a step are not a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBounds;

impl ReuseScore {
    /// The node's cap: `ceil(57.716742 · 2^32)`. spec: verification §7
    pub const CAP: u64 = 247_891_519_322;

    /// Adds one step.
    ///
    /// # Errors
    /// [`BadBounds`] when a bound is not finite or they are in the wrong order.
    pub fn add(&mut self, lower: f32, upper: f32) -> Result<(), BadBounds> {
        let (lower, upper) = (f64::from(lower), f64::from(upper));
        if !(lower.is_finite() && upper.is_finite()) || upper < lower {
            return Err(BadBounds);
        }
        let mass = ((upper - lower) + 2.0 * f64::from(TOLERANCE)).clamp(0.0, 1.0);
        self.prefix = (self.prefix + mass_bits(mass)).min(32);
        self.score += if self.prefix == 32 { 1 } else { 1_u64 << 32 >> self.prefix };
        Ok(())
    }

    /// The score so far, in units of 2^-32.
    #[must_use]
    pub fn get(self) -> u64 {
        self.score
    }

    /// True when the node refuses the proof.
    #[must_use]
    pub fn exceeds_cap(self) -> bool {
        self.score > Self::CAP
    }
}

/// The largest `b ≤ 32` with `mass ≤ 2^-b`.
fn mass_bits(mass: f64) -> u32 {
    let mut bound = 1.0_f64;
    let mut bits = 0;
    while bits < 32 && mass <= bound / 2.0 {
        bound /= 2.0;
        bits += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mass_bits_is_inclusive() {
        assert_eq!(
            [0.0, 0.25, 0.250_000_1, 0.5, 1.0].map(mass_bits),
            [32, 2, 1, 1, 0],
            "m ≤ 2^-b with equality"
        );
    }

    #[test]
    fn a_certain_token_costs_a_whole_unit_and_exact_half_earns_nothing() {
        let mut score = ReuseScore::default();
        score.add(0.0, 1.0).unwrap();
        assert_eq!(score.get(), 1 << 32);
        score.add(0.0, 0.5).unwrap(); // widened by the tolerance: above one half
        assert_eq!(score.get(), 2 << 32);
        score.add(0.0, 0.25).unwrap();
        assert_eq!(score.get(), (2 << 32) + (1 << 31));
        assert_eq!(score.add(0.5, 0.25), Err(BadBounds));
    }

    #[test]
    fn rows_that_are_no_evidence_are_refused() {
        let recorded =
            Recorded { temperature: 1.0, repetition_penalty: 1.0, top_k: 50, top_p: 1.0 };
        let of = |l: &[f32], ids: &[u32]| {
            interval(Words::Floats(l), Words::Native(ids), recorded, 0, 0.5, |_| false)
        };
        assert_eq!(of(&[], &[]), Err(RowFault::Empty));
        assert_eq!(of(&[1.0], &[]), Err(RowFault::Ragged));
        assert_eq!(of(&[1.0; 257], &[0; 257]), Err(RowFault::TooWide));
        // Two equal candidates, k above their number: each has half.
        let both = of(&[1.0, 1.0], &[0, 7]).unwrap();
        assert_eq!((both.lower, both.upper, both.inside), (0.0, 0.5, true));
    }
}
