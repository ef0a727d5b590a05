//! The evidence of one step: the 50 largest logits, 20 probes and six statistics, all taken before
//! truncation.

use crate::math;
use crate::row::Row;
use crate::select::{self, Ranked};
use crate::units::{EVIDENCE_SLOTS, PROBE_SLOTS, STATS, TOP_SLOTS};

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
    pub fn of(row: &Row<'_>, temperature: f32) -> Self {
        let ranked = select::rank(row.logits());
        let mut logits = [0.0; EVIDENCE_SLOTS];
        let mut ids = [0; EVIDENCE_SLOTS];
        logits[..TOP_SLOTS].copy_from_slice(&ranked.top_logits);
        ids[..TOP_SLOTS].copy_from_slice(&ranked.top_ids);
        let slots = logits[TOP_SLOTS..].iter_mut().zip(&mut ids[TOP_SLOTS..]);
        for ((logit, slot), id) in slots.zip(probe_ids(row.logits().len())) {
            *logit = row.logits().get(id).copied().unwrap_or(0.0);
            #[allow(clippy::cast_possible_truncation)] // an id of the vocabulary
            {
                *slot = id as u32;
            }
        }
        Self { logits, ids, stats: stats(row, &ranked, temperature) }
    }
}

/// Ids of the 20 probes: multiples of `max(1, V div 20)`. spec: sampler §6
pub fn probe_ids(vocab: usize) -> impl Iterator<Item = usize> {
    let step = (vocab / PROBE_SLOTS).max(1);
    (0..PROBE_SLOTS).map(move |i| i * step)
}

/// The six statistics: ln Σ exp over the whole vocabulary after temperature, the means of the
/// sorted logits over ranks `[0, 50)`, `[50, 500)`, `[500, 2000)`, `[2000, V)`, and the mean of
/// all; 0 where the row is too short. Means are f64 with one rounding. spec: sampler §6
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // V < 2^32; f32 by rule
fn stats(row: &Row<'_>, ranked: &Ranked, temperature: f32) -> [f32; STATS] {
    let logits = row.logits();
    let vocab = logits.len();
    let max = row.max() / temperature;
    // Without the division the loop vectorises better, and x / 1 is x.
    let sum = if temperature == 1.0 {
        math::sum_exp(logits, max, |l| l)
    } else {
        math::sum_exp(logits, max, |l| l / temperature)
    };
    let [first_50, first_500, first_2000] = ranked.leading_sums;
    [
        (f64::from(max) + libm::log(sum)) as f32,
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
