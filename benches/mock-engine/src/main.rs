//! `mock-engine`: the engine without a model as a program.

use clap::Parser;
use mock_engine::{MockEngine, Settings};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Answers OpenAI requests with fixed text.
#[derive(Debug, Parser)]
struct Args {
    /// Address; port 0 takes a free one, which is printed
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Chunks of a stream
    #[arg(long, default_value_t = 64)]
    chunks: usize,
    /// Milliseconds before each chunk
    #[arg(long, default_value_t = 0)]
    pace_ms: u64,
    /// Before each chunk comes a comment with the time at which it left
    #[arg(long)]
    stamps: bool,
    /// Requests kept for /debug/requests
    #[arg(long, default_value_t = 1000)]
    keep: usize,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let settings = Settings {
        chunks: args.chunks,
        pace: Duration::from_millis(args.pace_ms),
        stamps: args.stamps,
        keep: args.keep,
    };
    let engine = MockEngine::start(TcpListener::bind(args.listen).await?, settings)?;
    println!("http://{}", engine.address);
    std::io::stdout().flush()?;
    tokio::signal::ctrl_c().await
}
