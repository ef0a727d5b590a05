//! The last ten minutes: one sample a second of what the charts show, and the latency histograms
//! of now and then, so that a dashboard that is opened late has something to look back on.

use super::readings::{Histogram, Readings};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Samples kept.
const SAMPLES: usize = 600;
/// Time between two kept histograms.
const HISTOGRAM_EVERY: Duration = Duration::from_secs(10);
/// Histograms kept: as long as the samples.
const HISTOGRAMS: usize = 60;

/// Counters of one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    generated: u64,
    input: u64,
    requests: u64,
    failed: u64,
    received: u64,
    shares: u64,
    blocks: u64,
    /// Proofs that were handed to somebody who does not answer.
    sent: u64,
    /// Proofs that were refused.
    refused: u64,
}

impl Counters {
    fn read(readings: &Readings) -> Self {
        let requests = |labels: &[(&str, &str)]| readings.count("tensorpow_requests_total", labels);
        let taken = ["share", "block", "sent", "unavailable"].map(|verdict| {
            readings.count("tensorpow_proofs_judged_total", &[("verdict", verdict)])
        });
        let [shares, blocks, sent, unavailable] = taken;
        Self {
            generated: readings.count("tensorpow_tokens_generated_total", &[]),
            input: readings.count("tensorpow_tokens_total", &[("direction", "input")]),
            requests: requests(&[]),
            failed: requests(&[("outcome", "engine_error")])
                + requests(&[("outcome", "engine_broke")]),
            received: readings.count("tensorpow_proofs_received_total", &[]),
            shares,
            blocks,
            sent,
            refused: readings
                .count("tensorpow_proofs_judged_total", &[])
                .saturating_sub(shares + blocks + sent + unavailable),
        }
    }
}

/// What happened in about one second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    /// End of the second, in seconds since 1970.
    at: u64,
    /// Generated tokens a second.
    tokens: f64,
    /// Prompt tokens a second.
    input: f64,
    requests: u64,
    failed: u64,
    active: u64,
    proofs: u64,
    /// Shares credited, and solutions sent to a node that does not answer.
    shares: u64,
    blocks: u64,
    refused: u64,
    tick: u64,
}

#[derive(Debug)]
struct Kept {
    at: Instant,
    latencies: Latencies,
}

/// Histograms of the same bounds.
#[derive(Debug)]
struct Latencies {
    first_byte: Histogram,
    whole: Histogram,
    proof: Histogram,
}

/// The last minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Option<(Instant, Counters)>,
    samples: VecDeque<Sample>,
    histograms: VecDeque<Kept>,
}

impl History {
    /// Takes the sample of this moment.
    pub(super) fn add(&mut self, readings: &Readings) {
        self.add_at(readings, Instant::now(), SystemTime::now());
    }

    fn add_at(&mut self, readings: &Readings, now: Instant, clock: SystemTime) {
        let counters = Counters::read(readings);
        if let Some((then, before)) = self.last.replace((now, counters)) {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            let gained = |of: fn(&Counters) -> u64| of(&counters).saturating_sub(of(&before));
            if self.samples.len() >= SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(Sample {
                at: clock.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                tokens: rate(gained(|c| c.generated), seconds),
                input: rate(gained(|c| c.input), seconds),
                requests: gained(|c| c.requests),
                failed: gained(|c| c.failed),
                active: readings.count("tensorpow_requests_active", &[]),
                proofs: gained(|c| c.received),
                shares: gained(|c| c.shares) + gained(|c| c.sent),
                blocks: gained(|c| c.blocks),
                refused: gained(|c| c.refused),
                tick: readings.count("tensorpow_vdf_tick", &[]),
            });
        }
        let due = |last: &Kept| now.duration_since(last.at) >= HISTOGRAM_EVERY;
        if self.histograms.back().is_none_or(due) {
            if self.histograms.len() >= HISTOGRAMS {
                self.histograms.pop_front();
            }
            self.histograms.push_back(Kept { at: now, latencies: latencies(readings) });
        }
    }

