//! The floor: as many requests at the engine as were asked for, users' included. A slot is filled
//! again the moment it frees; only a pool that fills from empty is spread out, so that its requests
//! do not end together for ever after. spec: proxy §14.1, §14.2

use super::engine::MiningEngine;
use super::gate::{Gate, Hold};
use super::prompt::Prompts;
use super::prompt::corpus::CorpusError;
use super::prompt::dice::Dice;
use super::request::Worker;
use super::turn::Turns;
use super::{BackfillSettings, End};
use crate::breaker::{Breaker, BreakerState};
use crate::metrics::{Metrics, names};
use crate::priority::Priority;
use crate::priority::ladder::Level;
use crate::priority::slots::{Cancel, Mines};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tensorpow_core::units::BlockHash;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

/// What the last requests get to be cancelled at the engine.
const LAST_CANCELS: Duration = Duration::from_secs(5);
/// How long to rest after a request that could not be made or was given up.
const REST: Duration = Duration::from_secs(1);

/// What `/status` and the gauges show.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackfillReport {
    /// The configured floor.
    pub floor: usize,
    /// Backfill requests wanted now.
    pub target: usize,
    /// Backfill requests under way.
    pub active: usize,
    /// Why there are none, if that has a reason.
    pub hold: Option<Hold>,
}

/// Keeps the engine busy.
#[derive(Debug)]
pub struct Backfill {
    worker: Arc<Worker>,
    priority: Arc<Priority>,
    wake: Notify,
    target: AtomicUsize,
    hold: Mutex<Option<Hold>>,
    /// 0 never seen healthy, 1 healthy, 2 healthy once and not now.
    health: AtomicUsize,
}

/// What the loop remembers between two looks.
struct Pace {
    parent: Option<BlockHash>,
    /// No request before.
    next: Instant,
    floor: usize,
}

impl Backfill {
    /// A pool that rests until [`Backfill::run`].
    ///
    /// # Errors
    /// [`CorpusError`] when the operator's prompts cannot be used.
    pub fn new(
        settings: BackfillSettings,
        engine: Arc<dyn MiningEngine>,
        gate: Gate,
        priority: Arc<Priority>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, CorpusError> {
        let prompts = Arc::new(Prompts::new(settings.prompts.clone())?);
        let breaker = Breaker::new("backfill", settings.breaker);
        let turns = Turns::new(priority.clone());
        let worker = Worker { settings, engine, gate, prompts, breaker, metrics, turns };
        Ok(Arc::new(Self {
            worker: Arc::new(worker),
            priority,
            wake: Notify::new(),
            target: AtomicUsize::new(0),
            hold: Mutex::new(None),
            health: AtomicUsize::new(0),
        }))
    }

    /// Its own breaker: its failures are never the users'.
    #[must_use]
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.worker.breaker
    }

