//! The configuration: [`sections`] declares every setting, [`layers`] merges defaults, file,
//! environment and flags, and [`Config`] is what the proxy runs with. What is unusable or unsafe is
//! refused here, everything at once, by name and with the way out. [`command`] is `tensorpow config`.

pub mod broker;
pub mod command;
mod devnet;
mod door;
mod engines;
mod error;
mod flags;
pub mod host_sections;
pub mod keys;
pub mod layers;
mod names;
pub mod node;
pub mod rollout;
pub mod section;
pub mod sections;
pub mod value;
mod workload;
pub mod workload_sections;

pub use devnet::{DevnetArgs, ShareTarget};
pub use engines::EngineConfig;
pub use error::ConfigError;
pub use flags::ProxyArgs;

use crate::cache::CacheLimits;
use crate::collector::CollectorSettings;
use crate::drain::DrainSettings;
use crate::heartbeat::HeartbeatSettings;
use crate::http::RequestLimits;
use crate::http::auth::{Access, Scope};
use crate::http::cors::CorsOrigins;
use crate::http::lanes;
use crate::http::limits::ClientLimits;
use crate::http::listen::{ConnectionLimits, TlsFiles};
use crate::mining::model::ModelId;
use crate::mining::network::Network;
use crate::mining::pause::SolutionCooldown;
use crate::spool::{Location, Retention, SpoolSettings};
use crate::workload::WorkloadSettings;
use crate::zap::AllowList;
use broker::BrokerLink;
use door::{access, client_limits, listen_address, mcp, tls};
use engines::{engine, engine_key, prepare_dual, routes};
use layers::{Layers, Values};
use node::NodeLink;
use rollout::RolloutConfig;
use sections::Settings;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tensorpow_core::target::Normalizer;

/// Who gives out work. spec: proxy §1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerMode {
    /// A node of one's own.
    Standalone,
    /// A broker.
    Broker {
        /// Requests are mined.
        mining: bool,
        /// The registry comes from the broker alone.
        registry_pushed: bool,
    },
}

