//! The sampler as the specification reads, by full sorting, for any `k` and any width: the text to
//! read beside [`crate::sampler`] and [`crate::select`], and the oracle their tests compare with.
//! It also states where the reference's two libraries truncate differently, which only matters
//! outside the bounds that are ever mined.

use crate::evidence::probe_ids;
use crate::math;
use crate::sampler::{Choice, Params};
use crate::units::{Draw, EVIDENCE_SLOTS, STATS, TOP_SLOTS};
use alloc::vec::Vec;

/// What happens to `k` outside `1..V`. spec: sampler §5.3
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopK {
    /// No truncation for `k ≥ V` (the node over its candidates, and the C++ library).
    Plain,
    /// `k` clamped to `1..=min(50, V)` first (the torch library).
    Clamped,
}

impl TopK {
    /// The rank of the threshold (1 = the largest value), or none for no truncation.
    fn rank(self, k: u32, vocab: usize) -> Option<usize> {
        let k = usize::try_from(k).unwrap_or(usize::MAX);
        match self {
            Self::Plain => (k > 0 && k < vocab).then_some(k),
            Self::Clamped => Some(k.clamp(1, vocab.min(TOP_SLOTS))),
        }
    }
}

/// Post-temperature values of the ids that survive top-k and top-p, ascending by id.
/// spec: sampler §5.2, §5.3, §5.4
#[must_use]
pub fn survivors(logits: &[f32], params: Params, rule: TopK) -> Vec<(u32, f32)> {
    let all: Vec<(u32, f32)> = (0..).zip(logits.iter().map(|l| l / params.temperature)).collect();
    let mut ranked = all.clone();
    ranked.sort_by(|a, b| descending(a.1, b.1).then(a.0.cmp(&b.0)));
    let mut kept: Vec<(u32, f32)> = match rule.rank(params.top_k, all.len()) {
        Some(rank) => {
            let threshold = ranked[rank - 1].1;
            ranked.iter().copied().filter(|(_, s)| *s > threshold).collect()
        }
        None => ranked.iter().copied().filter(|(_, s)| *s > f32::NEG_INFINITY).collect(),
    };
    if kept.is_empty() {
        kept.extend(ranked.first());
    }
    if params.top_p < 1.0 && kept.len() > 1 {
        let log_z = math::log_sum_exp(kept.iter().map(|(_, s)| *s));
        let mut before = 0.0_f64;
        let mut first = true;
        #[allow(clippy::cast_possible_truncation)] // the rule compares in f32
        kept.retain(|(_, s)| {
            let keep = first || (before as f32) < params.top_p;
            before += f64::from(math::probability(*s, log_z));
            first = false;
            keep
        });
    }
    kept.sort_by_key(|(id, _)| *id);
    kept
}

/// Draws from survivors in ascending id order. spec: sampler §5.5, §5.6
#[must_use]
#[allow(clippy::cast_possible_truncation)] // edges and normalizer are f32 by rule
pub fn choose(survivors: &[(u32, f32)], draw: Draw) -> Option<Choice> {
    let log_z = math::log_sum_exp(survivors.iter().map(|(_, s)| *s));
    let mut running = 0.0_f64;
    let mut choice = None;
    for (id, s) in survivors {
        running += f64::from(math::probability(*s, log_z));
        let upper_edge = running as f32;
        choice = Some(Choice { token: *id, upper_edge, normalizer: log_z as f32 });
        if upper_edge >= draw.get() {
            break;
        }
    }
    choice
}

/// Evidence slots (logit, id) and statistics of a row of any width; slots without a logit are
/// zero, as the C++ library fills them. spec: sampler §6
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as in `evidence`
pub fn evidence(
    logits: &[f32],
    temperature: f32,
) -> ([f32; EVIDENCE_SLOTS], [u32; EVIDENCE_SLOTS], [f32; STATS]) {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.sort_by(|a, b| descending(a.1, b.1).then(a.0.cmp(&b.0)));
    let mut slots = [(0_u32, 0.0_f32); EVIDENCE_SLOTS];
    for (slot, pair) in slots[..TOP_SLOTS].iter_mut().zip(&ranked) {
        *slot = *pair;
    }
    for (slot, id) in slots[TOP_SLOTS..].iter_mut().zip(probe_ids(logits.len())) {
        if let Some(logit) = logits.get(id) {
            *slot = (id as u32, *logit);
        }
    }
    let vocab = ranked.len();
    let mean = |from: usize, to: usize| {
        let bucket = ranked.get(from..to).unwrap_or_default();
        let sum: f64 = bucket.iter().map(|(_, l)| f64::from(*l)).sum();
        if bucket.is_empty() { 0.0 } else { (sum / bucket.len() as f64) as f32 }
    };
    let full = math::log_sum_exp(logits.iter().map(|l| l / temperature)) as f32;
    let stats =
        [full, mean(0, 50), mean(50, 500), mean(500, 2000), mean(2000, vocab), mean(0, vocab)];
    (slots.map(|s| s.1), slots.map(|s| s.0), stats)
}

/// Larger values first; −0.0 and 0.0 are one value, and NaN does not occur.
fn descending(a: f32, b: f32) -> core::cmp::Ordering {
    b.partial_cmp(&a).unwrap_or(core::cmp::Ordering::Equal)
}
