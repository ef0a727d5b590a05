//! The book of leases: which request ids are being mined for which job, which were closed for good,
//! and which template is the newest. It outlives a connection, as leases do. spec: broker §7.2–§7.4

use super::frames::MineCancel;
use super::outgoing::WorkUnit;
use crate::mining::job::Job;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tensorpow_core::units::BlockHash;
use tokio::sync::Notify;

/// Request ids that were closed for good and are remembered. spec: §7.3
const TOMBSTONES: usize = 512;
/// Leases that are kept at a time, whatever a broker hands out; the oldest goes first.
const MOST_OPEN: usize = 4096;
/// An older lease is forgotten. spec: §7.4
pub const LEASE_AGE: Duration = Duration::from_secs(900);

/// The model a lease is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedModel {
    /// Its name, trimmed.
    pub name: String,
    /// Its commit, trimmed.
    pub commit: String,
}

/// One template a broker has handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What every frame about it repeats.
    pub unit: WorkUnit,
    /// Whose difficulty scales the share target.
    pub model: LeasedModel,
    /// The template itself.
    pub job: Job,
}

/// Why there is nothing to send a proof for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoLease {
    /// The broker has closed it.
    #[error("the broker has cancelled the lease of request {0}")]
    Cancelled(u32),
    /// It was never there, is too old, or a result has closed it.
    #[error("there is no lease of request {0}: a result has closed it, or it is too old")]
    Unknown(u32),
    /// The chain has moved on.
    #[error("the lease of request {0} is on a parent that is no longer the tip")]
    StaleParent(u32),
}

impl NoLease {
    /// The reason's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cancelled(_) => "lease_cancelled",
            Self::Unknown(_) => "no_lease",
            Self::StaleParent(_) => crate::outbox::STALE_PARENT,
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    open: BTreeMap<u32, (Lease, Instant)>,
    tombstones: VecDeque<u64>,
    /// Request id and parent of the newest template.
    anchor: Option<(u32, BlockHash)>,
}

/// The book.
#[derive(Debug, Default)]
pub struct Leases {
    book: Mutex<Book>,
    /// Rings when the open leases are others.
    changed: Notify,
}

impl Leases {
    /// No call leaves the book half-written, so a poisoned lock guards a usable one.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a lease and makes its template the newest. An older lease of the same id and its
    /// tombstone are forgotten: node ids are recycled. spec: §7.2 step 6
    pub fn open(&self, lease: Lease) {
        let (request_id, parent) = (lease.job.request_id, lease.job.parent());
        let mut book = self.book();
        book.tombstones.retain(|id| *id != u64::from(request_id));
        book.open.insert(request_id, (lease, Instant::now()));
        while book.open.len() > MOST_OPEN {
            // Whatever the clock says, the one that has just come is not the oldest.
            let older = book.open.iter().filter(|(id, _)| **id != request_id);
            let oldest = older.min_by_key(|(_, (_, opened))| *opened).map(|(id, _)| *id);
            oldest.and_then(|id| book.open.remove(&id));
        }
        book.anchor = Some((request_id, parent));
        drop(book);
        self.changed.notify_one();
    }

    /// Enters the leases of an earlier run with their ages, the newest last. Which template is the
    /// newest only a broker says.
    pub fn restore(&self, leases: Vec<(Lease, Duration)>) {
        let mut book = self.book();
        for (lease, age) in leases.into_iter().filter(|(_, age)| *age <= LEASE_AGE) {
            // A machine that has run for less than the age forgets a little later.
            let opened = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
            book.open.entry(lease.job.request_id).or_insert((lease, opened));
        }
    }

    /// Open leases with their ages.
    #[must_use]
    pub fn open_leases(&self) -> Vec<(Lease, Duration)> {
        let book = self.book();
        book.open.values().map(|(lease, opened)| (lease.clone(), opened.elapsed())).collect()
    }

    /// Waits until the open leases are others. For one at a time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Closes a lease for good; the request id that is closed, `None` where nothing changes: a soft
    /// reason, a job that does not hold the id any more, no id. spec: §7.3
    pub fn cancel(&self, cancel: &MineCancel) -> Option<u64> {
        let mut book = self.book();
        let of_job = |job: &String| {
            let found = book.open.iter().find(|(_, (lease, _))| lease.unit.job_id == *job);
            found.map(|(id, _)| u64::from(*id))
        };
        let request_id = cancel.work_unit_id.or_else(|| cancel.job_id.as_ref().and_then(of_job))?;
        let key = u32::try_from(request_id).ok();
        let holder = key.and_then(|key| book.open.get(&key)).map(|(lease, _)| &lease.unit.job_id);
        if let (Some(holder), Some(job)) = (holder, &cancel.job_id)
            && holder != job
        {
            return None;
        }
        if !cancel.is_hard() {
            return None;
        }
        if key.is_some_and(|key| book.open.remove(&key).is_some()) {
            self.changed.notify_one();
        }
        if !book.tombstones.contains(&request_id) {
            book.tombstones.push_back(request_id);
        }
        while book.tombstones.len() > TOMBSTONES {
            book.tombstones.pop_front();
        }
        Some(request_id)
    }

