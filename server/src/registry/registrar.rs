//! Keeps the registry: takes lists from all sources, checks each record, builds the new index aside
//! and swaps it into the mining context. A list that is empty changes nothing, a bad record costs
//! nobody but itself. spec: proxy §13.2

use super::record::{BadRecord, read_record};
use super::source::{RegistrySource, RegistryUpdate};
use crate::exposition::{counter, gauge, labelled_counter};
use crate::mining::context::ContextCell;
use crate::mining::registry::Registry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Records whose faults are logged; the others of a list are only counted.
const LOGGED_FAULTS: usize = 5;
/// Models that `/status` names. spec: proxy §21.1
const SAMPLE: usize = 10;

/// What became of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was empty; the registry stays.
    Kept,
    /// The registry is new.
    Replaced {
        /// Models it has.
        models: usize,
        /// Records of models that are not registered (any more).
        inactive: usize,
        /// Records that could not be used.
        bad: usize,
    },
}

#[derive(Debug, Default)]
struct State {
    /// When a source last confirmed that this is the registry.
    confirmed: Option<Instant>,
    updated: Option<SystemTime>,
    last_error: Option<String>,
    location: String,
    sources: usize,
}

/// The keeper of the registry.
#[derive(Debug)]
pub struct Registrar {
    context: Arc<ContextCell>,
    state: Mutex<State>,
    updates: AtomicU64,
    failures: AtomicU64,
    bad: [AtomicU64; BadRecord::LABELS.len()],
}

impl Registrar {
    /// A keeper that puts registries into `context`.
    #[must_use]
    pub fn new(context: Arc<ContextCell>) -> Self {
        Self {
            context,
            state: Mutex::default(),
            updates: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            bad: Default::default(),
        }
    }

    /// Takes a source's lists until it closes.
    pub async fn follow(self: Arc<Self>, mut source: Box<dyn RegistrySource>) {
        self.begin(source.location());
        while let Some(update) = source.next().await {
            match update {
                RegistryUpdate::Models(list) => {
                    self.apply(source.name(), &list);
                }
                RegistryUpdate::Unchanged => self.confirm(),
                RegistryUpdate::Failed(error) => self.fail(source.name(), error),
            }
        }
        self.lock().sources -= 1;
    }

    fn begin(&self, location: String) {
        let mut state = self.lock();
        state.sources += 1;
        if state.location.is_empty() {
            state.location = location;
        }
    }

    /// Takes one list. spec: proxy §13.2
    pub fn apply(&self, source: &str, list: &[Value]) -> Applied {
        if list.is_empty() {
            tracing::warn!("the registry list from {source} is empty; the old one stays");
            return Applied::Kept;
        }
        let (mut models, mut inactive, mut bad) = (Vec::new(), 0, 0);
        for record in list {
            match read_record(record) {
                Ok(Some(model)) => models.push(model),
                Ok(None) => inactive += 1,
                Err(fault) => {
                    bad += 1;
                    self.count(&fault);
                    if bad <= LOGGED_FAULTS {
                        tracing::warn!("a record of the registry is dropped: {fault}");
                    }
                }
            }
        }
        let registry: Registry = models.into_iter().collect();
        let models = registry.records().len();
        let first = !self.context.load().models().loaded;
        let lost = self.lost_pin(&registry);
        self.context.set_registry(registry);
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.lock().updated = Some(SystemTime::now());
        self.confirm();
        tracing::info!("Model update complete (source={source}): {models} models loaded");
        if first {
            tracing::info!("[ModelClient] Initial model sync completed successfully");
        }
        if let Some(pin) = lost {
            tracing::error!(
                "the pinned model {pin} is not in the registry: its requests are served unmined"
            );
        }
        Applied::Replaced { models, inactive, bad }
    }

    /// The pin, when the new registry does not have it.
    fn lost_pin(&self, registry: &Registry) -> Option<String> {
        let snapshot = self.context.load();
        let pin = snapshot.models().pin.as_ref()?;
        let known = registry.by_name_and_commit(pin.name(), pin.commit()).is_some();
        (!known).then(|| pin.to_string())
    }

    /// Notes that the registry is still what it was.
    pub fn confirm(&self) {
        let mut state = self.lock();
        state.confirmed = Some(Instant::now());
        state.last_error = None;
    }

    fn fail(&self, source: &str, error: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let loaded = self.context.load().models().loaded;
        let then = if loaded { "the old one stays" } else { "nothing is mined until there is one" };
        tracing::warn!("no registry list from {source}: {error}; {then}");
        self.lock().last_error = Some(error);
    }

    fn count(&self, fault: &BadRecord) {
        let at = BadRecord::LABELS.iter().position(|label| *label == fault.label());
        if let Some(counter) = at.and_then(|at| self.bad.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Time since a source last confirmed the registry.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.lock().confirmed.map(|at| at.elapsed())
    }

    /// `proxy.model_sync` of `/status`. spec: proxy §21.1
    #[must_use]
    pub fn report(&self) -> Value {
        let snapshot = self.context.load();
        let records = snapshot.models().registry.records();
        let sample: Vec<_> = records.iter().take(SAMPLE).map(|r| r.id.to_string()).collect();
        let state = self.lock();
        let updated = state.updated.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        json!({
            "initialized": snapshot.models().loaded,
            "models_loaded": records.len(),
            "total_models": records.len(),
            "sample_models": sample,
            "last_update_timestamp": updated.map(|at| at.as_secs()),
            "age_seconds": state.confirmed.map(|at| at.elapsed().as_secs()),
            "update_task_running": state.sources > 0,
            "base_url": state.location,
            "last_error": state.last_error,
        })
    }

    /// No change leaves the state half-made, so a poisoned lock guards a usable one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Registrar {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let seconds = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let models = self.context.load().models().registry.records().len();
        gauge(
            &mut out,
            "registry_age_seconds",
            "Time since the model registry was last confirmed, -1 before that",
            self.age().map_or(-1, seconds),
        )?;
        gauge(
            &mut out,
            "registry_models",
            "Models registered",
            i64::try_from(models).unwrap_or(i64::MAX),
        )?;
        counter(
            &mut out,
            "registry_updates",
            "Lists that replaced the registry",
            self.updates.load(Ordering::Relaxed),
        )?;
        counter(
            &mut out,
            "registry_failures",
            "Polls of the registry that failed",
            self.failures.load(Ordering::Relaxed),
        )?;
        labelled_counter(
            &mut out,
            "registry_records_dropped",
            "Records of registry lists that could not be used",
            "reason",
            BadRecord::LABELS.into_iter().zip(self.bad.iter().map(|n| n.load(Ordering::Relaxed))),
        )
    }
}
