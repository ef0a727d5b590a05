//! Users first: who may go to the engine, what backfill may still run beside them, and what gives
//! way when the engine is short. A user's request is let in through the [`queue`]; backfill stands
//! in the [`slots`] table, from which the newest are taken away; [`pressure`] says whether the
//! engine is short, and the [`ladder`] what is reduced then, in which order. spec: proxy §14.4

pub mod ladder;
pub mod pressure;
pub mod queue;
pub mod report;
pub mod slots;

use ladder::{Ladder, LadderSettings, Level};
use pressure::{Occupancy, Pressure, PressureSettings, Shortage};
use queue::{ClientClass, Place, Queue, QueueLimits, Refused};
use slots::{Cancel, Slots};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often to look whether the engine is short.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Settings of all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrioritySettings {
    /// The way in for users.
    pub queue: QueueLimits,
    /// When an engine is short.
    pub pressure: PressureSettings,
    /// How fast service is reduced and restored.
    pub ladder: LadderSettings,
    /// Backfill requests regained a second once the engine is no longer short.
    pub regain: f64,
}

impl Default for PrioritySettings {
    fn default() -> Self {
        Self {
            queue: QueueLimits::default(),
            pressure: PressureSettings::default(),
            ladder: LadderSettings::default(),
            regain: 2.0,
        }
    }
}

#[derive(Debug)]
struct Inner {
    ladder: Ladder,
    /// Most backfill at a time: falls to what is left when the engine is short, rises slowly after.
    ceiling: f64,
    looked: Instant,
    shortage: Option<Shortage>,
}

/// Keeps users and backfill of one engine apart.
#[derive(Debug)]
pub struct Priority {
    settings: PrioritySettings,
    queue: Arc<Queue>,
    pressure: Pressure,
    slots: Arc<Slots>,
    inner: Mutex<Inner>,
    preempted: AtomicU64,
    /// Users' requests at the engine that mines.
    beside: AtomicUsize,
}

/// What `/status` and the gauges show.
#[derive(Debug, Clone, Copy)]
pub struct PriorityReport {
    /// Requests at the engine and at the door.
    pub at: Occupancy,
    /// Why the engine is short, if it is.
    pub shortage: Option<Shortage>,
    /// What is reduced.
    pub level: Level,
    /// Backfill requests taken away for users so far.
    pub preempted: u64,
    /// Requests the engine runs at a time, where known.
    pub capacity: Option<usize>,
}

impl Priority {
    /// Nobody is in yet.
    #[must_use]
    pub fn new(settings: PrioritySettings) -> Arc<Self> {
        let now = Instant::now();
        let ladder = Ladder::new(settings.ladder, now);
        let inner = Inner { ladder, ceiling: f64::INFINITY, looked: now, shortage: None };
        Arc::new(Self {
            settings,
            queue: Queue::new(settings.queue),
            pressure: Pressure::new(settings.pressure),
            slots: Arc::default(),
            inner: Mutex::new(inner),
            preempted: AtomicU64::new(0),
            beside: AtomicUsize::new(0),
        })
    }

