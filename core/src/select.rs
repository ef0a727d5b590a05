//! Rank selection without sorting. The largest values of a few thousand groups give a threshold
//! that leaves at least 2000 values at or above it and not many more; one sweep collects those, and
//! the exact values at ranks 50, 500 and 2000 are then found among them by halving and counting.
//!
//! Ties cost nothing: values equal to a threshold are never listed, only counted. Rows whose large
//! values crowd in few groups, which takes intent, have their threshold found over the whole row.

use crate::row::{Row, Values};
use crate::simd::{self, CAPACITY, GROUPS, LANES, Path, ROOM, Sweep};
use crate::units::TOP_SLOTS;
use core::ops::RangeInclusive;

/// Ranks whose running sums the statistics need. spec: sampler §6
const RANKS: [usize; 3] = [50, 500, 2000];
/// The last of them.
const DEEPEST: usize = 2000;
/// A threshold over the groups that leaves a few more than needed is as good, and found sooner.
const ENOUGH: RangeInclusive<usize> = DEEPEST..=DEEPEST + 100;

/// Working memory of a step, 65 kB whatever the vocabulary: keep one for each thread, in a box or a
/// static. Nothing is carried from row to row.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct RowScratch {
    /// Largest value of each group.
    pub(crate) maxima: [f32; GROUPS],
    /// Ids of the values above the threshold, ascending.
    ids: [u32; ROOM],
    /// Those values.
    values: [f32; ROOM],
}

impl Default for RowScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl RowScratch {
    /// Working memory for any number of rows, one after another.
    #[must_use]
    pub const fn new() -> Self {
        Self { maxima: [0.0; GROUPS], ids: [0; ROOM], values: [0.0; ROOM] }
    }
}

/// What the statistics and the sampler need of a row's order.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// The 50 largest logits, descending, ties by ascending id.
    pub top_logits: [f32; TOP_SLOTS],
    /// Their token ids.
    pub top_ids: [u32; TOP_SLOTS],
    /// Sums in f64 over the sorted ranks `[0, 50)`, `[0, 500)` and `[0, 2000)`; 0 for a rank above
    /// the row's width.
    pub leading_sums: [f64; 3],
    /// Sum of all logits. In rows of 8000 and more four at a time are added in f32, which makes it
    /// less than 1.2e-7 of the sum of their magnitudes off; all else is f64.
    pub sum: f64,
    /// ln Σ exp over all logits after temperature; off by less than 1.5e-6 in a row of 2^18.
    pub log_sum_exp: f64,
}

