//! An engine on trial beside the one that serves: which users' requests it gets, how both do, and the
//! end of the trial when it does worse. Its end is written down, so that a restart does not begin it
//! anew. spec: proxy §25

use super::arm::{Arm, Ended, Summary};
use super::judge::{Regression, Tolerance, judge};
use super::record::Records;
use crate::exposition::counter;
use crate::metrics::Metrics;
use crate::mining::sink::Verdict;
use crate::outbox::Judged;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// How often both are compared.
const JUDGE_EVERY: Duration = Duration::from_secs(2);
/// Shares are kept in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// A trial.
#[derive(Debug, Clone)]
pub struct TrialSettings {
    /// Part of the requests in percent.
    pub percent: f64,
    /// Names of API keys whose requests all go to the engine on trial.
    pub keys: HashSet<String>,
    /// What ends it.
    pub tolerance: Tolerance,
}

/// Which of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Base,
    Trial,
}

#[derive(Debug)]
struct State {
    base: Arm,
    trial: Arm,
    /// Why it has ended; `None` while it runs.
    ended: Option<String>,
    /// When it began or ended, as seconds since 1970.
    since: u64,
}

/// The trial.
#[derive(Debug)]
pub struct Trial {
    settings: TrialSettings,
    /// The engines as labels of metrics: their URLs.
    base: &'static str,
    trial: &'static str,
    running: AtomicBool,
    /// Hundredths of a percent.
    share: AtomicU32,
    drawn: AtomicU32,
    rollbacks: AtomicU64,
    state: Mutex<State>,
    records: Arc<Records>,
}

impl Trial {
    /// A trial of the engine `trial` beside `base`, both as labels. It does not begin when it has
    /// ended badly before, as `records` know.
    #[must_use]
    pub fn new(
        settings: TrialSettings,
        base: &'static str,
        trial: &'static str,
        records: Arc<Records>,
    ) -> Self {
        let ended = records.canary_end(trial);
        let share = hundredths(settings.percent);
        let gets_something = share > 0 || !settings.keys.is_empty();
        if let Some(reason) = &ended {
            tracing::warn!("no requests go to the engine on trial, {trial}: {reason}");
        }
        let running = AtomicBool::new(ended.is_none() && gets_something);
        let state = State {
            base: Arm::default(),
            trial: Arm::default(),
            ended,
            since: super::record::now(),
        };
        Self {
            settings,
            base,
            trial,
            running,
            share: AtomicU32::new(share),
            drawn: AtomicU32::new(0),
            rollbacks: AtomicU64::new(0),
            state: Mutex::new(state),
            records,
        }
    }

    /// Whether the next request, asked with the key of this name, goes to the engine on trial.
    /// Exactly the configured part does, evenly spread.
    #[must_use]
    pub fn takes(&self, key: Option<&str>) -> bool {
        if !self.runs() {
            return false;
        }
        if key.is_some_and(|key| self.settings.keys.contains(key)) {
            return true;
        }
        // Multiples of the golden ratio, modulo one, leave no gaps and make no clusters.
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let place = u64::from(drawn.wrapping_mul(0x9E37_79B9));
        let share = self.share.load(Ordering::Relaxed);
        (place * u64::from(WHOLE)) >> 32 < u64::from(share)
    }

    /// A request has ended at an engine.
    pub fn ended(&self, engine: &'static str, ended: Ended) {
        self.note(engine, |arm, now| arm.ended(now, ended));
    }

    /// A proof of an engine's answer is stored.
    pub fn proof(&self, engine: &'static str) {
        self.note(engine, Arm::proof);
    }

    /// The chain has refused one.
    pub fn refused(&self, engine: &'static str) {
        self.note(engine, Arm::refused);
    }

    fn note(&self, engine: &'static str, note: impl FnOnce(&mut Arm, Instant)) {
        let side = match engine {
            engine if engine == self.trial => Side::Trial,
            engine if engine == self.base => Side::Base,
            _ => return,
        };
        let mut state = self.lock();
        let arm = match side {
            Side::Base => &mut state.base,
            Side::Trial => &mut state.trial,
        };
        note(arm, Instant::now());
    }

