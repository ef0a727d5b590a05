//! A node's verdict on a proof, with the names that `tensorpow proof verify --json` gives its parts.

use pyo3::prelude::*;
use tensorpow_core::admission;
use tensorpow_core::proof::ProofRef;
use tensorpow_core::verify::{
    self, BlockReject, Chain, Context, Network, NoVerdict, Registry, Report, Vdf, Workspace,
};

/// A node's verdict.
#[pyclass(frozen, get_all, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct Verdict {
    accepted: bool,
    verdict: &'static str,
    check: Option<&'static str>,
    step: Option<u32>,
    reason: Option<String>,
    version: u8,
    is_solution: bool,
    v3_active: bool,
    credit_units: u64,
    tier: Option<&'static str>,
    reuse_score: u64,
    least_margin: Option<f32>,
    header_hash: Option<String>,
}

#[pymethods]
impl Verdict {
    fn __bool__(&self) -> bool {
        self.accepted
    }

    fn __repr__(&self) -> String {
        match &self.reason {
            None => format!("<Verdict accepted: {}>", self.verdict),
            Some(reason) => format!("<Verdict rejected: {reason}>"),
        }
    }
}

/// Why a proof is not judged.
pub(crate) enum Unjudged {
    /// The node would need what was not given.
    Difficulty,
    /// The core gives no verdict.
    NoVerdict(NoVerdict),
}

impl std::fmt::Display for Unjudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Difficulty => f.write_str(
                "the proof claims an admission nonce, which only a difficulty can judge",
            ),
            Self::NoVerdict(why) => write!(f, "the proof cannot be judged: {why}"),
        }
    }
}

impl Verdict {
    /// Judges a proof as the node does when it is given one, and by the version its height demands.
    /// spec: verification §3, §4
    pub(crate) fn of(
        proof: &ProofRef<'_>,
        network: Network,
        height: Option<u32>,
        difficulty: Option<i64>,
    ) -> Result<Self, Unjudged> {
        let chain = Chain { params: network.params(), height, difficulty: difficulty.unwrap_or(0) };
        let binds = chain.is_v3_active_for(proof.version);
        // A node has a registry; without a difficulty the puzzle would be refused for our ignorance.
        if difficulty.is_none() && binds && admission::extract(proof.extra_flags).is_some() {
            return Err(Unjudged::Difficulty);
        }
        let registry = difficulty.map_or(Registry::Absent, Registry::Registered);
        let context = Context { chain: Some(chain), registry, vdf: Vdf::Verify };
        let mut workspace = Workspace::new();
        let mut scratch = workspace.scratch(proof, Some(&chain));
        let report = verify::quick(proof, &context, &mut scratch).map_err(Unjudged::NoVerdict)?;
        let gate = match report.failure {
            None => verify::version_gate(proof.version, &chain),
            Some(_) => None,
        };
        Ok(Self::new(proof, &report, gate))
    }

    fn new(proof: &ProofRef<'_>, report: &Report, gate: Option<BlockReject>) -> Self {
        let failure = report.failure.as_ref();
        let in_words = failure.map(ToString::to_string);
        Self {
            accepted: failure.is_none() && gate.is_none(),
            verdict: report.verdict().as_str(),
            check: failure
                .map(|failure| failure.check.id())
                .or_else(|| gate.as_ref().map(BlockReject::as_str)),
            step: failure.and_then(|failure| failure.step),
            reason: in_words.or_else(|| gate.map(|gate| gate.to_string())),
            version: proof.version,
            is_solution: proof.is_solution,
            v3_active: report.v3_active,
            credit_units: report.credit.node().0,
            tier: report.tier.map(|tier| tier.as_str()),
            reuse_score: report.reuse_score,
            least_margin: report.least_margin,
            header_hash: report.header_hash.map(|hash| hash.display().to_string()),
        }
    }
}
