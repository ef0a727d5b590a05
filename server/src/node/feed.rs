//! The socket nodes push their jobs to, and the thread that reads it: whatever is waiting is read
//! to the end and only the newest valid job is handed on, so that a backlog of stale templates
//! costs one reset of the VDF and not a thousand. Nothing is ever made up in a node's place.
//! spec: proxy §2.1, node §2.3

use super::job::{BadJob, read_job};
use super::socket::JobSocket;
use crate::mining::job::Job;
use crate::zap::AllowList;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often the reader looks whether it should stop.
const POLL_MS: i64 = 100;
/// A burst is over when nothing has come for this long.
const QUIET_MS: i64 = 20;
/// A burst is cut here, however much keeps coming.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// Between two log lines about messages that are no jobs.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Between two attempts to bind the socket anew.
const BIND_AGAIN: Duration = Duration::from_millis(100);

/// Where and from whom jobs are taken.
#[derive(Debug, Clone)]
pub struct FeedSettings {
    /// Address to bind; port 0 takes a free one. `ZMQ_PULL_PORT` is its port.
    pub address: SocketAddr,
    /// Who may connect from elsewhere than this machine; needed for another address than loopback.
    pub allow: AllowList,
    /// Without a job for this long the node counts as silent, which is logged and shown.
    pub silent_after: Duration,
    /// `ZMQ_RECV_TIMEOUT_MS`: how often a lasting silence is logged again.
    pub silence_reminder: Duration,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 6000)),
            allow: AllowList::default(),
            silent_after: Duration::from_secs(60),
            silence_reminder: Duration::from_millis(6_000_000),
        }
    }
}

/// The job socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Jobs would be taken from anybody.
    #[error(
        "the job feed has no authentication: to bind {0} name the networks that may connect, or bind 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    /// The socket could not be bound.
    #[error("the job feed cannot bind {address}: {error}; is another proxy running?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: zmq::Error,
    },
    /// The socket could not be made or set up.
    #[error("the job feed has no socket: {0}")]
    Socket(#[from] zmq::Error),
    /// A thread could not be started.
    #[error("the job feed has no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What has come in so far.
#[derive(Debug, Default)]
pub struct FeedCounters {
    peers: AtomicI64,
    taken: AtomicU64,
    superseded: AtomicU64,
    refused: [AtomicU64; BadJob::LABELS.len()],
    reopened: AtomicU64,
    silent: AtomicBool,
    last_job: Mutex<Option<Instant>>,
}

impl FeedCounters {
    /// Nodes connected at the moment.
    #[must_use]
    pub fn peers(&self) -> i64 {
        self.peers.load(Ordering::Relaxed)
    }

    /// Jobs handed on.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Valid jobs that a newer one had replaced before they were handed on.
    #[must_use]
    pub fn superseded(&self) -> u64 {
        self.superseded.load(Ordering::Relaxed)
    }

    /// Messages that were no jobs, by label.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        BadJob::LABELS.into_iter().zip(self.refused.iter().map(|n| n.load(Ordering::Relaxed)))
    }

    /// How often the socket was bound anew.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.reopened.load(Ordering::Relaxed)
    }

    /// True when no job has come for too long: the node or the link is gone.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Time since the last job.
    #[must_use]
    pub fn job_age(&self) -> Option<Duration> {
        let last = *self.last_job.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|at| at.elapsed())
    }

    fn count_refused(&self, bad: BadJob) {
        let at = BadJob::LABELS.iter().position(|label| *label == bad.label());
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the reader is told.
#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    reopen: AtomicBool,
}

/// Has a feed close its socket, and with it every connection, and bind it anew. Nodes connect again
/// by themselves.
#[derive(Debug, Clone)]
pub struct Reopen(Arc<Orders>);

impl Reopen {
    /// Orders it; the reader does it within a second.
    pub fn order(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
    }
}

/// A bound job socket with its reader thread; dropping it stops the thread.
#[derive(Debug)]
pub struct JobFeed {
    endpoint: String,
    counters: Arc<FeedCounters>,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl JobFeed {
    /// Binds the socket and starts the reader. The receiver sees the newest job only.
    ///
    /// # Errors
    /// [`FeedError`]; a port that is taken is one.
    pub fn bind(settings: FeedSettings) -> Result<(Self, watch::Receiver<Option<Job>>), FeedError> {
        let socket = JobSocket::bind(&settings)?;
        let endpoint = socket.endpoint().to_owned();
        tracing::info!("ZMQ listener started (standalone mode) on {endpoint}");
        let counters = Arc::new(FeedCounters::default());
        let orders = Arc::new(Orders::default());
        let (sender, receiver) = watch::channel(None);
        let reader = Reader {
            sender,
            counters: counters.clone(),
            orders: orders.clone(),
            silence_reminder: settings.silence_reminder.max(settings.silent_after),
            silent_since: Instant::now(),
            complained: None,
            // A port that was left to the system stays the same.
            settings: FeedSettings {
                address: socket.address().unwrap_or(settings.address),
                ..settings
            },
        };
        let thread = std::thread::Builder::new()
            .name("node-jobs".to_owned())
            .spawn(move || reader.run(socket))?;
        Ok((Self { endpoint, counters, orders, thread: Some(thread) }, receiver))
    }

    /// Where nodes connect, as `tcp://host:port`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// How to have the socket bound anew.
    #[must_use]
    pub fn reopen(&self) -> Reopen {
        Reopen(self.orders.clone())
    }

    /// What has come in so far.
    #[must_use]
    pub const fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }
}

