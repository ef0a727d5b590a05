//! The HTTP face, from the socket inwards: [`listen`] accepts connections ([`tls`]), [`router`] says
//! which route is whose and what is done for every request (before it is ready, [`door`]), [`auth`], [`limits`] and [`token_limits`] who may call and
//! how much. [`generate`] forwards generation requests ([`inject`] and [`profile`] prepare their
//! bodies), [`pass`] everything else that is the engines' business; [`engines`] knows who serves what,
//! [`engine`] sends and knows whether anybody is there, [`answer`] and [`relay`] bring the answer back. [`proofs`] serves collected
//! proofs, [`status`] what the proxy knows about itself, [`drain`] whether it wants new work, [`mcp`] is the same for programs that talk
//! in tools.

pub mod active_model;
pub mod answer;
pub mod auth;
pub mod body;
pub mod cors;
pub mod door;
pub mod drain;
pub mod engine;
pub mod engines;
pub mod errors;
pub mod generate;
pub mod headers;
pub mod inflate;
pub mod inject;
pub mod lanes;
pub mod limits;
pub mod listen;
pub mod mcp;
pub mod pass;
pub mod profile;
pub mod proofs;
pub mod relay;
pub mod request_id;
pub mod rollout;
pub mod router;
pub(crate) mod serving;
pub mod spool;
pub mod status;
pub mod tls;
pub mod token_limits;
pub mod transparency;
pub mod usage;

use crate::active_model::ActiveModel;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::mining::snapshot::ContextCell;
use crate::outbox::Outbox;
use crate::registry::registrar::Registrar;
use crate::rollout::rollback::Rollout;
use crate::rollout::trial::Trial;
use crate::store::ProofStore;
use crate::ui::Ui;
use crate::workload::Workload;
use engines::Engines;
use limits::Limiter;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Limits on requests.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Largest request body in bytes.
    pub body: usize,
    /// Time a client has to send its body.
    pub body_time: Duration,
    /// A job older than this is not mined on.
    pub job_stale_after: Duration,
    /// A request of the mining model that cannot be mined is answered 503.
    pub strict_mining: bool,
    /// A mined request is read to its end although its client has gone.
    pub finish_for_proof: bool,
    /// The proof routes answer.
    pub proofs_enabled: bool,
    /// Most tokens that one request may generate; 0 is no limit.
    pub max_tokens: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            body: 32 * 1024 * 1024,
            body_time: Duration::from_secs(60),
            job_stale_after: Duration::from_secs(60),
            strict_mining: false,
            finish_for_proof: false,
            proofs_enabled: true,
            max_tokens: 0,
        }
    }
}

/// Reports the state of a job source or sink for `/status`.
pub type StatusReport = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What every handler shares.
pub struct App {
    /// The engines behind the proxy.
    pub engines: Arc<Engines>,
    /// Limits on clients.
    pub limiter: Arc<Limiter>,
    /// The mining context.
    pub context: Arc<ContextCell>,
    /// Which model is mined.
    pub active_model: Arc<ActiveModel>,
    /// The engine on trial.
    pub trial: Option<Arc<Trial>>,
    /// What can be taken back.
    pub rollout: Rollout,
    /// Which models the chain has registered.
    pub registrar: Arc<Registrar>,
    /// Collected proofs.
    pub store: Arc<ProofStore>,
    /// Proofs on their way to the sink; `None` without one.
    pub outbox: Option<Arc<Outbox>>,
    /// What keeps the engine busy and its users content.
    pub workload: Arc<Workload>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Limits on requests.
    pub limits: RequestLimits,
    /// Network of the proofs.
    pub network: &'static str,
    /// Name of the job source; `None` when the proxy serves inference only.
    pub source: Option<&'static str>,
    /// What the chain behind the source says about itself.
    pub chain_report: Option<StatusReport>,
    /// Where engines push their proofs.
    pub collector_endpoint: String,
    /// The dashboard.
    pub ui: Ui,
    /// When the proxy started.
    pub started: Instant,
    /// Whether new work is wanted.
    pub drain: Arc<Drain>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("engines", &self.engines).finish_non_exhaustive()
    }
}
