//! The broker link as the settings describe it: address, token, what is advertised, the prover, and
//! where else the registry may come from. spec: broker §11

use super::WorkerMode;
use super::node::{active_model, registry, vdf};
use super::sections::Settings;
use super::value::Secret;
use crate::active_model::ActiveModelSettings;
use crate::broker::settings::{
    BrokerSettings, Hardware, LONGEST_WORKER_ID, Timings, fresh_worker_id,
};
use crate::broker::socket::authorities;
use crate::broker::token::Credential;
use crate::broker::tools::read_list;
use crate::link::Link;
use crate::mining::model::{ModelId, Models};
use crate::registry::rest::{RestRegistry, RestSettings};
use crate::registry::source::RegistrySource;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tensorpow_core::target::Normalizer;

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
