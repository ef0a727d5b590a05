//! The backfill requests under way, as those see them who may end one: each has a number, what it
//! mines, and a way to tell it to stop. The newest has the least to lose and goes first.
//! spec: proxy §14.4

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tensorpow_core::units::BlockHash;
use tokio::sync::oneshot;

/// Why a backfill request is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cancel {
    /// A user needs the engine.
    Preempted,
    /// The chain has a new tip.
    NewTip,
    /// Mining is paused.
    Paused,
    /// The job was withdrawn.
    JobCancelled,
    /// The model that is mined has changed.
    OtherModel,
    /// The worker is drained.
    Draining,
    /// The proxy stops.
    Stopping,
}

impl Cancel {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::NewTip => "new_tip",
            Self::Paused => "paused",
            Self::JobCancelled => "job_cancelled",
            Self::OtherModel => "other_model",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

/// What a backfill request mines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mines {
    /// The parent block.
    pub parent: BlockHash,
    /// The job.
    pub request_id: u32,
    /// The model.
    pub model: String,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<u64, (Mines, oneshot::Sender<Cancel>)>,
    next: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Slots {
    inner: Mutex<Inner>,
}

impl Slots {
    /// Opens a slot. It closes when its guard is dropped.
    pub fn open(self: &Arc<Self>, mines: Mines) -> (Slot, oneshot::Receiver<Cancel>) {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.open.insert(number, (mines, sender));
        drop(inner);
        (Slot { slots: self.clone(), number }, receiver)
    }

    /// Requests under way that nobody has cancelled.
    #[must_use]
    pub fn active(&self) -> usize {
        self.lock().open.len()
    }

    /// Cancels up to `count` of them, the newest first; says how many.
    pub fn cancel_newest(&self, count: usize, why: Cancel) -> usize {
        let mut inner = self.lock();
        let cancelled: Vec<_> =
            (0..count).map_while(|_| inner.open.pop_last().map(|(_, slot)| slot)).collect();
        drop(inner);
        tell(cancelled, why)
    }

    /// Cancels those that `which` picks; says how many.
    pub fn cancel_where(&self, why: Cancel, which: impl Fn(&Mines) -> bool) -> usize {
        let mut inner = self.lock();
        let numbers: Vec<u64> = inner
            .open
            .iter()
            .filter(|(_, (mines, _))| which(mines))
            .map(|(number, _)| *number)
            .collect();
        let cancelled: Vec<_> =
            numbers.iter().filter_map(|number| inner.open.remove(number)).collect();
        drop(inner);
        tell(cancelled, why)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one operation on the map: a poisoned lock has nothing half done behind it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(cancelled: Vec<(Mines, oneshot::Sender<Cancel>)>, why: Cancel) -> usize {
    let count = cancelled.len();
    for (_, sender) in cancelled {
        // One that has just ended needs no telling.
        let _ = sender.send(why);
    }
    count
}

/// Keeps a slot open.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slot {
    /// A retry mines what is current then.
    pub fn now_mines(&self, mines: Mines) {
        if let Some((old, _)) = self.slots.lock().open.get_mut(&self.number) {
            *old = mines;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mines(request_id: u32) -> Mines {
        Mines { parent: BlockHash::from_bytes([1; 32]), request_id, model: "m".to_owned() }
    }

    #[test]
    fn the_newest_goes_first() {
        let slots = Arc::new(Slots::default());
        let mut open: Vec<_> = (0..4).map(|id| slots.open(mines(id))).collect();
        assert_eq!(slots.cancel_newest(2, Cancel::Preempted), 2);
        assert_eq!(slots.active(), 2);
        let told: Vec<bool> = open.iter_mut().map(|(_, told)| told.try_recv().is_ok()).collect();
        assert_eq!(told, [false, false, true, true]);
        assert_eq!(slots.cancel_where(Cancel::JobCancelled, |mines| mines.request_id == 1), 1);
        open.clear();
        assert_eq!(slots.active(), 0);
        assert_eq!(slots.cancel_newest(3, Cancel::Preempted), 0);
    }
}
