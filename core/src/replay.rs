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
    let mut context = prompt_context(proof);
    let mut j = 0;
    proof.chosen_tokens.iter().map(move |token| {
        let draw = Draw::from_digest(&hasher.step(j, &context, proof.compute_precision, nonce));
        context.push(token);
        j = j.wrapping_add(1);
        draw
    })
}
