//! What block connection demands of a proof: the version gates, and the part of quick verification
//! it repeats. The rules around the proof (header, VDF against the parent, size) are not made here.

use super::report::{NoVerdict, Observer, Report};
use super::{Chain, Context, Failure, Scratch, run};
use crate::proof::ProofRef;
use crate::units::HeaderPrefix;
use core::fmt;

/// The reduced list: Q01, Q10–Q31, Q50–Q81. Version 0 and 1 pass without any check.
/// spec: verification §3
///
/// # Errors
/// [`NoVerdict`] says nothing about the proof.
pub fn consensus_v2(
    proof: &ProofRef<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch<'_>,
) -> Result<Report, NoVerdict> {
    consensus_v2_observed(proof, context, scratch, &mut ())
}

/// [`consensus_v2`] under the eyes of an observer.
///
/// # Errors
/// As for [`consensus_v2`].
pub fn consensus_v2_observed(
    proof: &ProofRef<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch<'_>,
    observer: &mut dyn Observer,
) -> Result<Report, NoVerdict> {
    run(proof, context, observer, |engine| {
        if proof.version < 2 {
            return Ok(());
        }
        engine.preparation()?;
        engine.shape()?;
        engine.parameters()?;
        engine.closing()?;
        engine.evidence()?;
        engine.draws(scratch)?;
        engine.sequence(scratch)
    })
}

/// Why a block's proof is refused. spec: verification §3
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BlockReject {
    /// A check of the reduced list does not hold.
    ReuseEntropy(Failure),
    /// The height demands version 2 at least.
    Version {
        /// The proof's version.
        found: u8,
    },
    /// The height demands version 3 at least.
    VersionV3 {
        /// The proof's version.
        found: u8,
    },
}

impl BlockReject {
    /// The node's reject code.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ReuseEntropy(_) => "bad-reuse-entropy",
            Self::Version { .. } => "bad-proof-version",
            Self::VersionV3 { .. } => "bad-proof-version-v3",
        }
    }
}

impl fmt::Display for BlockReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReuseEntropy(failure) => write!(f, "{}: {failure}", self.as_str()),
            Self::Version { found } => {
                write!(f, "{}: version {found}, at least 2 is wanted", self.as_str())
            }
            Self::VersionV3 { found } => {
                write!(f, "{}: version {found}, at least 3 is wanted", self.as_str())
            }
        }
    }
}

impl core::error::Error for BlockReject {}

/// True when a proof has the fields that make it more than a template. spec: verification §3
fn has_quick_fields(proof: &ProofRef<'_>) -> bool {
    let window = proof.chosen_tokens.len();
    window > 0
        && proof.topk_logits.len() == window
        && proof.topk_indices.len() == window
        && proof.header_prefix.len() == HeaderPrefix::LEN
        && !proof.hash.is_empty()
        && proof.target.len() == 32
}

/// The rules on a proof at block connection. spec: verification §3
///
/// # Errors
/// [`NoVerdict`] says nothing about the proof.
pub fn block_rules(
    proof: &ProofRef<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch<'_>,
) -> Result<Result<(), BlockReject>, NoVerdict> {
    if !has_quick_fields(proof) {
        return Ok(Ok(()));
    }
    if let Some(failure) = consensus_v2(proof, context, scratch)?.failure {
        return Ok(Err(BlockReject::ReuseEntropy(failure)));
    }
    let gate = context.chain.and_then(|chain| version_gate(proof.version, &chain));
    Ok(gate.map_or(Ok(()), Err))
}

/// What a height says to a version. spec: verification §3
#[must_use]
pub fn version_gate(found: u8, chain: &Chain) -> Option<BlockReject> {
    let Chain { params, height, .. } = chain;
    if found < 2 && params.is_v2_demanded(*height) {
        return Some(BlockReject::Version { found });
    }
    (found < params.least_version(*height)).then_some(BlockReject::VersionV3 { found })
}
