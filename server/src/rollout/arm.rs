//! What one of two engines did lately: how its requests ended, how long they took, and how many of
//! its windows became proofs. Old events fall out of the window, and of too many the oldest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Events that are kept of one engine.
const MOST: usize = 16_384;
/// The share of the requests whose times are compared: all but the slowest twentieth.
const PERCENTILE: f64 = 0.95;

/// How a request at an engine ended, for a comparison.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ended {
    /// The engine failed.
    pub failed: bool,
    /// Until its stream began.
    pub first_token: Option<Duration>,
    /// A generated token after the first.
    pub per_token: Option<Duration>,
    /// Mined windows that should leave proofs where they meet a target.
    pub windows: u64,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Request(Ended),
    Proof,
    Refused,
}

/// One engine's recent events.
#[derive(Debug, Default)]
pub struct Arm {
    events: VecDeque<(Instant, Event)>,
}

/// What they come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Requests that ended at the engine.
    pub requests: u64,
    /// Of these, those in which the engine failed.
    pub failed: u64,
    /// Streams that began.
    pub streams: u64,
    /// Nineteen of twenty began within so many seconds; 0 without any.
    pub first_token: f64,
    /// Requests whose tokens were timed.
    pub timed: u64,
    /// Nineteen of twenty took at most so many seconds a token.
    pub per_token: f64,
    /// Mined windows.
    pub windows: u64,
    /// Proofs of these.
    pub proofs: u64,
    /// Proofs that the chain refused.
    pub refused: u64,
}

impl Arm {
    /// A request has ended.
    pub fn ended(&mut self, now: Instant, ended: Ended) {
        self.push(now, Event::Request(ended));
    }

    /// A proof has come.
    pub fn proof(&mut self, now: Instant) {
        self.push(now, Event::Proof);
    }

    /// A proof was refused.
    pub fn refused(&mut self, now: Instant) {
        self.push(now, Event::Refused);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    fn push(&mut self, now: Instant, event: Event) {
        if self.events.len() >= MOST {
            self.events.pop_front();
        }
        self.events.push_back((now, event));
    }

    /// What happened in the last `window`; what is older is forgotten.
    pub fn summary(&mut self, now: Instant, window: Duration) -> Summary {
        while let Some((at, _)) = self.events.front()
            && now.saturating_duration_since(*at) > window
        {
            self.events.pop_front();
        }
        let mut summary = Summary::default();
        let (mut first, mut each) = (Vec::new(), Vec::new());
        for (_, event) in &self.events {
            match event {
                Event::Proof => summary.proofs += 1,
                Event::Refused => summary.refused += 1,
                Event::Request(ended) => {
                    summary.requests += 1;
                    summary.failed += u64::from(ended.failed);
                    summary.windows += ended.windows;
                    first.extend(ended.first_token);
                    each.extend(ended.per_token);
                }
            }
        }
        (summary.streams, summary.first_token) = percentile(first);
        (summary.timed, summary.per_token) = percentile(each);
        summary
    }
}

/// How many there are, and the time within which nineteen of twenty are, in seconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among some thousands"
)]
fn percentile(mut times: Vec<Duration>) -> (u64, f64) {
    let count = times.len();
    let Some(last) = count.checked_sub(1) else { return (0, 0.0) };
    let rank = ((last as f64) * PERCENTILE).round() as usize;
    let (_, time, _) = times.select_nth_unstable(rank.min(last));
    (count as u64, time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_what_is_in_the_window() {
        let mut arm = Arm::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for n in 1..=20 {
            let ended = Ended {
                failed: n == 20,
                first_token: Some(Duration::from_millis(n * 10)),
                per_token: (n > 10).then_some(Duration::from_millis(n)),
                windows: n % 2,
            };
            arm.ended(at(n), ended);
        }
        arm.proof(at(20));
        arm.refused(at(21));
        let all = arm.summary(at(21), Duration::from_secs(60));
        let expected = Summary {
            requests: 20,
            failed: 1,
            streams: 20,
            first_token: 0.19,
            timed: 10,
            per_token: 0.020,
            windows: 10,
            proofs: 1,
            refused: 1,
        };
        assert_eq!(all, expected);
        let late = arm.summary(at(75), Duration::from_secs(60));
        assert_eq!((late.requests, late.failed, late.streams), (6, 1, 6));
        assert_eq!(arm.summary(at(999), Duration::from_secs(60)), Summary::default());
    }

    #[test]
    fn events_are_bounded() {
        let mut arm = Arm::default();
        let now = Instant::now();
        for _ in 0..MOST + 10 {
            arm.ended(now, Ended::default());
        }
        assert_eq!(arm.summary(now, Duration::from_secs(1)).requests, MOST as u64);
    }
}
