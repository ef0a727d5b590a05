//! A circuit breaker: after failures in a row, or too many among the last ones, it stops requests
//! to a part that does not work, and lets a few through after a while to see whether it does again.
//! Time is handed in, so that its life can be tested without waiting. spec: proxy §22, §25

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When a breaker opens and how it tries again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; 0 never does.
    pub consecutive: u32,
    /// Share of failures among the requests of the window that opens it; above 1 never does.
    pub error_rate: f64,
    /// Requests in the window before its rate says anything.
    pub least_requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// How long it stays open the first time; each failed trial doubles it.
    pub open_for: Duration,
    /// And at most.
    pub open_at_most: Duration,
    /// Trials at a time while it is half open.
    pub trials: u32,
}

impl BreakerSettings {
    /// Five failures in a row, or half of at least twenty in half a minute.
    pub const DEFAULT: Self = Self {
        consecutive: 5,
        error_rate: 0.5,
        least_requests: 20,
        window: Duration::from_secs(30),
        open_for: Duration::from_secs(2),
        open_at_most: Duration::from_secs(30),
        trials: 1,
    };
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// A few trials.
    HalfOpen,
    /// Nothing.
    Open,
}

impl BreakerState {
    /// As exported: 0 closed, 1 half open, 2 open.
    #[must_use]
    pub const fn gauge(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open, try again in {retry_after:?}")]
pub struct BreakerOpen {
    /// When a trial may be let through.
    pub retry_after: Duration,
}

#[derive(Debug)]
struct Inner {
    /// When the present opening ends; `None` while closed.
    open_until: Option<Instant>,
    /// Openings without a success in between.
    openings: u32,
    /// Counts the times it has changed between open and closed: what began before says nothing.
    epoch: u64,
    trials: u32,
    in_a_row: u32,
    /// Successes and failures of the present half window and of the one before.
    halves: [[u32; 2]; 2],
    half_began: Instant,
    trips: u64,
}

/// One breaker.
#[derive(Debug)]
pub struct Breaker {
    name: String,
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

impl Breaker {
    /// A closed breaker; `name` is for logs and labels.
    #[must_use]
    pub fn new(name: impl Into<String>, settings: BreakerSettings) -> Arc<Self> {
        let inner = Inner {
            open_until: None,
            openings: 0,
            epoch: 0,
            trials: 0,
            in_a_row: 0,
            halves: [[0; 2]; 2],
            half_began: Instant::now(),
            trips: 0,
        };
        Arc::new(Self { name: name.into(), settings, inner: Mutex::new(inner) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it lets through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        state_at(&self.lock(), Instant::now())
    }

    /// How often it has opened.
    #[must_use]
    pub fn trips(&self) -> u64 {
        self.lock().trips
    }

    /// Asks to let one request through.
    ///
    /// # Errors
    /// [`BreakerOpen`] while it is open, or half open with all trials out.
    pub fn begin(self: &Arc<Self>) -> Result<Attempt, BreakerOpen> {
        self.begin_at(Instant::now())
    }

    fn begin_at(self: &Arc<Self>, now: Instant) -> Result<Attempt, BreakerOpen> {
        let mut inner = self.lock();
        let trial = match state_at(&inner, now) {
            BreakerState::Closed => false,
            BreakerState::HalfOpen if inner.trials < self.settings.trials.max(1) => {
                inner.trials += 1;
                true
            }
            BreakerState::HalfOpen => {
                return Err(BreakerOpen { retry_after: Duration::from_secs(1) });
            }
            BreakerState::Open => {
                let until = inner.open_until.unwrap_or(now);
                return Err(BreakerOpen { retry_after: until.saturating_duration_since(now) });
            }
        };
        let epoch = inner.epoch;
        drop(inner);
        Ok(Attempt { breaker: self.clone(), trial, epoch, settled: false })
    }

    /// The part works: seen by somebody whose failures do not count here.
    pub fn seen_working(&self) {
        let mut inner = self.lock();
        if state_at(&inner, Instant::now()) == BreakerState::HalfOpen {
            self.close(&mut inner);
        }
    }

    /// The part has started anew: whatever was wrong with it before says nothing.
    pub fn restarted(&self) {
        let mut inner = self.lock();
        if inner.open_until.is_some() {
            self.close(&mut inner);
        }
    }

    fn succeeded(&self, epoch: u64, now: Instant) {
        let mut inner = self.lock();
        if epoch != inner.epoch {
            return;
        }
        if inner.open_until.is_some() {
            self.close(&mut inner);
            return;
        }
        self.roll(&mut inner, now);
        inner.in_a_row = 0;
        inner.halves[0][0] = inner.halves[0][0].saturating_add(1);
    }

    fn failed(&self, epoch: u64, now: Instant) {
        let mut inner = self.lock();
        if epoch != inner.epoch {
            return;
        }
        if inner.open_until.is_some() {
            self.open(&mut inner, now);
            return;
        }
        self.roll(&mut inner, now);
        inner.in_a_row = inner.in_a_row.saturating_add(1);
        inner.halves[0][1] = inner.halves[0][1].saturating_add(1);
        let [successes, failures] =
            [0, 1].map(|kind| inner.halves[0][kind] + inner.halves[1][kind]);
        let total = successes + failures;
        let rate = f64::from(failures) / f64::from(total.max(1));
        let often = total >= self.settings.least_requests && rate >= self.settings.error_rate;
        let in_a_row = self.settings.consecutive;
        if often || (in_a_row > 0 && inner.in_a_row >= in_a_row) {
            self.open(&mut inner, now);
        }
    }

    /// Moves the window on by halves, so that it takes four counters however many requests it sees.
    fn roll(&self, inner: &mut Inner, now: Instant) {
        let half = self.settings.window / 2;
        let since = now.saturating_duration_since(inner.half_began);
        if since >= half {
            inner.halves =
                [[0; 2], if since < self.settings.window { inner.halves[0] } else { [0; 2] }];
            inner.half_began = now;
        }
    }

    fn open(&self, inner: &mut Inner, now: Instant) {
        let doubled = self.settings.open_for.saturating_mul(1 << inner.openings.min(16));
        let length = doubled.min(self.settings.open_at_most);
        inner.openings = inner.openings.saturating_add(1);
        inner.open_until = Some(now + length);
        inner.trips += 1;
        next_epoch(inner);
        tracing::warn!(breaker = self.name, "breaker opens for {length:?}");
    }

    fn close(&self, inner: &mut Inner) {
        inner.open_until = None;
        inner.openings = 0;
        next_epoch(inner);
        tracing::info!(breaker = self.name, "breaker closes");
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change leaves the counters usable, so a poisoned lock is no reason to stop.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_at(inner: &Inner, now: Instant) -> BreakerState {
    match inner.open_until {
        None => BreakerState::Closed,
        Some(until) if now < until => BreakerState::Open,
        Some(_) => BreakerState::HalfOpen,
    }
}

/// What is under way belongs to the past, and nothing of it counts any more.
fn next_epoch(inner: &mut Inner) {
    inner.epoch += 1;
    inner.trials = 0;
    inner.in_a_row = 0;
    inner.halves = [[0; 2]; 2];
}

/// A request the breaker let through. Dropped without a verdict it counts for nothing, as when the
/// client went away.
#[derive(Debug)]
pub struct Attempt {
    breaker: Arc<Breaker>,
    trial: bool,
    epoch: u64,
    settled: bool,
}

impl Attempt {
    /// It worked. Only the first verdict counts.
    pub fn succeeded(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.breaker.succeeded(self.epoch, Instant::now());
        }
    }

    /// It did not.
    pub fn failed(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.breaker.failed(self.epoch, Instant::now());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.trial && !self.settled {
            let mut inner = self.breaker.lock();
            if inner.epoch == self.epoch {
                inner.trials = inner.trials.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Arc<Breaker> {
        Breaker::new("test", BreakerSettings::default())
    }

    fn fail(breaker: &Arc<Breaker>, now: Instant) {
        let mut attempt = breaker.begin_at(now).unwrap();
        attempt.settled = true;
        breaker.failed(attempt.epoch, now);
    }

    fn work(breaker: &Arc<Breaker>, now: Instant) {
        let mut attempt = breaker.begin_at(now).unwrap();
        attempt.settled = true;
        breaker.succeeded(attempt.epoch, now);
    }

    fn state(breaker: &Breaker, now: Instant) -> BreakerState {
        state_at(&breaker.lock(), now)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_trial_closes_it() {
        let (breaker, start) = (breaker(), Instant::now());
        (0..4).for_each(|_| fail(&breaker, start));
        work(&breaker, start);
        (0..4).for_each(|_| fail(&breaker, start));
        assert_eq!(state(&breaker, start), BreakerState::Closed, "a success starts the row anew");
        fail(&breaker, start);
        let refused = breaker.begin_at(start + SECOND).unwrap_err();
        assert_eq!(refused.retry_after, SECOND);
        let later = start + 2 * SECOND;
        assert_eq!(state(&breaker, later), BreakerState::HalfOpen);
        let trial = breaker.begin_at(later).unwrap();
        assert!(breaker.begin_at(later).is_err(), "one trial at a time");
        drop(trial);
        work(&breaker, later);
        assert_eq!(state(&breaker, later), BreakerState::Closed);
        assert_eq!(breaker.trips(), 1);
    }

    #[test]
    fn a_failed_trial_opens_it_for_twice_as_long() {
        let (breaker, start) = (breaker(), Instant::now());
        (0..5).for_each(|_| fail(&breaker, start));
        fail(&breaker, start + 2 * SECOND);
        assert_eq!(state(&breaker, start + 5 * SECOND), BreakerState::Open);
        assert_eq!(state(&breaker, start + 6 * SECOND), BreakerState::HalfOpen);
        let mut now = start;
        for _ in 0..20 {
            now += 100 * SECOND;
            fail(&breaker, now);
        }
        assert_eq!(state(&breaker, now + 29 * SECOND), BreakerState::Open);
        assert_eq!(state(&breaker, now + 30 * SECOND), BreakerState::HalfOpen, "at most");
    }

    #[test]
    fn a_high_error_rate_opens_it_without_a_row() {
        let (breaker, start) = (breaker(), Instant::now());
        for round in 0..9 {
            work(&breaker, start);
            fail(&breaker, start);
            assert_eq!(state(&breaker, start), BreakerState::Closed, "{round}");
        }
        work(&breaker, start);
        fail(&breaker, start);
        assert_eq!(state(&breaker, start), BreakerState::Open, "half of twenty");
    }

    #[test]
    fn old_failures_are_forgotten() {
        let (breaker, start) = (breaker(), Instant::now());
        for minute in 0..30 {
            let now = start + minute * 60 * SECOND;
            fail(&breaker, now);
            work(&breaker, now);
        }
        assert_eq!(breaker.trips(), 0);
    }

    #[test]
    fn what_began_before_it_opened_says_nothing_about_now() {
        let (breaker, start) = (breaker(), Instant::now());
        let old = breaker.begin_at(start).unwrap();
        (0..5).for_each(|_| fail(&breaker, start));
        breaker.succeeded(old.epoch, start + SECOND);
        assert_eq!(state(&breaker, start + SECOND), BreakerState::Open);
        breaker.lock().open_until = Some(Instant::now());
        breaker.seen_working();
        assert_eq!(breaker.state(), BreakerState::Closed, "somebody else's success closes it");
        (0..5).for_each(|_| fail(&breaker, Instant::now()));
        breaker.seen_working();
        assert_eq!(breaker.state(), BreakerState::Open, "not before it may be tried");
        breaker.restarted();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
