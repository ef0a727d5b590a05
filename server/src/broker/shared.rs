//! What outlives a connection: the book of leases, the way out, the ends through which jobs and
//! registries go into the proxy, and the counts. spec: broker §1.1

use super::leases::{LeasedModel, Leases};
use super::mcp::McpServer;
use super::settings::BrokerSettings;
use super::toolbox::Toolbox;
use super::uplink::Uplink;
use crate::mining::context::ContextCell;
use crate::mining::job::Job;
use crate::mining::model::ModelId;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tensorpow_core::target::Difficulty;
use tokio::sync::{Notify, mpsc, watch};

/// How far back the error rate looks. spec: §4
const ERROR_WINDOW: Duration = Duration::from_secs(60);

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts to connect.
    pub attempts: AtomicU64,
    /// Connections that were closed to dial anew.
    pub reconnects: AtomicU64,
    /// Connections that were left because the broker was silent.
    pub silences: AtomicU64,
    /// Registrations that were accepted.
    pub registrations: AtomicU64,
    /// Messages that were no frames.
    pub ignored: AtomicU64,
    /// Leases taken.
    pub leases: AtomicU64,
    /// Leases refused.
    pub refused: AtomicU64,
    /// Leases closed for good by the broker.
    pub cancels: AtomicU64,
    /// Shares delivered.
    pub shares: AtomicU64,
    /// Block-level results delivered.
    pub results: AtomicU64,
    /// Lists of registered models.
    pub registries: AtomicU64,
    /// Inference jobs taken.
    pub jobs: AtomicU64,
    /// Inference jobs that ended in an error.
    pub failed_jobs: AtomicU64,
    /// Inference jobs that a drained worker refused.
    pub refused_jobs: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What the parts of a link share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub settings: BrokerSettings,
    /// The book of leases.
    pub leases: Leases,
    /// The way out.
    pub uplink: Uplink,
    /// The tools.
    pub toolbox: Toolbox,
    /// Where jobs go in; `None` where nothing takes them.
    pub jobs: Option<watch::Sender<Option<Job>>>,
    /// Where registries go in; `None` without mining.
    pub registry: Option<mpsc::Sender<Vec<Value>>>,
    /// The mining context, once there is one.
    pub context: OnceLock<Arc<ContextCell>>,
    /// What has happened so far.
    pub counters: Counters,
    /// When jobs ended, and whether in an error.
    ends: Mutex<VecDeque<(Instant, bool)>>,
    /// Names of the models the engine serves, as last asked.
    served: Mutex<Vec<String>>,
    /// The pin that a lease has set.
    leased_pin: Mutex<Option<ModelId>>,
    /// What keeps work away.
    trouble: Mutex<Option<String>>,
    /// Rings when the connection is to be closed and dialled anew.
    redial: Notify,
    /// Why the last attempt to connect failed.
    unreachable: Mutex<Option<String>>,
}

impl Shared {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(
        settings: BrokerSettings,
        jobs: Option<watch::Sender<Option<Job>>>,
        registry: Option<mpsc::Sender<Vec<Value>>>,
    ) -> Self {
        let server = settings.mcp_tools.clone().map(McpServer::new);
        Self {
            toolbox: Toolbox::new(settings.tools.clone(), server),
            settings,
            leases: Leases::default(),
            uplink: Uplink::default(),
            jobs,
            registry,
            context: OnceLock::new(),
            counters: Counters::default(),
            ends: Mutex::default(),
            served: Mutex::default(),
            leased_pin: Mutex::default(),
            trouble: Mutex::default(),
            redial: Notify::new(),
            unreachable: Mutex::default(),
        }
    }

    /// The registered difficulty of a lease's model. spec: §7.5
    #[must_use]
    pub fn difficulty(&self, model: &LeasedModel) -> Option<Difficulty> {
        let snapshot = self.context.get()?.load();
        let registry = &snapshot.models().registry;
        registry.by_name_and_commit(&model.name, &model.commit).map(|record| record.difficulty)
    }

    /// True once a list of registered models has been taken.
    #[must_use]
    pub fn has_registry(&self) -> bool {
        self.context.get().is_some_and(|context| context.load().models().loaded)
    }

    /// Notes what the engine serves.
    pub fn set_served(&self, names: Vec<String>) {
        *lock(&self.served) = names;
    }

    /// What the engine serves.
    #[must_use]
    pub fn served(&self) -> Vec<String> {
        lock(&self.served).clone()
    }

    /// Where the operator has pinned nothing, a lease says which of the registered models that the
    /// engine serves is mined. A pin of the operator's, at the start or later, stays.
    pub fn pin(&self, model: &LeasedModel) {
        let Some(context) = self.context.get() else { return };
        let served = lock(&self.served).contains(&model.name);
        let Some(id) = ModelId::new(&model.name, &model.commit).filter(|_| served) else { return };
        let mut leased = lock(&self.leased_pin);
        let pin = context.load().models().pin.clone();
        if pin != *leased || pin.as_ref() == Some(&id) {
            return;
        }
        tracing::info!("mining {id}, as the lease says");
        context.set_pin(Some(id.clone()));
        *leased = Some(id);
    }

    /// What keeps work away, if anything does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Notes it; true when it is something new.
    pub fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut known = lock(&self.trouble);
        let new = *known != trouble;
        *known = trouble;
        new
    }

    /// Closes the connection, so that another is dialled. Without a connection that is being done.
    pub fn redial(&self) {
        self.redial.notify_waiters();
    }

    /// Completes when somebody wants the connection closed.
    pub(super) async fn redialled(&self) {
        self.redial.notified().await;
    }

    /// Why the last attempt to connect failed, if it did.
    #[must_use]
    pub fn unreachable(&self) -> Option<String> {
        lock(&self.unreachable).clone()
    }

    /// Notes how an attempt to connect went.
    pub fn set_unreachable(&self, why: Option<String>) {
        *lock(&self.unreachable) = why;
    }

    /// Notes the end of an inference job.
    pub fn job_ended(&self, failed: bool) {
        if failed {
            count(&self.counters.failed_jobs);
        }
        let mut ends = self.ends();
        forget_old(&mut ends);
        ends.push_back((Instant::now(), failed));
    }

    /// Share of the jobs of the last minute that ended in an error. spec: §4
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of one minute are small
    pub fn error_rate(&self) -> f64 {
        let mut ends = self.ends();
        forget_old(&mut ends);
        match ends.len() {
            0 => 0.0,
            all => ends.iter().filter(|(_, failed)| *failed).count() as f64 / all as f64,
        }
    }

    fn ends(&self) -> MutexGuard<'_, VecDeque<(Instant, bool)>> {
        lock(&self.ends)
    }
}

/// No value here is ever left half-changed, so a poisoned lock guards a usable one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget_old(ends: &mut VecDeque<(Instant, bool)>) {
    while ends.front().is_some_and(|(at, _)| at.elapsed() > ERROR_WINDOW) {
        ends.pop_front();
    }
}
