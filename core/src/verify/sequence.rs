//! The checks that walk through the window: the evidence's shape, the draws, the intervals. The
//! sums of the interval bounds are made here and judged in [`super::gates`].

use super::engine::{Engine, Stop, fits};
use super::report::{NoVerdict, Step};
use super::scratch::Scratch;
use super::{Check, Detail, Failure};
use crate::credit::BadBounds;
use crate::interval::{Interval, Recorded, ReuseScore, RowFault, Slot, interval};
use crate::proof::{ProofRef, Words};
use crate::replay;
use crate::units::AdmissionNonce;

/// Largest difference between a claimed and a recomputed draw. spec: verification §5.4
const DRAW_TOLERANCE: f32 = f32::from_bits(0x33D6_BF95);
/// Least recorded edge, −1e-6. spec: verification §4 Q53
const LEAST_EDGE: f32 = f32::from_bits(0xB586_37BD);
/// Greatest recorded edge, 1 + 1e-6 in f32. spec: verification §4 Q53
const GREATEST_EDGE: f32 = f32::from_bits(0x3F80_0008);

/// The sampling numbers of a proof.
pub(super) fn recorded(proof: &ProofRef<'_>) -> Recorded {
    Recorded {
        temperature: proof.temperature,
        repetition_penalty: proof.repetition_penalty,
        top_k: proof.top_k,
        top_p: proof.top_p,
    }
}

/// What the bounds of a window add up to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// The first step whose bounds make no interval for the credit.
    pub(super) bad_credit: Option<(u32, BadBounds)>,
    /// The same for the reuse score.
    pub(super) bad_reuse: Option<(u32, BadBounds)>,
    /// The step that took the reuse score over its cap.
    pub(super) over_cap: Option<u32>,
}

/// The first value that is not finite.
fn not_finite(words: Words<'_>) -> Option<Detail> {
    words.first_not_finite().map(Detail::Finite)
}

impl Engine<'_, '_> {
    /// Q50–Q55, step by step. spec: verification §4, §4.2
    pub(crate) fn evidence(&mut self) -> Result<(), Failure> {
        let proof = self.proof;
        for (step, at) in (0..).zip(0..proof.chosen_tokens.len()) {
            let refuse = |check, detail| Err(Failure { check, step: Some(step), detail });
            let (logits, ids) = (proof.topk_logits.row(at), proof.topk_indices.row(at));
            if logits.len() != ids.len() || logits.is_empty() {
                let (found, wanted) = (ids.len() as u64, logits.len() as u64);
                return refuse(Check::RowsPair, Detail::Count { found, wanted });
            }
            if let Some(detail) = not_finite(logits) {
                return refuse(Check::LogitsFinite, detail);
            }
            if let Some(found) = proof.chosen_probs.f32_at(at) {
                if !found.is_finite() {
                    return refuse(Check::EdgesFinite, Detail::Finite(found));
                }
                let (low, high) = (LEAST_EDGE, GREATEST_EDGE);
                if !(low..=high).contains(&found) {
                    return refuse(Check::EdgesRange, Detail::Range { found, low, high });
                }
            }
            match proof.sampling_u.f32_at(at) {
                Some(u) if !u.is_finite() => return refuse(Check::DrawsFinite, Detail::Finite(u)),
                _ => {}
            }
            if let Some(detail) = not_finite(proof.logsumexp_stats.row(at)) {
                return refuse(Check::StatsFinite, detail);
            }
        }
        for check in [
            Check::RowsPair,
            Check::LogitsFinite,
            Check::EdgesFinite,
            Check::EdgesRange,
            Check::DrawsFinite,
            Check::StatsFinite,
        ] {
            self.observer.passed(check, Detail::None);
        }
        Ok(())
    }

    /// Q60, all steps. spec: verification §4, §5.4
    pub(crate) fn draws(&mut self, scratch: &mut Scratch<'_>) -> Result<(), Stop> {
        let proof = self.proof;
        let nonce = self.nonce();
        let mut farthest = 0.0_f32;
        let draws = replay::draws(proof, nonce.as_ref());
        let draws_scratch = room("draws", scratch.draws, draws.len())?;
        for (step, (room, draw)) in (0..).zip(draws_scratch.iter_mut().zip(draws)) {
            *room = draw.get();
            let claimed = proof.sampling_u.f32_at(step as usize).unwrap_or(f32::NAN);
            let distance = (draw.get() - claimed).abs();
            if distance.is_nan() || distance > DRAW_TOLERANCE {
                let (found, wanted, within) = (claimed, draw.get(), DRAW_TOLERANCE);
                let detail = Detail::Near { found, wanted, within };
                return Err(Failure { check: Check::Draws, step: Some(step), detail }.into());
            }
            farthest = farthest.max(distance);
        }
        let detail = Detail::Near { found: farthest, wanted: 0.0, within: DRAW_TOLERANCE };
        Ok(self.demand(true, Check::Draws, detail)?)
    }

