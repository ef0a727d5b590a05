//! The configuration: [`sections`] declares every setting, [`layers`] merges defaults, file,
//! environment and flags, and [`Config`] is what the proxy runs with. What is unusable or unsafe is
//! refused here, everything at once, by name and with the way out. [`command`] is `tensorpow config`.

pub mod broker;
pub mod command;
mod devnet;
mod flags;
pub mod keys;
pub mod layers;
mod names;
pub mod node;
pub mod section;
pub mod sections;
pub mod value;
mod workload;
pub mod workload_sections;

pub use devnet::{DevnetArgs, ShareTarget};
pub use flags::ProxyArgs;

use crate::breaker::BreakerSettings;
use crate::cache::CacheLimits;
use crate::collector::CollectorSettings;
use crate::http::RequestLimits;
use crate::http::auth::{Access, ApiKey, NamedKey, Scope};
use crate::http::cors::CorsOrigins;
use crate::http::engine::{EngineTimeouts, EngineUrl, EngineUrlError};
use crate::http::limits::ClientLimits;
use crate::http::listen::{ConnectionLimits, TlsFiles};
use crate::mining::model::ModelId;
use crate::mining::network::Network;
use crate::mining::pause::SolutionCooldown;
use crate::mining::payload::{Dialect, EngineKind, PowForm, PowKey};
use crate::spool::{Location, Retention, SpoolSettings};
use crate::workload::WorkloadSettings;
use crate::zap::AllowList;
use broker::BrokerLink;
use layers::{Layers, RouteEntry, Values};
use node::NodeLink;
use sections::Settings;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tensorpow_core::target::Normalizer;
use value::{ModelRoute, SettingValue as _};

/// Settings that cannot be used: every one of them in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The sentences.
    pub problems: Vec<String>,
}

impl ConfigError {
    /// A single problem.
    #[must_use]
    pub fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

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

/// The engines and how they are spoken to.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The engine of every model without a route.
    pub url: EngineUrl,
    /// Engines of single models.
    pub routes: Vec<ModelRoute>,
    /// The proxy's own key towards them.
    pub key: Option<ApiKey>,
    /// Limits on their answers.
    pub timeouts: EngineTimeouts,
    /// Idle connections kept for users.
    pub pool: usize,
    /// How they want to be told what to mine, unless a route says otherwise.
    pub dialect: Dialect,
    /// When users are no longer sent to one.
    pub breaker: BreakerSettings,
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
    /// Limits on requests.
    pub limits: RequestLimits,
    /// Limits on connections.
    pub connections: ConnectionLimits,
    /// Backfill, priority, objectives and the rest of keeping busy.
    pub workload: WorkloadSettings,
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
            engine: engine(&settings, engine_key, routes),
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
            },
            connections: ConnectionLimits {
                connections: http.max_connections.max(1),
                head_time: http.head_timeout,
                head_bytes: http.max_head,
                drain: http.drain,
            },
            workload: workload::settings(&settings, is_broker(&settings), &mut problems),
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

/// A second engine serves the mining model, unless routes say where it is. spec: proxy §12.3
fn prepare_dual(settings: &mut Settings, problems: &mut Vec<String>) {
    let engine = &mut settings.engine;
    if !engine.dual {
        return;
    }
    if engine.dual_model_name.is_empty() || engine.dual_model_commit.is_empty() {
        problems.push(
            "MINING_VLLM_ENABLED (engine.dual) needs MINING_MODEL_NAME and MINING_MODEL_COMMIT"
                .into(),
        );
        return;
    }
    settings.mining.model_name.clone_from(&engine.dual_model_name);
    settings.mining.model_commit.clone_from(&engine.dual_model_commit);
    let url = format!("http://127.0.0.1:{}", engine.dual_port);
    if let (true, Ok(url)) = (engine.routes.0.is_empty(), url.parse()) {
        engine.routes.0.push(ModelRoute {
            model: engine.dual_model_name.clone(),
            commit: Some(engine.dual_model_commit.clone()),
            url,
            dialect: None,
        });
    }
}