    /// All samples, a list for each value.
    pub(super) fn columns(&self) -> Value {
        let whole = |of: fn(&Sample) -> u64| self.samples.iter().map(of).collect::<Vec<_>>();
        let rates = |of: fn(&Sample) -> f64| self.samples.iter().map(of).collect::<Vec<_>>();
        json!({
            "at": whole(|s| s.at),
            "tokens": rates(|s| s.tokens),
            "input": rates(|s| s.input),
            "requests": whole(|s| s.requests),
            "failed": whole(|s| s.failed),
            "active": whole(|s| s.active),
            "proofs": whole(|s| s.proofs),
            "shares": whole(|s| s.shares),
            "blocks": whole(|s| s.blocks),
            "refused": whole(|s| s.refused),
            "tick": whole(|s| s.tick),
        })
    }

    /// The newest sample; null before there is one.
    pub(super) fn newest(&self) -> Value {
        self.samples.back().map_or(Value::Null, |s| {
            json!({
                "at": s.at, "tokens": s.tokens, "input": s.input, "requests": s.requests,
                "failed": s.failed, "active": s.active, "proofs": s.proofs, "shares": s.shares,
                "blocks": s.blocks, "refused": s.refused, "tick": s.tick,
            })
        })
    }

    /// Latencies of the last minutes: bounds in seconds, and observations in each bucket.
    pub(super) fn latency(&self, readings: &Readings) -> Value {
        let now = latencies(readings);
        let oldest = self.histograms.front();
        let seconds = oldest.map_or(0, |kept| kept.at.elapsed().as_secs());
        let then = oldest.map(|kept| &kept.latencies);
        json!({
            "bounds": now.whole.bounds,
            "first_byte": now.first_byte.since(then.map(|then| &then.first_byte)).counts,
            "whole": now.whole.since(then.map(|then| &then.whole)).counts,
            "proof": now.proof.since(then.map(|then| &then.proof)).counts,
            "seconds": seconds,
        })
    }
}

fn latencies(readings: &Readings) -> Latencies {
    Latencies {
        first_byte: readings.histogram("tensorpow_first_token_seconds"),
        whole: readings.histogram("tensorpow_request_duration_seconds"),
        proof: readings.histogram("tensorpow_proof_latency_seconds"),
    }
}

/// A rate with two decimals.
#[allow(clippy::cast_precision_loss)] // tokens of a second
fn rate(count: u64, seconds: f64) -> f64 {
    (count as f64 / seconds * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(generated: u64, shares: u64, stale: u64) -> Readings {
        Readings::parse(&format!(
            "tensorpow_tokens_generated_total {generated}\n\
             tensorpow_proofs_judged_total{{verdict=\"share\"}} {shares}\n\
             tensorpow_proofs_judged_total{{verdict=\"stale\"}} {stale}\n\
             tensorpow_request_duration_seconds_bucket{{le=\"0.1\"}} {generated}\n\
             tensorpow_request_duration_seconds_bucket{{le=\"+Inf\"}} {generated}\n\
             tensorpow_requests_active 4\n"
        ))
    }

    #[test]
    fn a_sample_is_what_was_gained() {
        let mut history = History::default();
        let (start, clock) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(100));
        assert_eq!(history.newest(), Value::Null);
        history.add_at(&readings(10, 1, 0), start, clock);
        assert_eq!(history.newest(), Value::Null, "one reading is no rate");
        history.add_at(&readings(40, 3, 1), start + Duration::from_secs(2), clock);
        let newest = history.newest();
        let part = |name: &str| newest[name].as_f64().unwrap();
        assert_eq!((part("tokens"), part("shares"), part("refused")), (15.0, 2.0, 1.0));
        assert_eq!((part("active"), part("at")), (4.0, 100.0));
        // A counter that begins again is no negative rate.
        history.add_at(&readings(0, 0, 0), start + Duration::from_secs(3), clock);
        assert_eq!(history.newest()["tokens"], 0.0);
        assert_eq!(history.columns()["tokens"], json!([15.0, 0.0]));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut history = History::default();
        let start = Instant::now();
        for second in 0..700 {
            let now = start + Duration::from_secs(second);
            history.add_at(&readings(second, 0, 0), now, UNIX_EPOCH);
        }
        assert_eq!((history.samples.len(), history.histograms.len()), (SAMPLES, HISTOGRAMS));
        let latency = history.latency(&readings(700, 0, 0));
        let oldest = 100; // the 60th last of one each ten seconds
        assert_eq!(latency["whole"], json!([700 - oldest, 0]));
        assert_eq!(latency["bounds"], json!([0.1]));
    }
}
