//! Rank selection without sorting: the exact values at ranks 50, 500 and 2000 of a row by a radix
//! histogram over order-preserving keys, then one pass that sums what lies above them and collects
//! the 50 largest.

use crate::units::TOP_SLOTS;

/// Ranks whose running sums the statistics need. spec: sampler §6
const RANKS: [usize; 3] = [50, 500, 2000];
/// Key bits of the three histogram levels, most significant first; together 32.
const LEVEL_BITS: [u32; 3] = [11, 11, 10];
const BINS: usize = 1 << 11;

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
    /// Sum of all logits in f64.
    pub sum: f64,
}

/// Maps a float to an integer that orders the same way; −0.0 and 0.0 map alike. Not for NaN.
fn key(logit: f32) -> u32 {
    let bits = (logit + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 }
}

/// The inverse of [`key`].
fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7FFF_FFFF } else { !key })
}

/// The key at one rank, found level by level.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// Rank still to be found among the keys that share `prefix` (0 = the largest of them).
    rank: usize,
    /// The key's bits known so far, right-aligned.
    prefix: u32,
}

/// Ranks a row of at least 50 finite logits. Sums run in the order of ids within eight lanes, so
/// they do not depend on the machine.
#[must_use]
pub fn rank(logits: &[f32]) -> Ranked {
    let thresholds = thresholds(logits);
    let mut out = Ranked {
        top_logits: [0.0; TOP_SLOTS],
        top_ids: [0; TOP_SLOTS],
        leading_sums: [0.0; 3],
        sum: lane_sum(logits, |_| true),
    };
    for (sum, (found, rank)) in out.leading_sums.iter_mut().zip(thresholds.iter().zip(RANKS)) {
        let Some(threshold) = found else { continue };
        let at = value(*threshold);
        let above = logits.iter().filter(|l| **l > at).count();
        let ties = rank.saturating_sub(above);
        #[allow(clippy::cast_precision_loss)] // at most 2000
        if ties > 0 {
            *sum = lane_sum(logits, |l| l > at) + ties as f64 * f64::from(at);
        }
    }
    collect_top(logits, thresholds[0].map_or(f32::NEG_INFINITY, value), &mut out);
    out
}

/// Keys at the ranks of [`RANKS`] (the last rank inside each leading bucket); `None` above the
/// row's width.
fn thresholds(logits: &[f32]) -> [Option<u32>; 3] {
    let mut searches =
        RANKS.map(|rank| (rank <= logits.len()).then_some(Search { rank: rank - 1, prefix: 0 }));
    let mut below = 32;
    let mut known = 0;
    for bits in LEVEL_BITS {
        below -= bits;
        let mut bins = [[0_u32; BINS]; 3];
        let mask = (1_u32 << bits) - 1;
        for l in logits {
            let key = key(*l);
            let prefix = key.checked_shr(32 - known).unwrap_or(0);
            let bin = (key >> below & mask) as usize;
            for (bins, search) in bins.iter_mut().zip(&searches) {
                if search.is_some_and(|s| s.prefix == prefix) {
                    bins[bin] += 1;
                }
            }
        }
        for (bins, search) in bins.iter().zip(&mut searches) {
            if let Some(search) = search {
                descend(bins, bits, search);
            }
        }
        known += bits;
    }
    searches.map(|search| search.map(|s| s.prefix))
}

/// Takes the bin that holds the rank, from the largest downwards.
fn descend(bins: &[u32; BINS], bits: u32, search: &mut Search) {
    for bin in (0..1_u32 << bits).rev() {
        let here = bins[bin as usize] as usize;
        if search.rank < here {
            search.prefix = search.prefix << bits | bin;
            return;
        }
        search.rank -= here;
    }
}

/// Sum in f64 over the logits that `take` wants.
fn lane_sum(logits: &[f32], take: impl Fn(f32) -> bool) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0_f64; LANES];
    for chunk in logits.chunks(LANES) {
        for (lane, l) in lanes.iter_mut().zip(chunk) {
            *lane += if take(*l) { f64::from(*l) } else { 0.0 };
        }
    }
    lanes.iter().sum()
}

/// Collects the logits above the 50th value and as many of its ties, lowest ids first, as fit.
fn collect_top(logits: &[f32], fiftieth: f32, out: &mut Ranked) {
    let above = logits.iter().filter(|l| **l > fiftieth).count().min(TOP_SLOTS);
    let mut ties_left = TOP_SLOTS - above;
    let mut pairs = [(0.0_f32, 0_u32); TOP_SLOTS];
    let mut filled = 0;
    for (id, l) in logits.iter().enumerate() {
        let tie = *l == fiftieth && ties_left > 0;
        if *l > fiftieth || tie {
            ties_left -= usize::from(tie);
            #[allow(clippy::cast_possible_truncation)] // vocabularies are far below 2^32
            if let Some(slot) = pairs.get_mut(filled) {
                *slot = (*l, id as u32);
                filled += 1;
            }
        }
    }
    // `value` order, not `total_cmp`: 0.0 and −0.0 tie, and then ids decide.
    pairs[..filled].sort_unstable_by(|a, b| key(b.0).cmp(&key(a.0)).then(a.1.cmp(&b.1)));
    for ((logit, id), pair) in out.top_logits.iter_mut().zip(&mut out.top_ids).zip(pairs) {
        (*logit, *id) = pair;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    fn check(logits: &[f32]) {
        let ranked = rank(logits);
        let (top, sums) = by_sorting(logits);
        let ours: Vec<_> =
            ranked.top_ids.into_iter().zip(ranked.top_logits.map(f32::to_bits)).collect();
        assert_eq!(ours, top);
        for (ours, theirs) in ranked.leading_sums.into_iter().zip(sums) {
            assert!((ours - theirs).abs() <= 1e-9 * (1.0 + theirs.abs()), "{ours} {theirs}");
        }
    }

    proptest! {
        #[test]
        fn rank_equals_a_full_sort(seed in any::<u64>(), width in 50_usize..5000, shape in 0..4) {
            let mut state = seed;
            let logits: Vec<f32> = (0..width).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let x = (state >> 40) as f32 / 16_777_216.0 - 0.5;
                match shape {
                    0 => x * 40.0,
                    1 => (x * 16.0).round(),                 // many ties
                    2 => crate::precision::bf16(x * 30.0),
                    _ => if x > 0.0 { 0.0 } else { -0.0 },   // signed zeros
                }
            }).collect();
            check(&logits);
        }
    }
}
