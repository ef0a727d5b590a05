//! The evidence of one step: the 50 largest logits, 20 probes and six statistics, all taken before
//! truncation.

use crate::row::{Grid, Row};
use crate::select::{self, Ranked};
use crate::units::{EVIDENCE_SLOTS, PROBE_SLOTS, STATS, TOP_SLOTS};
use core::fmt;

/// Evidence of a step, in the order a proof stores it.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// 50 largest logits, descending, ties by ascending id; then 20 probes.
    pub logits: [f32; EVIDENCE_SLOTS],
    /// Token ids of `logits`.
    pub ids: [u32; EVIDENCE_SLOTS],
    /// ln Σ exp over the whole vocabulary after temperature; the means of the sorted logits over
    /// ranks `[0, 50)`, `[50, 500)`, `[500, 2000)`, `[2000, V)`; the mean of all.
    pub stats: [f32; STATS],
}

impl Evidence {
    /// Takes the evidence of a row. spec: sampler §6
    #[must_use]
    pub fn of(row: &mut Row<'_>, temperature: f32) -> Self {
        let ranked = select::rank(row, temperature);
        let mut logits = [0.0; EVIDENCE_SLOTS];
        let mut ids = [0; EVIDENCE_SLOTS];
        logits[..TOP_SLOTS].copy_from_slice(&ranked.top_logits);
        ids[..TOP_SLOTS].copy_from_slice(&ranked.top_ids);
        let slots = logits[TOP_SLOTS..].iter_mut().zip(&mut ids[TOP_SLOTS..]);
        for ((logit, slot), id) in slots.zip(probe_ids(row.width())) {
            *logit = row.logit(id).unwrap_or(0.0);
            #[allow(clippy::cast_possible_truncation)] // an id of the vocabulary
            {
                *slot = id as u32;
            }
        }
        Self { logits, ids, stats: stats(row.width(), &ranked) }
    }

    /// Says whether evidence that was taken elsewhere can be that of a row: `vocab` finite logits
    /// on the grid. What it claims about the model is not judged. spec: sampler §6
    ///
    /// # Errors
    /// [`EvidenceError`] names the first slot that cannot be.
    pub fn check(&self, vocab: usize, grid: Grid) -> Result<(), EvidenceError> {
        if let Some(slot) = self.logits.iter().position(|l| !l.is_finite() || !grid.holds(*l)) {
            return Err(EvidenceError::Logit { slot });
        }
        if let Some(at) = self.stats.iter().position(|stat| !stat.is_finite()) {
            return Err(EvidenceError::Stat { at });
        }
        let entry = |slot: usize| {
            (
                self.logits.get(slot).copied().unwrap_or(0.0),
                self.ids.get(slot).copied().unwrap_or(0),
            )
        };
        for slot in 0..TOP_SLOTS {
            let (_, id) = entry(slot);
            let known = usize::try_from(id).is_ok_and(|id| id < vocab);
            if !known || self.ids.iter().take(slot).any(|other| *other == id) {
                return Err(EvidenceError::Id { slot });
            }
            if slot > 0 && !leads(entry(slot - 1), entry(slot)) {
                return Err(EvidenceError::Order { slot });
            }
        }
        let last = entry(TOP_SLOTS - 1);
        for (slot, wanted) in (TOP_SLOTS..).zip(probe_ids(vocab)) {
            let (logit, id) = entry(slot);
            let place = self.ids.iter().take(TOP_SLOTS).position(|top| *top == id);
            let fits = match place {
                Some(place) => entry(place).0.to_bits() == logit.to_bits(),
                None => leads(last, (logit, id)),
            };
            if usize::try_from(id) != Ok(wanted) || !fits {
                return Err(EvidenceError::Probe { slot });
            }
        }
        Ok(())
    }
}

/// The order of the leading slots: values descending, ties by ascending id.
fn leads(a: (f32, u32), b: (f32, u32)) -> bool {
    a.0 > b.0 || (a.0 == b.0 && a.1 < b.1)
}

/// Why evidence is none of any row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvidenceError {
    /// A logit is not finite or not on the declared grid.
    Logit {
        /// Its slot.
        slot: usize,
    },
    /// A statistic is not finite.
    Stat {
        /// Its place.
        at: usize,
    },
    /// A leading id is outside the vocabulary or there twice.
    Id {
        /// Its slot.
        slot: usize,
    },
    /// The leading slots are not in order.
    Order {
        /// The slot that should stand before its predecessor.
        slot: usize,
    },
    /// A probe has another id than its slot demands, or contradicts the leading slots.
    Probe {
        /// Its slot.
        slot: usize,
    },
}

