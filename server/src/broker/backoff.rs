//! How long a worker waits before it dials again. spec: broker §1.1

use super::connection::Outcome;
use super::settings::Timings;
use std::time::Duration;

/// Part of a failure's wait that is up to chance, so that workers do not come back in step.
const JITTER: f64 = 0.2;

/// The waits between connections.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    timings: Timings,
    delay: Duration,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub const fn new(timings: Timings) -> Self {
        Self { timings, delay: timings.retry }
    }

    /// The wait after a connection, `None` when there was none; `chance` is from 0 to 1. A broker
    /// that accepts and closes at once has failed as well: its connections are short and bring no
    /// registration. spec: §1.1
    pub fn after(&mut self, connection: Option<&Outcome>, chance: f64) -> Duration {
        let settled =
            connection.is_some_and(|it| it.registered || it.lasted >= self.timings.settled);
        if settled {
            self.delay = self.timings.retry;
            return self.timings.retry;
        }
        let wait = self.delay.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
        self.delay = (self.delay * 2).min(self.timings.retry_at_most);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::End;
    use super::*;

    fn outcome(registered: bool, seconds: u64) -> Outcome {
        let end = End::Closed(Some((1008, "bad token".to_owned())));
        Outcome { registered, lasted: Duration::from_secs(seconds), end }
    }

    #[test]
    fn failures_double_the_wait_and_so_does_accepting_and_closing() {
        for failure in [None, Some(outcome(false, 1))] {
            let mut backoff = Backoff::new(Timings::default());
            let waits: Vec<u64> =
                (0..8).map(|_| backoff.after(failure.as_ref(), 0.0).as_secs()).collect();
            assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
            assert_eq!(backoff.after(failure.as_ref(), 1.0), Duration::from_secs(72), "jitter");
        }
    }

    #[test]
    fn a_connection_that_was_one_starts_anew() {
        for good in [outcome(true, 0), outcome(false, 10)] {
            let mut backoff = Backoff::new(Timings::default());
            backoff.after(None, 0.0);
            backoff.after(None, 0.0);
            assert_eq!(backoff.after(Some(&good), 1.0), Duration::from_secs(1));
            assert_eq!(backoff.after(None, 0.0), Duration::from_secs(1));
        }
    }
}
