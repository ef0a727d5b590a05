//! A file that says how the worker is, for supervisors, probes and scripts of its host that speak no
//! HTTP: written whole every few seconds and at each change of state, removed on an orderly end, so
//! that an old one means a worker that hangs and none one that has gone. A disk that fails is said
//! once, counted, and never in anybody's way. spec: proxy §25

use crate::exposition::counter;
use crate::http::App;
use crate::metrics::busy::unix_seconds;
use crate::slo::file::write_whole;
use crate::slo::{Budget, Objective};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde::Serialize;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Shortest time between two writings.
const SHORTEST: Duration = Duration::from_millis(100);
/// What a disk gets to take one heartbeat, and to let go of the last.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// The file.
    pub file: PathBuf,
    /// Time between two writings.
    pub every: Duration,
}

/// How the worker is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Heartbeat {
    /// Seconds since 1970.
    pub time: u64,
    /// Version of the proxy.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// `serving`, `draining` or `stopping`.
    pub state: &'static str,
    /// Why it is not serving, by name.
    pub causes: Vec<&'static str>,
    /// Requests at the engines, those of backfill included.
    pub busy: u64,
    /// Of these, backfill.
    pub backfill: u64,
    /// Users' requests that wait for an engine.
    pub queue_depth: u64,
    /// Prompt tokens a second over the last minute.
    pub input_tokens_per_second: f64,
    /// Generated tokens a second over the last minute.
    pub output_tokens_per_second: f64,
    /// Share of the users' requests of the last hour that ended in an error; 0 without requests.
    pub error_rate: f64,
    /// Seconds since the last proof came; none before the first.
    pub last_proof_age_seconds: Option<f64>,
    /// 0 to 3, as `tensorpow_degradation_level`.
    pub degradation: i64,
}

impl Heartbeat {
    /// How it is now.
    #[must_use]
    pub fn of(app: &App) -> Self {
        let causes = app.drain.causes();
        let state = match (app.drain.is_stopping(), causes.any()) {
            (true, _) => "stopping",
            (false, true) => "draining",
            (false, false) => "serving",
        };
        let busy = app.metrics.busy();
        let priority = app.workload.priority.report();
        let (rates, _) = busy.throughput();
        let backfill = priority.at.backfill as u64;
        Self {
            time: unix_seconds(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: app.started.elapsed().as_secs(),
            state,
            causes: causes.iter().map(crate::drain::Cause::as_str).collect(),
            busy: u64::try_from(app.metrics.active_requests()).unwrap_or(0) + backfill,
            backfill,
            queue_depth: priority.at.queued as u64,
            input_tokens_per_second: rates.prompt_tokens_per_sec,
            output_tokens_per_second: rates.completion_tokens_per_sec,
            error_rate: error_rate(&busy.budgets()),
            last_proof_age_seconds: app.metrics.last_proof_age().map(|age| age.as_secs_f64()),
            degradation: priority.level.gauge(),
        }
    }
}

/// Share of the users' requests of the last hour that ended in an error.
#[allow(clippy::cast_precision_loss)] // counts of one hour
fn error_rate(budgets: &[Budget]) -> f64 {
    let of_the_hour =
        |budget: &&Budget| budget.objective == Objective::ErrorRate && budget.window == "1h";
    match budgets.iter().find(of_the_hour) {
        Some(hour) if hour.requests > 0 => hour.bad as f64 / hour.requests as f64,
        _ => 0.0,
    }
}

/// Writes the file.
#[derive(Debug)]
pub struct HeartbeatFile {
    settings: HeartbeatSettings,
    failures: AtomicU64,
}

impl HeartbeatFile {
    /// Nothing is written before [`HeartbeatFile::run`].
    #[must_use]
    pub const fn new(settings: HeartbeatSettings) -> Self {
        Self { settings, failures: AtomicU64::new(0) }
    }

    /// Writes that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Writes until `stop` completes, then removes the file.
    pub async fn run(self: Arc<Self>, app: Arc<App>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = app.drain.subscribe();
        let mut complained = false;
        loop {
            changes.mark_unchanged();
            match self.write(&Heartbeat::of(&app)).await {
                Ok(()) => complained = false,
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut complained, true) {
                        let path = self.settings.file.display();
                        tracing::warn!(%error, %path, "the heartbeat is not written");
                    }
                }
            }
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(self.settings.every.max(SHORTEST)) => {}
                // The other end lives as long as the application.
                _ = changes.changed() => {}
            }
        }
        if let Err(error) = self.remove().await {
            tracing::warn!(%error, "the heartbeat file is left behind");
        }
    }

    async fn write(&self, heartbeat: &Heartbeat) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(heartbeat)?;
        text.push(b'\n');
        let path = self.settings.file.clone();
        patiently(move || write_whole(&path, &text)).await
    }

    async fn remove(&self) -> std::io::Result<()> {
        let path = self.settings.file.clone();
        patiently(move || match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }
}

/// Lets the disk work beside everything else, and not for ever.
async fn patiently(
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> std::io::Result<()> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(broken)) => Err(std::io::Error::other(broken)),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

impl Collector for HeartbeatFile {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        counter(
            &mut out,
            "heartbeat_failures",
            "Heartbeats that the disk did not take",
            self.failures(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::{Kept, Slo, SloSettings};

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            time: 1_700_000_000,
            version: "0",
            pid: 7,
            uptime_seconds: 60,
            state: "serving",
            causes: Vec::new(),
            busy: 3,
            backfill: 2,
            queue_depth: 0,
            input_tokens_per_second: 1.5,
            output_tokens_per_second: 2.5,
            error_rate: 0.25,
            last_proof_age_seconds: None,
            degradation: 0,
        }
    }

    fn file(path: PathBuf) -> HeartbeatFile {
        HeartbeatFile::new(HeartbeatSettings { file: path, every: Duration::from_secs(5) })
    }

    #[tokio::test]
    async fn it_is_written_whole_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/heartbeat.json");
        let file = file(path.clone());
        for state in ["serving", "draining"] {
            file.write(&Heartbeat { state, ..heartbeat() }).await.unwrap();
            let text = std::fs::read(&path).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!((&read["state"], &read["busy"]), (&state.into(), &3.into()));
            assert_eq!(read["last_proof_age_seconds"], serde_json::Value::Null);
        }
        let beside = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "nothing is left beside it");
        file.remove().await.unwrap();
        assert!(!path.exists());
        file.remove().await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_fails_is_an_error_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let file = file(path);
        assert!(file.write(&heartbeat()).await.is_err(), "a folder is in its place");
        assert!(file.remove().await.is_err());
    }

    #[test]
    fn the_error_rate_is_that_of_the_last_hour() {
        let now = 1_700_000_000;
        assert_eq!(error_rate(&Slo::new(SloSettings::default()).budgets(now)), 0.0);
        let mut slo = Slo::new(SloSettings::default());
        (0..8).for_each(|_| slo.ended(now - 2 * 3600, Kept::Error));
        (0..3).for_each(|_| slo.ended(now, Kept::Answered));
        slo.ended(now, Kept::Unanswered);
        assert_eq!(error_rate(&slo.budgets(now)), 0.25);
    }
}