    /// Q61, and the sums over the bounds. The draws are in the scratch.
    /// spec: verification §4, §6
    pub(super) fn intervals(&mut self, scratch: &mut Scratch<'_>) -> Result<Sums, Stop> {
        let proof = self.proof;
        let recorded = recorded(proof);
        let seen = Seen::of(proof, recorded, scratch.tokens)?;
        let mut sums = Sums::default();
        let mut reuse = ReuseScore::default();
        let steps = (0..).zip(proof.chosen_tokens.iter().zip(scratch.draws.iter()));
        for (j, (token, draw)) in steps {
            let rebuilt = rebuild(proof, recorded, (j, token, *draw), &seen, scratch.slots)
                .map_err(|fault| stop(fault, j))?;
            self.note(j, token, *draw, rebuilt);
            if !rebuilt.inside {
                let Interval { lower, upper, .. } = rebuilt;
                let detail = Detail::Interval { draw: *draw, lower, upper };
                return Err(Failure { check: Check::Intervals, step: Some(j), detail }.into());
            }
            let credited = self.report.credit.add(rebuilt.lower.into(), rebuilt.upper.into());
            sums.bad_credit = sums.bad_credit.or(credited.err().map(|why| (j, why)));
            let scored = reuse.add(rebuilt.lower, rebuilt.upper);
            sums.bad_reuse = sums.bad_reuse.or(scored.err().map(|why| (j, why)));
            sums.over_cap = sums.over_cap.or(reuse.exceeds_cap().then_some(j));
            self.report.reuse_score = reuse.get();
        }
        self.demand(true, Check::Intervals, Detail::None)?;
        Ok(sums)
    }

    /// One interval, for the report and whoever looks on.
    fn note(&mut self, j: u32, token: u32, draw: f32, interval: Interval) {
        let margin = interval.margin(draw);
        let least = self.report.least_margin.map_or(margin, |least| least.min(margin));
        self.report.least_margin = Some(least);
        self.report.steps = j.saturating_add(1);
        let claimed = self.proof.sampling_u.f32_at(j as usize).unwrap_or(f32::NAN);
        self.observer.step(&Step { j, token, draw, claimed, interval });
    }
}

/// The interval of one step: index, token, draw.
fn rebuild(
    proof: &ProofRef<'_>,
    recorded: Recorded,
    (j, token, draw): (u32, u32, f32),
    seen: &Seen<'_>,
    slots: &mut [Slot],
) -> Result<Interval, RowFault> {
    let at = j as usize;
    let (logits, ids) = (proof.topk_logits.row(at), proof.topk_indices.row(at));
    interval(logits, ids, recorded, token, draw, |id| seen.before(id, j), slots)
}

/// A row without an interval stops the judgement: as a failure at step j, or for want of memory.
fn stop(fault: RowFault, j: u32) -> Stop {
    match fault {
        RowFault::Scratch { needed, found } => {
            NoVerdict::Scratch { part: "slots", needed, found }.into()
        }
        RowFault::Ragged | RowFault::Empty => {
            Failure { check: Check::RowsPair, step: Some(j), detail: Detail::None }.into()
        }
    }
}

/// Every step that has an interval, whatever the checks say.
pub(super) fn replay(
    proof: &ProofRef<'_>,
    nonce: Option<&AdmissionNonce>,
    scratch: &mut Scratch<'_>,
    look: &mut dyn FnMut(&Step),
) -> Result<(), NoVerdict> {
    fits(proof)?;
    let recorded = recorded(proof);
    let seen = Seen::of(proof, recorded, scratch.tokens)?;
    let draws = replay::draws(proof, nonce);
    for (j, (token, draw)) in (0..).zip(proof.chosen_tokens.iter().zip(draws)) {
        let draw = draw.get();
        let claimed = proof.sampling_u.f32_at(j as usize).unwrap_or(f32::NAN);
        match rebuild(proof, recorded, (j, token, draw), &seen, scratch.slots) {
            Ok(interval) => look(&Step { j, token, draw, claimed, interval }),
            Err(RowFault::Scratch { needed, found }) => {
                return Err(NoVerdict::Scratch { part: "slots", needed, found });
            }
            Err(RowFault::Ragged | RowFault::Empty) => {}
        }
    }
    Ok(())
}

/// The first `needed` entries of a part of the scratch.
fn room<'a, T>(
    part: &'static str,
    scratch: &'a mut [T],
    needed: usize,
) -> Result<&'a mut [T], NoVerdict> {
    let found = scratch.len();
    scratch.get_mut(..needed).ok_or(NoVerdict::Scratch { part, needed, found })
}

/// Which ids occur where: in the prompt, or as a chosen token. A block may carry 200 000 prompt
/// tokens and 60 000 evidence entries, so each entry must not walk through the prompt.
struct Seen<'a> {
    /// Ascending `id ‖ step from which the context holds it`, 32 bits each.
    occurrences: &'a [u64],
}

impl<'a> Seen<'a> {
    /// Empty unless the penalty does anything.
    fn of(
        proof: &ProofRef<'_>,
        recorded: Recorded,
        tokens: &'a mut [u64],
    ) -> Result<Self, NoVerdict> {
        if !recorded.penalises() {
            return Ok(Self { occurrences: &[] });
        }
        let needed = proof.prompt_tokens.len().saturating_add(proof.chosen_tokens.len());
        let occurrences = room("tokens", tokens, needed)?;
        let prompt = proof.prompt_tokens.iter().map(|id| (id, 0));
        // The token of step i is in the contexts of the steps after it.
        let chosen = proof.chosen_tokens.iter().zip(1_u32..);
        for (room, (id, from)) in occurrences.iter_mut().zip(prompt.chain(chosen)) {
            *room = u64::from(id) << 32 | u64::from(from);
        }
        occurrences.sort_unstable();
        Ok(Self { occurrences })
    }

    /// True when the id occurs in the context of step j. spec: verification §6 step 3
    fn before(&self, id: u32, j: u32) -> bool {
        let id = u64::from(id) << 32;
        let first = self.occurrences.partition_point(|occurrence| *occurrence < id);
        self.occurrences.get(first).is_some_and(|occurrence| *occurrence <= id | u64::from(j))
    }
}
