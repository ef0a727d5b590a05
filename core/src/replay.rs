//! A proof's draws, replayed without a model: the digest of every step from the recorded context.
//! The intervals the draws must lie in are [`crate::interval`]'s.

use crate::context::Context;
use crate::preimage::StepHasher;
use crate::proof::ProofRef;
use crate::units::{AdmissionNonce, Digest, Draw, Tick, WINDOW};

/// The hasher of a proof's step messages. spec: verification §5.1
#[must_use]
pub fn hasher(proof: &ProofRef<'_>) -> StepHasher {
    StepHasher::new(proof.header_prefix, proof.vdf, Tick(proof.tick))
}

/// The closing digest a proof must carry as its `hash`. spec: verification §5.3
#[must_use]
pub fn closing_digest(proof: &ProofRef<'_>, nonce: Option<&AdmissionNonce>) -> Digest {
    // The last 256 tokens of prompt and window together; with a full window these are its own.
    let mut context = prompt_context(proof);
    let skip = proof.chosen_tokens.len().saturating_sub(WINDOW);
    proof.chosen_tokens.iter().skip(skip).for_each(|token| context.push(token));
    hasher(proof).step(0, &context, proof.compute_precision, nonce)
}

/// The context before the first step.
pub(crate) fn prompt_context(proof: &ProofRef<'_>) -> Context {
    let mut context = Context::<WINDOW>::default();
    let skip = proof.prompt_tokens.len().saturating_sub(WINDOW);
    proof.prompt_tokens.iter().skip(skip).for_each(|token| context.push(token));
    context
}

/// The draws of a proof, one per chosen token. `nonce` is the admission nonce of a version-3
/// window, if it has one and version 3 is active. spec: verification §5
pub fn draws<'a>(
    proof: &'a ProofRef<'a>,
    nonce: Option<&'a AdmissionNonce>,
) -> impl ExactSizeIterator<Item = Draw> + 'a {
    let hasher = hasher(proof);
    let mut context = Sliding::before_the_first_step(proof);
    let mut j = 0;
    proof.chosen_tokens.iter().map(move |token| {
        let digest = hasher.over_bytes(j, context.bytes(), proof.compute_precision, nonce);
        context.push(token);
        j = j.wrapping_add(1);
        Draw::from_digest(&digest)
    })
}

/// Bytes of one id in a message.
const ID_BYTES: usize = 8;
/// Bytes of a context in a message.
const CONTEXT_BYTES: usize = WINDOW * ID_BYTES;

/// The context as its bytes in the message, which one step after the other finds eight bytes
/// further on.
struct Sliding {
    bytes: [u8; 2 * CONTEXT_BYTES],
    start: usize,
}

impl Sliding {
    fn before_the_first_step(proof: &ProofRef<'_>) -> Self {
        let mut sliding = Self { bytes: [0; 2 * CONTEXT_BYTES], start: 0 };
        prompt_context(proof).iter().for_each(|id| sliding.push(id));
        sliding
    }

    /// Appends a token; the oldest leaves.
    fn push(&mut self, id: u32) {
        if self.start == CONTEXT_BYTES {
            self.bytes.copy_within(CONTEXT_BYTES.., 0);
            self.start = 0;
        }
        let end = self.start + CONTEXT_BYTES;
        if let Some(room) = self.bytes.get_mut(end..end + ID_BYTES) {
            room.copy_from_slice(&u64::from(id).to_le_bytes());
        }
        self.start += ID_BYTES;
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + CONTEXT_BYTES).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::Words;
    use std::vec::Vec;

    #[test]
    fn the_draws_are_those_of_the_contexts_one_by_one() {
        let tokens: Vec<u32> = (0..700).map(|i| i * 7_919 + 3).collect();
        for prompt in [0, 5, 255, 256, 300] {
            let (prompt, chosen) = tokens.split_at(prompt);
            let proof = ProofRef {
                header_prefix: &[1; 76],
                vdf: &[2; 100],
                tick: 9,
                compute_precision: b"bf16",
                prompt_tokens: Words::Native(prompt),
                chosen_tokens: Words::Native(chosen),
                ..ProofRef::default()
            };
            let nonce = AdmissionNonce::from_bytes([3; 32]);
            let mut context = Context::<WINDOW>::of_prompt(prompt);
            for (j, (draw, token)) in (0..).zip(draws(&proof, Some(&nonce)).zip(chosen)) {
                let digest = hasher(&proof).step(j, &context, b"bf16", Some(&nonce));
                assert_eq!(draw, Draw::from_digest(&digest), "step {j}");
                context.push(*token);
            }
        }
    }
}
