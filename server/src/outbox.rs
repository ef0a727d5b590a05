//! From the spool to a sink. Every proof is marked as sent on disk before the sink sees it and as
//! settled afterwards, so that a restart hands over what was not confirmed, says which of it may be
//! a repetition, and nothing twice as new. Proofs go out in the order in which they came: a solution moves
//! the tip, and the shares before it would be stale. Staleness is judged right before handing over, by the parent
//! block and never by the request id alone. spec: proxy §16.3, broker §1.1

use crate::metrics::{Metrics, ProofDrop};
use crate::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use crate::mining::snapshot::{ContextCell, Snapshot};
use crate::spool::{Delivery, DeliveryState, Mark, Prepared, Put, Spool, SpoolError, SpoolHealth};
use crate::store;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tensorpow_core::classify::Tier;
use tokio::sync::{Notify, broadcast};

/// Deliveries begun with one commit.
const BATCH: usize = 16;
/// Proofs held in memory; of the rest only the number in the spool is known.
const IN_MEMORY: usize = 1024;
/// Judgements an observer may lag behind.
const EVENTS: usize = 256;
/// How often the first job is looked for.
const NO_JOB_YET: Duration = Duration::from_millis(100);
/// How long a sink may think about one proof.
const SUBMIT_LIMIT: Duration = Duration::from_secs(120);
/// First and longest wait for a sink that is not there.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Why a proof on an old parent is dead.
pub const STALE_PARENT: &str = "stale_parent";

/// A proof and what the sink made of it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The proof.
    pub proof: Arc<ReceivedProof>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Whether a proof can still be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Its parent is the current one.
    Fresh,
    /// It is not.
    Stale,
    /// There is no job to tell.
    Unknown,
}

/// Staleness is decided by the parent block: templates are renewed every few seconds on the same
/// parent. Only a proof that names no parent is held against the request id. spec: proxy §16.3
#[must_use]
pub fn freshness(proof: &ReceivedProof, snapshot: &Snapshot) -> Freshness {
    let Some(job) = snapshot.job() else { return Freshness::Unknown };
    let fresh = match proof.parent {
        Some(parent) => parent == job.parent(),
        None => proof.request_id == job.request_id,
    };
    if fresh { Freshness::Fresh } else { Freshness::Stale }
}

/// A delivery that waits.
#[derive(Debug)]
struct Item {
    /// Number in the spool; `None` when the disk did not take it.
    seq: Option<u64>,
    /// The proof, unless it is left in the spool.
    proof: Option<Arc<ReceivedProof>>,
    /// Attempts begun before.
    attempts: u32,
    /// One of them may have arrived.
    repeat: bool,
}

/// The deliveries to one sink.
pub struct Outbox {
    sink: Arc<dyn ProofSink>,
    spool: Spool,
    context: Arc<ContextCell>,
    metrics: Arc<Metrics>,
    events: broadcast::Sender<Judged>,
    waiting: Mutex<VecDeque<Item>>,
    wake: Notify,
    closed: AtomicBool,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("sink", &self.sink.name()).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox that starts with what the spool has open for this sink. When the spool cannot be
    /// read it starts empty.
    pub async fn open(
        sink: Arc<dyn ProofSink>,
        spool: Spool,
        context: Arc<ContextCell>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let outbox = Self::empty(sink, spool, context, metrics);
        match outbox.queue_open(None).await {
            Ok(0) => {}
            Ok(count) => tracing::info!("{count} proofs of the last run are to be delivered"),
            Err(error) => tracing::error!(%error, "what was not delivered cannot be read"),
        }
        outbox
    }

    /// Queues deliveries that are open in the spool: all, or those with the given numbers, which
    /// must not be queued yet. Returns how many.
    ///
    /// # Errors
    /// [`SpoolError`] when the spool cannot be read.
    pub async fn queue_open(&self, seqs: Option<Vec<u64>>) -> Result<usize, SpoolError> {
        let name = self.sink.name();
        let mut open = self.spool.read(move |view| view.open_deliveries(name)).await?;
        if let Some(seqs) = seqs {
            open.retain(|(seq, ..)| seqs.contains(seq));
        }
        for (seq, delivery) in &open {
            self.enqueue(Item {
                seq: Some(*seq),
                proof: None,
                attempts: delivery.attempts,
                repeat: delivery.state == DeliveryState::Sent,
            });
        }
        Ok(open.len())
    }

