//! The workers that are registered, each on its one connection, and the work they have: whoever
//! takes another lease gets one, whoever has an old one is told. spec: broker §12 items 2 and 6

use super::leases::{Cancel, Lease, Standing};
use super::misbehave::Fault;
use super::{Books, frames, token};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc};

/// Frames that may wait for a worker; one that takes them more slowly is disconnected.
pub(super) const WAITING: usize = 4_096;

/// A registered worker. Its clones are the same worker.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) models: Vec<String>,
    /// Leases it takes at once; 0 for one that does not mine here.
    pub(super) leases: usize,
    /// Tells its connections apart.
    pub(super) connection: u64,
    /// Frames to be sent.
    pub(super) outbox: mpsc::Sender<Value>,
    /// Ends its connection.
    pub(super) leave: Arc<Notify>,
    /// `busy` of its last heartbeat.
    pub(super) busy: Arc<AtomicU64>,
}

impl Worker {
    /// Puts a frame on its way; false when it takes none, and then its connection ends.
    pub(super) fn send(&self, frame: Value) -> bool {
        let sent = self.outbox.try_send(frame).is_ok();
        if !sent {
            self.leave.notify_one();
        }
        sent
    }
}

/// All registered workers by id.
#[derive(Debug, Default)]
pub(super) struct Workers {
    by_id: Mutex<BTreeMap<String, Worker>>,
    connections: AtomicU64,
    /// Something has happened that may call for a lease or a cancel.
    pub(super) wake: Notify,
}

impl Workers {
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers a worker. An earlier connection of the same worker ends.
    pub(super) fn register(&self, worker: Worker) {
        if let Some(earlier) = self.lock().insert(worker.id.clone(), worker) {
            earlier.leave.notify_one();
        }
        self.wake.notify_one();
    }

    /// Takes a worker off the list, unless it is there by another connection; true if it was there.
    pub(super) fn leave(&self, worker: &Worker) -> bool {
        let mut workers = self.lock();
        let there = workers.get(&worker.id).is_some_and(|w| w.connection == worker.connection);
        if there {
            workers.remove(&worker.id);
        }
        there
    }

    pub(super) fn get(&self, id: &str) -> Option<Worker> {
        self.lock().get(id).cloned()
    }

    /// This worker, or else the least busy one.
    pub(super) fn choose(&self, id: Option<&str>) -> Option<Worker> {
        let workers = self.lock();
        match id {
            Some(id) => workers.get(id).cloned(),
            None => workers.values().min_by_key(|w| w.busy.load(Ordering::Relaxed)).cloned(),
        }
    }

    pub(super) fn all(&self) -> Vec<Worker> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Worker>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps every worker at work until it is dropped: at every change of the tip, at every wake and
/// every now and then.
pub(super) async fn keep(books: Arc<Books>) {
    let mut tip = books.chain.watch_tip();
    loop {
        balance(&books);
        let pause = tokio::time::sleep(books.settings.timing.review);
        tokio::select! {
            changed = tip.changed() => if changed.is_err() { return },
            () = books.workers.wake.notified() => {}
            () = pause => {}
        }
    }
}

/// Cancels what is over and gives out what is free.
fn balance(books: &Books) {
    let tip = books.chain.tip();
    for cancel in books.leases.review(&tip.hash, &books.settings.timing) {
        books.ledger.record(
            "cancel",
            json!({ "worker": cancel.worker, "job_id": cancel.job_id,
                    "request_id": cancel.request_id, "reason": cancel.reason }),
        );
        match books.workers.get(&cancel.worker) {
            Some(worker) if worker.send(cancel_frame(books, &cancel)) => {}
            _ => books.leases.keep_untold(cancel),
        }
    }
    for worker in books.workers.all() {
        let open = books.leases.of(&worker.id).len();
        for _ in open..worker.leases.min(books.settings.max_parallel) {
            let lease = new_lease(books, &worker);
            if books.faults.has(Fault::CancelFirst) {
                let (job_id, request_id) = (lease.job_id.clone(), lease.request_id);
                let id = worker.id.clone();
                let early = Cancel { worker: id, job_id, request_id, reason: "superseded" };
                worker.send(cancel_frame(books, &early));
            }
            let request = lease.request.clone();
            books.leases.add(lease);
            if !worker.send(request) {
                break;
            }
        }
    }
}

/// What a worker has to hear first after its registration: the cancels it missed, then the leases it
/// still has.
pub(super) fn catch_up(books: &Books, worker: &str) -> Vec<Value> {
    let missed = books.leases.take_untold(worker);
    let cancels = missed.iter().map(|cancel| cancel_frame(books, cancel));
    let open = books.leases.of(worker).into_iter().map(|lease| lease.request);
    cancels.chain(open).collect()
}

pub(super) fn cancel_frame(books: &Books, cancel: &Cancel) -> Value {
    let network = &books.settings.network;
    frames::mine_cancel(&cancel.job_id, cancel.request_id, cancel.reason, network)
}

fn new_lease(books: &Books, worker: &Worker) -> Lease {
    let job = books.chain.new_job();
    let unique = hex::encode(token::random_bytes::<8>());
    let (job_id, template_id) = (format!("job-{unique}"), format!("tmpl-{unique}"));
    let names = frames::Names {
        job_id: &job_id,
        template_id: &template_id,
        wallet_id: &books.settings.wallet,
        network: &books.settings.network,
        max_parallel: books.settings.max_parallel,
    };
    let request = frames::mine_request(&job, &names, books.chain.settings(), books.now());
    books.ledger.record(
        "lease",
        json!({ "worker": worker.id, "job_id": job_id, "request_id": job.request_id,
                "height": job.height }),
    );
    Lease {
        worker: worker.id.clone(),
        request_id: job.request_id,
        parent: job.parent(),
        base_share_target: job.base_share_target,
        job_id,
        request,
        standing: Standing::Open,
        heard: Instant::now(),
    }
}
