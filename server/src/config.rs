//! Settings of the proxy: the flags (with their environment variables), and the typed
//! configuration they become. What would be unsafe is refused here, by name and with the way out.

use crate::cache::CacheLimits;
use crate::collector::CollectorSettings;
use crate::devnet::chain::ChainSettings;
use crate::devnet::vdf::DEFAULT_TICKS;
use crate::http::RequestLimits;
use crate::http::auth::{Access, ApiKey, ApiKeyError};
use crate::http::engine::{EngineTimeouts, EngineUrl};
use crate::http::listen::ConnectionLimits;
use crate::mining::model::{ModelId, ModelRecord};
use crate::mining::pause::SolutionCooldown;
use crate::mining::payload::{EngineKind, PowForm};
use crate::spool::{Location, Retention, SpoolSettings};
use crate::zap::AddressRange;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tensorpow_core::target::{
    CompactTarget, Difficulty, Normalizer, Target, parse_base_share_target,
};

/// Settings that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Anybody could use the engine.
    #[error(
        "refusing to listen on {0} without an API key: set TENSORPOW_API_KEY, or listen on 127.0.0.1"
    )]
    PublicWithoutKey(SocketAddr),
    /// An API key is malformed; it is not repeated here.
    #[error("{name}: {error}")]
    Key {
        /// Flag and variable.
        name: &'static str,
        /// What is wrong.
        error: ApiKeyError,
    },
    /// The model's difficulty is not positive.
    #[error("--difficulty {0} must be positive")]
    Difficulty(i64),
    /// There is no model to register.
    #[error("--model names the model of the development chain")]
    NoModel,
    /// A number of seconds is not usable.
    #[error("--interval {0} must be between 0.01 and 86400 seconds")]
    Interval(f64),
}

