//! The spool as the rest of the proxy sees it: a handle that puts proofs and marks deliveries
//! without ever blocking the caller's thread, and says how the spool fares.

use super::retention::Ledger;
use super::view::{Selection, View};
use super::writer::{Op, Prepared, Writer};
use super::{Mark, SpoolError, SpoolSettings};
use redb::Database;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Changes that wait for the disk.
const QUEUE: usize = 4096;

/// What became of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is on disk.
    New {
        /// Its number.
        seq: u64,
    },
    /// It was there already.
    Known {
        /// Its number.
        seq: u64,
        /// It came under another completion id, which finds it now too.
        new_id: bool,
    },
}

/// How the spool fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolHealth {
    /// What is put is on disk.
    Durable,
    /// It has no disk by configuration.
    MemoryOnly,
    /// The disk fails; proofs are kept in memory.
    Degraded {
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for SpoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durable => f.write_str("durable"),
            Self::MemoryOnly => f.write_str("in memory only, proofs do not survive a restart"),
            Self::Degraded { why } => f.write_str(why),
        }
    }
}

/// Size of the spool and what it did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Proofs, and messages that are none.
    pub entries: u64,
    /// Bytes of them as stored.
    pub bytes: u64,
    /// Entries with a delivery that is not settled.
    pub open: u64,
    /// Entries with a dead delivery.
    pub dead: u64,
    /// Commits, each with one fsync.
    pub commits: u64,
    /// Time of all commits in microseconds.
    pub commit_us: u64,
    /// Entries removed by age or size.
    pub evicted: u64,
    /// Of these, such that were not delivered.
    pub evicted_open: u64,
    /// Times the disk failed.
    pub failures: u64,
}

#[derive(Debug, Default)]
struct Counters {
    entries: AtomicU64,
    bytes: AtomicU64,
    open: AtomicU64,
    dead: AtomicU64,
    commits: AtomicU64,
    commit_us: AtomicU64,
    evicted: AtomicU64,
    evicted_open: AtomicU64,
    failures: AtomicU64,
}

struct State {
    health: SpoolHealth,
    database: Option<Arc<Database>>,
}

/// What the handles and the writer share.
pub(super) struct Shared {
    state: Mutex<State>,
    counters: Counters,
}

impl Shared {
    fn new() -> Self {
        let health = SpoolHealth::Degraded { why: "not opened yet".to_owned() };
        Self { state: Mutex::new(State { health, database: None }), counters: Counters::default() }
    }

    /// Both fields are replaced as a whole, so a poisoned lock guards nothing broken.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> SpoolHealth {
        self.lock().health.clone()
    }

    pub(super) fn opened(&self, database: Arc<Database>, on_disk: bool) {
        let health = if on_disk { SpoolHealth::Durable } else { SpoolHealth::MemoryOnly };
        *self.lock() = State { health, database: Some(database) };
    }

    pub(super) fn failed(&self, error: &SpoolError) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let health = SpoolHealth::Degraded { why: error.to_string() };
        // The database is dropped outside the lock: closing it may take a while.
        let old = std::mem::replace(&mut *self.lock(), State { health, database: None });
        drop(old);
    }

    pub(super) fn committed(&self, took: Duration) {
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counters.commit_us.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self, open: bool) {
        self.counters.evicted.fetch_add(1, Ordering::Relaxed);
        self.counters.evicted_open.fetch_add(u64::from(open), Ordering::Relaxed);
    }

    pub(super) fn account(&self, ledger: &Ledger) {
        let counters = &self.counters;
        let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        counters.entries.store(whole(ledger.entries()), Ordering::Relaxed);
        counters.bytes.store(ledger.bytes(), Ordering::Relaxed);
        counters.open.store(whole(ledger.open()), Ordering::Relaxed);
        counters.dead.store(whole(ledger.dead()), Ordering::Relaxed);
    }

    fn stats(&self) -> SpoolStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        SpoolStats {
            entries: get(&counters.entries),
            bytes: get(&counters.bytes),
            open: get(&counters.open),
            dead: get(&counters.dead),
            commits: get(&counters.commits),
            commit_us: get(&counters.commit_us),
            evicted: get(&counters.evicted),
            evicted_open: get(&counters.evicted_open),
            failures: get(&counters.failures),
        }
    }
}

/// The writer's thread; with the last handle it ends and the file is closed.
struct Thread {
    ops: Option<SyncSender<Op>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.ops = None;
        if let Some(thread) = self.thread.take() {
            // It catches what the store does wrong; there is nothing left to do about the rest.
            let _ = thread.join();
        }
    }
}

