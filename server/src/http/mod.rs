//! The HTTP face, from the socket inwards: [`listen`] accepts connections, [`router`] says which
//! route is whose and which layers lie over it, [`auth`] who may call, [`generate`] forwards
//! generation requests ([`inject`] and [`profile`] prepare their bodies, [`engine`] sends them,
//! [`relay`] brings the answer back), [`proofs`] serves collected proofs, [`status`] what the proxy
//! knows about itself.

pub mod active_model;
pub mod auth;
pub mod body;
pub mod engine;
pub mod errors;
pub mod generate;
pub mod headers;
pub mod inject;
pub mod listen;
pub mod profile;
pub mod proofs;
pub mod relay;
pub mod router;
pub mod spool;
pub mod status;
pub mod usage;

use crate::active_model::ActiveModel;
use crate::metrics::Metrics;
use crate::mining::snapshot::ContextCell;
use crate::outbox::Outbox;
use crate::registry::registrar::Registrar;
use crate::store::ProofStore;
use crate::ui::Ui;
use engine::Engine;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            body: 32 * 1024 * 1024,
            body_time: Duration::from_secs(60),
            job_stale_after: Duration::from_secs(60),
        }
    }
}

/// Reports the state of a job source or sink for `/status`.
pub type StatusReport = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What every handler shares.
pub struct App {
    /// The engine behind the proxy.
    pub engine: Engine,
    /// The mining context.
    pub context: Arc<ContextCell>,
    /// Which model is mined.
    pub active_model: Arc<ActiveModel>,
    /// Which models the chain has registered.
    pub registrar: Arc<Registrar>,
    /// Collected proofs.
    pub store: Arc<ProofStore>,
    /// Proofs on their way to the sink; `None` without one.
    pub outbox: Option<Arc<Outbox>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Limits on requests.
    pub limits: RequestLimits,
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
    /// Set while the proxy lets its last requests finish.
    pub draining: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("engine", &self.engine).finish_non_exhaustive()
    }
}
