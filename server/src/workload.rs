//! Keeping the engine busy and its users content, put together: priority, backfill, the breaker of
//! the engine, watchdogs, objectives, the books and the autoscaler's number; and the tasks that move
//! them. What they show leaves through [`Workload::status`] and [`Workload::refresh_metrics`].

use crate::autoscale::{Autoscale, AutoscaleSettings, Signals};
use crate::backfill::BackfillSettings;
use crate::backfill::engine::{HttpMiningEngine, MiningEngine};
use crate::backfill::gate::Gate;
use crate::backfill::pool::{Backfill, BackfillReport};
use crate::backfill::prompt::corpus::CorpusError;
use crate::breaker::Breaker;
use crate::drain::Drain;
use crate::economics::{Ledger, Prices, Work};
use crate::gpu::meter::Meter;
use crate::http::engines::{EngineIndex, Engines};
use crate::metrics::Metrics;
use crate::metrics::refresh::BusyGauges;
use crate::mining::payload::EngineKind;
use crate::mining::snapshot::ContextCell;
use crate::priority::pressure::EngineLoad;
use crate::priority::queue::{ClientClass, Refused};
use crate::priority::{LOOK_EVERY, Permit, Priority, PrioritySettings};
use crate::slo::SloSettings;
use crate::slo::file::write_whole;
use crate::watchdog::lag::LoopLag;
use crate::watchdog::{Actions, Observation, WatchdogSettings, Watchdogs};
use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often budgets, watchdogs and the autoscaler look.
const ROUND: Duration = Duration::from_secs(1);
/// How often the counts of the objectives are written down.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// An engine without metrics is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// One question to an engine.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// Settings of all of it.
#[derive(Debug, Clone, Default)]
pub struct WorkloadSettings {
    /// Backfill.
    pub backfill: BackfillSettings,
    /// Users first.
    pub priority: PrioritySettings,
    /// Watchdogs.
    pub watchdogs: WatchdogSettings,
    /// Objectives.
    pub slo: SloSettings,
    /// Where the counts of the objectives are kept over restarts; nowhere by default.
    pub slo_file: Option<PathBuf>,
    /// Prices.
    pub prices: Prices,
    /// The autoscaler's number.
    pub autoscale: AutoscaleSettings,
    /// Restarts the engine when a watchdog asks for it.
    pub restart_command: Option<String>,
    /// Where a lease decides and not the clock, jobs do not grow stale.
    pub leased_jobs: bool,
}

/// All of it.
#[derive(Debug)]
pub struct Workload {
    /// Users first.
    pub priority: Arc<Priority>,
    /// Backfill; `None` where nothing is ever mined.
    pub backfill: Option<Arc<Backfill>>,
    mining_engine: Arc<HttpMiningEngine>,
    metrics: Arc<Metrics>,
    context: Arc<ContextCell>,
    breakers: Vec<Arc<Breaker>>,
    prices: Prices,
    slo_file: Option<PathBuf>,
    autoscale: Mutex<Autoscale>,
    watchdogs: Mutex<Watchdogs>,
    lag: Arc<LoopLag>,
    drain: Arc<Drain>,
    meter: Meter,
}

impl Workload {
    /// Nothing runs before [`Workload::spawn`]. `mines` is the age at which a job is no longer mined;
    /// `None` where nothing is ever mined. `more_breakers` are shown beside those of the engines.
    /// Backfill rests while `drain` says so.
    ///
    /// # Errors
    /// [`CorpusError`] when the operator's prompts cannot be used.
    pub fn new(
        settings: WorkloadSettings,
        engines: Arc<Engines>,
        context: Arc<ContextCell>,
        metrics: Arc<Metrics>,
        mines: Option<Duration>,
        more_breakers: Vec<Arc<Breaker>>,
        drain: Arc<Drain>,
    ) -> Result<Self, CorpusError> {
        let priority = Priority::new(settings.priority);
        let mut breakers: Vec<_> =
            engines.iter().map(|(_, engine)| engine.breaker().clone()).collect();
        let mining_engine = Arc::new(HttpMiningEngine::new(engines, context.clone()));
        let backfill = match mines {
            Some(stale_after) => {
                let stale_after = (!settings.leased_jobs).then_some(stale_after);
                let gate = Gate::new(context.clone(), stale_after).drained_by(drain.clone());
                let engine = mining_engine.clone();
                let (settings, metrics) = (settings.backfill, metrics.clone());
                let backfill = Backfill::new(settings, engine, gate, priority.clone(), metrics)?;
                breakers.push(backfill.breaker().clone());
                Some(backfill)
            }
            None => None,
        };
        breakers.extend(more_breakers);
        if let Some(path) = &settings.slo_file {
            metrics.busy().with_slo(|slo| slo.restore(path));
        }
        Ok(Self {
            priority,
            backfill,
            mining_engine,
            metrics,
            context,
            breakers,
            prices: settings.prices,
            slo_file: settings.slo_file,
            autoscale: Mutex::new(Autoscale::new(settings.autoscale)),
            watchdogs: Mutex::new(Watchdogs::new(settings.watchdogs, Instant::now())),
            lag: Arc::default(),
            drain,
            meter: Meter::default(),
        })
    }