    /// An outbox without a past.
    #[must_use]
    pub fn empty(
        sink: Arc<dyn ProofSink>,
        spool: Spool,
        context: Arc<ContextCell>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            sink,
            spool,
            context,
            metrics,
            events: broadcast::Sender::new(EVENTS),
            waiting: Mutex::default(),
            wake: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// The sink.
    #[must_use]
    pub fn sink(&self) -> &dyn ProofSink {
        &*self.sink
    }

    /// Judgements as they are made.
    #[must_use]
    pub fn judgements(&self) -> broadcast::Receiver<Judged> {
        self.events.subscribe()
    }

    /// Queues a new proof, with its number in the spool if the disk took it.
    pub fn push(&self, proof: Arc<ReceivedProof>, seq: Option<u64>) {
        if !self.enqueue(Item { seq, proof: Some(proof), attempts: 0, repeat: false }) {
            tracing::error!("neither disk nor sink keep up; a proof is lost");
            self.metrics.count_dropped(ProofDrop::SinkQueueFull);
        }
    }

    /// False when there is no room for what only memory has.
    fn enqueue(&self, mut item: Item) -> bool {
        let mut waiting = self.lock();
        if waiting.len() >= IN_MEMORY {
            if item.seq.is_none() {
                return false;
            }
            item.proof = None;
        }
        waiting.push_back(item);
        drop(waiting);
        self.wake.notify_one();
        true
    }

    /// Pushes and pops are whole, so a poisoned lock guards a usable queue.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deliveries that wait in memory.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// No proofs come any more: [`Outbox::run`] ends when what is queued is delivered, or when the
    /// sink is not there to take it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Delivers until the outbox is closed.
    pub async fn run(self: Arc<Self>) {
        loop {
            let batch = self.take_batch();
            if batch.is_empty() {
                if self.is_closed() {
                    return;
                }
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = self.sink.readiness_changed() => {}
                }
                continue;
            }
            if !self.a_job_is_known().await {
                return;
            }
            let mut settled = Vec::new();
            for (item, proof) in self.begin(batch).await {
                settled.extend(self.deliver(item, proof).await);
            }
            self.mark(settled).await;
        }
    }

