//! The steps of a window: evidence, draws, tokens, edges, normalizers and statistics, walked in the
//! order in which one predicts the other. The walk is written once: an encoder reads the steps on
//! its way, a decoder fills them in.
//!
//! Nothing is left out on trust. What can be computed is a prediction, and what is coded is how far
//! the proof is from it; where a proof keeps to the rules that is a zero, which costs next to
//! nothing. The computations used here are part of the form: they decide what the bytes mean.

use super::dictionary::Dictionary;
use super::number::{FlatNumber, Number};
use super::range::{Coder, Nibble};
use crate::context::Context;
use crate::preimage::StepHasher;
use crate::proof::Words;
use crate::sampler::{Choice, Params, Survivors};
use crate::units::{
    AdmissionNonce, Digest, Draw, EVIDENCE_SLOTS, PROBE_SLOTS, STATS, TOP_SLOTS, Tick, WINDOW,
};
use serde::{Deserialize, Serialize};

/// The words of one step; floats as bit patterns. A list that the proof does not have in this shape
/// is zero here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) logits: [u32; EVIDENCE_SLOTS],
    pub(super) ids: [u32; EVIDENCE_SLOTS],
    pub(super) draw: u32,
    pub(super) token: u32,
    pub(super) edge: u32,
    pub(super) normalizer: u32,
    pub(super) stats: [u32; STATS],
}

impl Step {
    /// The ids of the probes.
    pub(super) fn probe_ids(&self) -> [u32; PROBE_SLOTS] {
        core::array::from_fn(|i| self.ids[TOP_SLOTS + i])
    }

    pub(super) const EMPTY: Self = Self {
        logits: [0; EVIDENCE_SLOTS],
        ids: [0; EVIDENCE_SLOTS],
        draw: 0,
        token: 0,
        edge: 0,
        normalizer: 0,
        stats: [0; STATS],
    };
}

/// Which lists of the proof are in the steps, beside the evidence.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Lists {
    pub(super) tokens: bool,
    pub(super) draws: bool,
    pub(super) edges: bool,
    pub(super) normalizers: bool,
    pub(super) stats: bool,
}

/// What the walk knows before the first step.
pub(super) struct Setting<'a> {
    pub(super) lists: Lists,
    pub(super) params: Params,
    /// Low bits that are zero in a logit on the proof's grid.
    pub(super) grid_bits: u32,
    /// Width of the vocabulary, as the means of the statistics tell it; 0 when unknown.
    pub(super) vocab: u32,
    /// Ids of the probes in most rows.
    pub(super) probes: [u32; PROBE_SLOTS],
    /// The digests, when the draws follow from them.
    pub(super) replay: Option<Replay<'a>>,
}

/// The digests of a window, step by step.
#[derive(Debug, Clone)]
pub(super) struct Replay<'a> {
    pub(super) hasher: StepHasher,
    pub(super) context: Context,
    pub(super) precision: &'a [u8],
    pub(super) nonce: Option<AdmissionNonce>,
}

impl<'a> Replay<'a> {
    /// The digests of a window without a nonce, before its prompt.
    pub(super) fn new(header_prefix: &[u8], vdf: &[u8], tick: Tick, precision: &'a [u8]) -> Self {
        let hasher = StepHasher::new(header_prefix, vdf, tick);
        Self { hasher, context: Context::default(), precision, nonce: None }
    }

    /// Takes what of the prompt enters a digest.
    pub(super) fn push_prompt(&mut self, prompt: Words<'_>) {
        let skip = prompt.len().saturating_sub(WINDOW);
        prompt.iter().skip(skip).for_each(|token| self.context.push(token));
    }

    /// The digest of step `j`; of step 0 after the last token, the closing one.
    /// spec: verification §5
    pub(super) fn digest(&self, j: u32) -> Digest {
        self.hasher.step(j, &self.context, self.precision, self.nonce.as_ref())
    }
}