    /// The same on a machine whose cards are metered.
    #[must_use]
    pub fn metered_by(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// Lets a user's request for this engine in. spec: proxy §14.4
    ///
    /// # Errors
    /// [`Refused`] when there is no room in time.
    pub async fn admit(&self, class: ClientClass, engine: EngineIndex) -> Result<Permit, Refused> {
        self.priority.admit(class, engine == self.mining_engine.index()).await
    }

    /// Starts everything. Backfill ends at `stop`, cancelling what runs at the engine; await its
    /// task (the first returned value) for that. The others run for as long as the proxy does.
    pub fn spawn(
        self: &Arc<Self>,
        actions: Actions,
        stop: impl Future<Output = ()> + Send + 'static,
        tasks: &mut JoinSet<()>,
    ) -> tokio::task::JoinHandle<()> {
        tasks.spawn(self.measure_lag());
        let this = self.clone();
        tasks.spawn(async move { this.look_forever().await });
        let this = self.clone();
        tasks.spawn(async move { this.rounds_forever(actions).await });
        let this = self.clone();
        tasks.spawn(async move { this.ask_forever(&*this.mining_engine).await });
        if let Some(backfill) = self.backfill.clone() {
            let mut told = self.drain.subscribe();
            tasks.spawn(async move {
                while told.changed().await.is_ok() {
                    backfill.wake();
                }
            });
        }
        match self.backfill.clone() {
            Some(backfill) => tokio::spawn(backfill.run(stop)),
            None => tokio::spawn(async {}),
        }
    }

    async fn look_forever(&self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.priority.look(Instant::now());
            if let Some(backfill) = &self.backfill {
                backfill.follow_health();
            }
        }
    }

