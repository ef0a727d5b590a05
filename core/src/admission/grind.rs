//! The search for a nonce on one thread: attempts in counter order, resumable between any two.

use super::argon2id::{Block, HashError, argon2id};
use super::message::Message;
use super::puzzle::PuzzleTarget;
use crate::units::{AdmissionNonce, PuzzleDigest};

/// The nonce behind this one: a 256-bit little-endian counter that wraps. spec: admission §10.1
#[must_use]
pub fn next_nonce(nonce: &AdmissionNonce) -> AdmissionNonce {
    let mut bytes = *nonce.as_bytes();
    for byte in &mut bytes {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    AdmissionNonce::from_bytes(bytes)
}

/// A nonce that solves its puzzle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solution {
    /// The nonce.
    pub nonce: AdmissionNonce,
    /// Its digest.
    pub digest: PuzzleDigest,
}

/// How a search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A nonce was found; the search is over.
    Found(Solution),
    /// All attempts are used up: the window is mined without a nonce.
    Exhausted,
    /// Attempts are left; run again to go on.
    Paused,
}

/// How a search that runs elsewhere stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not ended.
    Pending,
    /// It has ended, with a nonce or without.
    Ready(Option<AdmissionNonce>),
}

/// What is searched for one window, to be handed to another thread.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The puzzle's message; its last 32 bytes are the nonce's place.
    pub message: alloc::boxed::Box<[u8]>,
    /// What the digest must stay below.
    pub target: PuzzleTarget,
    /// Attempts at most.
    pub max_tries: u64,
}

/// A search for one window's nonce. It owns no buffers.
#[derive(Debug, Clone)]
pub struct Grind {
    target: PuzzleTarget,
    next: AdmissionNonce,
    left: u64,
    tried: u64,
    found: Option<Solution>,
}

impl Grind {
    /// Begins at `start`, which is random except in tests. spec: admission §10.1
    #[must_use]
    pub const fn new(start: AdmissionNonce, max_tries: u64, target: PuzzleTarget) -> Self {
        Self { target, next: start, left: max_tries, tried: 0, found: None }
    }

    /// Attempts made so far.
    #[must_use]
    pub const fn tried(&self) -> u64 {
        self.tried
    }

    /// Makes up to `budget` attempts on the message, asking before each whether to go on. When the
    /// search is over it says the same again. spec: admission §10.1
    ///
    /// # Errors
    /// [`HashError`] when the memory is too small; the attempt does not count.
    pub fn run(
        &mut self,
        budget: u64,
        message: &mut Message<'_>,
        memory: &mut [Block],
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Progress, HashError> {
        let mut budget = budget;
        while self.found.is_none() && self.left > 0 {
            if budget == 0 || !keep_going() {
                return Ok(Progress::Paused);
            }
            self.attempt(message, memory)?;
            budget -= 1;
        }
        Ok(self.found.map_or(Progress::Exhausted, Progress::Found))
    }

    fn attempt(
        &mut self,
        message: &mut Message<'_>,
        memory: &mut [Block],
    ) -> Result<(), HashError> {
        let nonce = self.next;
        message.set_nonce(&nonce);
        let digest = argon2id(message.as_bytes(), memory)?;
        self.next = next_nonce(&nonce);
        self.left -= 1;
        self.tried += 1;
        if self.target.is_met_by(&digest) {
            self.found = Some(Solution { nonce, digest });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::next_nonce;
    use crate::units::AdmissionNonce;

    #[test]
    fn the_counter_carries_and_wraps() {
        let counted = |bytes| *next_nonce(&AdmissionNonce::from_bytes(bytes)).as_bytes();
        let mut carry = [0; 32];
        carry[..3].fill(0xff);
        let mut expected = [0; 32];
        expected[3] = 1;
        assert_eq!(counted(carry), expected);
        assert_eq!(counted([0xff; 32]), [0; 32]);
    }
}
