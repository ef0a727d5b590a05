//! What a sequence's proofs have in common: the payload and terms frozen when it began.

use tensorpow_core::door::{Payload, Terms};
use tensorpow_core::sampler::Params;
use tensorpow_core::window::Closer;

/// The frozen side of a sequence, shared with the windows it finishes. spec: sampler §1
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) payload: Payload<String>,
    pub(crate) proof_version: u8,
    pub(crate) params: Params,
    pub(crate) model_identifier: String,
    pub(crate) compute_precision: String,
    pub(crate) completion_id: String,
    pub(crate) closer: Closer,
}

impl Job {
    pub(crate) fn new(
        payload: &Payload<String>,
        terms: &Terms<'_>,
        closer: Closer,
        completion_id: &str,
    ) -> Self {
        Self {
            payload: payload.clone(),
            proof_version: terms.proof_version,
            params: terms.params,
            model_identifier: terms.model_identifier.to_owned(),
            compute_precision: terms.compute_precision.to_owned(),
            completion_id: completion_id.to_owned(),
            closer,
        }
    }
}