/// Flags of every command that runs the proxy.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// Address of the OpenAI API; anything but loopback needs an API key
    #[arg(long, env = "TENSORPOW_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// URL of the inference engine
    #[arg(long, env = "TARGET_URL", default_value = "http://127.0.0.1:8000", value_name = "URL")]
    pub engine: EngineUrl,
    /// Which engine it is
    #[arg(long, env = "TENSORPOW_ENGINE_KIND", value_enum, default_value = "llama.cpp")]
    pub engine_kind: EngineKind,
    /// Form of the pow member; `string` is for a stock vLLM without our middleware
    #[arg(long, env = "TENSORPOW_POW_FORM", value_enum, default_value = "object")]
    pub pow_form: PowForm,
    /// Key that clients must present as `Authorization: Bearer`
    #[arg(long, env = "TENSORPOW_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// The proxy's own key towards the engine
    #[arg(long, env = "API_KEY", hide_env_values = true, value_name = "KEY")]
    pub engine_key: Option<String>,
    /// Address where engines push their proofs (ZeroMQ PULL); anything but loopback needs
    /// --collector-allow
    #[arg(
        long,
        env = "TENSORPOW_COLLECTOR",
        default_value = "127.0.0.1:7002",
        value_name = "ADDR"
    )]
    pub collector: SocketAddr,
    /// Addresses or ranges of the engines that may connect to the collector
    #[arg(
        long,
        env = "TENSORPOW_COLLECTOR_ALLOW",
        value_delimiter = ',',
        value_name = "ADDR|RANGE"
    )]
    pub collector_allow: Vec<AddressRange>,
    /// Folder of what must survive a restart: the proofs, in spool/; `none` keeps them in memory
    #[arg(long, env = "TENSORPOW_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Hours that proofs stay in the spool
    #[arg(long, env = "TENSORPOW_SPOOL_HOURS", default_value_t = 168, value_name = "HOURS")]
    pub spool_hours: u64,
    /// Megabytes of proofs in the spool
    #[arg(long, env = "TENSORPOW_SPOOL_MB", default_value_t = 1024, value_name = "MB")]
    pub spool_megabytes: u64,
    /// Mean length in seconds of the pause after each solution or share; 0 for none
    #[arg(long, env = "MINING_SOLUTION_COOLDOWN_SEC", default_value_t = 0, value_name = "SECONDS")]
    pub solution_cooldown: u64,
    /// Largest proof message in bytes
    #[arg(long, default_value_t = 4 * 1024 * 1024, value_name = "BYTES")]
    pub max_proof: usize,
    /// Largest request body in bytes
    #[arg(long, env = "TENSORPOW_MAX_BODY", default_value_t = 32 * 1024 * 1024, value_name = "BYTES")]
    pub max_body: usize,
    /// Seconds until an engine must have begun its answer
    #[arg(long, env = "TENSORPOW_ENGINE_TIMEOUT", default_value_t = 600, value_name = "SECONDS")]
    pub engine_timeout: u64,
    /// Seconds an engine may be silent in the middle of a stream
    #[arg(long, env = "TENSORPOW_ENGINE_IDLE", default_value_t = 120, value_name = "SECONDS")]
    pub engine_idle: u64,
    /// Seconds proofs are kept
    #[arg(long, env = "PROOF_CACHE_TTL_SECONDS", default_value_t = 900, value_name = "SECONDS")]
    pub proof_ttl: u64,
    /// Megabytes of proofs kept
    #[arg(long, env = "PROOF_CACHE_MAX_SIZE_MB", default_value_t = 500, value_name = "MB")]
    pub proof_megabytes: usize,
    /// Scales share targets to a model's difficulty; 0 switches shares off
    #[arg(
        long,
        env = "MODEL_DIFFICULTY_NORMALIZER",
        default_value_t = 1_000_000,
        value_name = "N"
    )]
    pub share_normalizer: u64,
    /// Seconds after which a job is no longer mined on; requests are served all the same
    #[arg(
        long,
        env = "MINING_STALE_THRESHOLD_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS"
    )]
    pub job_stale: u64,
    /// Configuration file that the dashboard's wizard writes; by default
    /// $XDG_CONFIG_HOME/tensorpow/config.toml
    #[arg(long, env = "TENSORPOW_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The proxy's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the HTTP face.
    pub listen: SocketAddr,
    /// Who may call.
    pub access: Access,
    /// The engine.
    pub engine: EngineUrl,
    /// Which engine it is.
    pub engine_kind: EngineKind,
    /// Form of `pow`.
    pub pow_form: PowForm,
    /// The normalizer of share targets.
    pub share_normalizer: Normalizer,
    /// The proxy's own key towards the engine.
    pub engine_key: Option<ApiKey>,
    /// Limits on engine answers.
    pub timeouts: EngineTimeouts,
    /// The proof collector.
    pub collector: CollectorSettings,
    /// The proof cache.
    pub cache: CacheLimits,
    /// The spool behind it.
    pub spool: SpoolSettings,
    /// The pause after each solution or share.
    pub solution_cooldown: Option<SolutionCooldown>,
    /// Limits on requests.
    pub limits: RequestLimits,
    /// Limits on connections.
    pub connections: ConnectionLimits,
    /// The file that the dashboard's wizard writes.
    pub config_file: PathBuf,
}