impl EvidenceError {
    /// A short name for counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Logit { .. } => "evidence_logit",
            Self::Stat { .. } => "evidence_stat",
            Self::Id { .. } => "evidence_id",
            Self::Order { .. } => "evidence_order",
            Self::Probe { .. } => "evidence_probe",
        }
    }
}

impl fmt::Display for EvidenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Logit { slot } => {
                write!(f, "evidence slot {slot} holds no finite logit on the declared grid")
            }
            Self::Stat { at } => write!(f, "evidence statistic {at} is not finite"),
            Self::Id { slot } => {
                write!(
                    f,
                    "evidence slot {slot} holds an id outside the vocabulary or a second time"
                )
            }
            Self::Order { slot } => write!(f, "evidence slot {slot} is larger than the one before"),
            Self::Probe { slot } => {
                write!(f, "evidence slot {slot} is not the probe that belongs there")
            }
        }
    }
}

impl core::error::Error for EvidenceError {}

/// Ids of the 20 probes: multiples of `max(1, V div 20)`. spec: sampler §6
pub fn probe_ids(vocab: usize) -> impl Iterator<Item = usize> {
    let step = (vocab / PROBE_SLOTS).max(1);
    (0..PROBE_SLOTS).map(move |i| i * step)
}

/// The six statistics: ln Σ exp over the whole vocabulary after temperature, the means of the
/// sorted logits over ranks `[0, 50)`, `[50, 500)`, `[500, 2000)`, `[2000, V)`, and the mean of
/// all; 0 where the row is too short. Means are f64 with one rounding. spec: sampler §6
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // V < 2^32; f32 by rule
fn stats(vocab: usize, ranked: &Ranked) -> [f32; STATS] {
    let [first_50, first_500, first_2000] = ranked.leading_sums;
    [
        ranked.log_sum_exp as f32,
        mean(first_50, 50, vocab >= 50),
        mean(first_500 - first_50, 450, vocab >= 500),
        mean(first_2000 - first_500, 1500, vocab >= 2000),
        mean(ranked.sum - first_2000, vocab.saturating_sub(2000), vocab > 2000),
        mean(ranked.sum, vocab, vocab > 0),
    ]
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as in `stats`
fn mean(sum: f64, count: usize, present: bool) -> f32 {
    if present { (sum / count as f64) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Snap;
    use crate::select::RowScratch;

    const BF16: Grid = Grid::Snapped(Snap::Bf16);

    fn evidence() -> Evidence {
        #[allow(clippy::cast_precision_loss)] // small numbers
        let logits: [f32; 200] = core::array::from_fn(|id| ((id * 37) % 64) as f32 * 0.25);
        let mut scratch = RowScratch::new();
        Evidence::of(&mut Row::prepare(&logits, BF16, &mut scratch).unwrap(), 1.0)
    }

    #[test]
    fn what_is_taken_from_a_row_passes_and_every_change_is_named() {
        assert_eq!(evidence().check(200, BF16), Ok(()));
        let changed = |change: fn(&mut Evidence)| {
            let mut evidence = evidence();
            change(&mut evidence);
            evidence.check(200, BF16).unwrap_err()
        };
        assert_eq!(changed(|e| e.logits[3] = f32::NAN), EvidenceError::Logit { slot: 3 });
        assert_eq!(changed(|e| e.logits[60] = 0.100_01), EvidenceError::Logit { slot: 60 });
        assert_eq!(changed(|e| e.stats[5] = f32::INFINITY), EvidenceError::Stat { at: 5 });
        assert_eq!(changed(|e| e.ids[7] = 200), EvidenceError::Id { slot: 7 });
        assert_eq!(changed(|e| e.ids[7] = e.ids[1]), EvidenceError::Id { slot: 7 });
        assert_eq!(changed(|e| e.logits[9] = 100.0), EvidenceError::Order { slot: 9 });
        assert_eq!(changed(|e| e.ids[51] += 1), EvidenceError::Probe { slot: 51 });
        assert_eq!(changed(|e| e.logits[50] = 100.0), EvidenceError::Probe { slot: 50 });
        assert_eq!(evidence().check(220, BF16), Err(EvidenceError::Probe { slot: 51 }));
    }
}
