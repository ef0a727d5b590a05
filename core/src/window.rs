//! Windows and the sequence that fills them: counters, the frozen mining context, the step. A
//! [`Sequence`] owns no buffers; the 256 step records go into a [`Window`] that the caller lends and
//! exchanges when it is full, so closing a window can happen on another thread.
//!
//! Sequences know nothing of each other: any number of them decode side by side, in any batch
//! order, and none can take another's row. How many may live at once is the caller's limit; beyond
//! it a newcomer runs unmined, a living sequence is never evicted. spec: sampler §7

use crate::context::Context;
use crate::evidence::{Evidence, EvidenceError};
use crate::preimage::StepHasher;
use crate::row::{Grid, Row, RowError};
use crate::sampler::{Choice, Params, Survivors};
use crate::select::RowScratch;
use crate::units::{AdmissionNonce, Digest, Draw, EVIDENCE_SLOTS, STATS, WINDOW};

/// Longest precision label a sequence takes, in bytes.
pub const MAX_LABEL: usize = 16;

/// The records of up to `W` steps, in the order the proof stores them.
///
/// About 155 kB for the networks' 256 steps: keep it in a box or a static.
#[derive(Clone)]
pub struct Window<const W: usize = WINDOW> {
    filled: usize,
    /// Step whose draw was 1, after which nothing of the window can be accepted.
    dead_at: Option<usize>,
    nonce: Option<AdmissionNonce>,
    tokens: [u32; W],
    upper_edges: [f32; W],
    draws: [f32; W],
    normalizers: [f32; W],
    top_logits: [[f32; EVIDENCE_SLOTS]; W],
    top_ids: [[u32; EVIDENCE_SLOTS]; W],
    stats: [[f32; STATS]; W],
}

impl<const W: usize> core::fmt::Debug for Window<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Window")
            .field("filled", &self.filled)
            .field("dead_at", &self.dead_at)
            .field("nonce", &self.nonce)
            .finish_non_exhaustive()
    }
}

impl<const W: usize> Default for Window<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const W: usize> Window<W> {
    /// An empty window.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            filled: 0,
            dead_at: None,
            nonce: None,
            tokens: [0; W],
            upper_edges: [0.0; W],
            draws: [0.0; W],
            normalizers: [0.0; W],
            top_logits: [[0.0; EVIDENCE_SLOTS]; W],
            top_ids: [[0; EVIDENCE_SLOTS]; W],
            stats: [[0.0; STATS]; W],
        }
    }

    /// Empties the window for the next use; the records are overwritten step by step.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.dead_at = None;
        self.nonce = None;
    }

    /// Gives the window its admission nonce. It belongs to every step and to the closing digest,
    /// so it is taken before the first step only. spec: sampler §10
    ///
    /// # Errors
    /// [`NonceTooLate`] when a step has been recorded.
    pub fn set_nonce(&mut self, nonce: Option<AdmissionNonce>) -> Result<(), NonceTooLate> {
        if self.filled > 0 {
            return Err(NonceTooLate { steps: self.filled });
        }
        self.nonce = nonce;
        Ok(())
    }

    /// The window's admission nonce.
    #[must_use]
    pub fn nonce(&self) -> Option<&AdmissionNonce> {
        self.nonce.as_ref()
    }

    /// Steps recorded.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// True when all `W` steps are recorded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.filled == W
    }

    /// The step whose draw was 1, if any: such a window is mined for nothing. spec: sampler §4
    #[must_use]
    pub fn dead_at(&self) -> Option<usize> {
        self.dead_at
    }

    /// Chosen tokens so far, oldest first.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        self.tokens.get(..self.filled).unwrap_or_default()
    }

    /// Upper CDF edges of the chosen tokens (`chosen_probs`).
    #[must_use]
    pub fn upper_edges(&self) -> &[f32] {
        self.upper_edges.get(..self.filled).unwrap_or_default()
    }

    /// Draws (`sampling_u`).
    #[must_use]
    pub fn draws(&self) -> &[f32] {
        self.draws.get(..self.filled).unwrap_or_default()
    }

    /// ln Σ exp over the survivors (`softmax_normalizers`).
    #[must_use]
    pub fn normalizers(&self) -> &[f32] {
        self.normalizers.get(..self.filled).unwrap_or_default()
    }

    /// Evidence logits, 70 per step, flattened.
    #[must_use]
    pub fn evidence_logits(&self) -> &[f32] {
        self.top_logits.get(..self.filled).unwrap_or_default().as_flattened()
    }

    /// Evidence ids, 70 per step, flattened.
    #[must_use]
    pub fn evidence_ids(&self) -> &[u32] {
        self.top_ids.get(..self.filled).unwrap_or_default().as_flattened()
    }

    /// Statistics, 6 per step, flattened.
    #[must_use]
    pub fn stats(&self) -> &[f32] {
        self.stats.get(..self.filled).unwrap_or_default().as_flattened()
    }

    /// Records one step; a full window takes no more.
    fn record(&mut self, choice: Choice, draw: Draw, evidence: &Evidence) {
        let j = self.filled;
        if j >= W {
            return;
        }
        self.tokens[j] = choice.token;
        self.upper_edges[j] = choice.upper_edge;
        self.draws[j] = draw.get();
        self.normalizers[j] = choice.normalizer;
        self.top_logits[j] = evidence.logits;
        self.top_ids[j] = evidence.ids;
        self.stats[j] = evidence.stats;
        if draw.kills_window() && self.dead_at.is_none() {
            self.dead_at = Some(j);
        }
        self.filled = j + 1;
    }
}

