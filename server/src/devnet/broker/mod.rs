//! A stand-in for a compute broker: a worker in broker mode can be run, shown and tested without an
//! account. It registers workers, leases work on an embedded development chain, verifies every share
//! and result by the chain's rules, dispatches inference jobs and audits them, and misbehaves when
//! it is told to. Its frames are plain JSON written from the specification; it shares no frame types
//! with the worker's side. spec: broker §12
//!
//! [`Books`] is what a broker knows, [`DevBroker`] its open doors. A broker that is dropped and
//! opened again with the same books is one that was killed and restarted.

mod audits;
pub mod command;
mod door;
mod frames;
mod hello;
mod http;
pub mod jobs;
mod judge;
mod leases;
pub mod ledger;
pub mod misbehave;
mod session;
pub mod token;
mod workers;

pub use audits::audit;

use super::chain::{ChainSettings, DevChain};
use super::vdf::DevVdf;
use crate::mining::network::Network;
use jobs::Jobs;
use ledger::Ledger;
use misbehave::{Fault, Faults};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use token::Tokens;
use tokio::task::JoinSet;

/// How far a skewed clock is off.
const SKEW_SECONDS: u64 = 86_400;

/// Times that a broker keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From the upgrade to the `HELLO`, and from a challenge to its answer.
    pub hello: Duration,
    /// Beyond three heartbeats, before a worker is dead.
    pub late: Duration,
    /// A lease without share or result expires, softly.
    pub lease_silent: Duration,
    /// After that it is over.
    pub lease_grace: Duration,
    /// How often leases are looked at.
    pub review: Duration,
    /// From `START` to `ACK`.
    pub job_ack: Duration,
    /// From `ACK` to `END` or `ERROR`.
    pub job_end: Duration,
    /// Between two questions for a proof that is not ready.
    pub audit_again: Duration,
    /// Between two messages of a slow reader.
    pub slow_reader: Duration,
}

impl Default for Timing {
    /// spec: broker §12
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(30),
            late: Duration::from_secs(1),
            lease_silent: Duration::from_secs(60),
            lease_grace: Duration::from_secs(30),
            review: Duration::from_secs(1),
            job_ack: Duration::from_secs(10),
            job_end: Duration::from_secs(300),
            audit_again: Duration::from_secs(1),
            slow_reader: Duration::from_secs(1),
        }
    }
}

/// What a broker is like.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// What its tokens are made from.
    pub secret: String,
    /// With it every worker is challenged.
    pub challenge_secret: Option<String>,
    /// Seconds between heartbeats.
    pub heartbeat_sec: u64,
    /// Leases of one worker at most.
    pub max_parallel: usize,
    /// The network's name in leases.
    pub network: String,
    /// The wallet's name in leases.
    pub wallet: String,
    /// Somebody else finds a block this often.
    pub tip_every: Option<Duration>,
    /// Where the ledger is appended to.
    pub ledger: Option<PathBuf>,
    /// Misbehaviours from the start.
    pub faults: Vec<Fault>,
    /// Times.
    pub timing: Timing,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            secret: token::fresh_secret(),
            challenge_secret: None,
            heartbeat_sec: 15,
            max_parallel: 1,
            network: Network::Tensor.as_str().to_owned(),
            wallet: "devnet-wallet".to_owned(),
            tip_every: None,
            ledger: None,
            faults: Vec::new(),
            timing: Timing::default(),
        }
    }
}

/// The broker cannot run.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}")]
pub struct BrokerError {
    /// What was wanted.
    what: String,
    /// What the system says.
    error: std::io::Error,
}

/// Everything a broker knows; it outlives the broker's connections.
#[derive(Debug)]
pub struct Books {
    settings: BrokerSettings,
    chain: Arc<DevChain>,
    tokens: Tokens,
    ledger: Ledger,
    faults: Faults,
    jobs: Jobs,
    leases: leases::Leases,
    workers: workers::Workers,
    audits: audits::Audits,
}