impl ProxyArgs {
    /// The configuration these flags stand for.
    ///
    /// # Errors
    /// [`ConfigError`] when they are malformed or unsafe.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let key = |text: Option<String>, name| match text.filter(|text| !text.is_empty()) {
            Some(text) => text.parse().map(Some).map_err(|error| ConfigError::Key { name, error }),
            None => Ok(None),
        };
        let access = match key(self.api_key, "--api-key, TENSORPOW_API_KEY")? {
            Some(key) => Access::Key(key),
            None if self.listen.ip().is_loopback() => Access::Local,
            None => return Err(ConfigError::PublicWithoutKey(self.listen)),
        };
        Ok(Config {
            listen: self.listen,
            access,
            engine: self.engine,
            engine_kind: self.engine_kind,
            pow_form: self.pow_form,
            share_normalizer: Normalizer(self.share_normalizer),
            engine_key: key(self.engine_key, "--engine-key, API_KEY")?,
            timeouts: EngineTimeouts {
                headers: Duration::from_secs(self.engine_timeout),
                idle: Duration::from_secs(self.engine_idle),
                ..EngineTimeouts::default()
            },
            collector: CollectorSettings {
                address: self.collector,
                max_message: self.max_proof,
                allow: self.collector_allow,
            },
            spool: SpoolSettings {
                location: spool_location(self.data_dir),
                retention: Retention {
                    max_age: Duration::from_secs(self.spool_hours.saturating_mul(3600)),
                    max_bytes: self.spool_megabytes.saturating_mul(1024 * 1024),
                    ..Retention::default()
                },
                ..SpoolSettings::default()
            },
            solution_cooldown: SolutionCooldown::new(Duration::from_secs(self.solution_cooldown)),
            cache: CacheLimits {
                ttl: Duration::from_secs(self.proof_ttl),
                max_bytes: self.proof_megabytes.max(1).saturating_mul(1024 * 1024),
            },
            limits: RequestLimits {
                body: self.max_body,
                job_stale_after: Duration::from_secs(self.job_stale),
                ..RequestLimits::default()
            },
            connections: ConnectionLimits::default(),
            config_file: self.config.unwrap_or_else(default_file),
        })
    }
}

/// `$XDG_CONFIG_HOME/tensorpow/config.toml`
fn default_file() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".config"));
    folder.or_else(home).unwrap_or_default().join("tensorpow/config.toml")
}

/// The spool's place: in the data folder, by default that of the user. Without either, and for the
/// word `none`, in memory.
#[must_use]
pub fn spool_location(data_dir: Option<PathBuf>) -> Location {
    let folder = match data_dir {
        Some(folder) if folder.as_os_str() == "none" => return Location::Memory,
        Some(folder) if !folder.as_os_str().is_empty() => Some(folder),
        _ => default_data_dir(),
    };
    folder.map_or(Location::Memory, |folder| Location::Folder(folder.join("spool")))
}

/// `$XDG_DATA_HOME/tensorpow`, else `~/.local/share/tensorpow`.
fn default_data_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match variable("XDG_DATA_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable("HOME")?).join(".local/share"),
    };
    base.is_absolute().then(|| base.join("tensorpow"))
}

/// Flags of the development chain.
#[derive(Debug, Clone, Args)]
pub struct DevnetArgs {
    /// The registered model as name@commit; requests for this name are mined
    // Wanted by clap unless a subcommand follows, whose flags have a model of their own.
    #[arg(long, required = true, value_name = "NAME@COMMIT")]
    pub model: Option<ModelId>,
    /// Its registered difficulty; 1000000 leaves the targets as they are
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub difficulty: i64,
    /// Block target in compact form; the default makes about every fourth window a block
    #[arg(long, default_value = "0x203fffff", value_parser = parse_bits, value_name = "BITS")]
    pub block_bits: CompactTarget,
    /// Share target in hex, or `none`; the default makes every window a share
    #[arg(
        long,
        default_value = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        value_parser = parse_share_target,
        value_name = "HEX"
    )]
    pub share_target: ShareTarget,
    /// Proof version that blocks must have. 3 fixes temperature 1, top_k 50 and top_p 1, and its
    /// rules of credited entropy and admission bind from the first block on
    #[arg(long, env = "POW_PROOF_VERSION", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub proof_version: u8,
    /// Seconds between templates on the same block
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub interval: f64,
    /// Squarings behind the VDF proof of each parent block. The prover rests once they are proved,
    /// a fraction of a second with the default; until then requests are served unmined
    #[arg(
        long,
        default_value_t = DEFAULT_TICKS,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N"
    )]
    pub vdf_ticks: u32,
    /// Makes all headers depend on this number alone, not on the clock
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// A share target, or none. (clap reads an `Option` as "flag may be missing".)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTarget(pub Option<Target>);