/// A nonce came after the window's first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceTooLate {
    /// Steps already recorded.
    pub steps: usize,
}

impl core::fmt::Display for NonceTooLate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the window has {} steps; its nonce must be set before the first", self.steps)
    }
}

impl core::error::Error for NonceTooLate {}

/// A precision label, kept in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    len: u8,
    bytes: [u8; MAX_LABEL],
}

/// A precision label is longer than [`MAX_LABEL`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelTooLong {
    /// Bytes found.
    pub found: usize,
}

impl core::fmt::Display for LabelTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a precision label has at most {MAX_LABEL} bytes, not {}", self.found)
    }
}

impl core::error::Error for LabelTooLong {}

impl Label {
    /// Copies the label's bytes.
    ///
    /// # Errors
    /// [`LabelTooLong`] above [`MAX_LABEL`] bytes.
    pub fn new(label: &str) -> Result<Self, LabelTooLong> {
        let found = label.len();
        let mut bytes = [0; MAX_LABEL];
        match (bytes.get_mut(..found), u8::try_from(found)) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(label.as_bytes());
                Ok(Self { len, bytes })
            }
            _ => Err(LabelTooLong { found }),
        }
    }

    /// The label's bytes, as they enter every preimage.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What one step gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The chosen token id.
    pub token: u32,
    /// The step's index in its window, 0 to `W` − 1.
    pub j: u32,
    /// The window is complete: take it away before the next step.
    pub completes_window: bool,
}

/// Why a step was not made. The sequence is unchanged; the engine serves it with its own sampler
/// from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepError {
    /// The logits cannot be mined.
    Row(RowError),
    /// Evidence that was taken elsewhere is none of any row.
    Evidence(EvidenceError),
    /// The lent window does not stand at the sequence's step.
    WindowMismatch {
        /// Steps the window must hold.
        expected: usize,
        /// Steps it holds.
        found: usize,
    },
}

impl StepError {
    /// A short name for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Row(why) => why.label(),
            Self::Evidence(why) => why.label(),
            Self::WindowMismatch { .. } => "window_mismatch",
        }
    }
}

