//! What the quickstart sets up before anything is asked: the development chain and the proxy in this
//! process, the engine as its child, everything on free ports.

use super::child::{EngineCommand, EngineProcess};
use super::{QuickstartArgs, QuickstartError};
use crate::config::{DevnetArgs, ProxyArgs, ShareTarget};
use crate::http::engine::EngineUrl;
use crate::mining::model::ModelId;
use crate::mining::payload::{EngineKind, PowForm};
use crate::report::Against;
use crate::service::{Link, Service};
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
            block_bits: BLOCK_BITS,
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
        let (link, chain) = Link::to_devnet(settings);
        let config = proxy_args(args, engine_port)?.into_config()?;
        let service = Service::start(config, Some(link)).await?;
        println!("Chain      embedded development chain, tip {}", chain.tip().hash.display());
        println!("           (each block needs a VDF proof of {} squarings)", args.vdf_ticks);
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
        Ok(Self { service, engine, model, against })
    }
}

fn proxy_args(args: &QuickstartArgs, engine_port: u16) -> Result<ProxyArgs, QuickstartError> {
    let engine: EngineUrl = format!("http://127.0.0.1:{engine_port}")
        .parse()
        .map_err(|error| QuickstartError::System(std::io::Error::other(error)))?;
    Ok(ProxyArgs {
        listen: args.listen,
        engine,
        engine_kind: EngineKind::LlamaCpp,
        pow_form: PowForm::Object,
        api_key: None,
        engine_key: None,
        collector: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        collector_allow: Vec::new(),
        data_dir: Some("none".into()),
        spool_hours: 1,
        spool_megabytes: 100,
        solution_cooldown: 0,
        max_proof: 4 * 1024 * 1024,
        max_body: 32 * 1024 * 1024,
        engine_timeout: 600,
        engine_idle: 120,
        proof_ttl: 900,
        proof_megabytes: 100,
        share_normalizer: Normalizer::DEFAULT.0,
        job_stale: 60,
        config: None,
    })
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