/// Maps a float to an integer that orders the same way; −0.0 and 0.0 map alike. Not for NaN.
fn key(value: f32) -> i32 {
    let bits = (value + 0.0).to_bits().cast_signed();
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// The keys of a grid whose values have `shift` low bits that are zero: neighbours differ by 1.
#[derive(Debug, Clone, Copy)]
struct Keys {
    shift: u32,
}

impl Keys {
    fn of(self, value: f32) -> i32 {
        key(value) >> self.shift
    }

    /// The inverse of [`Keys::of`].
    fn value(self, key: i32) -> f32 {
        let key = if key < 0 { !(!key << self.shift) } else { key << self.shift };
        f32::from_bits((if key < 0 { key ^ i32::MAX } else { key }).cast_unsigned())
    }

    /// Halves the keys in `(low, high]` until a value has as many above it as wanted, or is the
    /// largest with fewer; says how many there are. Above `low` are too many, above `high` none.
    fn separate(
        self,
        (low, high): (i32, i32),
        wanted: &RangeInclusive<usize>,
        count_above: impl Fn(f32) -> usize,
    ) -> Cut {
        let (mut low, mut high, mut above) = (i64::from(low), i64::from(high), 0);
        while high - low > 1 {
            let middle = low.midpoint(high);
            #[allow(clippy::cast_possible_truncation)] // between two that fit
            let value = self.value(middle as i32);
            let count = count_above(value);
            if wanted.contains(&count) {
                return Cut { value, above: count };
            }
            if count > *wanted.end() {
                low = middle;
            } else {
                (high, above) = (middle, count);
            }
        }
        #[allow(clippy::cast_possible_truncation)] // as above
        Cut { value: self.value(high as i32), above }
    }
}

/// A value and how many are larger. Those equal to it are known to fill up to the rank it was
/// sought for.
#[derive(Debug, Clone, Copy)]
struct Cut {
    value: f32,
    above: usize,
}

/// Ranks a row and takes its sums. spec: sampler §6
#[must_use]
pub fn rank(row: &mut Row<'_>, temperature: f32) -> Ranked {
    let Row { values, path, max, zero_bits, ref mut scratch } = *row;
    let keys = Keys { shift: zero_bits };
    let logits = values.raw;
    let mut how = Sweep {
        snap: values.snap,
        floor: values.floor,
        temperature,
        reference: max / temperature,
        threshold: group_threshold(path, keys, logits.len(), &scratch.maxima),
    };
    let mut swept = path.sweep(logits, &how, &mut scratch.ids);
    if swept.above > CAPACITY {
        how.threshold = row_threshold(keys, logits, &how);
        swept = path.sweep(logits, &how, &mut scratch.ids);
    }
    let found = Found::gather(path, keys, logits, &how, scratch, swept.above);

    let mut out = Ranked {
        top_logits: [0.0; TOP_SLOTS],
        top_ids: [0; TOP_SLOTS],
        leading_sums: [0.0; 3],
        sum: swept.sum,
        log_sum_exp: f64::from(how.reference) + libm::log(swept.exp_sum),
    };
    // Four very large values may not have a sum in f32, and what is left of a narrow row's when the
    // leading ones are taken off must still be exact.
    if logits.len() < 4 * DEEPEST || !out.sum.is_finite() {
        out.sum = values.iter().map(f64::from).sum();
    }
    let mut cut = found.all;
    for (sum, rank) in out.leading_sums.iter_mut().zip(RANKS).rev() {
        if rank <= logits.len() {
            cut = found.cut(rank, cut);
            *sum = found.leading_sum(rank, cut);
        }
    }
    found.top(values, cut, &mut out);
    out
}

/// A value that at least 2000 of the row reach, or −∞ for a row of no more.
fn group_threshold(path: Path, keys: Keys, width: usize, maxima: &[f32; GROUPS]) -> f32 {
    if width <= DEEPEST {
        return f32::NEG_INFINITY;
    }
    // A row narrower than the groups leaves −∞ behind it, which counts for nothing.
    let used = maxima.get(..width.min(GROUPS)).unwrap_or(maxima);
    let (least, most) = simd::range(used);
    // Every group of these reaches the least, and there are enough of them.
    let (vectors, _) = maxima.as_chunks::<LANES>();
    let range = (keys.of(least) - 1, keys.of(most));
    keys.separate(range, &ENOUGH, |value| path.count_above(vectors, value)).value
}

/// A value with at most [`CAPACITY`] above it that at least 2000 of the row reach: for rows of
/// which too many are above the threshold of the groups. At most 32 passes over the row.
fn row_threshold(keys: Keys, logits: &[f32], how: &Sweep) -> f32 {
    let most = logits.iter().map(|l| how.settled(*l)).fold(f32::NEG_INFINITY, f32::max);
    let count_above = |value: f32| logits.iter().filter(|l| how.settled(**l) > value).count();
    let range = (keys.of(how.threshold), keys.of(most));
    keys.separate(range, &(DEEPEST..=CAPACITY), count_above).value
}

/// The values above the threshold, in the order of their ids.
struct Found<'a> {
    path: Path,
    keys: Keys,
    ids: &'a [u32],
    values: &'a [f32],
    /// The values in whole vectors, filled up with −∞.
    vectors: &'a [[f32; LANES]],
    most: f32,
    /// The threshold itself.
    all: Cut,
}

