//! Tokens per second over the last minute. Completions that end within one slice of 10 ms share one
//! entry with its sums, so a completion costs constant time and the memory has a bound, whatever
//! the rate; completions further apart are kept exactly. spec: proxy §21.2

use crate::http::usage::Usage;
use serde::Serialize;
use std::collections::VecDeque;

/// Length of the window in seconds.
pub const WINDOW: f64 = 60.0;
/// Completions this close to the first of an entry are added to it.
const SLICE: f64 = 0.01;
/// Tokens of one proof window. spec: proxy §21.2
const TOKENS_PER_HASH: u64 = 256;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    input: u64,
    output: u64,
    completions: u64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.completions += other.completions;
    }

    fn subtract(&mut self, other: Self) {
        self.input = self.input.saturating_sub(other.input);
        self.output = self.output.saturating_sub(other.output);
        self.completions = self.completions.saturating_sub(other.completions);
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Time of its first completion.
    time: f64,
    sums: Sums,
}

/// Rates over the window, rounded as they are published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Prompt tokens a second.
    pub prompt_tokens_per_sec: f64,
    /// Generated tokens a second.
    pub completion_tokens_per_sec: f64,
    /// Both.
    pub total_tokens_per_sec: f64,
    /// Completions a minute.
    pub completions_per_min: f64,
    /// Windows of 256 generated tokens a second.
    pub hashes_per_sec: f64,
    /// Length of the window.
    pub window_seconds: f64,
}

/// Everything since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
    /// Completions with a token count.
    pub completions: u64,
    /// Windows of 256 generated tokens.
    pub hashes: u64,
}

/// Counts completions. Times are seconds on any clock that does not go back.
#[derive(Debug, Default)]
pub struct Throughput {
    entries: VecDeque<Entry>,
    window: Sums,
    totals: Sums,
}

impl Throughput {
    /// Counts one completion; one without tokens is none. spec: proxy §21.2
    pub fn record(&mut self, now: f64, usage: Usage) {
        if usage == Usage::default() {
            return;
        }
        self.expire(now);
        let sums = Sums { input: usage.input, output: usage.output, completions: 1 };
        self.totals.add(sums);
        self.window.add(sums);
        match self.entries.back_mut() {
            Some(last) if now - last.time < SLICE => last.sums.add(sums),
            _ => self.entries.push_back(Entry { time: now, sums }),
        }
    }

    /// The rates at this moment.
    pub fn rates(&mut self, now: f64) -> Rates {
        self.expire(now);
        // Of an empty window every rate is zero, whatever the span.
        let oldest = self.entries.front().map_or(now, |entry| entry.time);
        let span = (now - oldest).max(1.0);
        let per_second = |count: u64| as_f64(count) / span;
        let (input, output) = (per_second(self.window.input), per_second(self.window.output));
        Rates {
            prompt_tokens_per_sec: rounded(input, 2),
            completion_tokens_per_sec: rounded(output, 2),
            total_tokens_per_sec: rounded(input + output, 2),
            completions_per_min: rounded(per_second(self.window.completions) * 60.0, 2),
            hashes_per_sec: rounded(output / as_f64(TOKENS_PER_HASH), 4),
            window_seconds: WINDOW,
        }
    }

    /// Everything since the start.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        Totals {
            prompt_tokens: self.totals.input,
            completion_tokens: self.totals.output,
            completions: self.totals.completions,
            hashes: self.totals.output / TOKENS_PER_HASH,
        }
    }

    /// A completion exactly as old as the window is long still counts.
    fn expire(&mut self, now: f64) {
        while let Some(first) = self.entries.front() {
            if now - first.time <= WINDOW {
                break;
            }
            self.window.subtract(first.sums);
            self.entries.pop_front();
        }
    }
}

#[allow(clippy::cast_precision_loss)] // tokens of a minute
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The decimal with this many places that is nearest to the binary value, ties to the even digit.
/// spec: proxy §21.2
fn rounded(value: f64, places: usize) -> f64 {
    format!("{value:.places$}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output }
    }

    #[test]
    fn rounding_is_of_the_binary_value_with_ties_to_even() {
        let cases = [(0.125, 0.12), (0.375, 0.38), (2.675, 2.67), (0.005, 0.01), (1.005, 1.0)];
        for (value, expected) in cases {
            assert_eq!(rounded(value, 2).to_bits(), f64::to_bits(expected), "{value}");
        }
        assert_eq!(rounded(0.03125, 4), 0.0312);
    }

    #[test]
    fn a_completion_without_tokens_is_none() {
        let mut throughput = Throughput::default();
        throughput.record(5.0, usage(0, 0));
        throughput.record(5.0, usage(0, 512));
        assert_eq!(throughput.totals().completions, 1);
        assert_eq!(throughput.totals().hashes, 2);
    }

    #[test]
    fn totals_outlive_the_window() {
        let mut throughput = Throughput::default();
        throughput.record(0.0, usage(1, 255));
        throughput.record(60.0, usage(1, 1));
        assert_eq!(throughput.rates(60.0).completions_per_min, 2.0, "as old as the window");
        assert_eq!(throughput.rates(60.1).completions_per_min, 60.0);
        assert_eq!(throughput.rates(1000.0).total_tokens_per_sec, 0.0);
        assert_eq!(
            throughput.totals(),
            Totals { prompt_tokens: 2, completion_tokens: 256, completions: 2, hashes: 1 }
        );
    }

    #[test]
    fn memory_is_bounded_at_any_rate() {
        let mut throughput = Throughput::default();
        for n in 0..2_000_000_u32 {
            throughput.record(f64::from(n) / 20_000.0, usage(1, 1));
        }
        assert!(throughput.entries.len() <= 6_001, "{}", throughput.entries.len());
        let rate = throughput.rates(100.0).completion_tokens_per_sec;
        assert!((rate / 20_000.0 - 1.0).abs() < 0.001, "{rate}");
    }
}