    /// The engine it keeps busy.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn MiningEngine> {
        &self.worker.engine
    }

    /// Looks again now: the context has changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Notes whether the engine is healthy; one that has come back is used at once, whatever the
    /// breaker thought of it.
    pub fn follow_health(&self) {
        let healthy = self.worker.engine.is_healthy();
        match (healthy, self.health.load(Ordering::Relaxed)) {
            (true, 0) => self.health.store(1, Ordering::Relaxed),
            (true, 2) => {
                self.health.store(1, Ordering::Relaxed);
                self.worker.breaker.restarted();
                self.wake();
            }
            (false, 1) => self.health.store(2, Ordering::Relaxed),
            _ => {}
        }
    }

    /// The job's source has withdrawn it: its requests are cancelled.
    pub fn withdraw(&self, request_id: u32) {
        self.worker.gate.withdraw(request_id);
        self.wake();
    }

    /// The request id belongs to a new job.
    pub fn reinstate(&self, request_id: u32) {
        self.worker.gate.reinstate(request_id);
    }

    /// For `/status` and the gauges.
    #[must_use]
    pub fn report(&self) -> BackfillReport {
        BackfillReport {
            floor: self.worker.settings.floor,
            target: self.target.load(Ordering::Relaxed),
            active: self.priority.slots().active(),
            hold: *self.hold.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Keeps the floor until `stop`, then cancels what is left at the engine.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut running: JoinSet<End> = JoinSet::new();
        let mut tick =
            tokio::time::interval(self.worker.settings.monitor.max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace { parent: None, next: Instant::now(), floor: self.floor() };
        loop {
            let more = self.look(&mut pace, &mut running);
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = running.join_next() => self.ended(ended, &mut pace),
                () = self.wake.notified() => {}
                _ = tick.tick() => pace.floor = self.floor(),
                () = tokio::time::sleep_until(pace.next), if more => {}
            }
        }
        self.set_hold(Some(Hold::Stopping), 0);
        self.priority.slots().cancel_where(Cancel::Stopping, |_| true);
        let last = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CANCELS, last).await.is_err() {
            tracing::warn!("the engine did not take the last cancels of backfill");
        }
    }

    /// The configured floor after what exhausted error budgets take of it.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a floor of requests, times at most 1
    fn floor(&self) -> usize {
        let factor = self.worker.metrics.busy().floor_factor();
        (self.worker.settings.floor as f64 * factor) as usize
    }

    /// Cancels what is no longer wanted and fills what is free. True when more requests are wanted
    /// than the spawn rate allows now.
    fn look(&self, pace: &mut Pace, running: &mut JoinSet<End>) -> bool {
        let wanted = self.wanted(pace);
        self.cancel_outdated(pace, wanted.as_ref().ok().map(|(mines, _)| mines));
        let (mines, target) = match wanted {
            Ok(wanted) => wanted,
            Err(hold) => {
                self.set_hold(Some(hold), 0);
                return false;
            }
        };
        let short = self.priority.report().level > Level::Normal;
        self.set_hold(short.then_some(Hold::EngineShort), target);
        let now = Instant::now();
        let gap =
            Duration::from_secs_f64(1.0 / self.worker.settings.spawns_per_second.clamp(0.01, 1e6));
        let missing = target.saturating_sub(self.priority.slots().active());
        for left in (0..missing).rev() {
            if pace.next > now {
                return true;
            }
            // One free slot is filled at once: its neighbours end at times of their own.
            let spread = if missing > 1 { self.worker.settings.jitter } else { Duration::ZERO };
            pace.next = pace.next.max(now.checked_sub(gap).unwrap_or(now)) + gap;
            self.spawn(&mines, spread, running);
            tracing::trace!(left, "backfill request opened");
        }
        false
    }

    /// What to mine and with how many requests.
    fn wanted(&self, pace: &Pace) -> Result<(Mines, usize), Hold> {
        if self.worker.settings.floor == 0 {
            return Err(Hold::Off);
        }
        let order = self.worker.gate.order(&*self.worker.engine)?;
        if !self.worker.engine.is_healthy() {
            return Err(Hold::EngineUnhealthy);
        }
        // Its trials are left to users.
        if self.worker.engine.users() != BreakerState::Closed {
            return Err(Hold::BreakerOpen);
        }
        let at_most = match self.worker.breaker.state() {
            BreakerState::Closed => usize::MAX,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => return Err(Hold::BreakerOpen),
        };
        if pace.floor == 0 {
            return Err(Hold::BudgetExhausted);
        }
        let target = self.priority.backfill_allowance(pace.floor).min(at_most);
        Ok((order.mines, target))
    }

    /// A new tip and a pause end everything; a withdrawn job or another model ends its own.
    /// spec: proxy §14.1
    fn cancel_outdated(&self, pace: &mut Pace, wanted: Option<&Mines>) {
        let slots = self.priority.slots();
        let gate = &self.worker.gate;
        let snapshot = gate.context().load();
        let parent = snapshot.parent();
        if parent != pace.parent {
            let ended = slots.cancel_where(Cancel::NewTip, |mines| Some(mines.parent) != parent);
            if ended > 0 {
                tracing::info!("new tip: {ended} backfill requests cancelled");
            }
            pace.parent = parent;
        }
        if gate.context().pause().is_paused() || snapshot.is_switching() {
            slots.cancel_where(Cancel::Paused, |_| true);
        }
        if gate.is_drained() {
            slots.cancel_where(Cancel::Draining, |_| true);
        }
        if let Some(wanted) = wanted {
            slots.cancel_where(Cancel::OtherModel, |mines| mines.model != wanted.model);
        }
        slots.cancel_where(Cancel::JobCancelled, |mines| gate.is_withdrawn(mines.request_id));
    }

    fn spawn(&self, mines: &Mines, spread: Duration, running: &mut JoinSet<End>) {
        let (slot, mut cancelled) = self.priority.slots().open(mines.clone());
        let worker = self.worker.clone();
        let model = names::label(&mines.model);
        running.spawn(async move {
            // Without random numbers there is no spreading; the request itself will say so.
            let part = Dice::from_system().map_or(0.0, |mut dice| dice.unit());
            if !spread.is_zero() {
                tokio::select! {
                    biased;
                    told = &mut cancelled => {
                        return End::Cancelled(told.unwrap_or(Cancel::Stopping));
                    }
                    () = tokio::time::sleep(spread.mul_f64(part)) => {}
                }
            }
            let counted = worker.metrics.busy().begin_backfill(model, worker.engine.label());
            let end = worker.run(&slot, cancelled).await;
            counted.finish(&end);
            end
        });
    }

    /// A request that got nowhere is not followed by the next one at once.
    fn ended(&self, end: Result<End, JoinError>, pace: &mut Pace) {
        match end {
            Ok(End::Completed(_) | End::Cancelled(_)) => {}
            Ok(End::Held(hold)) => {
                tracing::debug!("backfill rests: {}", hold.as_str());
                pace.next = pace.next.max(Instant::now() + REST);
            }
            Ok(End::Failed(why)) => {
                tracing::warn!("backfill request given up: {why}");
                pace.next = pace.next.max(Instant::now() + REST);
            }
            Err(error) => {
                tracing::error!(%error, "a backfill task broke off");
                pace.next = pace.next.max(Instant::now() + REST);
            }
        }
    }

    fn set_hold(&self, hold: Option<Hold>, target: usize) {
        self.target.store(target, Ordering::Relaxed);
        let mut current = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != hold {
            match hold {
                Some(hold) => tracing::info!("backfill rests: {}", hold.as_str()),
                None => tracing::info!("backfill keeps {target} requests running"),
            }
            *current = hold;
        }
    }
}