impl core::fmt::Display for StepError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Row(why) => why.fmt(f),
            Self::Evidence(why) => why.fmt(f),
            Self::WindowMismatch { expected, found } => {
                write!(f, "the window holds {found} steps, the sequence stands at step {expected}")
            }
        }
    }
}

impl core::error::Error for StepError {}

impl From<RowError> for StepError {
    fn from(why: RowError) -> Self {
        Self::Row(why)
    }
}

impl From<EvidenceError> for StepError {
    fn from(why: EvidenceError) -> Self {
        Self::Evidence(why)
    }
}

/// A mined sequence: its frozen mining context, parameters, token context and step counter.
#[derive(Debug, Clone)]
pub struct Sequence<const W: usize = WINDOW> {
    hasher: StepHasher,
    precision: Label,
    grid: Grid,
    params: Params,
    vocab: usize,
    context: Context<W>,
    /// Tokens drawn since the sequence began.
    drawn: u64,
    /// The next step's digest, if it has been asked for, and the nonce it was computed with.
    next: Option<(Option<AdmissionNonce>, Digest)>,
}

impl<const W: usize> Sequence<W> {
    /// Begins after `prompt`, the exact ids the model was fed. The hasher holds the frozen header,
    /// VDF blob and tick. spec: sampler §1, §3
    #[must_use]
    pub fn new(
        hasher: StepHasher,
        precision: Label,
        grid: Grid,
        params: Params,
        vocab: usize,
        prompt: &[u32],
    ) -> Self {
        let context = Context::of_prompt(prompt);
        Self { hasher, precision, grid, params, vocab, context, drawn: 0, next: None }
    }

    /// Draws one token from the engine's raw logits and records the step. Called once per token
    /// that the engine keeps; a discarded sample must not reach it. spec: sampler §7
    ///
    /// # Errors
    /// [`StepError`]; nothing is recorded then and the sequence must not be mined any further.
    pub fn step(
        &mut self,
        logits: &[f32],
        scratch: &mut RowScratch,
        window: &mut Window<W>,
    ) -> Result<Step, StepError> {
        if logits.len() != self.vocab {
            return Err(RowError::Width { expected: self.vocab, found: logits.len() }.into());
        }
        let mut row = Row::prepare(logits, self.grid, scratch)?;
        self.step_row(&mut row, window)
    }

    /// [`Sequence::step`] on a row that is ready.
    ///
    /// # Errors
    /// [`StepError::WindowMismatch`] when the lent window stands at another step.
    pub fn step_row(
        &mut self,
        row: &mut Row<'_>,
        window: &mut Window<W>,
    ) -> Result<Step, StepError> {
        self.step_with(|temperature| Evidence::of(row, temperature), window)
    }

    /// [`Sequence::step`] on evidence that was taken where the logits are, for example on a GPU:
    /// the choice needs nothing else of the row. spec: sampler §5, §6
    ///
    /// # Errors
    /// [`StepError::Evidence`] for what no row on the declared grid has as its evidence, else as
    /// [`Sequence::step_row`].
    pub fn step_evidence(
        &mut self,
        evidence: &Evidence,
        window: &mut Window<W>,
    ) -> Result<Step, StepError> {
        evidence.check(self.vocab, self.grid)?;
        self.step_with(|_| evidence.clone(), window)
    }

    fn step_with(
        &mut self,
        evidence: impl FnOnce(f32) -> Evidence,
        window: &mut Window<W>,
    ) -> Result<Step, StepError> {
        let j = self.j();
        let expected = j as usize;
        if window.filled != expected {
            return Err(StepError::WindowMismatch { expected, found: window.filled });
        }
        let digest = self.look_ahead(window.nonce());
        let draw = Draw::from_digest(&digest);
        let evidence = evidence(self.params.temperature);
        let (top_logits, top_ids) = top(&evidence);
        let choice = Survivors::of(top_logits, top_ids, self.params).choose(draw);
        window.record(choice, draw, &evidence);
        self.context.push(choice.token);
        self.drawn += 1;
        self.next = None;
        Ok(Step { token: choice.token, j, completes_window: window.is_complete() })
    }

