//! The broker link as the settings describe it: address, token, what is advertised, the prover, and
//! where else the registry may come from. spec: broker §11

use super::WorkerMode;
use super::node::{active_model, registry, vdf};
use super::section::sections;
use super::sections::Settings;
use super::value::Secret;
use crate::active_model::ActiveModelSettings;
use crate::broker::settings::{
    BrokerSettings, BrokerUrl, Hardware, LONGEST_WORKER_ID, Timings, fresh_worker_id,
};
use crate::broker::socket::authorities;
use crate::broker::token::Credential;
use crate::broker::tools::read_list;
use crate::link::Link;
use crate::mining::model::{ModelId, Models};
use crate::registry::rest::{RestRegistry, RestSettings};
use crate::registry::source::RegistrySource;
use crate::service_client::ServiceUrl;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tensorpow_core::target::Normalizer;

sections! {
    /// The broker link.
    BrokerSection "broker" {
        /// WebSocket URL of the broker, as the provider's dashboard shows it
        url: BrokerUrl = "ws://localhost:8003/v1/ws" [BROKER_WS_URL] --broker;
        /// The provider's token
        jwt: Option<Secret> = "" [PROVIDER_JWT_TOKEN];
        /// The worker's own token
        worker_token: Option<Secret> = "" [X_WORKER_TOKEN];
        /// Name of this worker, at most 64 characters; empty makes a new one at each start
        worker_id: String = "" [WORKER_ID];
        /// Concurrent jobs to advertise
        capacity: u32 = "4" [WORKER_CAPACITY];
        /// Advertised architecture; by default that of the card that the NVIDIA driver names, without one `nvidia-8.6`
        compute_type: Option<String> = "" [COMPUTE_TYPE];
        /// Advertised card; by default the one the NVIDIA driver names, without one `A100-80GB`
        gpu_model: Option<String> = "" [GPU_MODEL];
        /// Advertised memory of the card in GB; by default what the NVIDIA driver says, without it 80
        gpu_memory_gb: Option<u32> = "" [GPU_MEMORY_GB];
        /// Advertised region
        region: String = "us-west-2" [WORKER_REGION];
        /// Advertised context window; by default what the engine says
        max_context_window: Option<u32> = "" [MAX_CONTEXT_WINDOW];
        /// Advertised tokens an answer
        max_output_tokens: u32 = "8192" [MAX_OUTPUT_TOKENS];
        /// Secret of the broker's challenge
        challenge_secret: Option<Secret> = "" [CHALLENGE_SECRET];
        /// Accepted for old environment files: this worker takes plaintext jobs and refuses confidential ones
        supported_modes: Vec<String> = "plaintext,confidential" [WORKER_SUPPORTED_MODES];
        /// Networks to advertise, separated by commas; by default the one of `mining.network`
        networks: Vec<String> = "" [MINING_NETWORKS];
        /// Mining jobs at a time
        max_parallel: u32 = "1" [MINING_MAX_PARALLEL];
        /// Limit on sending a heartbeat
        heartbeat_timeout: Duration = "10" [BROKER_HEARTBEAT_SEND_TIMEOUT_SECONDS];
        /// Limit on one inference job
        job_timeout: Duration = "300" [TENSORPOW_BROKER_JOB_TIMEOUT];
        /// Between two pings; less where something in between forgets connections that are idle
        ping_interval: Duration = "20" [TENSORPOW_BROKER_PING_INTERVAL];
        /// A broker that answers no ping and takes no frame for so long is left
        pong_timeout: Duration = "30" [TENSORPOW_BROKER_PONG_TIMEOUT];
        /// Tools that are registered with the broker: a JSON array of objects with `tool_id`
        tools: String = "" [WORKER_TOOLS_JSON];
        /// MCP server (streamable HTTP) whose tools are registered with the broker as well
        mcp_tools: Option<ServiceUrl> = "" [MCP_TOOL_ENDPOINT];
        /// Certificates (PEM) of an authority to trust beside the system's, for a `wss://` broker that has one of its own
        ca_file: Option<PathBuf> = "" [BROKER_CA_FILE];
    }
}

