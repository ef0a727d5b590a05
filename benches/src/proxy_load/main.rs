//! `proxy-load`: the proxy and a plain reverse proxy (nginx) in front of the same engine without a
//! model, under the same load, on one machine. Prints the maximum of requests per second fresh and
//! after a minute, the latency each adds at a fixed rate, the proxy's CPU time per mined request,
//! paced and held streams with the memory they take, and how soon an abandoned stream is aborted.
//!
//! The proxy runs on a development chain, so every request is really mined: the engine counts those
//! that carry a mining context. Client, engine and proxy share the machine; compare the columns, not
//! machines.

mod client;
mod runs;
mod servers;

use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Measures the proxy beside nginx.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The proxy's program
    #[arg(long, default_value = "target/release/tensorpow")]
    proxy: PathBuf,
    /// nginx; without it its columns stay empty
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Seconds of load before the maximum is taken again
    #[arg(long, default_value_t = 60)]
    sustained: u64,
    /// Connections of the maximum
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Streams held open at a time
    #[arg(long, default_value_t = 5000)]
    streams: usize,
    /// Streams that are abandoned
    #[arg(long, default_value_t = 1000)]
    abandoned: usize,
    /// Only these parts: max, rate, stream, held, abort
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Args {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    // The client and the engine get threads of their own, as they would have machines.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runs::all(&args))
}
