//! Service-level objectives: how much of what users were promised they got, over the last hour, six
//! hours and thirty days, and how fast the rest of each error budget burns. An exhausted budget
//! lowers the backfill floor, so that mining gives way before users notice. Only users' requests
//! count, and a client that goes away is nobody's failure. spec: proxy §25

pub mod file;
pub mod ring;

use ring::{Counts, Ring};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What was promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SloSettings {
    /// Share of requests that get an answer at all: not refused for want of capacity, not broken
    /// off.
    pub availability: f64,
    /// Most errors among answers: engine answers of 500 and more, broken streams, refusals.
    pub error_rate: f64,
    /// Half of the streams begin within this time.
    pub ttft_p50: Duration,
    /// Nineteen of twenty do within this one.
    pub ttft_p95: Duration,
    /// Requests in a window before its budget can be exhausted.
    pub least_requests: u64,
    /// What is left of the backfill floor for each exhausted window: hour, six hours, thirty days.
    /// The last says nothing about the present, so by default it takes nothing.
    pub floor_left: [f64; 3],
}

impl Default for SloSettings {
    fn default() -> Self {
        Self {
            availability: 0.995,
            error_rate: 0.01,
            ttft_p50: Duration::from_secs(1),
            ttft_p95: Duration::from_secs(5),
            least_requests: 50,
            floor_left: [0.5, 0.5, 1.0],
        }
    }
}

/// The objectives, in the order of their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Requests that got an answer.
    Availability,
    /// Answers without an error.
    ErrorRate,
    /// The median time to the first token.
    TtftP50,
    /// Its 95th percentile.
    TtftP95,
}

impl Objective {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Availability, Self::ErrorRate, Self::TtftP50, Self::TtftP95];

    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::ErrorRate => "error_rate",
            Self::TtftP50 => "ttft_p50",
            Self::TtftP95 => "ttft_p95",
        }
    }

    /// Requests of a window that count for it, and those of them that broke the promise.
    const fn of(self, counts: &Counts) -> (u64, u64) {
        match self {
            Self::Availability => (counts[REQUESTS], counts[UNANSWERED]),
            Self::ErrorRate => (counts[REQUESTS], counts[ERRORS]),
            Self::TtftP50 => (counts[STREAMS], counts[OVER_P50]),
            Self::TtftP95 => (counts[STREAMS], counts[OVER_P95]),
        }
    }
}

const REQUESTS: usize = 0;
const UNANSWERED: usize = 1;
const ERRORS: usize = 2;
const STREAMS: usize = 3;
const OVER_P50: usize = 4;
const OVER_P95: usize = 5;

/// Labels of the windows.
pub const WINDOWS: [&str; 3] = ["1h", "6h", "30d"];

/// How a user's request ended, as far as promises go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Answered as wanted, or with an error that was the client's.
    Answered,
    /// Answered with an error of the engine.
    Error,
    /// Refused for want of capacity, unreachable, or broken off.
    Unanswered,
}

/// The state of one objective in one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    /// The objective.
    pub objective: Objective,
    /// `1h`, `6h` or `30d`.
    pub window: &'static str,
    /// Requests that count.
    pub requests: u64,
    /// Those that broke the promise.
    pub bad: u64,
    /// Share of the error budget that is left; negative when it is overdrawn.
    pub left: f64,
    /// How fast it burns: 1 uses it up exactly at the end of the window.
    pub burn_rate: f64,
}

/// Counts of the three windows. About 40 kB, whatever the traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Windows([Ring; 3]);

impl Default for Windows {
    fn default() -> Self {
        Self([Ring::new(60, 60), Ring::new(72, 300), Ring::new(720, 3_600)])
    }
}

/// The objectives and what has become of them.
#[derive(Debug)]
pub struct Slo {
    settings: SloSettings,
    windows: Windows,
}

impl Slo {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(settings: SloSettings) -> Self {
        Self { settings, windows: Windows::default() }
    }

    /// Counts the end of a user's request at `now` (unix seconds).
    pub fn ended(&mut self, now: u64, kept: Kept) {
        let mut counts = Counts::default();
        counts[REQUESTS] = 1;
        counts[UNANSWERED] = u64::from(kept == Kept::Unanswered);
        counts[ERRORS] = u64::from(kept != Kept::Answered);
        self.add(now, counts);
    }

    /// Counts the beginning of a stream, `ttft` after its request.
    pub fn began(&mut self, now: u64, ttft: Duration) {
        let mut counts = Counts::default();
        counts[STREAMS] = 1;
        counts[OVER_P50] = u64::from(ttft > self.settings.ttft_p50);
        counts[OVER_P95] = u64::from(ttft > self.settings.ttft_p95);
        self.add(now, counts);
    }

