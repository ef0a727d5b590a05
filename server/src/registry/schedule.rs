//! When the registry service is asked again: soon and then less soon until the first list has come,
//! afterwards at the poll interval, and never sooner than the service wants. spec: proxy §13.1

use std::time::Duration;

/// The first wait after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait for the first list.
const LONGEST: Duration = Duration::from_secs(60);
/// After a failure with a list at hand.
const FIRST_LATER: Duration = Duration::from_secs(10);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A list, or the word that nothing has changed.
    Listed,
    /// A list without a single record: kept aside, as good as none.
    Empty,
    /// No answer, or one that is no list.
    Failed,
    /// 403: the key is wrong, and asking more often makes it no better.
    Forbidden,
    /// 429, with the time the service asks for.
    Limited(Option<Duration>),
}

#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    listed: bool,
    failures: u32,
}

impl Schedule {
    pub(super) const fn new(interval: Duration) -> Self {
        Self { interval, listed: false, failures: 0 }
    }

    /// The wait after an attempt. `jitter` lies in 0 …= 1 and spreads waits after failures over
    /// three quarters to five quarters.
    pub(super) fn after(&mut self, outcome: Outcome, jitter: f64) -> Duration {
        let rough = |wait: Duration| wait.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0));
        match outcome {
            Outcome::Listed => {
                (self.listed, self.failures) = (true, 0);
                self.interval
            }
            Outcome::Empty if self.listed => self.interval,
            Outcome::Empty | Outcome::Failed => {
                let doubled = 2_u32.saturating_pow(self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                let (first, longest) =
                    if self.listed { (FIRST_LATER, self.interval) } else { (FIRST, LONGEST) };
                rough(first.saturating_mul(doubled)).min(longest.min(self.interval))
            }
            Outcome::Forbidden if self.listed => self.interval,
            Outcome::Forbidden => rough(LONGEST).min(self.interval),
            Outcome::Limited(asked) => {
                // A service that asks for days is not obeyed longer than for an hour.
                let asked = asked.unwrap_or(LONGEST).min(Duration::from_secs(3600));
                asked.max(if self.listed { self.interval } else { FIRST })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(schedule: &mut Schedule, outcomes: &[Outcome]) -> Vec<u64> {
        outcomes.iter().map(|outcome| schedule.after(*outcome, 0.5).as_secs()).collect()
    }

    #[test]
    fn the_first_list_is_asked_for_often_then_at_the_interval() {
        use Outcome::{Empty, Failed, Forbidden, Limited, Listed};
        let mut schedule = Schedule::new(Duration::from_secs(300));
        let before = [Failed, Failed, Empty, Failed, Failed, Failed, Failed, Failed];
        assert_eq!(seconds(&mut schedule, &before), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(&mut schedule, &[Forbidden, Limited(None)]), [60, 60]);
        assert_eq!(seconds(&mut schedule, &[Limited(Some(Duration::from_secs(7)))]), [7]);
        let after = [Listed, Empty, Failed, Failed, Forbidden, Listed, Failed];
        assert_eq!(seconds(&mut schedule, &after), [300, 300, 10, 20, 300, 300, 10]);
        let limited = [Limited(Some(Duration::from_secs(900))), Limited(Some(Duration::MAX))];
        assert_eq!(seconds(&mut schedule, &limited), [900, 3600]);
    }

    #[test]
    fn failures_are_spread() {
        let wait = |jitter| Schedule::new(Duration::from_secs(300)).after(Outcome::Failed, jitter);
        assert_eq!(wait(0.0), Duration::from_millis(750));
        assert_eq!(wait(1.0), Duration::from_millis(1250));
        let mut short = Schedule::new(Duration::from_millis(100));
        assert_eq!(short.after(Outcome::Failed, 1.0), Duration::from_millis(100), "never slower");
    }
}