    /// Changes the part of the requests; 0 ends the trial, anything else begins it anew.
    ///
    /// # Errors
    /// A sentence for what is no percentage.
    pub fn set_percent(&self, percent: f64) -> Result<(), String> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("percent {percent} is not between 0 and 100"));
        }
        let share = hundredths(percent);
        if share == 0 {
            self.end("ended by hand");
            return Ok(());
        }
        let mut state = self.lock();
        if state.ended.take().is_some() {
            state.base.clear();
            state.trial.clear();
            state.since = super::record::now();
        }
        self.share.store(share, Ordering::Relaxed);
        self.running.store(true, Ordering::Relaxed);
        drop(state);
        tracing::info!("{percent} % of the requests go to the engine on trial, {}", self.trial);
        self.records.set_canary_end(self.trial, None);
        Ok(())
    }

    /// Ends it: all requests go to the engine that serves.
    pub fn end(&self, reason: &str) {
        self.running.store(false, Ordering::Relaxed);
        let mut state = self.lock();
        (state.ended, state.since) = (Some(reason.to_owned()), super::record::now());
        drop(state);
        self.records.set_canary_end(self.trial, Some(reason));
    }

    /// Compares both; ends the trial when its engine does worse.
    pub fn judge(&self) -> Option<Regression> {
        if !self.runs() {
            return None;
        }
        let (base, trial) = self.summaries();
        let found = judge(&base, &trial, &self.settings.tolerance)?;
        tracing::error!("the engine on trial, {}, gets no more requests: {found}", self.trial);
        self.rollbacks.fetch_add(1, Ordering::Relaxed);
        self.end(&found.to_string());
        Some(found)
    }

    /// Compares both again and again.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(JUDGE_EVERY).await;
            let this = self.clone();
            // An end is written to the disk. It does not panic; if it did the next look would come.
            let _ = tokio::task::spawn_blocking(move || this.judge()).await;
        }
    }

    /// Counts the proofs that the chain refuses, until the judgements end.
    pub async fn follow(
        self: Arc<Self>,
        mut judgements: broadcast::Receiver<Judged>,
        metrics: Arc<Metrics>,
    ) {
        loop {
            let judged = match judgements.recv().await {
                Ok(judged) => judged,
                // What was missed is missing on either side.
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if let Verdict::Rejected { .. } = judged.verdict
                && let Some(origin) =
                    metrics.busy().proof_latency().origin_of(&judged.proof.completion_id)
                && origin.class == "user"
            {
                self.refused(origin.engine);
            }
        }
    }

    /// The engine that serves, by its URL.
    #[must_use]
    pub const fn beside(&self) -> &'static str {
        self.base
    }

    /// True while requests go to the engine on trial.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// When it began, or ended, in seconds since 1970.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.lock().since
    }

    /// The part of the requests that it gets now.
    fn percent(&self) -> f64 {
        let share = if self.runs() { self.share.load(Ordering::Relaxed) } else { 0 };
        f64::from(share) / 100.0
    }

    fn summaries(&self) -> (Summary, Summary) {
        let (now, window) = (Instant::now(), self.settings.tolerance.window);
        let mut state = self.lock();
        (state.base.summary(now, window), state.trial.summary(now, window))
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self) -> Value {
        let (base, trial) = self.summaries();
        let (ended, since) = {
            let state = self.lock();
            (state.ended.clone(), state.since)
        };
        let mut keys: Vec<_> = self.settings.keys.iter().collect();
        keys.sort();
        json!({
            "engine": self.trial,
            "beside": self.base,
            "percent": self.percent(),
            "keys": keys,
            "running": self.runs(),
            "ended": ended,
            "since": since,
            "window_seconds": self.settings.tolerance.window.as_secs(),
            "base": figures(&base),
            "canary": figures(&trial),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts stay usable whatever happened to whoever held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Trial {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(self.percent());
        let help = "Part of the users' requests that goes to the engine on trial";
        gauge.encode(out.encode_descriptor("canary_percent", help, None, MetricType::Gauge)?)?;
        let help = "Trials that were ended because the engine did worse";
        counter(&mut out, "canary_rollbacks", help, self.rollbacks.load(Ordering::Relaxed))
    }
}

fn figures(summary: &Summary) -> Value {
    json!({
        "requests": summary.requests,
        "failed": summary.failed,
        "streams": summary.streams,
        "first_token_p95_seconds": summary.first_token,
        "token_p95_seconds": summary.per_token,
        "windows": summary.windows,
        "proofs": summary.proofs,
        "proofs_refused": summary.refused,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage between 0 and 100"
)]
fn hundredths(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) * 100.0).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(percent: f64, records: Arc<Records>) -> Trial {
        let settings = TrialSettings {
            percent,
            keys: ["beta".to_owned()].into(),
            tolerance: Tolerance::default(),
        };
        Trial::new(settings, "http://old", "http://new", records)
    }

    fn taken(trial: &Trial, of: u32) -> usize {
        (0..of).filter(|_| trial.takes(None)).count()
    }

    #[test]
    fn exactly_the_part_is_taken_and_evenly() {
        for (percent, expected) in [(0.0, 0), (0.5, 50), (5.0, 500), (50.0, 5000), (100.0, 10_000)]
        {
            let trial = trial(percent, Arc::default());
            let all = taken(&trial, 10_000);
            assert!(all.abs_diff(expected) <= 2, "{percent} %: {all}");
        }
        let trial = trial(10.0, Arc::default());
        for stretch in 0..100 {
            assert!((5..=15).contains(&taken(&trial, 100)), "stretch {stretch}");
        }
    }

    #[test]
    fn a_key_goes_there_as_long_as_the_trial_runs() {
        let trial = trial(0.0, Arc::default());
        assert!((0..100).all(|_| trial.takes(Some("beta"))));
        assert!(!(0..100).any(|_| trial.takes(Some("alpha"))));
        trial.end("enough");
        assert!(!trial.takes(Some("beta")));
    }

    #[test]
    fn worse_ends_it_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rollout.json");
        let records = || Arc::new(Records::open(Some(file.clone()), ""));
        let first = trial(50.0, records());
        for _ in 0..10 {
            first.ended("http://old", Ended::default());
            first.ended("http://new", Ended { failed: true, ..Ended::default() });
            first.ended("http://another", Ended { failed: true, ..Ended::default() });
        }
        assert_eq!(first.judge().map(|found| found.label()), Some("errors"));
        assert_eq!(first.judge(), None, "it ends once");
        assert_eq!(taken(&first, 100), 0);
        let view = first.view();
        assert_eq!((&view["running"], &view["canary"]["failed"]), (&json!(false), &json!(10)));
        assert!(view["ended"].as_str().unwrap().contains("100.0 %"), "{view}");

        let again = trial(50.0, records());
        assert_eq!(taken(&again, 100), 0);
        assert!(again.set_percent(101.0).is_err());
        again.set_percent(25.0).unwrap();
        assert!(taken(&again, 1000).abs_diff(250) <= 2);
        let begun = taken(&trial(50.0, records()), 1000);
        assert!(begun.abs_diff(500) <= 2, "begun by hand, it begins: {begun}");
    }
}