    /// The backfill requests under way.
    #[must_use]
    pub const fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// What is known about the engine.
    #[must_use]
    pub const fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// Requests at the engine and at the door.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        let (_, queued) = self.queue.depth();
        Occupancy {
            users: self.beside.load(Ordering::Relaxed),
            queued,
            backfill: self.slots.active(),
        }
    }

    /// Lets a user's request in, at once or when there is room, and takes backfill out of its way
    /// when the engine is short. `beside` says that it goes to the engine that mines.
    ///
    /// # Errors
    /// [`Refused`] when there is no room in time.
    pub async fn admit(
        self: &Arc<Self>,
        class: ClientClass,
        beside: bool,
    ) -> Result<Permit, Refused> {
        let place = self.queue.enter(class).await?;
        if beside {
            self.beside.fetch_add(1, Ordering::Relaxed);
            self.make_room(Instant::now());
        }
        Ok(Permit { priority: self.clone(), place, beside, waits: None })
    }

    /// Ends as much backfill as the newcomer needs: all that is beyond a known capacity, else one
    /// request when the engine is short.
    fn make_room(&self, now: Instant) {
        let at = self.occupancy();
        if at.backfill == 0 {
            return;
        }
        let beyond = self
            .pressure
            .capacity()
            .map_or(0, |capacity| (at.users + at.backfill).saturating_sub(capacity));
        let short = beyond == 0 && self.pressure.shortage(at, now).is_some();
        self.preempt(beyond + usize::from(short));
    }

    fn preempt(&self, count: usize) {
        let ended = self.slots.cancel_newest(count, Cancel::Preempted);
        self.preempted.fetch_add(ended as u64, Ordering::Relaxed);
    }

    /// Backfill requests that may run now, of a floor that users' requests count towards.
    /// spec: proxy §14.1
    #[must_use]
    pub fn backfill_allowance(&self, floor: usize) -> usize {
        let at = self.occupancy();
        let inner = self.lock();
        if inner.ladder.level() > Level::Normal {
            return 0;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, never NaN
        let ceiling = inner.ceiling as usize;
        drop(inner);
        let wanted = floor.saturating_sub(at.users);
        wanted.min(ceiling).min(self.pressure.room_for_backfill(at.users))
    }

    /// Looks at the engine, ends backfill while it is short and moves along the ladder. To be called
    /// every [`LOOK_EVERY`].
    pub fn look(&self, now: Instant) {
        let at = self.occupancy();
        let shortage = self.pressure.shortage(at, now);
        if shortage.is_some() {
            // A quarter at a time: relief within a second, and no more than is needed.
            self.preempt(at.backfill.div_ceil(4));
        }
        let left = self.slots.active();
        let mut inner = self.lock();
        let passed = now.saturating_duration_since(inner.looked).as_secs_f64();
        inner.looked = now;
        inner.shortage = shortage;
        let changed = inner.ladder.look(shortage.is_some(), left > 0, now);
        if inner.ladder.level() > Level::Normal {
            #[allow(clippy::cast_precision_loss)] // a few thousand at most
            let left = left as f64;
            inner.ceiling = inner.ceiling.min(left);
        } else if changed.is_none() {
            inner.ceiling += self.settings.regain.max(0.01) * passed;
        }
        drop(inner);
        if let Some(level) = changed {
            let reason = shortage.map_or("the engine has recovered", Shortage::as_str);
            tracing::info!(reason, "degradation: {}", level.as_str());
            self.apply(level);
        }
    }

    fn apply(&self, level: Level) {
        let limits = self.settings.queue;
        let (waiting, deadline) = if level >= Level::ShortQueues {
            (limits.waiting.div_ceil(4), limits.deadline / 4)
        } else {
            (limits.waiting, limits.deadline)
        };
        self.queue.adjust(waiting, deadline, level == Level::ShedLow);
    }

    /// For `/status` and the gauges.
    #[must_use]
    pub fn report(&self) -> PriorityReport {
        let at = self.occupancy();
        let capacity = self.pressure.capacity();
        let inner = self.lock();
        PriorityReport {
            at,
            shortage: inner.shortage,
            level: inner.ladder.level(),
            preempted: self.preempted.load(Ordering::Relaxed),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that could panic runs while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A user's request on its way; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Permit {
    priority: Arc<Priority>,
    place: Place,
    beside: bool,
    waits: Option<u64>,
}

impl Permit {
    /// Time spent in the queue.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.place.waited()
    }

    /// A request for a stream goes to the engine now: its first byte is waited for.
    pub fn stream_sent(&mut self) {
        if self.beside && self.waits.is_none() {
            self.waits = Some(self.priority.pressure.sent(Instant::now()));
        }
    }

    /// The stream has begun.
    pub fn stream_began(&mut self) {
        if let Some(number) = self.waits.take() {
            self.priority.pressure.began(number, Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.stream_began();
        if self.beside {
            self.priority.beside.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::slots::Mines;
    use super::*;
    use tensorpow_core::units::BlockHash;

    fn priority(capacity: Option<usize>) -> Arc<Priority> {
        let pressure = PressureSettings { capacity, ..PressureSettings::default() };
        Priority::new(PrioritySettings { pressure, ..PrioritySettings::default() })
    }

    fn backfill(priority: &Priority, count: usize) -> Vec<impl Sized> {
        let mines =
            Mines { parent: BlockHash::from_bytes([0; 32]), request_id: 1, model: "m".to_owned() };
        (0..count).map(|_| priority.slots().open(mines.clone())).collect()
    }

    #[tokio::test]
    async fn users_take_room_only_where_there_is_none() {
        let priority = priority(Some(4));
        assert_eq!(priority.backfill_allowance(32), 4);
        let _open = backfill(&priority, 3);
        let _elsewhere = priority.admit(ClientClass::Normal, false).await.unwrap();
        let _first = priority.admit(ClientClass::Normal, true).await.unwrap();
        assert_eq!(priority.occupancy().backfill, 3, "there is room for both");
        let _second = priority.admit(ClientClass::Normal, true).await.unwrap();
        assert_eq!(priority.occupancy().backfill, 2);
        assert_eq!(priority.backfill_allowance(32), 2);
        assert_eq!(priority.report().preempted, 1);
    }

    #[tokio::test]
    async fn without_a_capacity_backfill_stays_until_a_user_waits() {
        let priority = priority(None);
        let _open = backfill(&priority, 8);
        let mut user = priority.admit(ClientClass::Normal, true).await.unwrap();
        user.stream_sent();
        priority.look(Instant::now());
        assert_eq!(priority.occupancy().backfill, 8);
        let later = Instant::now() + Duration::from_secs(1);
        for (step, left) in [6, 4, 3, 2, 1, 0].into_iter().enumerate() {
            priority.look(later);
            assert_eq!(priority.occupancy().backfill, left, "step {step}");
        }
        assert_eq!(priority.backfill_allowance(8), 0);
        drop(user);
        let mut now = Instant::now() + Duration::from_secs(20);
        priority.look(now);
        now += Duration::from_secs(5);
        priority.look(now);
        assert_eq!(priority.report().level, Level::Normal);
        now += Duration::from_secs(1);
        priority.look(now);
        assert!((1..8).contains(&priority.backfill_allowance(8)), "it comes back slowly");
        now += Duration::from_secs(5);
        priority.look(now);
        assert_eq!(priority.backfill_allowance(8), 8);
    }
}
