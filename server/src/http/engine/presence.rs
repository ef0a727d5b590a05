//! Whether an engine is there: what its health probe found, since when it has been gone, and those
//! who wait for it. An engine that is restarted is gone for a moment only: requests that had not
//! reached it wait for its return instead of failing. One that stays away longer is not waited for.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// What the last probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not probed yet.
    Unknown = 0,
    /// `/health` answered 200.
    Up = 1,
    /// `/health` answered something else, as an engine does that loads its model.
    NotReady = 2,
    /// No answer.
    Down = 3,
}

impl Health {
    const fn of(number: u8) -> Self {
        match number {
            1 => Self::Up,
            2 => Self::NotReady,
            3 => Self::Down,
            _ => Self::Unknown,
        }
    }

    /// In words, for `/ready` and `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "not probed yet",
            Self::Up => "up",
            Self::NotReady => "answers, but is not ready",
            Self::Down => "unreachable",
        }
    }
}

/// An engine that broke off its answers and is up when it is asked was restarted. Believed once in so
/// long: one that breaks off again and again is the breaker's business.
const BELIEVED_EVERY: Duration = Duration::from_secs(3);

/// An engine's presence. The probe says what is; requests that find nobody make it look at once.
#[derive(Debug)]
pub struct Presence {
    health: AtomicU8,
    ever_up: AtomicBool,
    gone_since: watch::Sender<Option<Instant>>,
    doubted: Notify,
    broke_off: AtomicBool,
    believed: Mutex<Option<Instant>>,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            health: AtomicU8::new(Health::Unknown as u8),
            ever_up: AtomicBool::new(false),
            gone_since: watch::Sender::new(None),
            doubted: Notify::new(),
            broke_off: AtomicBool::new(false),
            believed: Mutex::new(None),
        }
    }
}

impl Presence {
    /// What the last probe found, or the last request when it found nobody.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(self.health.load(Ordering::Relaxed))
    }

    /// An answer broke off, or its connection before it came.
    pub fn broke_off(&self) {
        self.broke_off.store(true, Ordering::Relaxed);
    }

    /// Whether a probe with this result means that the engine has been away and is back. When its
    /// absence was too short to be seen, what it broke off tells, once the breaker has opened for it.
    pub fn is_return(&self, health: Health, breaker_is_open: bool) -> bool {
        if health != Health::Up {
            return false;
        }
        if self.health() != Health::Up {
            self.broke_off.store(false, Ordering::Relaxed);
            return self.ever_up.load(Ordering::Relaxed);
        }
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let believes = breaker_is_open
            && self.broke_off.load(Ordering::Relaxed)
            && believed.is_none_or(|at| at.elapsed() >= BELIEVED_EVERY);
        if believes {
            self.broke_off.store(false, Ordering::Relaxed);
            *believed = Some(Instant::now());
        }
        believes
    }

    /// A probe's result. Those who wait go on when it says that the engine is up.
    pub fn found(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
        if health == Health::Up {
            self.ever_up.store(true, Ordering::Relaxed);
            self.gone_since.send_if_modified(|since| since.take().is_some());
        } else {
            self.note_gone();
        }
    }

    /// A request found nobody at the engine's address.
    pub fn missed(&self) {
        self.health.store(Health::Down as u8, Ordering::Relaxed);
        self.note_gone();
        self.doubted.notify_one();
    }

    fn note_gone(&self) {
        self.gone_since.send_if_modified(|since| match since {
            Some(_) => false,
            none => {
                *none = Some(Instant::now());
                true
            }
        });
    }

    /// Waits until the engine is up, if it was before and has not been gone for longer than `limit`;
    /// whether it is. One that seems to be up is probed first.
    pub async fn comes_back(&self, limit: Duration) -> bool {
        if !self.ever_up.load(Ordering::Relaxed) {
            return false;
        }
        let mut gone = self.gone_since.subscribe();
        self.note_gone();
        self.doubted.notify_one();
        let since = (*gone.borrow_and_update()).unwrap_or_else(Instant::now);
        let left = limit.saturating_sub(since.elapsed());
        tokio::time::timeout(left, gone.wait_for(Option::is_none)).await.is_ok_and(|it| it.is_ok())
    }

    /// Until the next probe: so long, or less when somebody doubts what the last one found.
    pub async fn until_doubted(&self, at_most: Duration) {
        // Either way it is time.
        let _ = tokio::time::timeout(at_most, self.doubted.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_short_absence_is_waited_out() {
        let presence = Arc::new(Presence::default());
        assert!(!presence.comes_back(LONG).await, "it was never there");
        presence.found(Health::Up);
        presence.missed();
        assert_eq!(presence.health(), Health::Down);
        let waiting = presence.clone();
        let waits = tokio::spawn(async move { waiting.comes_back(LONG).await });
        while presence.gone_since.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
        presence.until_doubted(LONG).await;
        presence.found(Health::Down);
        presence.found(Health::NotReady);
        assert!(!waits.is_finished());
        presence.found(Health::Up);
        assert!(waits.await.unwrap());
        assert!(!presence.comes_back(Duration::from_millis(5)).await, "nobody has probed");
    }

    #[test]
    fn a_restart_between_two_probes_is_seen_by_what_it_broke() {
        let presence = Presence::default();
        assert!(!presence.is_return(Health::Up, true), "the first time is no return");
        presence.found(Health::Up);
        assert!(!presence.is_return(Health::Up, true));
        presence.broke_off();
        assert!(!presence.is_return(Health::Down, true));
        assert!(!presence.is_return(Health::Up, false));
        assert!(presence.is_return(Health::Up, true));
        presence.broke_off();
        assert!(!presence.is_return(Health::Up, true), "not again and again");
        presence.missed();
        assert!(presence.is_return(Health::Up, true), "it was seen to be gone");
    }

    #[tokio::test]
    async fn a_long_absence_is_not_waited_out() {
        let presence = Presence::default();
        presence.found(Health::Up);
        presence.missed();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let asked = Instant::now();
        assert!(!presence.comes_back(Duration::from_millis(10)).await);
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
}
