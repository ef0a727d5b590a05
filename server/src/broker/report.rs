//! What a broker link says about itself, under `/status` and as metrics.

use super::shared::Shared;
use crate::exposition::{counter, gauge};
use crate::mining::vdf_report::VdfReport;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads the counts of a link when somebody asks.
#[derive(Debug, Clone)]
pub struct BrokerReport {
    shared: Arc<Shared>,
    vdf: VdfReport,
}

impl BrokerReport {
    pub(super) const fn new(shared: Arc<Shared>, vdf: VdfReport) -> Self {
        Self { shared, vdf }
    }

    /// `chain` of `/status`.
    #[must_use]
    pub fn status(&self) -> Value {
        let Shared { settings, counters, leases, uplink, .. } = &*self.shared;
        let leased: serde_json::Map<String, Value> =
            leases.tracked().into_iter().map(|(id, job)| (id.to_string(), job.into())).collect();
        json!({
            "name": settings.network.as_str(),
            "broker": {
                "url": settings.url.to_string(),
                "worker_id": settings.worker_id,
                "registered": uplink.is_registered(),
                "trouble": self.shared.trouble(),
                "unreachable": self.shared.unreachable(),
                "confidential": false,
                "attempts": read(&counters.attempts),
                "reconnects": read(&counters.reconnects),
                "silences": read(&counters.silences),
                "registrations": read(&counters.registrations),
                "leases": leased,
                "leases_taken": read(&counters.leases),
                "leases_refused": read(&counters.refused),
                "cancels": read(&counters.cancels),
                "shares": read(&counters.shares),
                "results": read(&counters.results),
                "registries": read(&counters.registries),
                "jobs": read(&counters.jobs),
                "jobs_failed": read(&counters.failed_jobs),
                "jobs_refused": read(&counters.refused_jobs),
                "ignored": read(&counters.ignored),
            },
            "vdf": self.vdf.status(),
        })
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Collector for BrokerReport {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Shared { counters, leases, uplink, .. } = &*self.shared;
        let registered = i64::from(uplink.is_registered());
        gauge(&mut out, "broker_registered", "1 while a broker has registered us", registered)?;
        let open = i64::try_from(leases.tracked().len()).unwrap_or(i64::MAX);
        gauge(&mut out, "broker_leases_open", "Mining leases that are open", open)?;
        let troubled = i64::from(self.shared.trouble().is_some());
        gauge(&mut out, "broker_trouble", "1 while something keeps mining work away", troubled)?;
        for (name, help, value) in [
            ("broker_attempts", "Attempts to connect to the broker", &counters.attempts),
            ("broker_reconnects", "Connections closed to dial anew", &counters.reconnects),
            ("broker_silences", "Connections left by a silent broker", &counters.silences),
            ("broker_registrations", "Registrations accepted", &counters.registrations),
            ("broker_leases", "Mining leases taken", &counters.leases),
            ("broker_leases_refused", "Mining leases refused", &counters.refused),
            ("broker_cancels", "Mining leases closed by the broker", &counters.cancels),
            ("broker_shares", "Shares delivered", &counters.shares),
            ("broker_results", "Block-level results delivered", &counters.results),
            ("broker_registries", "Registry lists received", &counters.registries),
            ("broker_jobs", "Inference jobs taken", &counters.jobs),
            ("broker_jobs_failed", "Inference jobs that failed", &counters.failed_jobs),
            ("broker_jobs_refused", "Inference jobs refused while drained", &counters.refused_jobs),
            ("broker_ignored", "Messages that were no frames", &counters.ignored),
        ] {
            counter(&mut out, name, help, read(value))?;
        }
        self.vdf.encode(&mut out)
    }
}