impl Drop for JobFeed {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The reader never panics; if it did there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}

struct Reader {
    settings: FeedSettings,
    sender: watch::Sender<Option<Job>>,
    counters: Arc<FeedCounters>,
    orders: Arc<Orders>,
    silence_reminder: Duration,
    /// When the last job came, or the last silence was logged.
    silent_since: Instant,
    /// When the last message that is no job was logged.
    complained: Option<Instant>,
}

impl Reader {
    fn goes_on(&self) -> bool {
        !self.orders.stop.load(Ordering::Relaxed) && !self.sender.is_closed()
    }

    fn run(mut self, mut socket: JobSocket) {
        while self.goes_on() {
            if self.orders.reopen.swap(false, Ordering::Relaxed) {
                match self.bind_anew(socket) {
                    Some(bound) => socket = bound,
                    None => return,
                }
            }
            self.count_peers(&socket);
            match socket.jobs.poll(zmq::POLLIN, POLL_MS) {
                Ok(0) | Err(zmq::Error::EINTR) => self.look_for_silence(),
                Ok(_) => {
                    if let Some(job) = self.read_burst(&socket.jobs) {
                        self.hand_on(job);
                    }
                }
                Err(error) => {
                    return tracing::error!(%error, "the job feed stopped reading");
                }
            }
        }
    }

    /// Closes the socket and binds another to its address, however long that takes; `None` when the
    /// feed ends meanwhile.
    fn bind_anew(&mut self, old: JobSocket) -> Option<JobSocket> {
        drop(old);
        self.counters.peers.store(0, Ordering::Relaxed);
        while self.goes_on() {
            match JobSocket::bind(&self.settings) {
                Ok(socket) => {
                    self.counters.reopened.fetch_add(1, Ordering::Relaxed);
                    tracing::info!("the job feed is bound anew on {}", socket.endpoint());
                    return Some(socket);
                }
                Err(error) => {
                    if self.may_complain() {
                        tracing::error!("{error}; trying again");
                    }
                    std::thread::sleep(BIND_AGAIN);
                }
            }
        }
        None
    }

    /// Everything that is waiting or arrives on its heels; the last valid job. A message of several
    /// parts is read as several messages. spec: node §1, §2.3
    fn read_burst(&mut self, socket: &zmq::Socket) -> Option<Job> {
        let started = Instant::now();
        let mut newest = None;
        while started.elapsed() < LONGEST_BURST && self.goes_on() {
            match socket.recv_msg(zmq::DONTWAIT) {
                Ok(message) => match read_job(&message) {
                    Ok(job) => {
                        if newest.replace(job).is_some() {
                            self.counters.superseded.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    Err(bad) => self.refuse(bad, message.len()),
                },
                Err(_) => {
                    if socket.poll(zmq::POLLIN, QUIET_MS).unwrap_or(0) == 0 {
                        break;
                    }
                }
            }
        }
        newest
    }

    fn hand_on(&mut self, job: Job) {
        let counters = &self.counters;
        counters.taken.fetch_add(1, Ordering::Relaxed);
        let mut last = counters.last_job.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
        drop(last);
        if counters.silent.swap(false, Ordering::Relaxed) {
            tracing::info!("the node sends jobs again");
        }
        self.silent_since = Instant::now();
        self.sender.send_replace(Some(job));
    }

    fn refuse(&mut self, bad: BadJob, bytes: usize) {
        self.counters.count_refused(bad);
        if self.may_complain() {
            tracing::warn!(%bad, bytes, "a message on the job feed is no job; the context stays");
        }
    }

    fn may_complain(&mut self) -> bool {
        let may = self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY);
        if may {
            self.complained = Some(Instant::now());
        }
        may
    }

    fn look_for_silence(&mut self) {
        let silent = self.counters.is_silent();
        let patience = if silent { self.silence_reminder } else { self.settings.silent_after };
        if self.silent_since.elapsed() < patience {
            return;
        }
        self.silent_since = Instant::now();
        self.counters.silent.store(true, Ordering::Relaxed);
        let age = self.counters.job_age().map(|age| age.as_secs());
        tracing::warn!(
            last_job_seconds_ago = age,
            peers = self.counters.peers(),
            "no mining job from the node: it is down, or its job push does not reach this port"
        );
    }

    fn count_peers(&self, socket: &JobSocket) {
        while let Some(change) = socket.next_peer() {
            // A peer that never got past its handshake may be reported as gone.
            let peers = (self.counters.peers() + change).max(0);
            self.counters.peers.store(peers, Ordering::Relaxed);
            let what = if change > 0 { "a node connected" } else { "a node disconnected" };
            tracing::info!(peers, "job feed: {what}");
        }
    }
}
