//! The leases: which work was given to which worker, and how each of them ended. A lease is open
//! from its `MINE_REQUEST` until a result, a hard cancel or the end of a long silence; it outlives a
//! lost connection, and what a worker missed meanwhile it is told when it comes back.
//! spec: broker §2, §7.3, §12 item 6

use super::Timing;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tensorpow_core::target::Target;
use tensorpow_core::units::BlockHash;

/// Leases remembered; the oldest closed ones go first.
const REMEMBERED: usize = 4096;

/// How far a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Work is done on it.
    Open,
    /// Nothing came for long; late work is still taken. spec: broker §7.3
    Expiring(Instant),
    /// Nothing is taken any more.
    Closed,
}

/// One lease.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) worker: String,
    pub(super) job_id: String,
    /// The chain's request id, which is the work unit's too.
    pub(super) request_id: u32,
    /// The block its template builds on.
    pub(super) parent: BlockHash,
    pub(super) base_share_target: Option<Target>,
    /// The `MINE_REQUEST`.
    pub(super) request: Value,
    pub(super) standing: Standing,
    /// When something came for it, at first its beginning.
    pub(super) heard: Instant,
}

/// What is to be said about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cancel {
    pub(super) worker: String,
    pub(super) job_id: String,
    pub(super) request_id: u32,
    pub(super) reason: &'static str,
}

#[derive(Debug, Default)]
struct Table {
    by_job: BTreeMap<String, Lease>,
    /// In the order in which they were given out.
    order: Vec<String>,
    /// Cancels of workers that were away.
    untold: Vec<Cancel>,
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Table>);

impl Leases {
    /// A new lease.
    pub(super) fn add(&self, lease: Lease) {
        let mut table = self.lock();
        while table.order.len() >= REMEMBERED {
            let closed = |job: &String| table.by_job[job].standing == Standing::Closed;
            let oldest = table.order.iter().position(closed).unwrap_or_default();
            let job = table.order.remove(oldest);
            table.by_job.remove(&job);
        }
        table.order.push(lease.job_id.clone());
        table.by_job.insert(lease.job_id.clone(), lease);
    }

    /// A lease that still takes work, by job id. The time of its last sign of life is now.
    pub(super) fn live(&self, worker: &str, job_id: &str) -> Option<Lease> {
        let mut table = self.lock();
        let lease = table.by_job.get_mut(job_id)?;
        if lease.worker != worker || lease.standing == Standing::Closed {
            return None;
        }
        lease.heard = Instant::now();
        lease.standing = Standing::Open;
        Some(lease.clone())
    }

    /// Ends a lease; true if it was live until now.
    pub(super) fn close(&self, job_id: &str) -> bool {
        let mut table = self.lock();
        table.by_job.get_mut(job_id).is_some_and(|lease| {
            std::mem::replace(&mut lease.standing, Standing::Closed) != Standing::Closed
        })
    }

    /// The leases of a worker that still take work, in the order in which it got them.
    pub(super) fn of(&self, worker: &str) -> Vec<Lease> {
        let table = self.lock();
        let all = table.order.iter().filter_map(|job| table.by_job.get(job));
        let live = |lease: &&Lease| lease.worker == worker && lease.standing != Standing::Closed;
        all.filter(live).cloned().collect()
    }

    /// How many leases take work.
    pub(super) fn count(&self) -> usize {
        let table = self.lock();
        table.by_job.values().filter(|lease| lease.standing != Standing::Closed).count()
    }

    /// What time and the chain have done to the leases: those on an old parent are superseded, those
    /// that are silent expire, softly at first. spec: broker §12 item 6
    pub(super) fn review(&self, tip: &BlockHash, timing: &Timing) -> Vec<Cancel> {
        let now = Instant::now();
        let mut cancels = Vec::new();
        let mut table = self.lock();
        let Table { by_job, order, .. } = &mut *table;
        for job in order.iter() {
            let Some(lease) = by_job.get_mut(job) else { continue };
            let reason = match lease.standing {
                Standing::Closed => continue,
                _ if lease.parent != *tip => {
                    lease.standing = Standing::Closed;
                    "superseded"
                }
                Standing::Open if now.duration_since(lease.heard) >= timing.lease_silent => {
                    lease.standing = Standing::Expiring(now);
                    "expired"
                }
                Standing::Expiring(since) if now.duration_since(since) >= timing.lease_grace => {
                    lease.standing = Standing::Closed;
                    "expired_final"
                }
                Standing::Open | Standing::Expiring(_) => continue,
            };
            cancels.push(Cancel {
                worker: lease.worker.clone(),
                job_id: lease.job_id.clone(),
                request_id: lease.request_id,
                reason,
            });
        }
        cancels
    }

    /// A cancel that did not reach its worker.
    pub(super) fn keep_untold(&self, cancel: Cancel) {
        let mut table = self.lock();
        if table.untold.len() >= REMEMBERED {
            table.untold.remove(0);
        }
        table.untold.push(cancel);
    }

    /// What a worker has missed.
    pub(super) fn take_untold(&self, worker: &str) -> Vec<Cancel> {
        let mut table = self.lock();
        let (missed, others) =
            std::mem::take(&mut table.untold).into_iter().partition(|c| c.worker == worker);
        table.untold = others;
        missed
    }

    /// Nothing is left half-changed under this lock.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PARENT: BlockHash = BlockHash::from_bytes([1; 32]);

    fn lease(job: &str) -> Lease {
        Lease {
            worker: "w".to_owned(),
            job_id: job.to_owned(),
            request_id: 7,
            parent: PARENT,
            base_share_target: None,
            request: Value::Null,
            standing: Standing::Open,
            heard: Instant::now(),
        }
    }

    #[test]
    fn silence_ends_a_lease_in_two_steps() {
        let leases = Leases::default();
        leases.add(lease("a"));
        let patient = Timing::default();
        assert_eq!(leases.review(&PARENT, &patient), []);
        let impatient =
            Timing { lease_silent: Duration::ZERO, lease_grace: Duration::ZERO, ..patient };
        assert_eq!(leases.review(&PARENT, &impatient)[0].reason, "expired");
        assert!(leases.live("w", "a").is_some(), "late work is taken");
        assert_eq!(
            leases.review(&PARENT, &impatient)[0].reason,
            "expired",
            "it was heard of again"
        );
        assert_eq!(leases.review(&PARENT, &impatient)[0].reason, "expired_final");
        assert!(leases.live("w", "a").is_none());
        assert_eq!(leases.review(&PARENT, &impatient), []);
    }

    #[test]
    fn a_new_parent_ends_every_lease_once() {
        let leases = Leases::default();
        leases.add(lease("a"));
        leases.add(lease("b"));
        assert!(leases.close("b") && !leases.close("b"));
        let tip = BlockHash::from_bytes([2; 32]);
        let cancels = leases.review(&tip, &Timing::default());
        assert_eq!(
            cancels.iter().map(|c| (&*c.job_id, c.reason)).collect::<Vec<_>>(),
            [("a", "superseded")]
        );
        assert_eq!((leases.count(), leases.review(&tip, &Timing::default()).len()), (0, 0));
        assert!(leases.live("other", "a").is_none());
    }
}
