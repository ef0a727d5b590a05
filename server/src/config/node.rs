//! The node link as the settings describe it: where jobs come from, where solutions go, the prover,
//! the registry and the way the active model changes. spec: proxy §1, §13, §17, §19

use super::sections::Settings;
use super::value::Secret;
use crate::active_model::ActiveModelSettings;
use crate::active_model::supervisor::SupervisorSettings;
use crate::http::auth::ApiKey;
use crate::link::Link;
use crate::mining::model::{ModelId, ModelRecord, Models};
use crate::mining::prover::VdfSettings;
use crate::node::feed::FeedSettings;
use crate::node::results::ResultSettings;
use crate::node::{NodeError, NodeSettings};
use crate::registry::rest::{RestRegistry, RestSettings};
use crate::registry::source::RegistrySource;
use crate::zap::AllowList;
use axum::http::HeaderValue;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tensorpow_core::target::Difficulty;

/// Everything a link to an own node is made of.
#[derive(Debug, Clone)]
pub struct NodeLink {
    /// Sockets and prover.
    pub settings: NodeSettings,
    /// The registry; none offline.
    pub registry: Option<RestSettings>,
    /// How the mined model changes.
    pub active_model: ActiveModelSettings,
    /// What is known before the registry has been heard of.
    pub models: Models,
}

impl NodeLink {
    /// The settings' link; what is wrong goes to `problems`.
    pub(super) fn read(
        settings: &Settings,
        pin: Option<&ModelId>,
        proof_version: u8,
        problems: &mut Vec<String>,
    ) -> Self {
        let node = &settings.node;
        let jobs =
            node.jobs.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, node.job_port)));
        let link = NodeSettings {
            proof_version: Some(proof_version),
            jobs: FeedSettings {
                address: jobs,
                allow: AllowList::new(node.jobs_allow.clone()),
                silence_reminder: Duration::from_millis(node.receive_timeout_ms),
                ..FeedSettings::default()
            },
            results: ResultSettings { endpoint: node.results.clone(), forward: !node.no_forward },
            vdf: vdf(settings, problems),
            ..NodeSettings::new(settings.mining.network)
        };
        // Offline there is one model: the pinned one, as it is registered by default. spec: §13.4
        let offline = settings.mining.standalone;
        let local = pin.filter(|_| offline).and_then(|pin| {
            let difficulty = Difficulty::new(1_000_000).ok()?;
            Some(ModelRecord {
                id: pin.clone(),
                difficulty,
                cid: String::new(),
                commit_block_height: 0,
            })
        });
        let models = match local {
            Some(record) => Models::new(pin.cloned(), [record]),
            None => Models { pin: pin.cloned(), ..Models::default() },
        };
        Self {
            settings: link,
            registry: (!offline).then(|| registry(settings, problems)),
            active_model: active_model(settings, problems),
            models,
        }
    }

    /// Opens the link. Needs a running tokio.
    ///
    /// # Errors
    /// [`NodeError`] when a socket cannot be used.
    pub fn open(self) -> Result<Link, NodeError> {
        let registry = self.registry.into_iter().map(|settings| {
            let source: Box<dyn RegistrySource> = Box::new(RestRegistry::new(settings));
            source
        });
        Link::to_node(self.settings, self.models, registry.collect(), self.active_model)
    }
}

/// The prover of any link.
pub(super) fn vdf(settings: &Settings, problems: &mut Vec<String>) -> VdfSettings {
    let vdf = &settings.vdf;
    if let Err(error) = VdfSettings::check_discriminant(vdf.discriminant_size) {
        problems.push(format!("VDF_DISCRIMINANT_SIZE (vdf.discriminant_size): {error}"));
    }
    if vdf.checkpoint_size == 0 {
        problems.push("VDF_CHECKPOINT_SIZE (vdf.checkpoint_size): must be positive".into());
    }
    VdfSettings {
        checkpoint: vdf.checkpoint_size,
        max_iterations: vdf.max_iterations,
        update_interval: vdf.update_interval,
        cores: vdf.cores.clone(),
        ..VdfSettings::default()
    }
}

pub(super) fn registry(settings: &Settings, problems: &mut Vec<String>) -> RestSettings {
    let registry = &settings.registry;
    if registry.poll_interval < Duration::from_millis(100) {
        problems.push("MODEL_POLL_INTERVAL (registry.poll_interval): must be at least 0.1".into());
    }
    // The reference sends the key only on demand; a key that was set is meant to be sent.
    let key = bearer(registry.api_key.as_ref(), "MODEL_API_KEY (registry.api_key)", problems);
    if registry.require_auth && key.is_none() {
        problems.push("MODEL_REQUIRE_AUTH (registry.require_auth) needs MODEL_API_KEY".into());
    }
    RestSettings {
        key,
        attempts: registry.retry_attempts,
        backoff: registry.retry_backoff,
        interval: registry.poll_interval,
        ..RestSettings::new(registry.url.clone())
    }
}

pub(super) fn active_model(settings: &Settings, problems: &mut Vec<String>) -> ActiveModelSettings {
    let switch = &settings.switch;
    let place = "BACKEND_CONTROL_API_KEY (switch.control_api_key)";
    let key = bearer(switch.control_api_key.as_ref(), place, problems);
    if switch.enabled && switch.control_url.is_none() {
        problems
            .push("BACKEND_MODEL_SWITCH_ENABLED (switch.enabled) needs BACKEND_CONTROL_URL".into());
    }
    let supervisor = switch.control_url.clone().filter(|_| switch.enabled);
    ActiveModelSettings {
        state_path: switch.state_path.clone(),
        supervisor: supervisor.map(|url| SupervisorSettings {
            key,
            deadline: switch.timeout.max(Duration::from_secs(1)),
            ..SupervisorSettings::new(url)
        }),
        force_suppress: switch.suppress,
        ..ActiveModelSettings::default()
    }
}

fn bearer(secret: Option<&Secret>, place: &str, problems: &mut Vec<String>) -> Option<HeaderValue> {
    let text = secret?.reveal();
    match text.parse::<ApiKey>() {
        Ok(key) => key.bearer(),
        Err(error) => {
            problems.push(format!("{place}: {error}"));
            None
        }
    }
}
