//! Flags of `tensorpow serve --node`, with the variables the network's containers know.

use super::NodeSettings;
use super::feed::FeedSettings;
use super::results::{Endpoint, ResultSettings};
use crate::active_model::ActiveModelSettings;
use crate::active_model::supervisor::SupervisorSettings;
use crate::mining::model::{ModelId, Models};
use crate::mining::network::Network;
use crate::mining::prover::VdfSettings;
use crate::registry::rest::{RestRegistry, RestSettings};
use crate::registry::source::RegistrySource;
use crate::service::Link;
use crate::service_client::ServiceUrl;
use crate::zap::AddressRange;
use axum::http::HeaderValue;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An own node as the source of jobs.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Mine for an own node
    #[arg(long)]
    pub node: bool,
    /// The node's network; it decides the proof version
    #[arg(long, env = "CHAIN_NAME", value_enum, default_value = "tensor", value_name = "NAME")]
    pub network: Network,
    /// Proof version to mine, when not the network's
    #[arg(long, env = "POW_PROOF_VERSION", value_parser = clap::value_parser!(u8).range(1..=3), value_name = "N")]
    pub proof_version: Option<u8>,
    /// Address the node pushes its jobs to
    #[arg(long, env = "TENSORPOW_JOBS", default_value = "127.0.0.1:6000", value_name = "ADDR")]
    pub jobs: SocketAddr,
    /// Addresses or ranges that may push jobs; needed where --jobs is not loopback
    #[arg(long, env = "TENSORPOW_JOBS_ALLOW", value_delimiter = ',', value_name = "RANGE")]
    pub jobs_allow: Vec<AddressRange>,
    /// The node's result socket
    #[arg(
        long,
        env = "TENSORPOW_NODE_RESULTS",
        default_value = "tcp://127.0.0.1:7000",
        value_name = "ENDPOINT"
    )]
    pub results: Endpoint,
    /// Leave solutions to an engine that sends them to the node itself
    #[arg(long)]
    pub no_forward: bool,
    /// The node's model registry
    #[arg(
        long,
        env = "MODEL_API_URL",
        default_value = "http://localhost:8050",
        value_name = "URL"
    )]
    pub registry: ServiceUrl,
    /// Its key
    #[arg(long, env = "MODEL_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub registry_key: Option<String>,
    /// Seconds between two polls of the registry
    #[arg(long, env = "MODEL_POLL_INTERVAL", default_value_t = 300.0, value_name = "SECONDS")]
    pub registry_interval: f64,
    /// The model that is mined as name@commit; without one every registered model
    #[arg(long, value_name = "NAME@COMMIT")]
    pub pin: Option<ModelId>,
    /// Where the choice of a model is kept over restarts
    #[arg(long, env = "MINER_RUNTIME_MODEL_STATE_PATH", value_name = "PATH")]
    pub model_state: Option<PathBuf>,
    /// The engine's supervisor, which can put another model into it
    #[arg(long, env = "BACKEND_CONTROL_URL", value_name = "URL")]
    pub supervisor: Option<ServiceUrl>,
    /// Its key
    #[arg(long, env = "BACKEND_CONTROL_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub supervisor_key: Option<String>,
    /// Squarings between two VDF proofs
    #[arg(
        long,
        env = "VDF_CHECKPOINT_SIZE",
        default_value_t = 32_768,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N"
    )]
    pub vdf_checkpoint: u32,
    /// Cores the VDF prover is kept on, as in 3 or 2,3
    #[arg(long, env = "TENSORPOW_VDF_CORES", value_delimiter = ',', value_name = "CORE")]
    pub vdf_cores: Vec<usize>,
}

/// Flags that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeArgsError {
    /// A key does not fit into a header; it is not repeated here.
    #[error("{0} holds characters that no HTTP header can carry")]
    Key(&'static str),
    /// A number of seconds is not usable.
    #[error("--registry-interval {0} must be between 0.1 and 86400 seconds")]
    Interval(f64),
    /// The node link cannot run.
    #[error(transparent)]
    Node(#[from] super::NodeError),
}

fn bearer(key: Option<String>, name: &'static str) -> Result<Option<HeaderValue>, NodeArgsError> {
    let Some(key) = key.filter(|key| !key.is_empty()) else { return Ok(None) };
    let value = HeaderValue::from_str(&format!("Bearer {key}"));
    let mut value = value.map_err(|_| NodeArgsError::Key(name))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl NodeArgs {
    /// Opens the link these flags describe; none without `--node`. Needs a running tokio.
    ///
    /// # Errors
    /// [`NodeArgsError`].
    pub fn open(self) -> Result<Option<Link>, NodeArgsError> {
        if !self.node {
            return Ok(None);
        }
        if !(0.1..=86_400.0).contains(&self.registry_interval) {
            return Err(NodeArgsError::Interval(self.registry_interval));
        }
        let settings = NodeSettings {
            proof_version: self.proof_version,
            jobs: FeedSettings {
                address: self.jobs,
                allow: self.jobs_allow,
                ..FeedSettings::default()
            },
            results: ResultSettings { endpoint: self.results, forward: !self.no_forward },
            vdf: VdfSettings {
                checkpoint: self.vdf_checkpoint,
                cores: self.vdf_cores,
                ..VdfSettings::default()
            },
            ..NodeSettings::new(self.network)
        };
        let registry = RestSettings {
            key: bearer(self.registry_key, "--registry-key, MODEL_API_KEY")?,
            interval: Duration::from_secs_f64(self.registry_interval),
            ..RestSettings::new(self.registry)
        };
        let supervisor_key = bearer(self.supervisor_key, "--supervisor-key")?;
        let active_model = ActiveModelSettings {
            state_path: self.model_state,
            supervisor: self.supervisor.map(|url| SupervisorSettings {
                key: supervisor_key,
                ..SupervisorSettings::new(url)
            }),
            ..ActiveModelSettings::default()
        };
        let models = Models { pin: self.pin, ..Models::default() };
        let registry: Box<dyn RegistrySource> = Box::new(RestRegistry::new(registry));
        Ok(Some(Link::to_node(settings, models, vec![registry], active_model)?))
    }
}
