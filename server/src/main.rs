//! The command line of `tensorpow`.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use std::error::Error;
use std::process::ExitCode;
use tensorpow_server::config::command::{self as config_command, ConfigCommand};
use tensorpow_server::config::node::NodeLink;
use tensorpow_server::config::{Config, DevnetArgs, ProxyArgs};
use tensorpow_server::devnet::broker::command::{self as broker_command, DevBrokerArgs};
use tensorpow_server::devnet::check::block_target;
use tensorpow_server::devnet::node::DevNode;
use tensorpow_server::devnet::node_command::DevNodeArgs;
use tensorpow_server::link::Link;
use tensorpow_server::proof_command::{self, ProofCommand};
use tensorpow_server::quickstart::QuickstartArgs;
use tensorpow_server::service::Service;
use tensorpow_server::spool_command::{self, SpoolCommand};
use tensorpow_server::vdf_command::{self, VdfCommand};
use tensorpow_server::{log, quickstart};

/// A request is a hundred small pieces of memory, taken by one thread and given back by another.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The miner's proxy of TensorCash: serves the OpenAI API and mines with the same forward pass.
#[derive(Debug, Parser)]
#[command(name = "tensorpow", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Proxy(Box<ProxyCommand>),
    /// Check and show the configuration, generate API keys
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prove, verify and measure the verifiable delay function
    #[command(subcommand)]
    Vdf(VdfCommand),
    /// Inspect, judge, compare and convert proofs
    #[command(subcommand)]
    Proof(ProofCommand),
    /// Look at the proofs on disk, deliver dead letters again
    #[command(subcommand)]
    Spool(SpoolCommand),
}

/// What runs until it is stopped.
#[derive(Debug, Subcommand)]
enum ProxyCommand {
    /// Serve an engine's OpenAI API and collect its proofs; mines with --node, or for a broker with
    /// WORKER_MODE=broker
    Serve(ProxyArgs),
    /// Serve and mine on an embedded development chain
    ///
    /// The chain hands out jobs with easy targets, checks every result by the node's rules and
    /// moves its tip. Its coins do not exist. Its VDF is the network's, but short: each parent block
    /// gets one proof of --vdf-ticks squarings, then the prover rests until the next block.
    Devnet(Box<DevnetCommand>),
    /// Start everything on this machine, send one prompt, show its proof
    Quickstart(QuickstartArgs),
}

#[derive(Debug, clap::Args)]
#[command(subcommand_negates_reqs = true)]
struct DevnetCommand {
    #[command(subcommand)]
    part: Option<DevnetPart>,
    #[command(flatten)]
    chain: DevnetArgs,
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// A part of the development chain on its own.
#[derive(Debug, Subcommand)]
enum DevnetPart {
    /// Play a node: push jobs to a proxy (`serve --node`), take its results, serve the registry
    Node(DevNodeCommand),
    /// Play a compute broker: lease work to workers, judge what they find, give them prompts
    Broker(DevBrokerCommand),
}

#[derive(Debug, clap::Args)]
struct DevBrokerCommand {
    #[command(flatten)]
    chain: DevnetArgs,
    #[command(flatten)]
    broker: DevBrokerArgs,
}

#[derive(Debug, clap::Args)]
struct DevNodeCommand {
    #[command(flatten)]
    chain: DevnetArgs,
    #[command(flatten)]
    node: DevNodeArgs,
}

fn main() -> ExitCode {
    let command = match Cli::parse().command {
        Command::Vdf(command) => return vdf_command::run(command),
        Command::Proof(command) => return proof_command::run(&command),
        Command::Config(command) => return config_command::run(command),
        Command::Spool(command) => return spool_command::run(&command),
        Command::Proxy(command) => command,
    };
    #[cfg(unix)]
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(*command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

/// A stream takes two descriptors, one to the client and one to the engine. Shells often allow 1 024
/// at first and many more on request; where they do not, what there is must do.
#[cfg(unix)]
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("tensorpow: {error}");
    ExitCode::FAILURE
}

async fn run(command: ProxyCommand) -> Result<(), Box<dyn Error>> {
    match command {
        ProxyCommand::Serve(args) => {
            let config = prepared(args, &[])?;
            let stop = stop_signal()?;
            let link = match config.broker.clone() {
                Some(broker) => Some(broker.open()),
                None => config.node.clone().map(NodeLink::open).transpose()?,
            };
            Service::start(config, link).await?.run(stop).await;
        }
        ProxyCommand::Devnet(command) => devnet(*command).await?,
        ProxyCommand::Quickstart(args) => {
            log::quiet();
            quickstart::run(args, stop_signal()?).await?;
        }
    }
    Ok(())
}

async fn devnet(command: DevnetCommand) -> Result<(), Box<dyn Error>> {
    let DevnetCommand { part, chain, proxy } = command;
    if let Some(DevnetPart::Node(command)) = part {
        log::plain();
        let node = DevNode::start(command.chain.into_settings()?, command.node.into()).await?;
        stop_signal()?.await;
        // Its thread is joined.
        tokio::task::spawn_blocking(move || drop(node)).await?;
        return Ok(());
    }
    if let Some(DevnetPart::Broker(command)) = part {
        log::quiet();
        let settings = command.chain.into_settings()?;
        broker_command::run(settings, command.broker, stop_signal()?).await?;
        return Ok(());
    }
    let settings = chain.into_settings()?;
    let target = block_target(&settings)?;
    // The development chain is tried with llama.cpp first. What is mined here is worth
    // nothing, so it is kept only if somebody says where.
    let config = prepared(proxy, &[("engine.kind", "llama.cpp"), ("data.dir", "none")])?;
    tracing::info!(
        "development chain for {}, block target {target:x}, {} VDF ticks a block",
        settings.model.id,
        settings.vdf_ticks
    );
    let stop = stop_signal()?;
    let (link, _) = Link::to_devnet(settings);
    Service::start(config, Some(link)).await?.run(stop).await;
    Ok(())
}

/// The configuration of a command, logs set up, warnings logged, keys generated where none are.
fn prepared(args: ProxyArgs, command: &[(&'static str, &str)]) -> Result<Config, Box<dyn Error>> {
    let mut config = args.into_config(command)?;
    log::start(&config.settings.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(problem) = config.generate_missing_keys() {
        tracing::warn!("{problem}; routes that change the worker stay closed");
    }
    config.keep_budgets();
    Ok(config)
}

/// Completes at SIGINT or SIGTERM. The handlers are in place when this returns.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
