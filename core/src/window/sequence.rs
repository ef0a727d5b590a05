//! A sequence and its step: counters, the frozen mining context, the draw. The 256 records of the
//! steps go into a [`Window`] that the caller lends and exchanges when it is full.

use super::{Label, Window};
use crate::context::Context;
use crate::evidence::{Evidence, EvidenceError};
use crate::preimage::StepHasher;
use crate::row::{Grid, Row, RowError};
use crate::sampler::{Params, Survivors};
use crate::select::RowScratch;
use crate::units::{AdmissionNonce, Digest, Draw, WINDOW};

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
        if window.filled() != expected {
            return Err(StepError::WindowMismatch { expected, found: window.filled() });
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
