//! The way in for users: so many requests at a time, a bounded queue with a deadline behind them,
//! and a word on when to come back for those that do not fit. More important clients are served
//! first and, when the queue is full, take the place of less important ones. spec: proxy §14.4, §25

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How important a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ClientClass {
    /// Shed first.
    Low,
    /// Everybody.
    #[default]
    Normal,
    /// Served first.
    High,
}

impl ClientClass {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// Bounds of the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Users' requests at the engines at a time.
    pub at_a_time: usize,
    /// Requests that may wait for one of them to end.
    pub waiting: usize,
    /// For how long.
    pub deadline: Duration,
}

impl Default for QueueLimits {
    /// Engines queue by themselves, so these only bound what the proxy holds.
    fn default() -> Self {
        Self { at_a_time: 8192, waiting: 2048, deadline: Duration::from_secs(30) }
    }
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is full.
    Full,
    /// Its time in the queue is up.
    Deadline,
    /// It made way for a more important client, or its class is shed.
    Shed,
}

impl Refusal {
    /// As a label and error code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::Deadline => "queue_deadline",
            Self::Shed => "shed",
        }
    }
}

/// A request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at capacity ({}), try again in {retry_after:?}", reason.as_str())]
pub struct Refused {
    /// Why.
    pub reason: Refusal,
    /// When it is worth another try.
    pub retry_after: Duration,
}

type Waiter = oneshot::Sender<Result<Place, Refused>>;

#[derive(Debug)]
struct Inner {
    limits: QueueLimits,
    shed_low: bool,
    inside: usize,
    /// By class, oldest first.
    waiting: [BTreeMap<u64, Waiter>; 3],
    next: u64,
}

impl Inner {
    fn queued(&self) -> usize {
        self.waiting.iter().map(BTreeMap::len).sum()
    }

    /// Seconds until about so many requests have left, taking the deadline as the time that a full
    /// queue needs.
    fn retry_after(&self) -> Duration {
        let fill = self.queued().saturating_add(1);
        let share = self.limits.deadline.saturating_mul(u32::try_from(fill).unwrap_or(u32::MAX));
        let seconds = share.as_secs() / (self.limits.waiting.max(1) as u64);
        Duration::from_secs(seconds.clamp(1, 60))
    }
}