    async fn rounds_forever(&self, actions: Actions) {
        let mut tick = tokio::time::interval(ROUND);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            tick.tick().await;
            if let Some(factor) = self.metrics.busy().renew_floor_factor() {
                tracing::info!("error budgets leave {:.0} % of the backfill floor", factor * 100.0);
            }
            let now = Instant::now();
            // It says by itself what it decides.
            let _ = self.autoscale().look(&self.signals(), now);
            self.watch(&actions, now);
            if saved.elapsed() >= SAVE_EVERY {
                saved = Instant::now();
                self.save().await;
            }
        }
    }

    fn watch(&self, actions: &Actions, now: Instant) {
        let seen = self.observe();
        let mut watchdogs = self.watchdogs.lock().unwrap_or_else(PoisonError::into_inner);
        let alarms = watchdogs.look(seen, now);
        drop(watchdogs);
        for alarm in alarms {
            let watchdog = alarm.watched.as_str();
            self.metrics.busy().set_alarmed(watchdog, alarm.silent.is_some());
            if alarm.silent.is_some() {
                self.metrics.busy().count_alarm(watchdog, alarm.action.as_str());
            }
            actions.carry_out(&alarm);
        }
    }

    fn observe(&self) -> Observation {
        let at = self.priority.occupancy();
        let snapshot = self.context.load();
        let generated = self.priority.pressure().load().generated.unwrap_or(0);
        let (_, totals) = self.metrics.busy().throughput();
        Observation {
            running: at.users + at.backfill,
            token_signs: self
                .metrics
                .busy()
                .token_signs()
                .wrapping_add(generated)
                .wrapping_add(totals.completions),
            mining: self.backfill.is_some(),
            vdf: snapshot
                .parent()
                .map(|parent| (*parent.as_bytes(), snapshot.vdf().map_or(0, |vdf| vdf.tick.0))),
            job_age: snapshot.job_age(),
            mined_tokens: self.metrics.busy().mined_tokens(),
            proofs: self.metrics.proofs_received(),
            lag: self.lag.take(),
        }
    }

    /// Says how late the timers of the runtime are that polls it.
    pub fn measure_lag(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lag.clone().measure_forever(self.metrics.busy().clone())
    }

    /// Asks the engine how busy it is.
    async fn ask_forever(&self, engine: &dyn MiningEngine) {
        loop {
            let mut wait = ASK_AGAIN;
            if engine.is_healthy() {
                let slots = self.ask_slots(engine).await;
                let ask = engine.call(Method::GET, "/metrics", Bytes::new(), ASK_LIMIT, &|| {});
                let mut load = match ask.await {
                    Ok(reply) if reply.is_success() => {
                        EngineLoad::of_metrics(&String::from_utf8_lossy(&reply.body))
                    }
                    _ => EngineLoad::default(),
                };
                if load != EngineLoad::default() {
                    wait = ROUND;
                }
                load.slots = slots;
                self.priority.pressure().reported(load, Instant::now());
            } else {
                wait = ROUND;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// llama-server's slots, asked for until they are known.
    async fn ask_slots(&self, engine: &dyn MiningEngine) -> Option<u64> {
        if engine.dialect().kind != EngineKind::LlamaCpp {
            return None;
        }
        if let known @ Some(_) = self.priority.pressure().load().slots {
            return known;
        }
        match engine.call(Method::GET, "/props", Bytes::new(), ASK_LIMIT, &|| {}).await {
            Ok(reply) if reply.is_success() => EngineLoad::slots_of_props(&reply.body),
            _ => None,
        }
    }

    /// Writes the counts of the objectives to their file.
    pub async fn save(&self) {
        let Some(path) = self.slo_file.clone() else { return };
        let text = self.metrics.busy().with_slo(|slo| slo.to_file());
        let written = tokio::task::spawn_blocking(move || write_whole(&path, &text)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "error budgets were not written down");
        }
    }

    fn ledger(&self) -> Ledger {
        let busy = self.metrics.busy();
        let (_, totals) = busy.throughput();
        let (all, working) = busy.busy_time();
        let (shares, blocks) = busy.accepted();
        let work = Work {
            seconds: all.as_secs_f64(),
            busy_seconds: working.as_secs_f64(),
            tokens: totals.completion_tokens,
            sold_tokens: totals.completion_tokens.saturating_sub(busy.backfill_tokens()),
            windows: totals.hashes,
            shares,
            blocks,
            metered: self.meter.metered(),
        };
        Ledger::new(&self.prices, &work)
    }

    fn backfill_report(&self) -> BackfillReport {
        self.backfill.as_ref().map(|backfill| backfill.report()).unwrap_or_default()
    }

    fn replicas(&self) -> u32 {
        self.autoscale().recommended()
    }

    /// A look leaves nothing half decided, so a poisoned lock guards a usable number.
    fn autoscale(&self) -> MutexGuard<'_, Autoscale> {
        self.autoscale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the recommended number of engines is made of.
    fn signals(&self) -> Signals {
        Signals {
            report: self.priority.report(),
            floor: self.backfill_report().floor,
            gpu_busy: self.meter.metered().busy_now,
        }
    }

    /// Sets the gauges before the metrics are rendered.
    pub fn refresh_metrics(&self) {
        self.metrics.busy().refresh(&BusyGauges {
            backfill: self.backfill_report(),
            priority: self.priority.report(),
            load: self.priority.pressure().load(),
            engine: self.mining_engine.label(),
            breakers: &self.breakers,
            ledger: self.ledger(),
            replicas: self.replicas(),
        });
    }

    /// The members of `/status`: `throughput`, `totals`, the two flat rates that the broker's
    /// heartbeat reads, `priority`, `backfill`, and ours. spec: proxy §21.1, §21.2
    #[must_use]
    pub fn status(&self) -> Value {
        let (rates, totals) = self.metrics.busy().throughput();
        let priority = self.priority.report();
        let backfill = self.backfill_report();
        let breakers: serde_json::Map<String, Value> = self
            .breakers
            .iter()
            .map(|breaker| (breaker.name().to_owned(), json!(breaker.state().as_str())))
            .collect();
        let reason = self.autoscale().reason();
        let tracked = priority.at.users + priority.at.backfill;
        #[allow(clippy::cast_precision_loss)] // counts of requests
        let used = priority.capacity.map(|capacity| tracked as f64 / capacity.max(1) as f64);
        json!({
            "active_requests": tracked,
            "min_active": backfill.floor,
            "throughput": rates,
            "totals": totals,
            "input_tokens_per_sec": rates.prompt_tokens_per_sec,
            "output_tokens_per_sec": rates.completion_tokens_per_sec,
            "priority": {
                "current_external": priority.at.users,
                "current_dummy": priority.at.backfill,
                "queued": priority.at.queued,
                "total_aborted": priority.preempted,
                "capacity": priority.capacity,
                "capacity_used": used,
                "can_accept_external": priority.at.queued == 0,
                "shortage": priority.shortage.map(crate::priority::pressure::Shortage::as_str),
                "degradation": priority.level.as_str(),
            },
            "backfill": {
                "floor": backfill.floor,
                "target": backfill.target,
                "active": backfill.active,
                "resting": backfill.hold.map(crate::backfill::gate::Hold::as_str),
            },
            "breakers": breakers,
            "slo": self.metrics.busy().budgets(),
            "economics": self.ledger(),
            "recommended_replicas": self.replicas(),
            "autoscale": { "reason": reason, "gpu_busy": self.signals().gpu_busy },
        })
    }
}

#[cfg(test)]
mod tests;