impl Books {
    /// Empty books and a chain that holds its genesis block only.
    ///
    /// # Errors
    /// [`BrokerError`] when the ledger's file cannot be opened.
    pub fn new(chain: ChainSettings, settings: BrokerSettings) -> Result<Arc<Self>, BrokerError> {
        let vdf = Arc::new(DevVdf::new(chain.vdf_ticks));
        let ledger = match &settings.ledger {
            None => Ledger::default(),
            Some(path) => Ledger::in_file(path).map_err(|error| BrokerError {
                what: format!("ledger {}", path.display()),
                error,
            })?,
        };
        Ok(Arc::new(Self {
            chain: Arc::new(DevChain::new(chain, vdf)),
            tokens: Tokens::new(&settings.secret),
            faults: Faults::new(settings.faults.iter().copied()),
            ledger,
            settings,
            jobs: Jobs::default(),
            leases: leases::Leases::default(),
            workers: workers::Workers::default(),
            audits: audits::Audits::default(),
        }))
    }

    /// The chain whose work is leased.
    #[must_use]
    pub const fn chain(&self) -> &Arc<DevChain> {
        &self.chain
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The misbehaviours.
    #[must_use]
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The tokens.
    #[must_use]
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Ids of the registered workers.
    #[must_use]
    pub fn registered(&self) -> Vec<String> {
        self.workers.all().into_iter().map(|worker| worker.id).collect()
    }

    /// A JWT for this broker, good for a year.
    #[must_use]
    pub fn provider_token(&self, subject: &str) -> String {
        self.tokens.provider_token(subject, real_time() + 365 * SKEW_SECONDS)
    }

    /// Seconds since 1970 by the broker's clock, which may be off.
    fn now(&self) -> u64 {
        let faults = self.faults.now();
        let ahead = if faults.contains(&Fault::ClockAhead) { SKEW_SECONDS } else { 0 };
        let behind = if faults.contains(&Fault::ClockBehind) { SKEW_SECONDS } else { 0 };
        real_time() + ahead - behind
    }
}

fn real_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// An open broker; dropping it cuts every connection soon, [`DevBroker::kill`] at once.
#[derive(Debug)]
pub struct DevBroker {
    books: Arc<Books>,
    address: SocketAddr,
    http: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl DevBroker {
    /// Opens the WebSocket at `listen` and, if wanted, the controls at `http`; port 0 takes a free
    /// one. Needs a running tokio.
    ///
    /// # Errors
    /// [`BrokerError`] when an address is taken.
    pub async fn open(
        books: Arc<Books>,
        listen: SocketAddr,
        http: Option<SocketAddr>,
    ) -> Result<Self, BrokerError> {
        let system = |what: String| move |error| BrokerError { what, error };
        let listener = door::open(listen).map_err(system(format!("broker on {listen}")))?;
        let address = listener.local_addr().map_err(system("the broker's address".to_owned()))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(door::keep(books.clone(), listener));
        tasks.spawn(workers::keep(books.clone()));
        if let Some(every) = books.settings.tip_every {
            tasks.spawn(others_find_blocks(books.clone(), every));
        }
        let http = match http {
            None => None,
            Some(http) => {
                let what = format!("the broker's controls on {http}");
                let listener =
                    tokio::net::TcpListener::bind(http).await.map_err(system(what.clone()))?;
                let address = listener.local_addr().map_err(system(what))?;
                tasks.spawn(http::serve(books.clone(), listener));
                Some(address)
            }
        };
        Ok(Self { books, address, http, tasks })
    }

    /// Cuts every connection, as if it had been killed, and waits until its addresses are free.
    pub async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    /// What it knows.
    #[must_use]
    pub const fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// Where workers connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `BROKER_WS_URL` of a worker.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.address)
    }

    /// Where its controls are.
    #[must_use]
    pub const fn http(&self) -> Option<SocketAddr> {
        self.http
    }
}

async fn others_find_blocks(books: Arc<Books>, every: Duration) {
    loop {
        tokio::time::sleep(every.max(Duration::from_millis(10))).await;
        books.chain.advance();
    }
}
