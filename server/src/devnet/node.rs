//! A stand-in for a node: a development chain behind the sockets a node has, so that a proxy can be
//! run and tested as it runs against the network. It pushes jobs, takes results and serves the
//! model registry, with the node's habits: a new template every interval on the same parent, one at
//! once on a new tip, a queue of old ones for a worker that comes late, no answer to anything, and
//! a limit on what it reads. On request it misbehaves. spec: node §2.1, §3.3, §7.1

use super::chain::{ChainSettings, DevChain};
use super::ledger::Ledger;
use super::messages::{garbage, job_message};
use super::registry::DevRegistry;
use super::vdf::DevVdf;
use crate::node::results::Endpoint;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Messages that wait for a worker. spec: node §2.1
const HIGH_WATER: i32 = 1000;
/// How often the reader of results looks whether it should stop.
const POLL_MS: i64 = 50;
/// What a node reads in a minute, an idle second counting as one. spec: node §3.3
const READS: (usize, Duration) = (120, Duration::from_secs(60));
/// An idle pass of the node's own loop. spec: node §3.3
const IDLE_PASS: Duration = Duration::from_secs(1);

/// Where the node is and how it misbehaves.
#[derive(Debug, Clone)]
pub struct DevNodeSettings {
    /// The worker's job socket.
    pub jobs: Endpoint,
    /// Address to take results on; port 0 takes a free one.
    pub results: SocketAddr,
    /// Address of the model registry; port 0 takes a free one.
    pub registry: SocketAddr,
    /// Key the registry wants; none leaves it open.
    pub registry_key: Option<String>,
    /// Somebody else finds a block this often.
    pub tip_every: Option<Duration>,
    /// After this many jobs follows a message that is none.
    pub garbage_every: Option<u32>,
    /// Old templates that wait for the worker before it comes.
    pub backlog: u32,
    /// The node's limit on messages.
    pub limit_reads: bool,
    /// Where every result is written down.
    pub ledger: Option<PathBuf>,
}

/// The node cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevNodeError {
    /// A ZeroMQ socket.
    #[error("{what}: {error}")]
    Socket {
        /// Which one.
        what: String,
        /// What the library says.
        error: zmq::Error,
    },
    /// The registry's address, the ledger, or a thread.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
}

/// What came to the node.
#[derive(Debug, Default)]
pub struct DevNodeCounters {
    jobs: AtomicU64,
    results: AtomicU64,
    unreadable: AtomicU64,
    unread: AtomicU64,
}

impl DevNodeCounters {
    /// Jobs pushed.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Results read.
    #[must_use]
    pub fn results(&self) -> u64 {
        self.results.load(Ordering::Relaxed)
    }

    /// Results that a real node would have read outside their bounds.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Results thrown away unread because there were too many.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }
}

/// A running node; dropping it stops it.
#[derive(Debug)]
pub struct DevNode {
    chain: Arc<DevChain>,
    registry: Arc<DevRegistry>,
    registry_address: SocketAddr,
    results: String,
    counters: Arc<DevNodeCounters>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    _tasks: JoinSet<()>,
}

impl DevNode {
    /// Opens the sockets and starts. Needs a running tokio.
    ///
    /// # Errors
    /// [`DevNodeError`] when an address is taken.
    pub async fn start(
        chain: ChainSettings,
        settings: DevNodeSettings,
    ) -> Result<Self, DevNodeError> {
        let vdf = Arc::new(DevVdf::new(chain.vdf_ticks));
        // A node takes no shares.
        let chain = ChainSettings { base_share_target: None, ..chain };
        let chain = Arc::new(DevChain::new(chain, vdf));
        let counters = Arc::new(DevNodeCounters::default());
        let context = zmq::Context::new();
        let jobs = push_socket(&context, &settings.jobs).map_err(|error| DevNodeError::Socket {
            what: format!("jobs to {}", settings.jobs),
            error,
        })?;
        let what = format!("results on {}", settings.results);
        let (results, endpoint) = pull_socket(&context, settings.results)
            .map_err(|error| DevNodeError::Socket { what, error })?;
        let system = |what: String| move |error| DevNodeError::System { what, error };
        let listener = tokio::net::TcpListener::bind(settings.registry)
            .await
            .map_err(system(format!("registry on {}", settings.registry)))?;
        let registry_address =
            listener.local_addr().map_err(system("the registry's address".to_owned()))?;
        let registry =
            Arc::new(DevRegistry::new([&chain.settings().model], settings.registry_key.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(registry.clone().serve(listener));
        let ledger = match &settings.ledger {
            Some(path) => {
                let what = format!("the ledger {}", path.display());
                Some(Ledger::open(path).map_err(system(what))?)
            }
            None => None,
        };
        let pusher = Pusher { chain: chain.clone(), socket: jobs, counters: counters.clone() };
        tasks.spawn(pusher.run(settings.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            chain: chain.clone(),
            socket: results,
            counters: counters.clone(),
            limit: settings.limit_reads,
            ledger,
            reads: VecDeque::new(),
            stop: stop.clone(),
        };
        let reader = std::thread::Builder::new()
            .name("devnet-results".to_owned())
            .spawn(move || reader.run())
            .map_err(system("a thread for results".to_owned()))?;
        tracing::info!(
            "development node: jobs to {}, results on {endpoint}, registry on http://{registry_address}",
            settings.jobs
        );
        Ok(Self {
            chain,
            registry,
            registry_address,
            results: endpoint,
            counters,
            stop,
            reader: Some(reader),
            _tasks: tasks,
        })
    }

    /// The chain behind it.
    #[must_use]
    pub const fn chain(&self) -> &Arc<DevChain> {
        &self.chain
    }

    /// Its registry.
    #[must_use]
    pub const fn registry(&self) -> &Arc<DevRegistry> {
        &self.registry
    }

    /// Where the registry is.
    #[must_use]
    pub const fn registry_address(&self) -> SocketAddr {
        self.registry_address
    }

    /// Where results are taken, as `tcp://host:port`.
    #[must_use]
    pub fn results_endpoint(&self) -> &str {
        &self.results
    }

    /// What came in and went out.
    #[must_use]
    pub const fn counters(&self) -> &Arc<DevNodeCounters> {
        &self.counters
    }
}

impl Drop for DevNode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It never panics; if it did there would be nothing left to stop.
            let _ = reader.join();
        }
    }
}

