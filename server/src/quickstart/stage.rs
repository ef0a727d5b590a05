//! What the quickstart sets up before anything is asked: the development chain and the proxy in this
//! process, the engine as its child, everything on free ports.

use super::child::{EngineCommand, EngineProcess};
use super::{QuickstartArgs, QuickstartError, broker};
use crate::config::layers::Layers;
use crate::config::{Config, ConfigError, DevnetArgs, ShareTarget};
use crate::devnet::broker::{Books, BrokerSettings, DevBroker};
use crate::devnet::chain::ChainSettings;
use crate::link::Link;
use crate::mining::model::ModelId;
use crate::report::Against;
use crate::service::Service;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use tensorpow_core::target::{CompactTarget, Normalizer, Target, share_target};

/// Development block target: about every fourth window is a block.
const BLOCK_BITS: CompactTarget = CompactTarget::from_bits(0x203f_ffff);

/// What has been started.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) service: Service,
    pub(super) engine: EngineProcess,
    /// Who gives out the work, with `--broker`.
    pub(super) broker: Option<DevBroker>,
    /// The model as the chain has registered it.
    pub(super) model: ModelId,
    /// What its proofs are held against.
    pub(super) against: Against,
}

impl Stage {
    /// Starts everything, the engine last, and says what was started.
    pub(super) async fn set(args: &QuickstartArgs) -> Result<Self, QuickstartError> {
        let readable = |path: &Path| {
            File::open(path).map_err(|error| QuickstartError::File { path: path.to_owned(), error })
        };
        readable(&args.llama_server)?;
        let digest = file_digest(readable(&args.model)?)
            .map_err(|error| QuickstartError::File { path: args.model.clone(), error })?;
        let model: ModelId = format!("{}@{}", args.model_name, &digest[..40]).parse()?;
        println!("Model      {model}");
        println!("           (commit: the first 40 digits of the file's SHA-256)");
        let engine_port = free_port().map_err(QuickstartError::System)?;
        let settings = DevnetArgs {
            model: Some(model.clone()),
            difficulty: 1_000_000,
            block_bits: if args.broker { broker::BLOCK_BITS } else { BLOCK_BITS },
            share_target: ShareTarget(Some(Target::MAX)),
            proof_version: args.proof_version,
            interval: 10.0,
            vdf_ticks: args.vdf_ticks,
            seed: None,
        }
        .into_settings()?;
        let against = Against {
            share_target: share_target(
                &Target::MAX,
                settings.model.difficulty,
                Normalizer::DEFAULT,
            )
            .ok(),
            v3_active: args.proof_version >= 3,
        };
        let (service, broker) = match args.broker {
            true => {
                let (service, broker) = behind_broker(args, settings, engine_port).await?;
                (service, Some(broker))
            }
            false => {
                let (link, chain) = Link::to_devnet(settings);
                let config = proxy_config(args, engine_port, Vec::new())?;
                let service = Service::start(config, Some(link)).await?;
                let tip = chain.tip().hash;
                println!("Chain      embedded development chain, tip {}", tip.display());
                println!(
                    "           (each block needs a VDF proof of {} squarings)",
                    args.vdf_ticks
                );
                (service, None)
            }
        };
        println!("Proxy      http://{}/v1", service.address());
        println!("Collector  {}", service.collector().endpoint());
        let engine = EngineProcess::spawn(&EngineCommand {
            program: args.llama_server.clone(),
            model: args.model.clone(),
            alias: args.model_name.clone(),
            port: engine_port,
            threads: args.threads,
            collector_port: service.collector().port().unwrap_or_default(),
            admission: args.proof_version >= 3,
        })?;
        println!("Engine     {} on port {engine_port}", args.llama_server.display());
        Ok(Self { service, engine, broker, model, against })
    }
}

/// The proxy as a worker of a development broker, which is started as well. They know each other by
/// a URL and a token.
async fn behind_broker(
    args: &QuickstartArgs,
    settings: ChainSettings,
    engine_port: u16,
) -> Result<(Service, DevBroker), QuickstartError> {
    let books = Books::new(settings, BrokerSettings::default())?;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let broker = DevBroker::open(books.clone(), anywhere, Some(anywhere)).await?;
    println!("Broker     {}, a development broker", broker.url());
    if let Some(http) = broker.http() {
        println!("           (its ledger: http://{http}/ledger)");
    }
    let config = proxy_config(
        args,
        engine_port,
        vec![
            ("mining.worker_mode", "broker".to_owned()),
            ("broker.url", broker.url()),
            ("broker.jwt", books.provider_token("quickstart")),
            ("mining.proof_version", args.proof_version.to_string()),
            // One proof for each block, and no core that runs hot for a chain without value.
            ("vdf.checkpoint_size", args.vdf_ticks.to_string()),
            ("vdf.max_iterations", args.vdf_ticks.to_string()),
        ],
    )?;
    let link = config.broker.clone().map(|link| link.open());
    Ok((Service::start(config, link).await?, broker))
}

/// The proxy's settings: these alone, whatever the environment says.
fn proxy_config(
    args: &QuickstartArgs,
    engine_port: u16,
    more: Vec<(&str, String)>,
) -> Result<Config, ConfigError> {
    let set = |key: &str, value: String| (key.to_owned(), value);
    let mut flags = vec![
        set("http.listen", args.listen.to_string()),
        set("engine.url", format!("http://127.0.0.1:{engine_port}")),
        set("engine.kind", "llama.cpp".to_owned()),
        set("proofs.collector", "127.0.0.1:0".to_owned()),
        set("proofs.max_megabytes", "100".to_owned()),
        set("data.dir", "none".to_owned()),
        // One prompt is shown; nothing else should run.
        set("backfill.min_active", "0".to_owned()),
    ];
    flags.extend(more.into_iter().map(|(key, value)| set(key, value)));
    Config::load(&Layers { flags, ..Layers::default() })
}

/// SHA-256 of a file, in hex.
fn file_digest(mut file: File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// A port that was free a moment ago: llama-server takes no port 0.
fn free_port() -> std::io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}