    fn add(&mut self, now: u64, counts: Counts) {
        for ring in &mut self.windows.0 {
            ring.add(now, counts);
        }
    }

    /// Share of bad requests that an objective allows.
    fn allowed(&self, objective: Objective) -> f64 {
        let allowed = match objective {
            Objective::Availability => 1.0 - self.settings.availability,
            Objective::ErrorRate => self.settings.error_rate,
            Objective::TtftP50 => 0.5,
            Objective::TtftP95 => 0.05,
        };
        // A promise of perfection still has to be divided by.
        allowed.clamp(1e-9, 1.0)
    }

    /// Every objective in every window.
    pub fn budgets(&mut self, now: u64) -> Vec<Budget> {
        let sums = self.windows.0.each_mut().map(|ring| ring.sum(now));
        let pairs = WINDOWS.iter().zip(&sums);
        pairs
            .flat_map(|(window, counts)| {
                Objective::ALL.map(|objective| {
                    let (requests, bad) = objective.of(counts);
                    let burn_rate = share(bad, requests) / self.allowed(objective);
                    Budget { objective, window, requests, bad, left: 1.0 - burn_rate, burn_rate }
                })
            })
            .collect()
    }

    /// What is left of the backfill floor: every window with an exhausted budget takes its share.
    pub fn floor_factor(&mut self, now: u64) -> f64 {
        let budgets = self.budgets(now);
        let exhausted = |window: &str| {
            budgets.iter().any(|budget| {
                let enough = budget.requests >= self.settings.least_requests;
                budget.window == window && enough && budget.left <= 0.0
            })
        };
        let pairs = WINDOWS.iter().zip(self.settings.floor_left);
        pairs
            .filter(|(window, _)| exhausted(window))
            .map(|(_, left)| left.clamp(0.0, 1.0))
            .product()
    }
}

#[allow(clippy::cast_precision_loss)] // counts of requests
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn budget(slo: &mut Slo, now: u64, objective: Objective, window: &str) -> Budget {
        let found = |b: &Budget| b.objective == objective && b.window == window;
        slo.budgets(now).into_iter().find(found).unwrap()
    }

    #[test]
    fn budgets_burn_and_recover_with_their_window() {
        let mut slo = Slo::new(SloSettings::default());
        for n in 0..1000 {
            slo.ended(NOW, if n < 10 { Kept::Unanswered } else { Kept::Answered });
        }
        let hour = budget(&mut slo, NOW, Objective::Availability, "1h");
        assert_eq!((hour.requests, hour.bad), (1000, 10));
        assert!((hour.burn_rate - 2.0).abs() < 1e-9 && (hour.left + 1.0).abs() < 1e-9, "{hour:?}");
        let errors = budget(&mut slo, NOW, Objective::ErrorRate, "1h");
        assert!((errors.burn_rate - 1.0).abs() < 1e-9, "an unanswered request is an error");
        let later = NOW + 2 * 3600;
        assert_eq!(budget(&mut slo, later, Objective::Availability, "1h").requests, 0);
        assert_eq!(budget(&mut slo, later, Objective::Availability, "6h").bad, 10);
        assert_eq!(budget(&mut slo, NOW + 29 * 86_400, Objective::Availability, "30d").bad, 10);
        assert_eq!(budget(&mut slo, NOW + 31 * 86_400, Objective::Availability, "30d").bad, 0);
    }

    #[test]
    fn slow_streams_burn_the_budgets_of_their_percentiles() {
        let mut slo = Slo::new(SloSettings::default());
        for n in 0..100 {
            let seconds = if n < 5 {
                6
            } else if n < 50 {
                2
            } else {
                0
            };
            slo.began(NOW, Duration::from_secs(seconds));
        }
        for objective in [Objective::TtftP50, Objective::TtftP95] {
            let budget = budget(&mut slo, NOW, objective, "1h");
            assert!((budget.burn_rate - 1.0).abs() < 1e-9, "{budget:?}");
        }
    }

    #[test]
    fn an_exhausted_budget_lowers_the_floor() {
        let mut slo = Slo::new(SloSettings::default());
        (0..49).for_each(|_| slo.ended(NOW, Kept::Unanswered));
        assert_eq!(slo.floor_factor(NOW), 1.0, "too few requests to judge");
        slo.ended(NOW, Kept::Unanswered);
        assert_eq!(slo.floor_factor(NOW), 0.25, "the hour and the six hours");
        assert_eq!(slo.floor_factor(NOW + 2 * 3600), 0.5, "the six hours");
        assert_eq!(slo.floor_factor(NOW + 7 * 3600), 1.0, "the month is no reason");
    }
}