impl<'a> Found<'a> {
    fn gather(
        path: Path,
        keys: Keys,
        logits: &[f32],
        how: &Sweep,
        scratch: &'a mut RowScratch,
        above: usize,
    ) -> Self {
        let RowScratch { ids, values, .. } = scratch;
        let ids = ids.get(..above).unwrap_or_default();
        for (value, id) in values.iter_mut().zip(ids) {
            *value = logits.get(*id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        }
        let whole = above.next_multiple_of(LANES).min(ROOM);
        if let Some(rest) = values.get_mut(above..whole) {
            rest.fill(f32::NEG_INFINITY);
        }
        let kept = values.get_mut(..above).unwrap_or_default();
        how.settle(kept);
        let (_, most) = simd::range(kept);
        let (vectors, _) = values.get(..whole).unwrap_or_default().as_chunks();
        let values = values.get(..above).unwrap_or_default();
        let all = Cut { value: how.threshold, above };
        Self { path, keys, ids, values, vectors, most, all }
    }

    /// The value at a rank (1 = the largest), or one with as many above it. `below` is the cut of
    /// a later rank.
    fn cut(&self, rank: usize, below: Cut) -> Cut {
        if below.above <= rank {
            return below;
        }
        let range = (self.keys.of(below.value), self.keys.of(self.most));
        self.keys
            .separate(range, &(rank..=rank), |value| self.path.count_above(self.vectors, value))
    }

    fn leading_sum(&self, rank: usize, cut: Cut) -> f64 {
        let sum = self.path.sum_above(self.vectors, cut.value);
        let ties = rank.saturating_sub(cut.above);
        #[allow(clippy::cast_precision_loss)] // at most 2000
        if ties > 0 { sum + ties as f64 * f64::from(cut.value) } else { sum }
    }

    /// Takes what is above the cut of rank 50, and as many of its ties, lowest ids first, as fit.
    fn top(&self, row: Values<'_>, cut: Cut, out: &mut Ranked) {
        let mut entries = [0_u64; TOP_SLOTS];
        let mut slots = entries.iter_mut();
        let mut filled = 0;
        let mut take = |id: u32, value: f32| {
            if let Some(slot) = slots.next() {
                // Descending by value, ascending by id.
                *slot = u64::from((!key(value)).cast_unsigned() ^ 1 << 31) << 32 | u64::from(id);
                filled += 1;
            }
        };
        let mut ties = TOP_SLOTS.saturating_sub(cut.above);
        for (id, value) in self.ids.iter().zip(self.values) {
            if *value >= cut.value && (*value > cut.value || ties > 0) {
                ties -= usize::from(*value == cut.value);
                take(*id, *value);
            }
        }
        if ties > 0 && cut.value == self.all.value {
            // Values equal to the threshold are not listed.
            let equal = (0_u32..).zip(row.iter()).filter(|(_, value)| *value == cut.value);
            equal.take(ties).for_each(|(id, value)| take(id, value));
        }
        entries[..filled].sort_unstable();
        let room = out.top_logits.iter_mut().zip(&mut out.top_ids);
        for ((logit, id), entry) in room.zip(&entries[..filled]) {
            #[allow(clippy::cast_possible_truncation)] // the lower half
            {
                *id = *entry as u32;
            }
            *logit = row.get(*id as usize).unwrap_or(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::{Snap, bf16};
    use crate::row::Grid;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec::Vec;

    /// The same by a full sort.
    fn by_sorting(logits: &[f32]) -> (Vec<(u32, u32)>, [f64; 3]) {
        let mut pairs: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        pairs.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        let sums = RANKS.map(|rank| match pairs.get(..rank) {
            Some(head) => head.iter().map(|p| f64::from(p.1)).sum(),
            None => 0.0,
        });
        (pairs[..TOP_SLOTS].iter().map(|p| (p.0, p.1.to_bits())).collect(), sums)
    }

    fn check(logits: &[f32], grid: Grid) {
        let mut scratch = Box::new(RowScratch::new());
        let mut row = Row::prepare(logits, grid, &mut scratch).unwrap();
        let settled: Vec<f32> = row.logits().collect();
        let ranked = rank(&mut row, 1.0);
        let (top, sums) = by_sorting(&settled);
        let ours: Vec<_> =
            ranked.top_ids.into_iter().zip(ranked.top_logits.map(f32::to_bits)).collect();
        assert_eq!(ours, top);
        for (ours, theirs) in ranked.leading_sums.into_iter().zip(sums) {
            assert!((ours - theirs).abs() <= 1e-9 * (1.0 + theirs.abs()), "{ours} {theirs}");
        }
        let sum: f64 = settled.iter().map(|l| f64::from(*l)).sum();
        let size: f64 = settled.iter().map(|l| f64::from(l.abs())).sum();
        assert!((ranked.sum - sum).abs() <= 1.2e-7 * size, "{} {sum}", ranked.sum);
        let log_sum_exp = crate::math::log_sum_exp(settled.iter().copied());
        assert!((ranked.log_sum_exp - log_sum_exp).abs() < 1.5e-6);
    }

    fn uniform(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        }
    }

    proptest! {
        #[test]
        fn rank_equals_a_full_sort(seed in any::<u64>(), width in 128_usize..20_000, shape in 0..6) {
            let mut x = uniform(seed);
            let logits: Vec<f32> = (0..width).map(|id| match shape {
                0 => x() * 40.0,
                1 => (x() * 16.0).round(),                      // many ties
                2 => bf16(x() * 30.0),
                3 => if x() > 0.0 { 0.0 } else { -0.0 },        // signed zeros
                4 => if x() > 0.48 { x() } else { f32::NEG_INFINITY }, // mostly masked
                _ => if id % GROUPS < 1500 { 9.0 + x() } else { x() },   // crowded in few groups
            }).collect();
            let grids = [Snap::None, Snap::Bf16, Snap::Fp16];
            check(&logits, Grid::Snapped(grids[usize::try_from(seed % 3).unwrap()]));
        }
    }

    #[test]
    fn a_row_that_crowds_in_few_groups_is_ranked_all_the_same() {
        let mut x = uniform(1);
        let crowded = |id: usize, x: f32| if id % GROUPS < 1500 { 9.0 + x } else { x };
        let logits: Vec<f32> = (0..100_000).map(|id| crowded(id, x())).collect();
        assert!(logits.iter().filter(|l| **l > 5.0).count() > CAPACITY);
        check(&logits, Grid::Snapped(Snap::None));
        check(&logits, Grid::Snapped(Snap::Bf16));
    }

    #[test]
    fn keys_order_as_their_values_and_come_back() {
        let values = [f32::NEG_INFINITY, f32::MIN, -1.5, -1.0e-40, 0.0, 1.0e-40, 2.0, f32::MAX];
        for shift in [0, 13, 16] {
            let keys = Keys { shift };
            let on_grid = |v: f32| f32::from_bits(v.to_bits() >> shift << shift);
            let grid = values.map(on_grid);
            assert!(grid.is_sorted_by_key(|v| keys.of(*v)));
            for value in grid {
                assert_eq!(keys.value(keys.of(value)), value);
            }
        }
    }
}
