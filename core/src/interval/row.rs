//! One evidence row brought through deduplication, temperature, penalty, top-k and top-p, as the
//! rule reads, in memory the caller lends.

use super::{Recorded, RowFault, SLOTS_PER_ENTRY, TOLERANCE};
use crate::math;
use crate::proof::Words;

/// A place of the working memory: an id and its current value, −∞ when masked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slot {
    id: u32,
    value: f32,
}

/// Where top-p cuts: the entry that is kept last. Entries rank by value, descending, then by id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    last: Option<Slot>,
}

impl Cut {
    /// Nothing is cut.
    const NONE: Self = Self { last: None };

    /// True when the entry stays; values that are not finite do not take part in top-p.
    fn keeps(self, slot: Slot) -> bool {
        self.last.is_none_or(|last| {
            !slot.value.is_finite()
                || slot.value > last.value
                || (slot.value == last.value && slot.id <= last.id)
        })
    }
}

/// Distinct ids of a row in ascending order, top-k applied, and where top-p would cut.
#[derive(Debug)]
pub struct Row<'s> {
    slots: &'s [Slot],
    main: Cut,
    /// High and low variant, if an edge lies within the tolerance of `P`.
    borderline: Option<(Cut, Cut)>,
}

impl<'s> Row<'s> {
    /// Steps 1 to 7. spec: verification §6
    ///
    /// # Errors
    /// [`RowFault`]
    pub fn rebuild(
        logits: Words<'_>,
        ids: Words<'_>,
        recorded: Recorded,
        in_context: impl Fn(u32) -> bool,
        scratch: &'s mut [Slot],
    ) -> Result<Self, RowFault> {
        let width = logits.len();
        if ids.len() != width {
            return Err(RowFault::Ragged);
        }
        if width == 0 {
            return Err(RowFault::Empty);
        }
        let (found, needed) = (scratch.len(), width.saturating_mul(SLOTS_PER_ENTRY));
        if found < needed {
            return Err(RowFault::Scratch { needed, found });
        }
        let (slots, ranking) = scratch.split_at_mut(width);
        for (slot, (id, value)) in slots.iter_mut().zip(ids.iter().zip(logits.iter_f32())) {
            *slot = Slot { id, value };
        }
        let distinct = distinct(slots);
        let (slots, _) = slots.split_at_mut(distinct);
        let (ranking, _) = ranking.split_at_mut(distinct);
        let penalises = recorded.penalises();
        for slot in slots.iter_mut() {
            slot.value /= recorded.temperature;
            if penalises && in_context(slot.id) {
                slot.value /= recorded.repetition_penalty;
            }
        }
        strict_top_k(slots, recorded.top_k, ranking);
        let (main, borderline) = top_p(slots, recorded.top_p, ranking);
        Ok(Self { slots, main, borderline })
    }

    /// The cut at `P`.
    #[must_use]
    pub fn main(&self) -> Cut {
        self.main
    }

    /// The cuts a tolerance below and above `P`, when an edge lies that close to `P`.
    #[must_use]
    pub fn borderline(&self) -> Option<(Cut, Cut)> {
        self.borderline
    }

    /// CDF edges around an id; (0, 0) when it has no mass. spec: verification §6 steps 8–10
    #[must_use]
    pub fn bounds(&self, chosen: u32, cut: Cut) -> (f32, f32) {
        let kept = self.slots.iter().filter(|slot| cut.keeps(**slot));
        let log_z = math::log_sum_exp(kept.clone().map(|slot| slot.value));
        let mut running = 0.0_f64;
        let mut below = 0.0_f32;
        for slot in kept {
            let masked = slot.value == f32::NEG_INFINITY;
            let p = if masked { 0.0 } else { math::probability(slot.value, log_z) };
            if p > 0.0 {
                running += f64::from(p);
                #[allow(clippy::cast_possible_truncation)] // edges are f32 by rule
                let edge = running as f32;
                if slot.id == chosen {
                    return (below, edge);
                }
                below = edge;
            }
        }
        (0.0, 0.0)
    }
}

/// Sorts by id and keeps the largest value of each; how many there are.
/// spec: verification §6 step 1
fn distinct(slots: &mut [Slot]) -> usize {
    // Larger values of an id come first and later ones are dropped. A sort that swaps equal slots
    // is no matter: only the sign of a zero could differ.
    slots.sort_unstable_by(|a, b| a.id.cmp(&b.id).then(b.value.total_cmp(&a.value)));
    let mut kept = 0;
    for at in 0..slots.len() {
        if kept == 0 || slots[kept - 1].id != slots[at].id {
            slots[kept] = slots[at];
            kept += 1;
        }
    }
    kept
}

/// Masks everything not above the k-th largest value; of none left, the largest with the smallest
/// id comes back. `ranking` is as long as `slots`. spec: verification §6 steps 4–6
fn strict_top_k(slots: &mut [Slot], k: u32, ranking: &mut [Slot]) {
    let k = usize::try_from(k).unwrap_or(usize::MAX).max(1);
    if k >= slots.len() {
        return;
    }
    ranking.copy_from_slice(slots);
    let (_, threshold, _) =
        ranking.select_nth_unstable_by(k - 1, |a, b| b.value.total_cmp(&a.value));
    let threshold = threshold.value;
    let mut best = 0;
    let mut survivors = 0;
    for at in 0..slots.len() {
        if slots[at].value > slots[best].value {
            best = at;
        }
        survivors += usize::from(slots[at].value > threshold);
    }
    for (at, slot) in slots.iter_mut().enumerate() {
        let comes_back = survivors == 0 && at == best;
        if slot.value <= threshold && !comes_back {
            slot.value = f32::NEG_INFINITY;
        }
    }
}

/// Where `P` cuts, and where a tolerance beside it when an edge is that close.
/// spec: verification §6 step 7
fn top_p(slots: &[Slot], p: f32, ranking: &mut [Slot]) -> (Cut, Option<(Cut, Cut)>) {
    let mut finite = 0;
    // A NaN cuts nothing.
    if p < 1.0 {
        for slot in slots.iter().filter(|slot| slot.value.is_finite()) {
            ranking[finite] = *slot;
            finite += 1;
        }
    }
    if finite <= 1 {
        return (Cut::NONE, None);
    }
    let ranked = &mut ranking[..finite];
    ranked.sort_unstable_by(|a, b| {
        // As numbers: both zeros are one value, NaN does not occur among finite ones.
        b.value.partial_cmp(&a.value).unwrap_or(core::cmp::Ordering::Equal).then(a.id.cmp(&b.id))
    });
    let log_z = math::log_sum_exp(ranked.iter().map(|slot| slot.value));
    let mut cuts = [p, p - TOLERANCE, p + TOLERANCE].map(|limit| (limit, ranked[0]));
    let mut running = 0.0_f64;
    let mut borderline = false;
    for (rank, slot) in ranked.iter().enumerate() {
        #[allow(clippy::cast_possible_truncation)] // the rule rounds here
        let before = running as f32;
        running += f64::from(math::probability(slot.value, log_z));
        borderline |= (before - p).abs() < TOLERANCE;
        for (limit, last) in &mut cuts {
            // `before` only grows, so what survives is the beginning of the ranking.
            if rank > 0 && before < *limit {
                *last = *slot;
            }
        }
    }
    let [main, high, low] = cuts.map(|(_, last)| Cut { last: Some(last) });
    (main, borderline.then_some((high, low)))
}