/// Everything a link to a broker is made of.
#[derive(Debug, Clone)]
pub struct BrokerLink {
    /// Connection, advertisement and prover.
    pub settings: BrokerSettings,
    /// A registry of one's own beside the broker's; none by default.
    pub registry: Option<RestSettings>,
    /// How the mined model changes.
    pub active_model: ActiveModelSettings,
    /// The pin.
    pub models: Models,
}

impl BrokerLink {
    /// The settings' link; none outside broker mode. What is wrong goes to `problems`.
    pub(super) fn read(
        settings: &Settings,
        mode: WorkerMode,
        has_registry: bool,
        data_dir: Option<&Path>,
        pin: Option<&ModelId>,
        proof_version: u8,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let WorkerMode::Broker { mining, registry_pushed } = mode else { return None };
        if settings.node.enabled == Some(true) {
            problems.push("WORKER_MODE=broker and --node exclude each other".into());
        }
        let broker = &settings.broker;
        let network = settings.mining.network;
        let named = |list: &[String]| !list.is_empty();
        let networks = match named(&broker.networks) {
            true => broker.networks.clone(),
            false => vec![network.as_str().to_owned()],
        };
        let reveal = |secret: &Option<Secret>| {
            secret.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default()
        };
        let secret = reveal(&broker.challenge_secret);
        let link = BrokerSettings {
            url: broker.url.clone(),
            credential: Credential::new(&reveal(&broker.jwt), &reveal(&broker.worker_token)),
            worker_id: worker_id(settings, problems),
            capacity: broker.capacity,
            hardware: Hardware {
                compute_type: broker.compute_type.clone(),
                gpu_model: broker.gpu_model.clone(),
                memory_gb: broker.gpu_memory_gb,
                region: broker.region.clone(),
            },
            max_context_window: broker.max_context_window.map(u64::from),
            max_output_tokens: broker.max_output_tokens,
            challenge_secret: (!secret.is_empty()).then_some(secret),
            mining,
            network,
            networks,
            max_parallel: broker.max_parallel,
            local_model: settings.mining.model_name.clone(),
            registry_pushed,
            proof_version,
            share_normalizer: Normalizer(settings.mining.share_normalizer),
            tools: read_list(&broker.tools),
            mcp_tools: broker.mcp_tools.clone(),
            ca_file: ca_file(broker.ca_file.as_deref(), problems),
            vdf: vdf(settings, problems),
            leases: data_dir
                .filter(|_| settings.proofs.spool)
                .map(|folder| folder.join("broker-leases.json")),
            timings: Timings {
                heartbeat: broker.heartbeat_timeout.max(Duration::from_millis(100)),
                job: broker.job_timeout.max(Duration::from_secs(1)),
                ping: broker.ping_interval.max(Duration::from_millis(100)),
                pong: broker.pong_timeout.max(Duration::from_millis(100)),
                ..Timings::default()
            },
        };
        let own = mining && has_registry && !registry_pushed;
        Some(Self {
            settings: link,
            registry: own.then(|| registry(settings, problems)),
            active_model: active_model(settings, problems),
            models: Models { pin: pin.cloned(), ..Models::default() },
        })
    }

    /// The link; it dials once the proxy runs. Needs a running tokio.
    #[must_use]
    pub fn open(self) -> Link {
        let registry = self.registry.into_iter().map(|settings| {
            let source: Box<dyn RegistrySource> = Box::new(RestRegistry::new(settings));
            source
        });
        Link::to_broker(self.settings, self.models, registry.collect(), self.active_model)
    }
}

/// A file that cannot be used now is a mistake, not one to be found out with each connection.
fn ca_file(file: Option<&Path>, problems: &mut Vec<String>) -> Option<PathBuf> {
    let file = file?;
    if let Err(problem) = authorities(file) {
        problems.push(format!("BROKER_CA_FILE (broker.ca_file): {problem}"));
    }
    Some(file.to_owned())
}

/// Constant over the connections of one run. spec: broker §1
fn worker_id(settings: &Settings, problems: &mut Vec<String>) -> String {
    let given = settings.broker.worker_id.trim();
    if given.chars().count() > LONGEST_WORKER_ID {
        problems.push(format!(
            "WORKER_ID (broker.worker_id): longer than {LONGEST_WORKER_ID} characters, which no broker takes"
        ));
    }
    match given {
        "" => fresh_worker_id(),
        given => given.to_owned(),
    }
}
