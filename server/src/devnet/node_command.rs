//! Flags of `tensorpow devnet node`.

use super::node::DevNodeSettings;
use crate::node::results::Endpoint;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the development node is, and how it misbehaves.
#[derive(Debug, Clone, Args)]
pub struct DevNodeArgs {
    /// The worker's job socket
    #[arg(long, default_value = "tcp://127.0.0.1:6000", value_name = "ENDPOINT")]
    pub jobs: Endpoint,
    /// Address to take results on
    #[arg(long, default_value = "127.0.0.1:7000", value_name = "ADDR")]
    pub results: SocketAddr,
    /// Address of the model registry
    #[arg(long, default_value = "127.0.0.1:8050", value_name = "ADDR")]
    pub registry: SocketAddr,
    /// Key the registry wants; without one it is open
    #[arg(long, value_name = "KEY")]
    pub registry_key: Option<String>,
    /// Seconds between blocks that somebody else finds; without it there are none
    #[arg(long, value_name = "SECONDS")]
    pub tip_every: Option<f64>,
    /// After this many jobs send a message that is none
    #[arg(long, value_name = "N")]
    pub garbage_every: Option<u32>,
    /// Old templates to queue for the worker before it comes
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub backlog: u32,
    /// Read no more than a node does: 120 messages a minute, idle seconds counting
    #[arg(long)]
    pub limit_reads: bool,
    /// Add a line for every result to this file: time, digest, verdict
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

impl From<DevNodeArgs> for DevNodeSettings {
    fn from(args: DevNodeArgs) -> Self {
        // A time that makes no sense becomes the shortest one.
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Self {
            jobs: args.jobs,
            results: args.results,
            registry: args.registry,
            registry_key: args.registry_key,
            tip_every: args.tip_every.map(seconds),
            garbage_every: args.garbage_every,
            backlog: args.backlog,
            limit_reads: args.limit_reads,
            ledger: args.ledger,
        }
    }
}