/// What the proxy runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the HTTP face.
    pub listen: SocketAddr,
    /// Certificate and key for HTTPS.
    pub tls: Option<TlsFiles>,
    /// Web origins that may call.
    pub cors: CorsOrigins,
    /// Who may call.
    pub access: Access,
    /// Limits on single clients.
    pub clients: ClientLimits,
    /// The engines.
    pub engine: EngineConfig,
    /// Who gives out work.
    pub mode: WorkerMode,
    /// The pinned model.
    pub pin: Option<ModelId>,
    /// Network the proofs are for.
    pub network: Network,
    /// Proof version to mine.
    pub proof_version: u8,
    /// The normalizer of share targets.
    pub share_normalizer: Normalizer,
    /// The proof collector.
    pub collector: CollectorSettings,
    /// The proofs in memory.
    pub cache: CacheLimits,
    /// The proofs on disk.
    pub spool: SpoolSettings,
    /// The pause after each solution or share.
    pub solution_cooldown: Option<SolutionCooldown>,
    /// The link to a node, where there is one.
    pub node: Option<NodeLink>,
    /// The link to a broker, where there is one.
    pub broker: Option<BrokerLink>,
    /// Whether the worker begins drained, and where its notice comes from.
    pub drain: DrainSettings,
    /// The heartbeat file, where there is to be one.
    pub heartbeat: Option<HeartbeatSettings>,
    /// Limits on requests.
    pub limits: RequestLimits,
    /// Limits on connections.
    pub connections: ConnectionLimits,
    /// Backfill, priority, objectives and the rest of keeping busy.
    pub workload: WorkloadSettings,
    /// What is brought in and taken back.
    pub rollout: RolloutConfig,
    /// Address of the MCP server, when it runs.
    pub mcp: Option<SocketAddr>,
    /// The configuration file, whether it is there or not; none without a home folder.
    pub config_file: Option<PathBuf>,
    /// Folder of what survives a restart; none where nothing is kept on disk.
    pub data_dir: Option<PathBuf>,
    /// File of generated keys; none where nothing is kept on disk.
    pub keys_file: Option<PathBuf>,
    /// Every setting as it was read.
    pub settings: Settings,
    /// What is probably a mistake.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and checks all layers.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let mut values = Values::merge(layers);
        let settings = Settings::read(&mut values);
        let config = settings.and_then(|settings| Self::derive(settings, &mut values, layers));
        match config {
            Some(config) if values.problems.is_empty() => Ok(config),
            _ => Err(ConfigError { problems: values.problems }),
        }
    }

    /// Generates a key for each scope when there is none that may change the worker, and says where
    /// they are.
    ///
    /// # Errors
    /// A sentence when they cannot be written.
    pub fn generate_missing_keys(&mut self) -> Result<(), String> {
        let Some(file) = &self.keys_file else { return Ok(()) };
        if self.access.has_key_for(Scope::Admin) || file.exists() {
            return Ok(());
        }
        let generated = keys::generate(file)?;
        tracing::info!("API keys for this worker were generated into {}", file.display());
        self.access.extend(generated);
        Ok(())
    }

    /// Keeps the counts of the objectives in the data folder where no other place is set, so that
    /// thirty days are thirty days over restarts too.
    pub fn keep_budgets(&mut self) {
        let kept = || self.data_dir.as_ref().map(|folder| folder.join("slo.json"));
        self.workload.slo_file = self.workload.slo_file.take().or_else(kept);
    }

    fn derive(mut settings: Settings, values: &mut Values, layers: &Layers) -> Option<Self> {
        let mut problems = Vec::new();
        let mut warnings = std::mem::take(&mut values.warnings);
        prepare_dual(&mut settings, &mut problems);
        let listen = listen_address(&settings, values, &mut problems)?;
        let data_dir = data_dir(&settings, layers);
        let keys_file = keys::path(&settings, data_dir.as_deref());
        let mode = mode(&settings, &mut warnings);
        let pin = pin(&settings);
        let proof_version = proof_version(&settings, &mut problems);
        let engine_key = engine_key(&settings, &mut problems);
        let access = access(
            &settings,
            values,
            listen,
            keys_file.as_deref(),
            engine_key.as_ref(),
            &mut problems,
        );
        let routes = routes(&settings, &values.routes, &mut problems);
        let mut engine = engine(&settings, engine_key, routes);
        engine.canary = rollout::canary(&settings, &engine, &mut problems);
        let http = &settings.http;
        let collector = settings.proofs.collector.unwrap_or_else(|| {
            SocketAddr::from((Ipv4Addr::LOCALHOST, settings.proofs.collector_port))
        });
        let mining = &settings.mining;
        let config = Self {
            listen,
            tls: tls(&settings, &mut problems),
            cors: CorsOrigins::new(&http.cors_origins)
                .map_err(|problem| problems.push(problem))
                .ok()?,
            access,
            clients: client_limits(&settings),
            engine,
            mode,
            pin: pin.clone(),
            network: settings.mining.network,
            proof_version,
            share_normalizer: Normalizer(mining.share_normalizer),
            collector: CollectorSettings {
                address: collector,
                max_message: settings.proofs.max_proof,
                allow: AllowList::new(settings.proofs.collector_allow.clone()),
            },
            spool: spool(&settings, data_dir.as_deref()),
            solution_cooldown: SolutionCooldown::new(mining.cooldown),
            node: has_node(&settings, values, mode)
                .then(|| NodeLink::read(&settings, pin.as_ref(), proof_version, &mut problems)),
            broker: BrokerLink::read(
                &settings,
                mode,
                values.layer("registry.url") > 0,
                data_dir.as_deref(),
                pin.as_ref(),
                proof_version,
                &mut problems,
            ),
            cache: CacheLimits {
                ttl: settings.proofs.ttl,
                max_bytes: settings.proofs.max_megabytes.max(1).saturating_mul(1024 * 1024),
            },
            drain: DrainSettings {
                file: settings.drain.file.clone(),
                unready: !settings.drain.ready,
            },
            heartbeat: settings
                .heartbeat
                .file
                .clone()
                .map(|file| HeartbeatSettings { file, every: settings.heartbeat.every }),
            limits: RequestLimits {
                body: http.max_body,
                body_time: http.body_timeout,
                job_stale_after: if is_broker(&settings) {
                    Duration::MAX
                } else {
                    mining.stale_after
                },
                strict_mining: mining.strict,
                finish_for_proof: settings.engine.finish_for_proof,
                proofs_enabled: settings.proofs.enabled,
                max_tokens: settings.limits.max_tokens,
            },
            connections: ConnectionLimits {
                connections: http.max_connections.max(1),
                head_time: http.head_timeout,
                head_bytes: http.max_head,
                drain: http.drain,
                lanes: http.threads.unwrap_or_else(lanes::usual),
            },
            workload: workload::settings(&settings, is_broker(&settings), &mut problems),
            rollout: rollout::rollout(&settings, data_dir.as_deref()),
            mcp: mcp(&settings, &mut problems),
            data_dir,
            config_file: layers.file_path.clone(),
            keys_file,
            settings,
            warnings,
        };
        values.problems.append(&mut problems);
        Some(config)
    }
}

