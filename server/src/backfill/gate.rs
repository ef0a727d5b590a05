//! May backfill mine now, and what? Only with a job, its VDF proof, a fresh context, no pause and a
//! job nobody has withdrawn; the answer is taken from one snapshot. spec: proxy §14.1

use super::body::route;
use super::engine::MiningEngine;
use crate::drain::Drain;
use crate::http::inject::{Class, prepare};
use crate::mining::payload::Dialect;
use crate::mining::snapshot::{ContextCell, NotMined, Offer, Snapshot};
use crate::priority::slots::Mines;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Withdrawn jobs that are remembered. spec: proxy §14.1
const WITHDRAWN: usize = 64;

/// Why backfill rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The floor is zero.
    Off,
    /// No job yet.
    NoJob,
    /// No VDF proof of the job's parent yet.
    NoVdf,
    /// The job is too old: its source is gone.
    JobStale,
    /// Mining is paused.
    Paused,
    /// The job was withdrawn by its source.
    JobCancelled,
    /// The engine is being switched to another model.
    ModelSwitch,
    /// The registry has not been heard of yet.
    RegistryNotLoaded,
    /// The model that should be mined is not registered.
    ModelNotRegistered,
    /// The job cannot be mined with this model, or the request cannot carry it.
    Unminable,
    /// The engine's health probe fails.
    EngineUnhealthy,
    /// Backfill has failed too often, or users' requests do.
    BreakerOpen,
    /// Users need the engine.
    EngineShort,
    /// The error budgets have lowered the floor to nothing.
    BudgetExhausted,
    /// The worker is drained.
    Draining,
    /// The proxy stops.
    Stopping,
}

impl Hold {
    /// All of them, for gauges that show which one holds.
    pub const ALL: [Self; 16] = [
        Self::Off,
        Self::NoJob,
        Self::NoVdf,
        Self::JobStale,
        Self::Paused,
        Self::JobCancelled,
        Self::ModelSwitch,
        Self::RegistryNotLoaded,
        Self::ModelNotRegistered,
        Self::Unminable,
        Self::EngineUnhealthy,
        Self::BreakerOpen,
        Self::EngineShort,
        Self::BudgetExhausted,
        Self::Draining,
        Self::Stopping,
    ];

    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoJob => "no_job",
            Self::NoVdf => "no_vdf",
            Self::JobStale => "job_stale",
            Self::Paused => "paused",
            Self::JobCancelled => "job_cancelled",
            Self::ModelSwitch => "model_switch",
            Self::RegistryNotLoaded => "registry_not_loaded",
            Self::ModelNotRegistered => "model_not_registered",
            Self::Unminable => "unminable",
            Self::EngineUnhealthy => "engine_unhealthy",
            Self::BreakerOpen => "breaker_open",
            Self::EngineShort => "engine_short",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}

impl From<NotMined> for Hold {
    fn from(reason: NotMined) -> Self {
        match reason {
            NotMined::NoJob => Self::NoJob,
            NotMined::JobStale => Self::JobStale,
            NotMined::NoVdf => Self::NoVdf,
            NotMined::Paused => Self::Paused,
            NotMined::ModelSwitch => Self::ModelSwitch,
            NotMined::RegistryNotLoaded => Self::RegistryNotLoaded,
            NotMined::ModelNotRegistered => Self::ModelNotRegistered,
            _ => Self::Unminable,
        }
    }
}

/// Watches over the conditions.
#[derive(Debug)]
pub struct Gate {
    context: Arc<ContextCell>,
    /// A job older than this is not mined; `None` where a lease decides, not the clock.
    stale_after: Option<Duration>,
    withdrawn: Mutex<VecDeque<u32>>,
    drain: Arc<Drain>,
}

/// What to mine: everything of a request comes from the snapshot inside.
#[derive(Debug, Clone)]
pub struct Order {
    snapshot: Arc<Snapshot>,
    dialect: Dialect,
    proof_version: u8,
    stale_after: Duration,
    /// Parent, job and model.
    pub mines: Mines,
}

impl Gate {
    /// A gate on this context.
    #[must_use]
    pub fn new(context: Arc<ContextCell>, stale_after: Option<Duration>) -> Self {
        Self { context, stale_after, withdrawn: Mutex::default(), drain: Arc::default() }
    }

    /// The gate of a worker that may be drained.
    #[must_use]
    pub fn drained_by(self, drain: Arc<Drain>) -> Self {
        Self { drain, ..self }
    }

    /// True while no new work is wanted; the end of the proxy is told to the pool itself.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drain.is_drained() && !self.drain.is_stopping()
    }

    /// The job's source has withdrawn it. The last 64 are remembered. spec: proxy §14.1
    pub fn withdraw(&self, request_id: u32) {
        let mut withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        if !withdrawn.contains(&request_id) {
            withdrawn.push_back(request_id);
        }
        if withdrawn.len() > WITHDRAWN {
            withdrawn.pop_front();
        }
    }

    /// The request id belongs to a new job: node ids are recycled. spec: broker §7.2
    pub fn reinstate(&self, request_id: u32) {
        let mut withdrawn = self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner);
        withdrawn.retain(|id| *id != request_id);
    }

    /// True when the job was withdrawn.
    #[must_use]
    pub fn is_withdrawn(&self, request_id: u32) -> bool {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner).contains(&request_id)
    }

    /// The context it watches.
    #[must_use]
    pub fn context(&self) -> &ContextCell {
        &self.context
    }

    /// What to mine now on this engine.
    ///
    /// # Errors
    /// [`Hold`] with the first condition that is not met.
    pub fn order(&self, engine: &dyn MiningEngine) -> Result<Order, Hold> {
        if self.is_drained() {
            return Err(Hold::Draining);
        }
        let snapshot = self.context.load();
        let stale_after = self.stale_after.unwrap_or(Duration::MAX);
        let job = snapshot.job().ok_or(Hold::NoJob)?;
        let mines = |model| Mines { parent: job.parent(), request_id: job.request_id, model };
        if self.is_withdrawn(job.request_id) {
            return Err(Hold::JobCancelled);
        }
        let model = snapshot.mining_model().ok_or(Hold::ModelNotRegistered)?;
        let dialect = engine.dialect();
        match snapshot.offer_to(dialect.kind, dialect.form, Some(&model), stale_after) {
            Offer::Mine(_) => {}
            Offer::Nothing(reason) => return Err(reason.into()),
            Offer::Audit(_) => return Err(Hold::ModelNotRegistered),
        }
        let mines = mines(model);
        let proof_version = self.context.settings().proof_version;
        Ok(Order { snapshot, dialect, proof_version, stale_after, mines })
    }
}

impl Order {
    /// How the engine is told what to mine.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Puts `pow` and the profile into a request, as for a user's.
    ///
    /// # Errors
    /// [`Hold`] when the job has become too old meanwhile, or the request cannot carry it.
    pub fn inject(&self, body: &Bytes) -> Result<Bytes, Hold> {
        let offer = |dialect: Dialect, model: Option<&str>| {
            self.snapshot.offer_to(dialect.kind, dialect.form, model, self.stale_after)
        };
        let route = route(self.dialect.kind);
        let prepared = prepare(body, route, false, self.proof_version, |_, _| self.dialect, offer)
            .map_err(|_| Hold::Unminable)?;
        match prepared.class {
            Class::Mined => Ok(prepared.body),
            Class::Plain(reason) => Err(reason.into()),
            Class::Audited => Err(Hold::ModelNotRegistered),
        }
    }
}