    /// The open lease of a request id. A lease on another parent than the newest template's has
    /// nothing to be sent for any more. spec: §7.5 steps 7, 9
    ///
    /// # Errors
    /// [`NoLease`].
    pub fn find(&self, request_id: u32) -> Result<Lease, NoLease> {
        let book = self.book();
        if book.tombstones.contains(&u64::from(request_id)) {
            return Err(NoLease::Cancelled(request_id));
        }
        let (lease, _) = book.open.get(&request_id).ok_or(NoLease::Unknown(request_id))?;
        match book.anchor {
            Some((_, parent)) if parent != lease.job.parent() => {
                Err(NoLease::StaleParent(request_id))
            }
            _ => Ok(lease.clone()),
        }
    }

    /// A result was sent: the lease is closed, unless the id belongs to another job by now.
    /// spec: §7.6
    pub fn close(&self, request_id: u32, job_id: &str) {
        let mut book = self.book();
        if book.open.get(&request_id).is_some_and(|(lease, _)| lease.unit.job_id == job_id) {
            book.open.remove(&request_id);
            self.changed.notify_one();
        }
    }

    /// Forgets a lease that has nothing to be sent for. spec: §7.5 step 9
    pub fn forget(&self, request_id: u32) {
        self.book().open.remove(&request_id);
        self.changed.notify_one();
    }

    /// Forgets what is older than [`LEASE_AGE`]. spec: §7.4
    pub fn purge(&self, now: Instant) {
        let old = |opened: &Instant| now.saturating_duration_since(*opened) > LEASE_AGE;
        self.book().open.retain(|_, (_, opened)| !old(opened));
    }

    /// Open leases: request id and job.
    #[must_use]
    pub fn tracked(&self) -> Vec<(u32, String)> {
        let book = self.book();
        book.open.iter().map(|(id, (lease, _))| (*id, lease.unit.job_id.clone())).collect()
    }

    /// Closed request ids, the oldest first.
    #[must_use]
    pub fn tombstones(&self) -> Vec<u64> {
        self.book().tombstones.iter().copied().collect()
    }

    /// Request id of the newest template.
    #[must_use]
    pub fn newest(&self) -> Option<u32> {
        self.book().anchor.map(|(request_id, _)| request_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::units::HeaderPrefix;

    fn lease(request_id: u32) -> Lease {
        Lease {
            unit: WorkUnit {
                job_id: format!("job-{request_id}"),
                work_unit_id: request_id.into(),
                wallet_id: "wallet".to_owned(),
                network: "tensor".to_owned(),
                template_id: "template".to_owned(),
                request_id: request_id.into(),
            },
            model: LeasedModel { name: "org/m".to_owned(), commit: "c".to_owned() },
            job: Job {
                request_id,
                prefix: HeaderPrefix::from_bytes([3; 76]),
                base_share_target: None,
                height: None,
            },
        }
    }

    /// As many leases as are kept, the ids falling: the oldest has the highest.
    fn full() -> Leases {
        let leases = Leases::default();
        for id in (1..=u32::try_from(MOST_OPEN).unwrap()).rev() {
            leases.open(lease(id));
        }
        leases
    }

    #[test]
    fn a_broker_that_hands_out_leases_without_end_fills_no_memory() {
        let (leases, most) = (full(), u32::try_from(MOST_OPEN).unwrap());
        assert_eq!(leases.tracked().len(), MOST_OPEN);
        // A lease that is handed out again takes no place of another's.
        leases.open(lease(1));
        assert_eq!(leases.tracked().len(), MOST_OPEN);
        assert!(leases.find(most).is_ok());
        for more in 1..=3 {
            leases.open(lease(most + more));
            assert_eq!(leases.tracked().len(), MOST_OPEN);
            assert_eq!(leases.newest(), Some(most + more));
        }
        // The oldest three have made way, and are no cancelled ones.
        for gone in [most, most - 1, most - 2] {
            assert_eq!(leases.find(gone), Err(NoLease::Unknown(gone)));
        }
        assert!([most - 3, 1, most + 1, most + 3].iter().all(|id| leases.find(*id).is_ok()));
        assert_eq!(leases.tombstones(), Vec::<u64>::new());
    }

    #[test]
    fn the_leases_of_an_earlier_run_count_as_well() {
        let leases = Leases::default();
        let aged = |id: u32| (lease(id), Duration::from_secs(u64::from(id % 600)));
        leases.restore((0..5000).map(aged).collect());
        leases.open(lease(7000));
        assert_eq!(leases.tracked().len(), MOST_OPEN);
        assert!(leases.find(7000).is_ok() && leases.find(600).is_ok());
        assert_eq!(leases.find(599), Err(NoLease::Unknown(599)), "one of the oldest");
        // What is too old is not taken at all.
        leases.restore(vec![(lease(8000), LEASE_AGE + Duration::from_secs(1))]);
        assert_eq!(leases.find(8000), Err(NoLease::Unknown(8000)));
    }
}
