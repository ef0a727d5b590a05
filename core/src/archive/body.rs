//! The lists of a proof on their way into the code and out of it. Lists that have the shape of a
//! window go step by step ([`super::steps`]), the others as they are ([`super::plain`]).

use super::dictionary::Dictionary;
use super::plain;
use super::range::Coder;
use super::steps::{self, Lists, Replay, Setting, Step, Walk};
use crate::proof::{ProofRef, Rows, Words};
use crate::sampler::Params;
use crate::units::{Digest, EVIDENCE_SLOTS, PROBE_SLOTS, STATS, TOP_SLOTS};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Sizes of all lists, and what is needed to read them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Steps; 0 when the evidence has another shape than a window's.
    pub(super) steps: u32,
    /// Lists that go with the steps; the others are plain.
    pub(super) lists: Lists,
    /// Every draw is predicted from its digest.
    pub(super) replayed: bool,
    /// Low bits that are zero in a logit on the proof's grid.
    pub(super) grid_bits: u8,
    /// Width of the vocabulary; 0 when unknown.
    pub(super) vocab: u32,
    /// Words of the plain lists, which are: tokens, edges, draws, normalizers, prompt.
    pub(super) plain: [u32; 5],
    /// Rows of the plain matrices, which are: logits, ids, statistics.
    pub(super) rows: [u32; 3],
}

impl Shape {
    /// Canonical bytes that lists of this shape have at least.
    pub(super) fn least_len(&self) -> u64 {
        let lists = self.lists;
        let singles = [lists.tokens, lists.draws, lists.edges, lists.normalizers];
        let words = 2 * EVIDENCE_SLOTS
            + singles.into_iter().filter(|with| *with).count()
            + if lists.stats { STATS } else { 0 };
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        u64::from(self.steps) * 4 * words as u64 + 4 * sum(&self.plain) + sum(&self.rows)
    }

    /// True when no list is said to be in two places, and what is predicted has what it needs.
    pub(super) fn is_sound(&self) -> bool {
        let lists = self.lists;
        let [logits, ids, stats] = self.rows;
        let once = |in_steps: bool, plain: u32| !in_steps || (self.steps > 0 && plain == 0);
        let [tokens, edges, draws, normalizers, _] = self.plain;
        once(lists.tokens, tokens)
            && once(lists.edges, edges)
            && once(lists.draws, draws)
            && once(lists.normalizers, normalizers)
            && once(lists.stats, stats)
            && once(self.steps > 0, logits | ids)
            && (!self.replayed || (lists.tokens && lists.draws))
            && GRIDS.contains(&self.grid_bits)
    }
}

/// Low bits of an f32 that are zero on the grids of bf16 and fp16, and on none.
const GRIDS: [u8; 3] = [16, 13, 0];

/// The lists of a proof, floats as bit patterns.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) steps: Vec<Step>,
    pub(super) plain: [Vec<u32>; 5],
    pub(super) rows: [Vec<Vec<u32>>; 3],
}

impl Body {
    /// The lists of a proof, and all about them except whether the draws can be replayed.
    pub(super) fn of(proof: &ProofRef<'_>) -> (Self, Shape) {
        let mut body = Self::default();
        let mut shape = Shape::default();
        if has_evidence(proof) {
            let len = proof.topk_logits.len();
            shape.lists = Lists {
                tokens: proof.chosen_tokens.len() == len,
                draws: proof.sampling_u.len() == len,
                edges: proof.chosen_probs.len() == len,
                normalizers: proof.softmax_normalizers.len() == len,
                stats: proof.logsumexp_stats.len() == len
                    && has_width(proof.logsumexp_stats, STATS),
            };
            body.steps = (0..len).map(|j| step(proof, j, shape.lists)).collect();
            shape.grid_bits = grid_bits(&body.steps);
            shape.vocab = steps::vocab(&body.steps);
        }
        let lists = [
            (proof.chosen_tokens, shape.lists.tokens),
            (proof.chosen_probs, shape.lists.edges),
            (proof.sampling_u, shape.lists.draws),
            (proof.softmax_normalizers, shape.lists.normalizers),
            (proof.prompt_tokens, false),
        ];
        for (plain, (words, in_steps)) in body.plain.iter_mut().zip(lists) {
            if !in_steps {
                *plain = words.iter().collect();
            }
        }
        let evidence = !body.steps.is_empty();
        let matrices = [
            (proof.topk_logits, evidence),
            (proof.topk_indices, evidence),
            (proof.logsumexp_stats, shape.lists.stats),
        ];
        for (plain, (rows, in_steps)) in body.rows.iter_mut().zip(matrices) {
            if !in_steps {
                *plain = rows.iter().map(|row| row.iter().collect()).collect();
            }
        }
        shape.steps = size(&body.steps);
        shape.plain = body.plain.each_ref().map(|list| size(list));
        shape.rows = body.rows.each_ref().map(|rows| size(rows));
        (body, shape)
    }

    /// Empty lists of a shape.
    pub(super) fn shaped(shape: &Shape) -> Self {
        Self {
            steps: alloc::vec![Step::EMPTY; shape.steps as usize],
            plain: shape.plain.map(|len| alloc::vec![0; len as usize]),
            rows: shape.rows.map(|len| alloc::vec![Vec::new(); len as usize]),
        }
    }

