//! `proxy-load`: the proxy and a plain reverse proxy (nginx) in front of the same engine without a
//! model, under the same load, on one machine: requests a second, added time, CPU time, streams and
//! the memory they take, and how soon an abandoned stream is aborted. Every number is printed when it
//! is taken; a whole run writes docs/proxy-performance.md.
//!
//! The proxy runs on a development chain, so requests are really mined: the engine counts those that
//! carry a mining context. Client, engine and proxy share the machine; compare the columns, not
//! machines.

mod client;
mod load;
mod measure;
mod report;
mod servers;
mod stage;

use clap::Parser;
use measure::Figures;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Measures the proxy beside nginx.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The proxy's program; by default the one beside this program
    #[arg(long, default_value_os_t = beside_us())]
    proxy: PathBuf,
    /// nginx; without it its columns stay empty
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of load before the maximum is taken again
    #[arg(long, default_value_t = 60)]
    sustained: u64,
    /// Connections of the maximum
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second of the fixed rate
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Streams held open at a time
    #[arg(long, default_value_t = 5000)]
    streams: usize,
    /// Streams that are abandoned
    #[arg(long, default_value_t = 1000)]
    abandoned: usize,
    /// Only these parts: max, rate, paced, held, abort; then nothing is written
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where a whole run is written
    #[arg(long, default_value = "docs/proxy-performance.md")]
    page: PathBuf,
}

impl Args {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn beside_us() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name("tensorpow")
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    raise_descriptor_limit()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    // The client has threads of its own, as it would have a machine; so has the engine.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(all(&args))?;
    if args.only.is_empty() {
        std::fs::write(&args.page, report::page(&args, &figures, &load))?;
        println!("{}", args.page.display());
    }
    Ok(())
}

async fn all(args: &Args) -> Outcome<Figures> {
    let mut figures = Figures::default();
    if args.wants("max") {
        measure::maxima(args, &mut figures).await?;
    }
    if args.wants("rate") {
        measure::rates(args, &mut figures).await?;
    }
    if args.wants("paced") {
        measure::paced(args, &mut figures).await?;
    }
    if args.wants("held") {
        measure::held(args, &mut figures).await?;
    }
    if args.wants("abort") {
        measure::aborts(args, &mut figures).await?;
    }
    Ok(figures)
}

/// Client and engine are one process and need two descriptors a stream; whoever is started by it
/// inherits the limit.
fn raise_descriptor_limit() -> Outcome<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}
