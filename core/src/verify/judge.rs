//! The judgement of a proof that somebody holds in their hand: the node's quick verification, then
//! the version that the height demands. What of the chain is not known is not judged, and where the
//! unknown would decide there is no verdict.

use super::{
    BlockReject, Chain, Context, Network, NoVerdict, Observer, Registry, Report, Scratch, Vdf,
    quick_observed, version_gate,
};
use crate::admission;
use crate::proof::ProofRef;
use core::fmt;

/// For which chain a proof is judged, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The network whose rules hold.
    pub network: Network,
    /// Height of the proof's own block; without it no rule that begins at a height is applied.
    pub height: Option<u32>,
    /// Registered difficulty of the proof's model; without it the registration is not judged.
    pub difficulty: Option<i64>,
}

/// A judged proof.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The node's quick verification.
    pub report: Report,
    /// The version gate, for a proof that passed.
    pub gate: Option<BlockReject>,
}

/// Why a proof is not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unjudged {
    /// The proof claims an admission nonce and the model's difficulty is not known.
    Difficulty,
    /// The verification itself gives no verdict.
    NoVerdict(NoVerdict),
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Difficulty => f.write_str(
                "claims an admission nonce, which only the model's difficulty can judge",
            ),
            Self::NoVerdict(why) => write!(f, "cannot be judged: {why}"),
        }
    }
}

impl core::error::Error for Unjudged {}

impl From<NoVerdict> for Unjudged {
    fn from(why: NoVerdict) -> Self {
        Self::NoVerdict(why)
    }
}

impl Place {
    /// What the verification asks of the chain here.
    #[must_use]
    pub fn chain(&self) -> Chain {
        let (params, difficulty) = (self.network.params(), self.difficulty.unwrap_or(0));
        Chain { params, height: self.height, difficulty }
    }

    /// Judges a proof as the node does when it is given one, its VDF included. The scratch is for
    /// this proof on [`Place::chain`]. spec: verification §3, §4
    ///
    /// # Errors
    /// [`Unjudged`] says nothing about the proof.
    pub fn judge(
        &self,
        proof: &ProofRef<'_>,
        scratch: &mut Scratch<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Judgement, Unjudged> {
        let chain = self.chain();
        let binds = chain.is_v3_active_for(proof.version);
        // A node has a registry; without a difficulty the puzzle would be refused for our ignorance.
        if self.difficulty.is_none() && binds && admission::extract(proof.extra_flags).is_some() {
            return Err(Unjudged::Difficulty);
        }
        let registry = self.difficulty.map_or(Registry::Absent, Registry::Registered);
        let context = Context { chain: Some(chain), registry, vdf: Vdf::Verify };
        let report = quick_observed(proof, &context, scratch, observer)?;
        let gate = match report.failure {
            None => version_gate(proof.version, &chain),
            Some(_) => None,
        };
        Ok(Judgement { report, gate })
    }
}

impl Judgement {
    /// True for a proof that the node takes.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.report.failure.is_none() && self.gate.is_none()
    }

    /// Why the proof is rejected, in words.
    #[must_use]
    pub fn reason(&self) -> Option<&dyn fmt::Display> {
        match (&self.report.failure, &self.gate) {
            (Some(failure), _) => Some(failure),
            (None, Some(gate)) => Some(gate),
            (None, None) => None,
        }
    }

    /// What rejects the proof: the identifier of a check, or the node's code.
    #[must_use]
    pub fn check_id(&self) -> Option<&'static str> {
        match (&self.report.failure, &self.gate) {
            (Some(failure), _) => Some(failure.check.id()),
            (None, gate) => gate.as_ref().map(BlockReject::as_str),
        }
    }
}