impl DevnetArgs {
    /// The chain these flags stand for.
    ///
    /// # Errors
    /// [`ConfigError`] when a value is out of range.
    pub fn into_settings(self) -> Result<ChainSettings, ConfigError> {
        let difficulty = Difficulty::new(self.difficulty)
            .map_err(|_| ConfigError::Difficulty(self.difficulty))?;
        if !(0.01..=86_400.0).contains(&self.interval) {
            return Err(ConfigError::Interval(self.interval));
        }
        Ok(ChainSettings {
            block_bits: self.block_bits,
            base_share_target: self.share_target.0,
            model: ModelRecord {
                id: self.model.ok_or(ConfigError::NoModel)?,
                difficulty,
                cid: String::new(),
                commit_block_height: 0,
            },
            proof_version: self.proof_version,
            normalizer: Normalizer::DEFAULT,
            interval: Duration::from_secs_f64(self.interval),
            vdf_ticks: self.vdf_ticks,
            seed: self.seed,
        })
    }
}

/// A compact target as decimal or `0x` hex, if it is a valid one.
fn parse_bits(text: &str) -> Result<CompactTarget, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let bits = value.map(CompactTarget::from_bits).map_err(|error| error.to_string())?;
    bits.derive(&Target::POW_LIMIT_TENSOR).map_err(|error| error.to_string())?;
    Ok(bits)
}

fn parse_share_target(text: &str) -> Result<ShareTarget, String> {
    if text == "none" {
        return Ok(ShareTarget(None));
    }
    parse_base_share_target(text).map(|target| ShareTarget(Some(target))).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Proxy {
        #[command(flatten)]
        args: ProxyArgs,
    }

    #[derive(Debug, Parser)]
    struct Devnet {
        #[command(flatten)]
        args: DevnetArgs,
    }

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        let mut args = Proxy::parse_from([&["x"], flags].concat()).args;
        // The environment of whoever runs the tests has no say.
        if !flags.contains(&"--api-key") {
            args.api_key = None;
        }
        args.into_config()
    }

    #[test]
    fn a_public_bind_needs_a_key() {
        assert!(matches!(config(&[]).unwrap().access, Access::Local));
        let error = config(&["--listen", "0.0.0.0:8080"]).unwrap_err();
        assert!(error.to_string().contains("TENSORPOW_API_KEY"), "{error}");
        assert!(config(&["--listen", "0.0.0.0:8080", "--api-key", ""]).is_err(), "empty is no key");
        let with_key = config(&["--listen", "0.0.0.0:8080", "--api-key", "k"]).unwrap();
        assert!(matches!(with_key.access, Access::Key(_)));
        assert!(config(&["--api-key", "two words"]).is_err());
    }

    #[test]
    fn devnet_flags_are_checked_one_by_one() {
        let parse = |flags: &[&str]| {
            Devnet::try_parse_from([&["x", "--model", "a/b@c"], flags].concat()).map(|x| x.args)
        };
        let settings = parse(&[]).unwrap().into_settings().unwrap();
        assert_eq!(settings.base_share_target, Some(Target::MAX));
        assert_eq!(parse(&["--share-target", "none"]).unwrap().share_target, ShareTarget(None));
        for bad in [
            &["--block-bits", "0x04800001"][..],
            &["--block-bits", "zero"],
            &["--block-bits", "0"],
            &["--share-target", "0x1"],
            &["--share-target", ""],
            &["--proof-version", "4"],
            &["--model", "no-commit"],
            &["--vdf-ticks", "0"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&["--difficulty", "0"]).unwrap().into_settings().is_err());
        assert!(parse(&["--interval", "0"]).unwrap().into_settings().is_err());
    }
}