/// `http.listen`, or host and port where a higher layer sets one of them.
fn listen_address(
    settings: &Settings,
    values: &Values,
    problems: &mut Vec<String>,
) -> Option<SocketAddr> {
    let parts = values.layer("http.host").max(values.layer("http.port"));
    if let Some(listen) = settings.http.listen.filter(|_| values.layer("http.listen") >= parts) {
        return Some(listen);
    }
    let host = settings.http.host.trim_matches(['[', ']']);
    let address: Option<IpAddr> = match host {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => host.parse().ok(),
    };
    if address.is_none() {
        problems.push(format!(
            "HTTP_HOST (http.host): {host:?} is not an IP address; write 127.0.0.1 or 0.0.0.0"
        ));
    }
    Some(SocketAddr::new(address?, settings.http.port))
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

fn engine_key(settings: &Settings, problems: &mut Vec<String>) -> Option<ApiKey> {
    let secret = settings.engine.api_key.as_ref()?;
    secret
        .reveal()
        .parse()
        .map_err(|error| problems.push(format!("API_KEY, --engine-key (engine.api_key): {error}")))
        .ok()
}

/// Configured keys, else those in the file. A public bind needs some; on loopback the OpenAI and
/// proof routes are open to this machine as long as no key is configured. spec: proxy §24
fn access(
    settings: &Settings,
    values: &Values,
    listen: SocketAddr,
    keys_file: Option<&Path>,
    engine_key: Option<&ApiKey>,
    problems: &mut Vec<String>,
) -> Access {
    let mut keys = keys::configured(settings, &values.keys, problems);
    let local = listen.ip().is_loopback();
    let open = local && !keys.iter().any(|key| key.opens(Scope::Inference));
    match keys_file.map_or(Ok(Vec::new()), keys::read) {
        Ok(mut generated) => keys.append(&mut generated),
        Err(problem) => problems.push(problem),
    }
    if !local && !keys.iter().any(|key| key.opens(Scope::Inference)) {
        problems.push(format!(
            "refusing to listen on {listen} without an API key: set TENSORPOW_API_KEY, run `tensorpow config keys` to generate keys, or listen on 127.0.0.1"
        ));
    }
    if let (true, Some(key)) = (local, engine_key) {
        // The guide's own command switches the model with the engine's key.
        keys.push(NamedKey::new("engine", key.clone(), Scope::Admin));
    }
    Access::new(keys, open)
}

fn tls(settings: &Settings, problems: &mut Vec<String>) -> Option<TlsFiles> {
    match (&settings.http.tls_cert, &settings.http.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        _ => {
            problems.push("http.tls_cert and http.tls_key must be set together".into());
            None
        }
    }
}

fn client_limits(settings: &Settings) -> ClientLimits {
    let limits = &settings.limits;
    ClientLimits {
        per_key: limits.per_key,
        per_address: limits.per_address,
        burst: limits.burst,
        // What is over it waits at the door, which is bounded as well.
        concurrency: workload::at_the_door(settings),
        concurrency_per_client: limits.concurrency_per_client,
    }
}

fn engine(settings: &Settings, key: Option<ApiKey>, routes: Vec<ModelRoute>) -> EngineConfig {
    let engine = &settings.engine;
    let by_flag = if engine.llama_cpp { EngineKind::LlamaCpp } else { EngineKind::Vllm };
    let kind = engine.kind.unwrap_or(by_flag);
    EngineConfig {
        url: engine.url.clone(),
        routes,
        key,
        timeouts: EngineTimeouts {
            connect: engine.connect_timeout,
            first_byte: engine.first_byte_timeout,
            absence: engine.absence,
            idle: engine.idle_timeout,
            total: engine.total_timeout,
        },
        pool: engine.pool,
        dialect: Dialect { kind, key: pow_key(kind, engine.use_vllm_xargs), form: engine.pow_form },
        breaker: workload::breaker(&settings.breaker),
    }
}

fn pow_key(kind: EngineKind, use_vllm_xargs: Option<bool>) -> PowKey {
    match use_vllm_xargs {
        Some(true) => PowKey::VllmXargs,
        Some(false) => PowKey::ExtraSamplingParams,
        None => kind.pow_key(),
    }
}

/// The routes of `MODEL_ROUTES`, and those of the file's tables, which go before them.
fn routes(
    settings: &Settings,
    entries: &[RouteEntry],
    problems: &mut Vec<String>,
) -> Vec<ModelRoute> {
    let mut routes = settings.engine.routes.0.clone();
    for entry in entries {
        let read = read_route(settings, entry);
        match read {
            Ok(route) => {
                routes.retain(|known| known.model != route.model);
                routes.push(route);
            }
            Err(problem) => problems.push(format!("[[route]] {:?}: {problem}", entry.model)),
        }
    }
    routes
}

fn read_route(settings: &Settings, entry: &RouteEntry) -> Result<ModelRoute, String> {
    let engine = &settings.engine;
    let kind = match &entry.kind {
        Some(text) => EngineKind::read(text)
            .ok_or_else(|| format!("kind {text:?} is not {}", EngineKind::FORM))?,
        None => engine.kind.unwrap_or(if engine.llama_cpp {
            EngineKind::LlamaCpp
        } else {
            EngineKind::Vllm
        }),
    };
    let form = match &entry.pow_form {
        Some(text) => PowForm::read(text)
            .ok_or_else(|| format!("pow_form {text:?} is not {}", PowForm::FORM))?,
        None => engine.pow_form,
    };
    let key = pow_key(kind, entry.use_vllm_xargs.or(engine.use_vllm_xargs));
    Ok(ModelRoute {
        model: entry.model.clone(),
        commit: entry.commit.clone(),
        url: entry.url.parse().map_err(|error: EngineUrlError| error.to_string())?,
        dialect: Some(Dialect { kind, key, form }),
    })
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

fn mcp(settings: &Settings, problems: &mut Vec<String>) -> Option<SocketAddr> {
    let address = settings.mcp.listen;
    if settings.mcp.enabled && !address.ip().is_loopback() {
        problems.push(format!(
            "mcp.listen: {address} is not a loopback address; tunnel MCP clients of other machines"
        ));
    }
    settings.mcp.enabled.then_some(address)
}

#[cfg(test)]
mod tests;