/// The way in.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Arc<Self> {
        let inner =
            Inner { limits, shed_low: false, inside: 0, waiting: Default::default(), next: 0 };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Requests inside and requests waiting.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.inside, inner.queued())
    }

    /// Changes the bounds on waiting, and whether low clients are shed. Who waits already stays,
    /// except those that are shed now.
    pub fn adjust(&self, waiting: usize, deadline: Duration, shed_low: bool) {
        let mut inner = self.lock();
        inner.limits.waiting = waiting;
        inner.limits.deadline = deadline;
        inner.shed_low = shed_low;
        if shed_low {
            let refused = Refused { reason: Refusal::Shed, retry_after: inner.retry_after() };
            let shed = std::mem::take(&mut inner.waiting[ClientClass::Low as usize]);
            drop(inner);
            for waiter in shed.into_values() {
                // Who has left by now needs no answer.
                let _ = waiter.send(Err(refused));
            }
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// [`Refused`] when there is none in time.
    pub async fn enter(self: &Arc<Self>, class: ClientClass) -> Result<Place, Refused> {
        let began = Instant::now();
        let (number, mut answer, deadline) = match self.try_enter(class)? {
            Entered::At(place) => return Ok(place),
            Entered::Waits { number, answer, deadline } => (number, answer, deadline),
        };
        // A request whose client leaves is dropped here, and gives up its number.
        let _leave = Leave { queue: self, class, number };
        match tokio::time::timeout(deadline, &mut answer).await {
            Ok(Ok(Ok(mut place))) => {
                place.waited = began.elapsed();
                Ok(place)
            }
            Ok(Ok(Err(refused))) => Err(refused),
            Ok(Err(_)) | Err(_) => {
                let retry_after = self.lock().retry_after();
                Err(Refused { reason: Refusal::Deadline, retry_after })
            }
        }
    }

    fn try_enter(self: &Arc<Self>, class: ClientClass) -> Result<Entered, Refused> {
        let mut inner = self.lock();
        let retry_after = inner.retry_after();
        if class == ClientClass::Low && inner.shed_low {
            return Err(Refused { reason: Refusal::Shed, retry_after });
        }
        if inner.inside < inner.limits.at_a_time.max(1) && inner.queued() == 0 {
            inner.inside += 1;
            return Ok(Entered::At(Place::new(self)));
        }
        let mut pushed_out = None;
        if inner.queued() >= inner.limits.waiting {
            // The newest of the least important clients makes way for a more important one.
            let lower = inner.waiting[..class as usize].iter_mut();
            pushed_out = lower.into_iter().find_map(BTreeMap::pop_last).map(|(_, waiter)| waiter);
            if pushed_out.is_none() {
                return Err(Refused { reason: Refusal::Full, retry_after });
            }
        }
        let (sender, answer) = oneshot::channel();
        let number = inner.next;
        inner.next += 1;
        inner.waiting[class as usize].insert(number, sender);
        let deadline = inner.limits.deadline;
        drop(inner);
        if let Some(waiter) = pushed_out {
            let _ = waiter.send(Err(Refused { reason: Refusal::Shed, retry_after }));
        }
        Ok(Entered::Waits { number, answer, deadline })
    }

    /// A place is free: the oldest of the most important clients gets it.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let mut inner = self.lock();
            let next = inner.waiting.iter_mut().rev().find_map(BTreeMap::pop_first);
            let Some((_, waiter)) = next else {
                inner.inside = inner.inside.saturating_sub(1);
                return;
            };
            drop(inner);
            match waiter.send(Ok(Place::new(self))) {
                Ok(()) => return,
                // Its client has just left; dropping this place here would come back to this loop.
                Err(Ok(mut place)) => place.queue = None,
                Err(Err(_)) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that could panic runs while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entered {
    At(Place),
    Waits { number: u64, answer: oneshot::Receiver<Result<Place, Refused>>, deadline: Duration },
}

/// Takes a waiting request off the queue.
struct Leave<'a> {
    queue: &'a Queue,
    class: ClientClass,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.queue.lock().waiting[self.class as usize].remove(&self.number);
    }
}

/// One request's place; the next one gets it when this is dropped.
#[derive(Debug)]
pub struct Place {
    queue: Option<Arc<Queue>>,
    waited: Duration,
}

impl Place {
    fn new(queue: &Arc<Queue>) -> Self {
        Self { queue: Some(queue.clone()), waited: Duration::ZERO }
    }

    /// Time spent in the queue.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(at_a_time: usize, waiting: usize, deadline_ms: u64) -> Arc<Queue> {
        let deadline = Duration::from_millis(deadline_ms);
        Queue::new(QueueLimits { at_a_time, waiting, deadline })
    }

    /// A request that waits, once it does.
    async fn waiter(
        queue: &Arc<Queue>,
        class: ClientClass,
    ) -> tokio::task::JoinHandle<Result<Place, Refused>> {
        let before = queue.depth().1;
        let task = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enter(class).await }
        });
        while queue.depth().1 == before && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn a_place_goes_to_the_oldest_of_the_most_important() {
        let queue = queue(1, 8, 60_000);
        let inside = queue.enter(ClientClass::Normal).await.unwrap();
        let low = waiter(&queue, ClientClass::Low).await;
        let first = waiter(&queue, ClientClass::Normal).await;
        let second = waiter(&queue, ClientClass::Normal).await;
        assert_eq!(queue.depth(), (1, 3));
        drop(inside);
        let place = first.await.unwrap().unwrap();
        assert!(!second.is_finished() && !low.is_finished());
        drop(place);
        drop(second.await.unwrap().unwrap());
        drop(low.await.unwrap().unwrap());
        assert_eq!(queue.depth(), (0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_unless_somebody_is_less_important() {
        let queue = queue(1, 1, 60_000);
        let _inside = queue.enter(ClientClass::Normal).await.unwrap();
        let low = waiter(&queue, ClientClass::Low).await;
        let same = queue.enter(ClientClass::Low).await.unwrap_err();
        assert_eq!(same.reason, Refusal::Full);
        assert!(same.retry_after >= Duration::from_secs(1));
        let high = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enter(ClientClass::High).await }
        });
        assert_eq!(low.await.unwrap().unwrap_err().reason, Refusal::Shed);
        assert!(!high.is_finished());
        assert_eq!(queue.depth(), (1, 1));
    }

    #[tokio::test]
    async fn waiting_has_a_deadline_and_leaves_nothing_behind() {
        let queue = queue(1, 8, 20);
        let inside = queue.enter(ClientClass::Normal).await.unwrap();
        let refused = queue.enter(ClientClass::Normal).await.unwrap_err();
        assert_eq!(refused.reason, Refusal::Deadline);
        assert_eq!(queue.depth(), (1, 0));
        let gone = waiter(&queue, ClientClass::Normal).await;
        gone.abort();
        assert!(gone.await.is_err());
        assert_eq!(queue.depth(), (1, 0));
        drop(inside);
        assert_eq!(queue.depth(), (0, 0));
        assert!(queue.enter(ClientClass::Normal).await.is_ok());
    }

    #[tokio::test]
    async fn low_clients_are_shed_on_demand() {
        let queue = queue(1, 8, 60_000);
        let _inside = queue.enter(ClientClass::Normal).await.unwrap();
        let low = waiter(&queue, ClientClass::Low).await;
        queue.adjust(2, Duration::from_secs(1), true);
        assert_eq!(low.await.unwrap().unwrap_err().reason, Refusal::Shed);
        assert!(queue.enter(ClientClass::Low).await.is_err());
        let normal = waiter(&queue, ClientClass::Normal).await;
        assert!(!normal.is_finished());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_place_is_lost_under_a_storm_of_leaving_clients() {
        let queue = queue(3, 64, 5);
        let clients: Vec<_> = (0..2000_u32)
            .map(|n| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let entering = queue.enter(ClientClass::Normal);
                    let patience = Duration::from_micros(u64::from(n % 7) * 900);
                    if let Ok(Ok(_place)) = tokio::time::timeout(patience, entering).await {
                        tokio::time::sleep(Duration::from_micros(300)).await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(queue.depth(), (0, 0));
    }
}