/// Maps the bit pattern of a float to an integer that orders like the float; any pattern has its
/// own integer.
fn key(bits: u32) -> u32 {
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The inverse of [`key`].
fn unkey(key: u32) -> u32 {
    if key >> 31 == 1 { key & !(1 << 31) } else { !key }
}

/// A computed float as a prediction. NaNs differ between machines, so none is predicted.
fn prediction(value: f32) -> u32 {
    if value.is_nan() { key(0) } else { key(value.to_bits()) }
}

/// Codes the bit pattern of a float near a predicted key.
fn code_float(model: &mut Number, coder: &mut impl Coder, predicted: u32, bits: u32) -> u32 {
    unkey(model.code_near(coder, predicted, key(bits)))
}

/// A model of a probe's logit: its twelve leading bits in three nibbles, each known by the ones
/// before it.
type Probe = [Nibble; 1 + 16 + 256];

/// Adaptive models of everything in a step, and what is remembered of the step before.
pub(super) struct Walk {
    largest: Number,
    /// Falls from one rank to the next, by rank.
    falls: [Number; 8],
    off_grid: Nibble,
    fine: Number,
    probe: Probe,
    index: FlatNumber,
    probes_moved: Nibble,
    draw: Number,
    token: Number,
    literal: Number,
    edge: Number,
    normalizer: Number,
    stats: [Number; STATS],
    before: Step,
}

impl Walk {
    pub(super) fn new() -> Self {
        Self {
            largest: Number::new(),
            falls: core::array::from_fn(|_| Number::new()),
            off_grid: Nibble::NEW,
            fine: Number::new(),
            probe: [const { Nibble::NEW }; 273],
            index: FlatNumber::new(),
            probes_moved: Nibble::NEW,
            draw: Number::new(),
            token: Number::new(),
            literal: Number::new(),
            edge: Number::new(),
            normalizer: Number::new(),
            stats: core::array::from_fn(|_| Number::new()),
            before: Step::EMPTY,
        }
    }

    /// Codes all steps. `indices` are the dictionary's indices of the ids that are not predicted;
    /// a decoder has none.
    pub(super) fn code(
        &mut self,
        coder: &mut impl Coder,
        steps: &mut [Step],
        setting: &mut Setting<'_>,
        dictionary: &Dictionary,
        indices: &[u32],
    ) {
        let mut indices = indices.iter().copied();
        for (j, step) in (0..).zip(steps) {
            // What is predicted from the logits needs them whole.
            self.top_logits(coder, step, setting.grid_bits);
            self.probe_logits(coder, step, setting.grid_bits);
            self.fine_bits(coder, step, setting.grid_bits);
            self.ids(coder, step, &setting.probes, dictionary, &mut indices);
            self.choice(coder, step, j, setting);
            if setting.lists.stats {
                self.statistics(coder, step, setting.vocab);
            }
            self.before = *step;
            if let Some(replay) = &mut setting.replay {
                replay.context.push(step.token);
            }
        }
    }

    /// The 50 largest logits, without the bits below the grid: how far each lies below the one
    /// before it.
    fn top_logits(&mut self, coder: &mut impl Coder, step: &mut Step, grid_bits: u32) {
        let mut above = key(self.before.logits[0]) >> grid_bits;
        for (rank, logit) in step.logits[..TOP_SLOTS].iter_mut().enumerate() {
            let own = key(*logit) >> grid_bits;
            let coded = if rank == 0 {
                self.largest.code_near(coder, above, own)
            } else {
                let model = &mut self.falls[(rank.ilog2() as usize).min(7)];
                above.wrapping_sub(model.code(coder, above.wrapping_sub(own)))
            };
            above = coded;
            *logit = on_grid(coded, grid_bits) | (*logit & low_mask(grid_bits));
        }
    }

    fn probe_logits(&mut self, coder: &mut impl Coder, step: &mut Step, grid_bits: u32) {
        let width = u32::BITS - grid_bits;
        let rest = width - 12;
        for logit in &mut step.logits[TOP_SLOTS..] {
            let own = key(*logit) >> grid_bits;
            let a = coder.nibble(&mut self.probe[0], own >> (width - 4) & 15) & 15;
            let b = coder.nibble(&mut self.probe[1 + a as usize], own >> (width - 8) & 15) & 15;
            let known = (a << 4 | b) as usize;
            let c = coder.nibble(&mut self.probe[17 + known], own >> rest & 15) & 15;
            let tail = coder.raw(rest, own & low_mask(rest));
            let coded = (known as u32) << (width - 8) | c << rest | tail;
            *logit = on_grid(coded, grid_bits) | (*logit & low_mask(grid_bits));
        }
    }

    /// The bits below the grid, for the rare row that has some.
    fn fine_bits(&mut self, coder: &mut impl Coder, step: &mut Step, grid_bits: u32) {
        let mask = low_mask(grid_bits);
        let some = step.logits.iter().any(|logit| logit & mask != 0);
        if coder.nibble(&mut self.off_grid, u32::from(some)) == 0 {
            return;
        }
        for logit in &mut step.logits {
            *logit = (*logit & !mask) | (self.fine.code(coder, *logit & mask) & mask);
        }
    }

    fn ids(
        &mut self,
        coder: &mut impl Coder,
        step: &mut Step,
        probes: &[u32; PROBE_SLOTS],
        dictionary: &Dictionary,
        indices: &mut impl Iterator<Item = u32>,
    ) {
        let moved = step.probe_ids() != *probes;
        let moved = coder.nibble(&mut self.probes_moved, u32::from(moved)) != 0;
        let (top, probe_ids) = step.ids.split_at_mut(TOP_SLOTS);
        let mut named = |id: &mut u32| {
            let index = self.index.code(coder, indices.next().unwrap_or(0));
            *id = dictionary.id(index);
        };
        top.iter_mut().for_each(&mut named);
        if moved {
            probe_ids.iter_mut().for_each(&mut named);
        } else {
            probe_ids.copy_from_slice(probes);
        }
    }

    /// Draw, token, edge and normalizer: the draw follows from the context, the others from the
    /// draw and the evidence.
    fn choice(&mut self, coder: &mut impl Coder, step: &mut Step, j: u32, setting: &Setting<'_>) {
        let lists = setting.lists;
        if lists.draws {
            let draw = match &setting.replay {
                Some(replay) => Draw::from_digest(&replay.digest(j)).get(),
                None => 0.0,
            };
            step.draw = code_float(&mut self.draw, coder, prediction(draw), step.draw);
        }
        if !(lists.tokens || lists.edges || lists.normalizers) {
            return;
        }
        let expected = expected_choice(step, setting.params);
        if lists.tokens {
            step.token = self.code_token(coder, step, expected.token);
        }
        if lists.edges {
            let edge = prediction(expected.upper_edge);
            step.edge = code_float(&mut self.edge, coder, edge, step.edge);
        }
        if lists.normalizers {
            let normalizer = prediction(expected.normalizer);
            step.normalizer = code_float(&mut self.normalizer, coder, normalizer, step.normalizer);
        }
    }

    /// The token: the expected one, another of the row, or any.
    fn code_token(&mut self, coder: &mut impl Coder, step: &Step, expected: u32) -> u32 {
        const ELSEWHERE: u32 = 1 + EVIDENCE_SLOTS as u32;
        let place = match step.token {
            token if token == expected => 0,
            token => (1..ELSEWHERE)
                .zip(step.ids)
                .find(|(_, id)| *id == token)
                .map_or(ELSEWHERE, |at| at.0),
        };
        match self.token.code(coder, place) {
            0 => expected,
            place @ 1..ELSEWHERE => step.ids[place as usize - 1],
            _ => self.literal.code(coder, step.token),
        }
    }

    /// The six statistics. The mean of the top is computed, the other means move as the one before
    /// them does, and the last two are bound to each other by the width of the vocabulary.
    fn statistics(&mut self, coder: &mut impl Coder, step: &mut Step, vocab: u32) {
        let [log_sum, top, second, third, tail, all] = &mut self.stats;
        let was = self.before.stats.map(f32::from_bits);
        let mut now = step.stats;
        let near = f32::from_bits(step.normalizer);
        now[0] = code_float(log_sum, coder, prediction(near), now[0]);
        now[1] = code_float(top, coder, prediction(top_mean(step)), now[1]);
        let follow =
            |now: &[u32; STATS], i: usize| was[i] + (f32::from_bits(now[i - 1]) - was[i - 1]);
        now[2] = code_float(second, coder, prediction(follow(&now, 2)), now[2]);
        now[3] = code_float(third, coder, prediction(follow(&now, 3)), now[3]);
        now[5] =
            code_float(all, coder, prediction(was[5] + (f32::from_bits(now[3]) - was[3])), now[5]);
        let expected = tail_mean(&now, vocab).unwrap_or(f32::from_bits(now[5]));
        now[4] = code_float(tail, coder, prediction(expected), now[4]);
        step.stats = now;
    }
}

/// A logit of the grid by its shortened key.
fn on_grid(key: u32, grid_bits: u32) -> u32 {
    let mask = low_mask(grid_bits);
    unkey(key << grid_bits | mask) & !mask
}

const fn low_mask(bits: u32) -> u32 {
    (1 << bits) - 1
}

/// What the sampler makes of the recorded evidence and the recorded draw. spec: sampler §5
fn expected_choice(step: &Step, params: Params) -> Choice {
    let logits = core::array::from_fn(|i| f32::from_bits(step.logits[i]));
    let ids = core::array::from_fn(|i| step.ids[i]);
    Survivors::of(&logits, &ids, params).choose(Draw::recorded(f32::from_bits(step.draw)))
}

/// The mean of the 50 largest logits. spec: sampler §6
#[allow(clippy::cast_possible_truncation)] // f32 by rule
fn top_mean(step: &Step) -> f32 {
    let sum: f64 = step.logits[..TOP_SLOTS].iter().map(|l| f64::from(f32::from_bits(*l))).sum();
    (sum / TOP_SLOTS as f64) as f32
}

/// The mean of ranks `[2000, V)` from the other means, all of which it adds up to.
/// spec: sampler §6
#[allow(clippy::cast_possible_truncation)] // a prediction of an f32
fn tail_mean(stats: &[u32; STATS], vocab: u32) -> Option<f32> {
    let rest = vocab.checked_sub(2000).filter(|rest| *rest > 0)?;
    let [_, top, second, third, _, all] = stats.map(|bits| f64::from(f32::from_bits(bits)));
    let leading = 50.0 * top + 450.0 * second + 1500.0 * third;
    Some(((f64::from(vocab) * all - leading) / f64::from(rest)) as f32)
}

/// The width of the vocabulary that the means of all steps agree with; 0 for none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates; it is a guess
pub(super) fn vocab(steps: &[Step]) -> u32 {
    let (mut excess, mut shift) = (0.0, 0.0);
    for step in steps {
        let [_, top, second, third, tail, all] =
            step.stats.map(|bits| f64::from(f32::from_bits(bits)));
        // V·(all − tail) is what the leading ranks have above the tail's mean.
        let sign = if all < tail { -1.0 } else { 1.0 };
        excess += sign * (50.0 * (top - tail) + 450.0 * (second - tail) + 1500.0 * (third - tail));
        shift += sign * (all - tail);
    }
    let width = libm::round(excess / shift);
    if width.is_finite() && width > 2000.0 { width as u32 } else { 0 }
}
