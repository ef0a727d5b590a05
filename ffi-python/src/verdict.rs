//! A node's verdict on a proof, with the names that `tensorpow proof verify --json` gives its parts.

use pyo3::prelude::*;
use tensorpow_core::proof::ProofRef;
use tensorpow_core::verify::{Place, Unjudged, Workspace};

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

impl Verdict {
    /// Judges a proof as the node does when it is given one, and by the version its height demands.
    pub(crate) fn of(proof: &ProofRef<'_>, place: &Place) -> Result<Self, Unjudged> {
        let mut workspace = Workspace::new();
        let mut scratch = workspace.scratch(proof, Some(&place.chain()));
        let judgement = place.judge(proof, &mut scratch, &mut ())?;
        let report = &judgement.report;
        Ok(Self {
            accepted: judgement.is_accepted(),
            verdict: report.verdict().as_str(),
            check: judgement.check_id(),
            step: report.failure.as_ref().and_then(|failure| failure.step),
            reason: judgement.reason().map(ToString::to_string),
            version: proof.version,
            is_solution: proof.is_solution,
            v3_active: report.v3_active,
            credit_units: report.credit.node().0,
            tier: report.tier.map(|tier| tier.as_str()),
            reuse_score: report.reuse_score,
            least_margin: report.least_margin,
            header_hash: report.header_hash.map(|hash| hash.display().to_string()),
        })
    }
}
