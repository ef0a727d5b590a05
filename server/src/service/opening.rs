//! What is opened before the proxy serves, and why it may not start.

use crate::backfill::prompt::corpus::CorpusError;
use crate::collector::CollectorError;
use crate::config::EngineConfig;
use crate::gpu::gauges::GpuGauges;
use crate::http::engine::EngineUrl;
use crate::http::listen;
use crate::http::tls::TlsError;
use crate::metrics::names;
use crate::node::NodeError;
use crate::rollout::record::Records;
use crate::rollout::trial::Trial;
use crate::spool::{Spool, SpoolError, SpoolSettings};
use std::path::PathBuf;
use std::sync::Arc;

/// The proxy cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The HTTP address is not available.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Whoever can reach the MCP server could use it.
    #[error(
        "the MCP server wants an API key for inference: set TENSORPOW_INFERENCE_KEY or TENSORPOW_API_KEY"
    )]
    McpWithoutKey,
    /// The proof collector cannot run.
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// The node link cannot run.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The spool needs a decision.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The operator's prompts cannot be used.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// There are no threads to serve on.
    #[error("there are no threads to serve connections on: {0}")]
    Threads(std::io::Error),
    /// The system does not say which address was bound.
    #[error("the listening socket has no address: {0}")]
    Address(std::io::Error),
}

/// Opening reads a file that was not closed as a whole, so it is done where that may take a while.
pub(super) async fn open_spool(settings: SpoolSettings) -> Result<Spool, SpoolError> {
    let opened = tokio::task::spawn_blocking(move || Spool::open(settings)).await;
    opened.unwrap_or(Err(SpoolError::Closed))
}

pub(super) async fn open_records(file: Option<PathBuf>, image: String) -> Records {
    let opened = tokio::task::spawn_blocking(move || Records::open(file, &image)).await;
    opened.unwrap_or_default()
}

/// The engine on trial beside the one that serves.
pub(super) fn trial(engine: &EngineConfig, records: &Arc<Records>) -> Option<Arc<Trial>> {
    let canary = engine.canary.as_ref()?;
    let route = |model: &String| engine.routes.iter().find(|route| route.model == *model);
    let beside = canary.model.as_ref().and_then(route).map_or(&engine.url, |route| &route.url);
    let label = |url: &EngineUrl| names::label(&url.to_string());
    let settings = canary.trial.clone();
    Some(Arc::new(Trial::new(settings, label(beside), label(&canary.url), records.clone())))
}

/// Gauges of the graphics cards. They are no reason not to start.
pub(super) fn gpu_gauges() -> Option<GpuGauges> {
    match GpuGauges::nvidia() {
        Ok(gauges) => Some(gauges),
        Err(error) => {
            tracing::warn!(
                "no gauges of graphics cards: there is no thread to read them on: {error}"
            );
            None
        }
    }
}
