//! The working memory of a verification. The core allocates none of it; how much a proof needs is
//! known beforehand, and with an allocator a [`Workspace`] keeps it from proof to proof.

use crate::admission;
use crate::interval::{SLOTS_PER_ENTRY, Slot};
use crate::proof::ProofRef;
#[cfg(feature = "alloc")]
use crate::{proof::canonical, verify::Chain};
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

/// Memory lent for one verification; its contents do not matter. [`Needs::of`] says how much.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// One per token of the window.
    pub draws: &'a mut [f32],
    /// Two per entry of the widest evidence row.
    pub slots: &'a mut [Slot],
    /// One per token of prompt and window, if the repetition penalty does anything.
    pub tokens: &'a mut [u64],
    /// For the puzzle, if a nonce is claimed while version 3 is active.
    pub admission: Option<admission::Scratch<'a>>,
}

/// How much scratch a proof needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Entries of [`Scratch::draws`].
    pub draws: usize,
    /// Entries of [`Scratch::slots`].
    pub slots: usize,
    /// Entries of [`Scratch::tokens`].
    pub tokens: usize,
}

impl Needs {
    /// For any verification of this proof. The memory of the puzzle is asked for separately.
    #[must_use]
    pub fn of(proof: &ProofRef<'_>) -> Self {
        let widest = proof.topk_logits.iter().map(|row| row.len()).max().unwrap_or(0);
        let window = proof.chosen_tokens.len();
        Self {
            draws: window,
            slots: widest.saturating_mul(SLOTS_PER_ENTRY),
            tokens: if super::sequence::recorded(proof).penalises() {
                proof.prompt_tokens.len().saturating_add(window)
            } else {
                0
            },
        }
    }
}

/// Owned scratch that grows with the proofs it has seen. Keep one per thread.
#[cfg(feature = "alloc")]
#[derive(Debug, Default)]
pub struct Workspace {
    draws: Vec<f32>,
    slots: Vec<Slot>,
    tokens: Vec<u64>,
    admission: Option<admission::Memory>,
}

#[cfg(feature = "alloc")]
impl Workspace {
    /// Nothing yet; the 8 MiB of the admission puzzle are taken when the first nonce is claimed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Scratch that is enough for this proof on this chain. A proof too long for any block gets
    /// what there is: it is refused a verdict before any of it is used.
    pub fn scratch(&mut self, proof: &ProofRef<'_>, chain: Option<&Chain>) -> Scratch<'_> {
        let judged = canonical::canonical_len(proof) <= canonical::MAX_CANONICAL_LEN;
        if judged {
            let needs = Needs::of(proof);
            grow(&mut self.draws, needs.draws);
            grow(&mut self.slots, needs.slots);
            grow(&mut self.tokens, needs.tokens);
        }
        let active = chain.is_some_and(|chain| chain.is_v3_active_for(proof.version));
        let claimed = judged && active && admission::extract(proof.extra_flags).is_some();
        let memory = if claimed { Some(self.admission.get_or_insert_default()) } else { None };
        Scratch {
            draws: &mut self.draws,
            slots: &mut self.slots,
            tokens: &mut self.tokens,
            admission: memory.map(|memory| memory.scratch(admission::message_len(proof))),
        }
    }
}

/// At least so many entries.
#[cfg(feature = "alloc")]
fn grow<T: Clone + Default>(entries: &mut Vec<T>, needed: usize) {
    if entries.len() < needed {
        entries.resize(needed, T::default());
    }
}
