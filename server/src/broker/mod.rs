//! The link to a broker: one outbound WebSocket over which a provider registers this worker, sends
//! inference jobs and mining leases, and takes shares and block-level results. One direction: the
//! [`client`] dials ([`socket`], [`token`], [`backoff`]) and introduces itself ([`hello`]); a
//! [`connection`] reads frames ([`frames`]) for a [`session`], which hands inference jobs to its
//! [`desk`] ([`inference`]), leases to the book ([`leases`], on disk by [`kept`], checked by [`mine_request`]) and so to
//! the job source ([`TemplateJobs`]), and answers the rest ([`challenge`], [`heartbeat`], [`proofs`],
//! [`tools`] in the [`toolbox`], some of them run by an [`mcp`] server). Proofs come back through the [`sink`] and leave by the [`uplink`]. [`inside`] is the
//! proxy as all of them see it, [`missing`] says why no work comes, [`report`] what has happened.
//!
//! Confidential jobs are refused before anything of them is read. spec: broker

pub mod backoff;
pub mod challenge;
pub mod client;
pub mod connection;
pub mod desk;
pub mod frames;
pub mod heartbeat;
pub mod hello;
pub mod inference;
pub mod inside;
pub mod kept;
pub mod leases;
pub mod mcp;
pub mod mine_request;
pub mod missing;
pub mod outgoing;
pub mod proofs;
pub mod report;
pub mod session;
pub mod settings;
pub mod shared;
pub mod sink;
pub mod socket;
pub mod token;
pub mod toolbox;
pub mod tools;
pub mod uplink;

use crate::mining::pause::Pause;
use crate::mining::prover::VdfFeed;
use crate::mining::templates::TemplateJobs;
use crate::mining::vdf_report::VdfReport;
use crate::registry::source::PushedRegistry;
use client::Client;
use report::BrokerReport;
use settings::BrokerSettings;
use shared::Shared;
use sink::BrokerSink;
use std::sync::Arc;
use tokio::sync::watch;

/// All ends of a broker link.
#[derive(Debug)]
pub struct Broker {
    /// Jobs and VDF proofs.
    pub source: TemplateJobs,
    /// Where shares and solutions go.
    pub sink: Arc<BrokerSink>,
    /// The registry that the broker pushes; `None` without mining.
    pub registry: Option<PushedRegistry>,
    /// What dials.
    pub client: Client,
    /// For `/status` and `/metrics`.
    pub report: BrokerReport,
}

impl Broker {
    /// A link with core's VDF prover. `pause` is the mining context's own. Needs a running tokio.
    #[must_use]
    pub fn new(settings: BrokerSettings, pause: Arc<Pause>) -> Self {
        let vdf = VdfFeed::new(settings.vdf.clone(), pause);
        Self::with_prover(settings, vdf)
    }

    /// A link with any prover. Needs a running tokio.
    #[must_use]
    pub fn with_prover(settings: BrokerSettings, vdf: VdfFeed) -> Self {
        let (jobs, followed) = watch::channel(None);
        let (lists, registry) = PushedRegistry::new();
        let mining = settings.mining;
        let report_vdf = VdfReport::new(&vdf);
        let shared = Arc::new(Shared::new(settings, Some(jobs), mining.then_some(lists)));
        Self {
            source: TemplateJobs::new("broker", followed, vdf, ()),
            sink: Arc::new(BrokerSink::new(shared.clone())),
            registry: mining.then_some(registry),
            report: BrokerReport::new(shared.clone(), report_vdf),
            client: Client::new(shared),
        }
    }
}