/// A handle on the spool; clones share it.
#[derive(Clone)]
pub struct Spool {
    // Before `shared`: the thread must be gone when the last reference to the database goes.
    thread: Arc<Thread>,
    shared: Arc<Shared>,
    patience: Duration,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens the spool. A disk that fails now is tried again later: the spool is then degraded, not
    /// absent. Reads the whole file once after a crash; call it where that may take seconds.
    ///
    /// # Errors
    /// What an operator has to decide: [`SpoolError::is_fatal`].
    pub fn open(settings: SpoolSettings) -> Result<Self, SpoolError> {
        let shared = Arc::new(Shared::new());
        let patience = settings.patience;
        let mut writer = Writer::new(settings, shared.clone());
        if let Err(error) = writer.open()
            && error.is_fatal()
        {
            return Err(error);
        }
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| SpoolError::Storage(format!("no thread: {error}")))?;
        let thread = Arc::new(Thread { ops: Some(sender), thread: Some(thread) });
        Ok(Self { thread, shared, patience })
    }

    /// Puts a proof. It is queued at once, so proofs are stored in the order of the calls; the future
    /// completes when it is on disk.
    ///
    /// # Errors
    /// [`SpoolError`] when it is not, at the latest after the settings' patience.
    pub fn put(
        &self,
        prepared: Prepared,
    ) -> impl Future<Output = Result<Put, SpoolError>> + Send + 'static {
        self.ask(|reply| Op::Put(Box::new(prepared), reply))
    }

    /// Changes deliveries and returns when the change is on disk. Deliveries that are gone are left
    /// out.
    ///
    /// # Errors
    /// [`SpoolError`] when it is not on disk.
    pub async fn mark(&self, marks: Vec<Mark>) -> Result<(), SpoolError> {
        self.ask(|reply| Op::Mark(marks, reply)).await
    }

    /// Opens dead deliveries again; returns their entries and sinks. What the intake refused stays
    /// dead.
    ///
    /// # Errors
    /// [`SpoolError`] when the change is not on disk.
    pub async fn replay(&self, selection: Selection) -> Result<Vec<(u64, String)>, SpoolError> {
        self.ask(|reply| Op::Replay(selection, reply)).await
    }

    /// Removes now what the limits do not allow.
    ///
    /// # Errors
    /// [`SpoolError`] when that fails.
    pub async fn sweep(&self) -> Result<(), SpoolError> {
        self.ask(Op::Sweep).await
    }

    fn ask<T: Send + 'static>(
        &self,
        op: impl FnOnce(oneshot::Sender<Result<T, SpoolError>>) -> Op,
    ) -> impl Future<Output = Result<T, SpoolError>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        let queued = match &self.thread.ops {
            Some(ops) => ops.try_send(op(reply)).map_err(|error| match error {
                TrySendError::Full(_) => SpoolError::Busy,
                TrySendError::Disconnected(_) => SpoolError::Closed,
            }),
            None => Err(SpoolError::Closed),
        };
        let patience = self.patience;
        async move {
            queued?;
            match tokio::time::timeout(patience, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(SpoolError::Closed),
                Err(_) => Err(SpoolError::Busy),
            }
        }
    }

    /// A snapshot to read from. Reading blocks on the disk: not on a thread that serves sockets.
    ///
    /// # Errors
    /// [`SpoolError`] when the spool is out of service.
    pub fn view(&self) -> Result<View, SpoolError> {
        let state = self.shared.lock();
        let database = state.database.clone();
        let health = state.health.clone();
        drop(state);
        let database = database.ok_or_else(|| SpoolError::Degraded(health.to_string()))?;
        View::of(&database)
    }

    /// Reads on a thread where blocking is allowed.
    ///
    /// # Errors
    /// [`SpoolError`] of the view or of the reading.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&View) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let spool = self.clone();
        tokio::task::spawn_blocking(move || {
            super::backend::guarded(|| spool.view().and_then(|view| work(&view)))
        })
        .await
        .unwrap_or(Err(SpoolError::Closed))
    }

    /// How the spool fares.
    #[must_use]
    pub fn health(&self) -> SpoolHealth {
        self.shared.health()
    }

    /// Size and counters.
    #[must_use]
    pub fn stats(&self) -> SpoolStats {
        self.shared.stats()
    }
}