    fn take_batch(&self) -> Vec<Item> {
        let mut waiting = self.lock();
        if self.sink.shares_first() {
            return self.first_ready(&mut waiting).into_iter().collect();
        }
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    /// The first delivery that somebody is there to take. What waited for the connection goes first,
    /// its shares before its solutions; what is found now goes in the order in which it came, so that
    /// no stream of shares keeps a solution back. One at a time: what comes while it is under way may
    /// have to go before the next. A solution never overtakes an earlier one of its job.
    fn first_ready(&self, waiting: &mut VecDeque<Item>) -> Option<Item> {
        let solution_of = |item: &Item| {
            let proof = item.proof.as_ref().filter(|proof| proof.tier == Tier::Solution);
            proof.map(|proof| proof.request_id)
        };
        waiting.make_contiguous().sort_by_key(|item| {
            let received = item.proof.as_ref().map(|proof| proof.received_at);
            (
                !self.sink.has_waited(received),
                self.sink.has_waited(received) && solution_of(item).is_some(),
            )
        });
        let mut held = Vec::new();
        let at = waiting.iter().position(|item| {
            let job = solution_of(item);
            let received = item.proof.as_ref().map(|proof| proof.received_at);
            if job.is_some_and(|job| held.contains(&job)) {
                return false;
            }
            let ready = self.sink.is_ready_for(received);
            held.extend(job.filter(|_| !ready));
            ready
        })?;
        waiting.remove(at)
    }

    /// Waits for the first job, without which nobody can tell what is stale. False when the outbox
    /// is closed first; what was queued is still open in the spool.
    async fn a_job_is_known(&self) -> bool {
        while self.context.load().job().is_none() {
            if self.is_closed() {
                return false;
            }
            tokio::time::sleep(NO_JOB_YET).await;
        }
        true
    }

    /// Reads what is not in memory, sorts out what is stale, and notes on disk that the rest is
    /// being sent.
    async fn begin(&self, batch: Vec<Item>) -> Vec<(Item, Arc<ReceivedProof>)> {
        let (mut marks, mut fresh) = (Vec::new(), Vec::new());
        for mut item in batch {
            let Some(proof) = self.proof_of(&item).await else { continue };
            if item.seq.is_none() {
                self.rescue(&mut item, &proof).await;
            }
            if self.is_stale(&proof) {
                marks.extend(self.stale(&item, &proof));
                continue;
            }
            item.attempts += 1;
            marks.extend(self.change(&item, Delivery::sent(item.attempts)));
            fresh.push((item, proof));
        }
        self.mark(marks).await;
        fresh
    }

    async fn proof_of(&self, item: &Item) -> Option<Arc<ReceivedProof>> {
        if let Some(proof) = &item.proof {
            return Some(proof.clone());
        }
        match store::load(&self.spool, item.seq?).await {
            Ok(proof) => proof.map(Arc::new),
            Err(error) => {
                tracing::error!(%error, seq = item.seq, "a proof cannot be read to be delivered");
                None
            }
        }
    }

    /// The disk did not take this proof when it came; perhaps it does now.
    async fn rescue(&self, item: &mut Item, proof: &Arc<ReceivedProof>) {
        if matches!(self.spool.health(), SpoolHealth::Degraded { .. }) {
            return;
        }
        let (name, again) = (self.sink.name(), proof.clone());
        let deliveries = vec![(name, Delivery::pending(item.attempts))];
        let prepared = tokio::task::spawn_blocking(move || Prepared::of(&again, deliveries)).await;
        if let Ok(prepared) = prepared
            && let Ok(Put::New { seq } | Put::Known { seq, .. }) = self.spool.put(prepared).await
        {
            item.seq = Some(seq);
        }
    }

    fn is_stale(&self, proof: &ReceivedProof) -> bool {
        freshness(proof, &self.context.load()) == Freshness::Stale
    }

    fn stale(&self, item: &Item, proof: &ReceivedProof) -> Option<Mark> {
        tracing::info!(
            "Dropping stale proof: req_id={}, its parent is not the tip",
            proof.request_id
        );
        self.metrics.count_dropped(ProofDrop::StaleParent);
        let detail = "its parent was no longer the tip when it was to be delivered".to_owned();
        self.change(item, Delivery::dead(item.attempts, STALE_PARENT, detail))
    }

    fn change(&self, item: &Item, delivery: Delivery) -> Option<Mark> {
        Some(Mark { seq: item.seq?, sink: self.sink.name(), delivery })
    }

    async fn mark(&self, marks: Vec<Mark>) {
        if marks.is_empty() {
            return;
        }
        if let Err(error) = self.spool.mark(marks).await {
            tracing::warn!(%error, "the state of deliveries is not on disk");
        }
    }

    /// Hands over one proof until the sink has decided on it, it is stale, or the outbox is closed
    /// and nobody is there. The change to be noted, if any.
    async fn deliver(&self, mut item: Item, proof: Arc<ReceivedProof>) -> Option<Mark> {
        let mut backoff = BACKOFF.0;
        loop {
            let attempt = Attempt { number: item.attempts, repeat: item.repeat };
            let submitted = self.sink.submit(&proof, attempt);
            let verdict = match tokio::time::timeout(SUBMIT_LIMIT, submitted).await {
                Ok(verdict) => verdict,
                Err(_) => {
                    item.repeat = true;
                    Verdict::Unavailable { detail: "no answer in time".to_owned() }
                }
            };
            self.metrics.count_judged(verdict.label());
            if !matches!(verdict, Verdict::Unavailable { .. }) {
                let delivery = Delivery::judged(item.attempts, &verdict);
                // Nobody may be watching.
                let _ = self.events.send(Judged { proof, verdict });
                return self.change(&item, delivery);
            }
            if self.is_closed() {
                // An attempt that may have arrived stays `sent`, so that the next run knows.
                let delivery = Delivery::judged(item.attempts, &verdict);
                return if item.repeat { None } else { self.change(&item, delivery) };
            }
            tracing::warn!("{}: {verdict}; trying again in {backoff:?}", self.sink.name());
            tokio::time::sleep(backoff).await;
            if self.sink.shares_first() {
                // It waits with the others, so that shares that come meanwhile go before it.
                self.lock().push_front(Item { proof: Some(proof), ..item });
                return None;
            }
            backoff = (backoff * 2).min(BACKOFF.1);
            if self.is_stale(&proof) {
                return self.stale(&item, &proof);
            }
            item.attempts += 1;
        }
    }
}
