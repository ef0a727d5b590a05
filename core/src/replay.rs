//! A proof's sequence, replayed without a model: the digest and draw of every step from the
//! recorded context, and the interval of the chosen token from the recorded evidence.

use crate::context::Context;
use crate::interval::{Interval, Recorded, RowFault, interval};
use crate::preimage::StepHasher;
use crate::proof::ProofRef;
use crate::units::{AdmissionNonce, Digest, Draw, Tick, WINDOW};

/// One replayed step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Index in the window.
    pub j: u32,
    /// The chosen token.
    pub token: u32,
    /// The draw recomputed from the recorded context.
    pub draw: Draw,
    /// The draw the proof claims.
    pub claimed: f32,
    /// The token's interval, judged with the recomputed draw.
    pub interval: Result<Interval, RowFault>,
}

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
    proof.chosen_tokens.iter().for_each(|token| context.push(token));
    hasher(proof).step(0, &context, proof.compute_precision, nonce)
}

/// The context before the first step.
pub(crate) fn prompt_context(proof: &ProofRef<'_>) -> Context {
    let mut context = Context::<WINDOW>::default();
    let skip = proof.prompt_tokens.len().saturating_sub(WINDOW);
    proof.prompt_tokens.iter().skip(skip).for_each(|token| context.push(token));
    context
}

/// Replays a proof step by step. `nonce` is the admission nonce of a version-3 window, if it has
/// one and version 3 is active. spec: verification §5, §6
pub fn steps<'a>(
    proof: &'a ProofRef<'a>,
    nonce: Option<&'a AdmissionNonce>,
) -> impl Iterator<Item = Step> + 'a {
    let hasher = hasher(proof);
    let mut context = prompt_context(proof);
    let recorded = Recorded {
        temperature: proof.temperature,
        repetition_penalty: proof.repetition_penalty,
        top_k: proof.top_k,
        top_p: proof.top_p,
    };
    (0..).zip(proof.chosen_tokens.iter()).map(move |(j, token)| {
        let at = j as usize;
        let draw = Draw::from_digest(&hasher.step(j, &context, proof.compute_precision, nonce));
        let seen = |id: u32| {
            proof.prompt_tokens.iter().any(|t| t == id)
                || proof.chosen_tokens.iter().take(at).any(|t| t == id)
        };
        let interval = interval(
            proof.topk_logits.row(at),
            proof.topk_indices.row(at),
            recorded,
            token,
            draw.get(),
            seen,
        );
        context.push(token);
        let claimed = proof.sampling_u.f32_at(at).unwrap_or(f32::NAN);
        Step { j, token, draw, claimed, interval }
    })
}