fn push_socket(context: &zmq::Context, worker: &Endpoint) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(zmq::PUSH)?;
    socket.set_sndhwm(HIGH_WATER)?;
    socket.set_linger(0)?;
    socket.connect(&worker.to_string())?;
    Ok(socket)
}

fn pull_socket(context: &zmq::Context, address: SocketAddr) -> zmq::Result<(zmq::Socket, String)> {
    let socket = context.socket(zmq::PULL)?;
    socket.set_linger(0)?;
    socket.set_ipv6(address.is_ipv6())?;
    let port = if address.port() == 0 { "*".to_owned() } else { address.port().to_string() };
    let host = match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    socket.bind(&format!("tcp://{host}:{port}"))?;
    let endpoint = socket.get_last_endpoint()?.unwrap_or_default();
    Ok((socket, endpoint))
}

struct Pusher {
    chain: Arc<DevChain>,
    socket: zmq::Socket,
    counters: Arc<DevNodeCounters>,
}

impl Pusher {
    async fn run(self, settings: DevNodeSettings) {
        for _ in 0..settings.backlog {
            self.chain.advance();
            self.push_job();
        }
        let mut tip = self.chain.watch_tip();
        let every = |period: Duration| {
            let mut interval = tokio::time::interval(period.max(Duration::from_millis(10)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let mut template = every(self.chain.settings().interval);
        // Without blocks of others the longest time there is.
        let others = settings.tip_every;
        let mut block = every(others.unwrap_or(Duration::from_secs(86_400)));
        block.reset();
        let mut sent = 0_u32;
        loop {
            tokio::select! {
                biased;
                changed = tip.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    template.reset();
                }
                _ = template.tick() => {}
                _ = block.tick(), if others.is_some() => {
                    self.chain.advance();
                    continue;
                }
            }
            tip.mark_unchanged();
            self.push_job();
            sent = sent.wrapping_add(1);
            if settings.garbage_every.is_some_and(|every| sent % every.max(1) == 0) {
                self.push(&garbage(sent));
            }
        }
    }

    fn push_job(&self) {
        self.push(&job_message(&self.chain.new_job()));
        self.counters.jobs.fetch_add(1, Ordering::Relaxed);
    }

    /// A full queue skips the message. spec: node §2.1
    fn push(&self, message: &[u8]) {
        if let Err(error) = self.socket.send(message, zmq::DONTWAIT) {
            tracing::debug!(%error, "a job was skipped");
        }
    }
}

struct Reader {
    chain: Arc<DevChain>,
    socket: zmq::Socket,
    counters: Arc<DevNodeCounters>,
    limit: bool,
    ledger: Option<Ledger>,
    /// Passes of the loop that counted against the limit.
    reads: VecDeque<Instant>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(mut self) {
        let mut idle_since = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            match self.socket.poll(zmq::POLLIN, POLL_MS) {
                Ok(0) | Err(zmq::Error::EINTR) => {
                    if idle_since.elapsed() >= IDLE_PASS {
                        idle_since = Instant::now();
                        self.may_read();
                    }
                    continue;
                }
                Ok(_) => idle_since = Instant::now(),
                Err(error) => return tracing::error!(%error, "the node stopped reading results"),
            }
            let allowed = self.may_read();
            while let Ok(message) = self.socket.recv_bytes(zmq::DONTWAIT) {
                if !allowed {
                    self.counters.unread.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                self.take(&message);
                break;
            }
        }
    }

    /// One of the node's passes; false when there are none left this minute.
    fn may_read(&mut self) -> bool {
        let (most, within) = READS;
        while self.reads.front().is_some_and(|at| at.elapsed() >= within) {
            self.reads.pop_front();
        }
        let allowed = !self.limit || self.reads.len() < most;
        if allowed {
            self.reads.push_back(Instant::now());
        }
        allowed
    }

    fn take(&self, message: &[u8]) {
        self.counters.results.fetch_add(1, Ordering::Relaxed);
        let judged = match &self.ledger {
            Some(ledger) => ledger.submit(&self.chain, message),
            None => self.chain.submit(message),
        };
        match judged {
            Ok(verdict) => tracing::info!("a result became {verdict}"),
            Err(rejection) => {
                if rejection.label() == "invalid_payload" {
                    self.counters.unreadable.fetch_add(1, Ordering::Relaxed);
                }
                tracing::info!("a result was refused ({}): {rejection}", rejection.label());
            }
        }
    }
}