    /// The same lists, all of them plain.
    pub(super) fn without_steps(mut self, lists: Lists) -> Self {
        let steps = core::mem::take(&mut self.steps);
        let [tokens, edges, draws, normalizers, _] = &mut self.plain;
        let unfold = |list: &mut Vec<u32>, in_steps: bool, word: fn(&Step) -> u32| {
            if in_steps {
                *list = steps.iter().map(word).collect();
            }
        };
        unfold(tokens, lists.tokens, |step| step.token);
        unfold(edges, lists.edges, |step| step.edge);
        unfold(draws, lists.draws, |step| step.draw);
        unfold(normalizers, lists.normalizers, |step| step.normalizer);
        if !steps.is_empty() {
            let [logits, ids, _] = &mut self.rows;
            *logits = steps.iter().map(|step| step.logits.to_vec()).collect();
            *ids = steps.iter().map(|step| step.ids.to_vec()).collect();
        }
        if lists.stats {
            self.rows[2] = steps.iter().map(|step| step.stats.to_vec()).collect();
        }
        self
    }

    /// Walks all lists; with a replay, ends with the closing digest. `room` is what the words of
    /// plain rows may add up to; `None` when they are more.
    pub(super) fn code(
        &mut self,
        coder: &mut impl Coder,
        params: Params,
        shape: &Shape,
        mut replay: Option<Replay<'_>>,
        room: usize,
    ) -> Option<Option<Digest>> {
        let [tokens, edges, draws, normalizers, prompt] = &mut self.plain;
        plain::token_ids(coder, prompt);
        plain::token_ids(coder, tokens);
        for list in [edges, draws, normalizers] {
            plain::words(coder, list);
        }
        if let Some(replay) = &mut replay {
            replay.push_prompt(Words::Native(prompt));
        }
        let mut closing = None;
        if let Some(first) = self.steps.first() {
            let mut probes = first.probe_ids();
            plain::token_ids(coder, &mut probes);
            let named: Vec<u32> =
                self.steps.iter().flat_map(|step| named(step, &probes)).copied().collect();
            let (dictionary, indices) = Dictionary::of(&named);
            let dictionary = dictionary.code(coder, self.steps.len() * EVIDENCE_SLOTS);
            let Shape { lists, grid_bits, vocab, .. } = *shape;
            let mut setting =
                Setting { lists, params, grid_bits: grid_bits.into(), vocab, probes, replay };
            Walk::new().code(coder, &mut self.steps, &mut setting, &dictionary, &indices);
            closing = setting.replay.map(|replay| replay.digest(0));
        }
        let mut room = room;
        for rows in &mut self.rows {
            room = plain::rows(coder, rows, room)?;
        }
        Some(closing)
    }
}

/// Ids that the probes' rule does not give.
fn named<'s>(step: &'s Step, probes: &[u32; PROBE_SLOTS]) -> &'s [u32] {
    if step.probe_ids() == *probes { &step.ids[..TOP_SLOTS] } else { &step.ids }
}

/// True when logits and ids are rows of a window's evidence.
fn has_evidence(proof: &ProofRef<'_>) -> bool {
    !proof.topk_logits.is_empty()
        && proof.topk_logits.len() == proof.topk_indices.len()
        && has_width(proof.topk_logits, EVIDENCE_SLOTS)
        && has_width(proof.topk_indices, EVIDENCE_SLOTS)
}

fn has_width(rows: Rows<'_>, width: usize) -> bool {
    rows.iter().all(|row| row.len() == width)
}

/// Step `j` with the lists that go with the steps.
fn step(proof: &ProofRef<'_>, j: usize, lists: Lists) -> Step {
    let mut step = Step::EMPTY;
    let fill = |to: &mut [u32], from: Words<'_>| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from);
    };
    fill(&mut step.logits, proof.topk_logits.row(j));
    fill(&mut step.ids, proof.topk_indices.row(j));
    if lists.stats {
        fill(&mut step.stats, proof.logsumexp_stats.row(j));
    }
    let one = |with: bool, words: Words<'_>| {
        if with { words.get(j).unwrap_or(0) } else { 0 }
    };
    step.token = one(lists.tokens, proof.chosen_tokens);
    step.draw = one(lists.draws, proof.sampling_u);
    step.edge = one(lists.edges, proof.chosen_probs);
    step.normalizer = one(lists.normalizers, proof.softmax_normalizers);
    step
}

/// The coarsest grid that all but few logits lie on.
fn grid_bits(steps: &[Step]) -> u8 {
    let logits = || steps.iter().flat_map(|step| step.logits);
    let few = steps.len() * EVIDENCE_SLOTS / 128;
    let off = |bits: &&u8| logits().filter(|logit| logit & ((1 << **bits) - 1) != 0).count();
    GRIDS.iter().find(|bits| off(bits) <= few).copied().unwrap_or(0)
}

/// The length of a list that lies within the limit of canonical bytes.
#[allow(clippy::cast_possible_truncation)] // below 1 000 000
fn size<T>(list: &[T]) -> u32 {
    list.len() as u32
}
