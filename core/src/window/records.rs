//! The records of a window's steps, in the order a proof stores them.

use crate::evidence::Evidence;
use crate::sampler::Choice;
use crate::units::{AdmissionNonce, Draw, EVIDENCE_SLOTS, STATS, WINDOW};

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
    pub(super) fn record(&mut self, choice: Choice, draw: Draw, evidence: &Evidence) {
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
