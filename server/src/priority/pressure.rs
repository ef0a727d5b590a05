//! Is the engine short? Judged by what users feel (a stream that has not begun, one that began
//! late) and by what the engine says (requests that wait, slots that are all taken). Backfill alone
//! never makes an engine short. spec: proxy §14.4

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When an engine counts as short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PressureSettings {
    /// A stream should begin within this time.
    pub first_token: Duration,
    /// A late stream keeps the engine short for so long.
    pub remember: Duration,
    /// Requests the engine runs at a time; `None` asks the engine, and without an answer leaves
    /// this sign out.
    pub capacity: Option<usize>,
    /// Of these, kept free of backfill for users who come.
    pub headroom: usize,
}

impl Default for PressureSettings {
    fn default() -> Self {
        Self {
            first_token: Duration::from_millis(750),
            remember: Duration::from_secs(3),
            capacity: None,
            headroom: 0,
        }
    }
}

/// Why an engine is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Users wait at the proxy.
    UsersQueued,
    /// More requests than the engine runs at a time.
    Full,
    /// Requests wait inside the engine.
    EngineQueue,
    /// A user's stream should have begun.
    StreamLate,
    /// A user's stream began late a moment ago.
    StreamWasLate,
}

impl Shortage {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UsersQueued => "users_queued",
            Self::Full => "engine_full",
            Self::EngineQueue => "engine_queue",
            Self::StreamLate => "stream_late",
            Self::StreamWasLate => "stream_was_late",
        }
    }
}

/// What an engine says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineLoad {
    /// Requests that run.
    pub running: Option<u64>,
    /// Requests that wait inside it.
    pub waiting: Option<u64>,
    /// Requests it can run at a time.
    pub slots: Option<u64>,
    /// Tokens it has generated since its start.
    pub generated: Option<u64>,
}

/// Requests at the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Users' requests.
    pub users: usize,
    /// Users that wait at the proxy.
    pub queued: usize,
    /// Backfill requests.
    pub backfill: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// Streams of users that have not begun, by number; the first is the oldest.
    not_begun: BTreeMap<u64, Instant>,
    next: u64,
    late_until: Option<Instant>,
    load: EngineLoad,
    load_until: Option<Instant>,
}

/// What is known about one engine.
#[derive(Debug)]
pub struct Pressure {
    settings: PressureSettings,
    inner: Mutex<Inner>,
}

/// A report of an engine counts for so long.
const LOAD_HOLDS: Duration = Duration::from_secs(5);

impl Pressure {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(settings: PressureSettings) -> Self {
        Self { settings, inner: Mutex::default() }
    }

    /// A user's stream was sent to the engine; the number is for [`Pressure::began`].
    pub fn sent(&self, now: Instant) -> u64 {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.not_begun.insert(number, now);
        number
    }

    /// It has begun, or ended without beginning.
    pub fn began(&self, number: u64, now: Instant) {
        let mut inner = self.lock();
        let sent = inner.not_begun.remove(&number);
        if sent.is_some_and(|sent| now.saturating_duration_since(sent) > self.settings.first_token)
        {
            inner.late_until = Some(now + self.settings.remember);
        }
    }

    /// Time within which a user's stream should begin.
    #[must_use]
    pub const fn first_token(&self) -> Duration {
        self.settings.first_token
    }

    /// True while a user's stream has not begun.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.lock().not_begun.is_empty()
    }

    /// The engine's latest report. Slots are remembered over reports that leave them out.
    pub fn reported(&self, load: EngineLoad, now: Instant) {
        let mut inner = self.lock();
        inner.load = EngineLoad { slots: load.slots.or(inner.load.slots), ..load };
        inner.load_until = Some(now + LOAD_HOLDS);
    }

    /// The engine's latest report.
    #[must_use]
    pub fn load(&self) -> EngineLoad {
        self.lock().load
    }

    /// Requests the engine runs at a time, where that is known.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        let told = || self.lock().load.slots.and_then(|slots| usize::try_from(slots).ok());
        self.settings.capacity.or_else(told)
    }

    /// Backfill requests that fit beside so many users.
    #[must_use]
    pub fn room_for_backfill(&self, users: usize) -> usize {
        self.capacity().map_or(usize::MAX, |capacity| {
            capacity.saturating_sub(self.settings.headroom).saturating_sub(users)
        })
    }

    /// Why the engine is short, if it is.
    #[must_use]
    pub fn shortage(&self, at: Occupancy, now: Instant) -> Option<Shortage> {
        if at.queued > 0 {
            return Some(Shortage::UsersQueued);
        }
        if at.users == 0 {
            return None;
        }
        if self.capacity().is_some_and(|capacity| at.users + at.backfill > capacity) {
            return Some(Shortage::Full);
        }
        let inner = self.lock();
        let fresh = inner.load_until.is_some_and(|until| now < until);
        if fresh && inner.load.waiting.is_some_and(|waiting| waiting > 0) {
            return Some(Shortage::EngineQueue);
        }
        let oldest = inner.not_begun.values().next();
        if oldest
            .is_some_and(|sent| now.saturating_duration_since(*sent) > self.settings.first_token)
        {
            return Some(Shortage::StreamLate);
        }
        inner.late_until.is_some_and(|until| now < until).then_some(Shortage::StreamWasLate)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one assignment or one operation on the map.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Occupancy = Occupancy { users: 1, queued: 0, backfill: 3 };

    #[test]
    fn backfill_alone_is_no_shortage() {
        let pressure = Pressure::new(PressureSettings { capacity: Some(2), ..Default::default() });
        let now = Instant::now();
        pressure.reported(EngineLoad { waiting: Some(9), ..EngineLoad::default() }, now);
        assert_eq!(pressure.shortage(Occupancy { backfill: 9, ..Default::default() }, now), None);
        assert_eq!(pressure.shortage(USER, now), Some(Shortage::Full));
        let alone = Occupancy { users: 1, queued: 0, backfill: 0 };
        assert_eq!(pressure.shortage(alone, now), Some(Shortage::EngineQueue));
        assert_eq!(pressure.shortage(alone, now + LOAD_HOLDS), None, "an old report says nothing");
    }

    #[test]
    fn a_late_stream_is_felt_before_and_after_it_begins() {
        let pressure = Pressure::new(PressureSettings::default());
        let start = Instant::now();
        let number = pressure.sent(start);
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(pressure.shortage(USER, after(700)), None);
        assert_eq!(pressure.shortage(USER, after(800)), Some(Shortage::StreamLate));
        pressure.began(number, after(900));
        assert_eq!(pressure.shortage(USER, after(3_800)), Some(Shortage::StreamWasLate));
        assert_eq!(pressure.shortage(USER, after(3_900)), None);
        let quick = pressure.sent(after(5_000));
        pressure.began(quick, after(5_100));
        assert_eq!(pressure.shortage(USER, after(5_200)), None);
    }

    #[test]
    fn room_is_what_the_engine_says_it_has() {
        let pressure = Pressure::new(PressureSettings { headroom: 1, ..Default::default() });
        let now = Instant::now();
        assert_eq!(pressure.room_for_backfill(5), usize::MAX);
        pressure.reported(EngineLoad { slots: Some(8), ..EngineLoad::default() }, now);
        pressure.reported(EngineLoad { running: Some(1), ..EngineLoad::default() }, now);
        assert_eq!(pressure.room_for_backfill(5), 2);
        assert_eq!(pressure.room_for_backfill(9), 0);
    }
}
