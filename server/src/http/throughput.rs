//! Tokens per second over the last minute, and since the start. spec: proxy §21.2

use super::usage::Usage;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tensorpow_core::units::WINDOW;

/// Seconds that are looked back.
const WINDOW_SECONDS: f64 = 60.0;

/// What has been counted.
#[derive(Debug)]
pub struct Throughput {
    started: Instant,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// (seconds, usage), oldest first.
    recent: VecDeque<(f64, Usage)>,
    totals: Totals,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
    /// Answers.
    pub completions: u64,
}

impl Totals {
    /// Windows that the generated tokens make at most.
    #[must_use]
    pub const fn hashes(&self) -> u64 {
        self.completion_tokens / WINDOW as u64
    }
}

/// Rates over the last minute, rounded as `/status` shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Prompt tokens a second.
    pub prompt_tokens_per_sec: f64,
    /// Generated tokens a second.
    pub completion_tokens_per_sec: f64,
    /// Both.
    pub total_tokens_per_sec: f64,
    /// Answers a minute.
    pub completions_per_min: f64,
    /// Windows a second.
    pub hashes_per_sec: f64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { started: Instant::now(), counted: Mutex::default() }
    }
}

impl Throughput {
    /// Counts one complete answer.
    pub fn record(&self, usage: Usage) {
        self.record_at(self.started.elapsed().as_secs_f64(), usage);
    }

    /// [`Self::record`] at a time in seconds.
    pub fn record_at(&self, now: f64, usage: Usage) {
        if usage == Usage::default() {
            return;
        }
        let mut counted = self.lock();
        counted.recent.push_back((now, usage));
        counted.forget_before(now - WINDOW_SECONDS);
        let totals = &mut counted.totals;
        totals.prompt_tokens += usage.input;
        totals.completion_tokens += usage.output;
        totals.completions += 1;
    }

    /// The rates of this moment.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.rates_at(self.started.elapsed().as_secs_f64())
    }

    /// [`Self::rates`] at a time in seconds.
    #[must_use]
    pub fn rates_at(&self, now: f64) -> Rates {
        let mut counted = self.lock();
        counted.forget_before(now - WINDOW_SECONDS);
        let Some((oldest, _)) = counted.recent.front() else { return Rates::default() };
        let span = (now - oldest).max(1.0);
        let sum = |count: fn(&Usage) -> u64| {
            counted.recent.iter().map(|(_, usage)| count(usage)).sum::<u64>() as f64
        };
        let (prompt, completion) = (sum(|usage| usage.input), sum(|usage| usage.output));
        let completions = counted.recent.len() as f64;
        Rates {
            prompt_tokens_per_sec: rounded(prompt / span, 2),
            completion_tokens_per_sec: rounded(completion / span, 2),
            total_tokens_per_sec: rounded((prompt + completion) / span, 2),
            completions_per_min: rounded(completions / span * 60.0, 2),
            hashes_per_sec: rounded(completion / span / WINDOW as f64, 4),
        }
    }

    /// Counts since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Every change leaves the counts usable, whoever panicked.
    fn lock(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn forget_before(&mut self, time: f64) {
        while self.recent.front().is_some_and(|(at, _)| *at < time) {
            self.recent.pop_front();
        }
    }
}

/// To so many decimals: the decimal nearest to the binary value, ties to even.
fn rounded(value: f64, decimals: usize) -> f64 {
    // The formatter knows the exact binary value; its text always reads back.
    format!("{value:.decimals$}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even_on_the_binary_value() {
        assert_eq!(rounded(0.125, 2), 0.12);
        assert_eq!(rounded(0.375, 2), 0.38);
        assert_eq!(rounded(1.005, 2), 1.0, "below the tie in binary");
        assert_eq!(rounded(2.5, 0), 2.0);
    }

    #[test]
    fn only_the_last_minute_counts() {
        let throughput = Throughput::default();
        throughput.record_at(0.0, Usage { input: 1, output: 1 });
        throughput.record_at(50.0, Usage { input: 7, output: 333 });
        throughput.record_at(55.0, Usage::default());
        assert_eq!(throughput.rates_at(100.0).completion_tokens_per_sec, 6.66);
        assert_eq!(throughput.totals().completions, 2);
        assert_eq!(throughput.totals().hashes(), 1);
        assert_eq!(throughput.rates_at(111.0), Rates::default());
    }
}
