//! The pause after a solution or during a forced model switch: nothing is mined until it is over.
//! Users are served all the same, audits go on, proofs that arrive are kept, and the VDF prover
//! keeps squaring; only its publication waits. spec: proxy §2, §16.4, vdf §10.3

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Until when nothing is mined. Overlapping pauses end with the last of them.
#[derive(Debug)]
pub struct Pause {
    origin: Instant,
    /// Nanoseconds behind the origin.
    until: AtomicU64,
}

impl Default for Pause {
    fn default() -> Self {
        Self { origin: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl Pause {
    /// Pauses for at least this long from now on; a longer pause that runs already stays.
    /// spec: proxy §2 (`activate_cooldown`)
    pub fn extend(&self, by: Duration) {
        self.until.fetch_max(nanos(self.origin.elapsed().saturating_add(by)), Ordering::Relaxed);
    }

    /// Time left; `None` when mining is not paused.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        let left = until.saturating_sub(nanos(self.origin.elapsed()));
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// True while mining is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.remaining().is_some()
    }
}

/// Enough for five hundred years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How long mining pauses after a proof: exponentially distributed around a mean, so that workers
/// do not move in step. spec: proxy §16.4
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SolutionCooldown {
    mean: Duration,
}

impl SolutionCooldown {
    /// `MINING_SOLUTION_COOLDOWN_SEC`; `None` for zero, which means no pause.
    #[must_use]
    pub fn new(mean: Duration) -> Option<Self> {
        (!mean.is_zero()).then_some(Self { mean })
    }

    /// The next pause. Without random numbers it is the mean.
    #[must_use]
    pub fn draw(&self) -> Duration {
        let mut bits = [0; 8];
        match getrandom::fill(&mut bits) {
            Ok(()) => self.at(u64::from_le_bytes(bits)),
            Err(_) => self.mean,
        }
    }

    /// −mean·ln(u) with u in (0, 1] from the upper 53 bits.
    #[allow(clippy::cast_precision_loss)] // 53 bits are exact
    fn at(&self, bits: u64) -> Duration {
        let u = ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        // The largest factor is 36.7, the smallest 0.
        self.mean.mul_f64(-u.ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_extended_and_never_cut_short() {
        let pause = Pause::default();
        assert!(!pause.is_paused());
        pause.extend(Duration::ZERO);
        assert!(!pause.is_paused(), "a pause of nothing is none");
        pause.extend(Duration::from_secs(100));
        pause.extend(Duration::from_secs(1));
        let left = pause.remaining().unwrap();
        assert!(left > Duration::from_secs(98) && left <= Duration::from_secs(100), "{left:?}");
        let short = Pause::default();
        short.extend(Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(short.remaining(), None);
        short.extend(Duration::MAX);
        assert!(short.is_paused(), "no overflow");
    }

    #[test]
    fn a_cooldown_is_exponential_around_its_mean() {
        assert_eq!(SolutionCooldown::new(Duration::ZERO), None);
        let cooldown = SolutionCooldown::new(Duration::from_secs(10)).unwrap();
        assert_eq!(cooldown.at(u64::MAX), Duration::ZERO);
        assert!(cooldown.at(0) < Duration::from_secs(368));
        let median = cooldown.at(1 << 63).as_secs_f64();
        assert!((median - 10.0 * std::f64::consts::LN_2).abs() < 1e-6, "{median}");
        let draws = 4000;
        let sum: f64 = (0..draws).map(|_| cooldown.draw().as_secs_f64()).sum();
        let mean = sum / f64::from(draws);
        // Ten standard errors.
        assert!((mean - 10.0).abs() < 1.6, "{mean}");
    }
}