    /// Index of the next step in its window: tokens drawn so far mod `W`. spec: sampler §3
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // below W
    pub fn j(&self) -> u32 {
        (self.drawn % W as u64) as u32
    }

    /// Tokens drawn since the sequence began.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// The digest the next step draws from, given its window's nonce. It is known before the
    /// logits are. spec: sampler §2
    #[must_use]
    pub fn digest(&self, nonce: Option<&AdmissionNonce>) -> Digest {
        self.hasher.step(self.j(), &self.context, self.precision.as_bytes(), nonce)
    }

    /// [`Sequence::digest`], kept for the step: whoever waits for the logits asks for it now, and the
    /// step hashes nothing any more.
    pub fn look_ahead(&mut self, nonce: Option<&AdmissionNonce>) -> Digest {
        match &self.next {
            Some((with, digest)) if with.as_ref() == nonce => *digest,
            _ => {
                let digest = self.digest(nonce);
                self.next = Some((nonce.copied(), digest));
                digest
            }
        }
    }

    /// What is needed to close this sequence's windows elsewhere.
    #[must_use]
    pub fn closer(&self) -> Closer {
        Closer { hasher: self.hasher.clone(), precision: self.precision }
    }
}

/// The 50 leading evidence slots.
fn top(evidence: &Evidence) -> (&[f32; crate::units::TOP_SLOTS], &[u32; crate::units::TOP_SLOTS]) {
    let logits = evidence.logits.first_chunk().unwrap_or(&[0.0; crate::units::TOP_SLOTS]);
    let ids = evidence.ids.first_chunk().unwrap_or(&[0; crate::units::TOP_SLOTS]);
    (logits, ids)
}

/// Computes the digest that closes a window, away from the decode thread.
#[derive(Debug, Clone)]
pub struct Closer {
    hasher: StepHasher,
    precision: Label,
}

impl Closer {
    /// The closing digest, the proof's `hash`; `None` while steps are missing. spec: sampler §8
    #[must_use]
    pub fn digest<const W: usize>(&self, window: &Window<W>) -> Option<Digest> {
        window.is_complete().then(|| {
            self.hasher.closing(window.tokens(), self.precision.as_bytes(), window.nonce())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Snap;
    use crate::units::Tick;
    use std::boxed::Box;

    #[test]
    fn a_digest_asked_for_early_is_the_one_the_step_draws_from() {
        let label = Label::new("bf16").unwrap();
        let hasher = StepHasher::new(&[7; 76], &[9; 200], Tick(5));
        let grid = Grid::Snapped(Snap::Bf16);
        let mut asked: Sequence<4> =
            Sequence::new(hasher, label, grid, Params::V3, 128, &[1, 2, 3]);
        let mut unasked = asked.clone();
        let mut windows = [Window::new(), Window::new()];
        let nonce = AdmissionNonce::from_bytes([6; 32]);
        // Asked too early: the window has no nonce yet.
        assert_eq!(asked.look_ahead(None), unasked.digest(None));
        for window in &mut windows {
            window.set_nonce(Some(nonce)).unwrap();
        }
        let [ours, theirs] = &mut windows;
        let mut scratch = Box::new(RowScratch::new());
        for step in 0..4_u16 {
            let logits: [f32; 128] =
                core::array::from_fn(|id| f32::from(id as u16 * 37 % 64 + step));
            let digest = asked.look_ahead(Some(&nonce));
            assert_eq!(digest, unasked.digest(Some(&nonce)), "step {step}");
            let first = asked.step(&logits, &mut scratch, ours).unwrap();
            assert_eq!(first, unasked.step(&logits, &mut scratch, theirs).unwrap());
        }
        assert_eq!((ours.draws(), ours.tokens()), (theirs.draws(), theirs.tokens()));
    }
}
