//! What a VDF prover says about itself: under `/status`, in the shape the reference has, and as
//! metrics. spec: proxy §21.1, §25

use super::prover::{VdfCounters, VdfFeed, VdfSettings};
use crate::exposition::{counter, gauge};
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use std::sync::Arc;
use tensorpow_core::vdf::DISCRIMINANT_BITS;

/// Reads a prover's counters when somebody asks.
#[derive(Debug, Clone)]
pub struct VdfReport {
    counters: Arc<VdfCounters>,
    settings: VdfSettings,
}

impl VdfReport {
    /// A report of this prover.
    #[must_use]
    pub fn new(vdf: &VdfFeed) -> Self {
        Self { counters: vdf.counters().clone(), settings: vdf.settings().clone() }
    }

    /// What the prover counts.
    #[must_use]
    pub fn counters(&self) -> &VdfCounters {
        &self.counters
    }

    /// The prover's part of `vdf` of `/status`. spec: proxy §21.1
    #[must_use]
    pub fn status(&self) -> Value {
        let progress = self.counters.progress();
        json!({
            "available": true,
            "running": self.counters.is_running(),
            "has_prover": self.counters.is_running(),
            "discriminant_size": DISCRIMINANT_BITS,
            "checkpoint_size": self.settings.checkpoint,
            "max_iterations": self.settings.max_iterations,
            "squarings": progress.ticks,
            "proofs": progress.proofs,
            "faults": progress.faults,
        })
    }

    /// Writes the metrics.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn encode(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let progress = self.counters.progress();
        let squarings = i64::try_from(progress.ticks).unwrap_or(i64::MAX);
        gauge(out, "vdf_squarings", "Squarings for the current block", squarings)?;
        counter(out, "vdf_proofs", "VDF proofs made", progress.proofs)?;
        counter(
            out,
            "vdf_faults",
            "VDF proofs that failed their own check: a sign of faulty hardware",
            progress.faults,
        )
    }
}