/// A broker's lease decides how long a job is mined, not the clock. spec: proxy §14.1
fn is_broker(settings: &Settings) -> bool {
    settings.mining.worker_mode == "broker"
}

/// `data.dir`, or where the system keeps such files; none for the word `none`.
fn data_dir(settings: &Settings, layers: &Layers) -> Option<PathBuf> {
    data_folder(settings.data.dir.as_deref(), |name| {
        let found =
            layers.environment.iter().find(|(known, text)| known == name && !text.is_empty());
        found.map(|(_, text)| PathBuf::from(text))
    })
}

/// The folder that is named, or the user's own: `$XDG_DATA_HOME/tensorpow`, else
/// `~/.local/share/tensorpow`. None for the word `none`, and without a user's folder.
fn data_folder(
    named: Option<&Path>,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Option<PathBuf> {
    match named {
        Some(folder) if folder.as_os_str() == "none" => None,
        Some(folder) => Some(folder.to_owned()),
        None => {
            let base = variable("XDG_DATA_HOME")
                .or_else(|| variable("HOME").map(|home| home.join(".local/share")))?;
            base.is_absolute().then(|| base.join("tensorpow"))
        }
    }
}

fn spool(settings: &Settings, data_dir: Option<&Path>) -> SpoolSettings {
    let proofs = &settings.proofs;
    let folder = data_dir.filter(|_| proofs.spool);
    SpoolSettings {
        location: folder.map_or(Location::Memory, |folder| Location::Folder(folder.join("spool"))),
        retention: Retention {
            max_age: proofs.spool_age,
            max_bytes: proofs.spool_megabytes.saturating_mul(1024 * 1024),
            ..Retention::default()
        },
        ..SpoolSettings::default()
    }
}

/// A node of one's own is mined for when that is said, or when the guide's variable says so.
fn has_node(settings: &Settings, values: &Values, mode: WorkerMode) -> bool {
    let said = mode == WorkerMode::Standalone && values.layer("mining.worker_mode") > 0;
    settings.node.enabled.unwrap_or(said)
}

/// Only the exact word `broker` is broker mode. spec: proxy §1
fn mode(settings: &Settings, warnings: &mut Vec<String>) -> WorkerMode {
    let mining = &settings.mining;
    match mining.worker_mode.as_str() {
        "broker" => {
            WorkerMode::Broker { mining: mining.enabled, registry_pushed: mining.standalone }
        }
        "standalone" => WorkerMode::Standalone,
        other => {
            warnings.push(format!(
                "$WORKER_MODE: {other:?} is neither broker nor standalone and means standalone"
            ));
            WorkerMode::Standalone
        }
    }
}

/// Name and commit together are a pin; half a pin is none. spec: proxy §12.1
fn pin(settings: &Settings) -> Option<ModelId> {
    let (name, commit) = (&settings.mining.model_name, &settings.mining.model_commit);
    settings.mining.pin.clone().or_else(|| ModelId::new(name, commit))
}

fn proof_version(settings: &Settings, problems: &mut Vec<String>) -> u8 {
    let network = settings.mining.network.proof_version();
    match settings.mining.proof_version {
        None => network,
        Some(version) => match u8::try_from(version) {
            Ok(version @ 1..=3) => version,
            _ => {
                problems.push(format!(
                    "POW_PROOF_VERSION (mining.proof_version): {version} is not 1, 2 or 3"
                ));
                network
            }
        },
    }
}

#[cfg(test)]
mod tests;
