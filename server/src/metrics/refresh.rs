//! What is kept elsewhere and set when somebody asks.

use super::busy::BusyMetrics;
use super::names;
use crate::backfill::gate::Hold;
use crate::backfill::pool::BackfillReport;
use crate::breaker::Breaker;
use crate::economics::{Ledger, Source};
use crate::priority::PriorityReport;
use crate::priority::pressure::EngineLoad;
use std::sync::Arc;

/// States that are read when somebody asks.
#[derive(Debug)]
pub struct BusyGauges<'a> {
    /// Backfill.
    pub backfill: BackfillReport,
    /// Users and degradation.
    pub priority: PriorityReport,
    /// The words of the engine that mines, and its URL as a label.
    pub load: EngineLoad,
    /// The engine.
    pub engine: &'static str,
    /// All breakers.
    pub breakers: &'a [Arc<Breaker>],
    /// The books.
    pub ledger: Ledger,
    /// Engines this load needs.
    pub replicas: u32,
}

impl BusyMetrics {
    /// Sets the gauges that are read elsewhere.
    pub fn refresh(&self, now: &BusyGauges<'_>) {
        let whole = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let BackfillReport { floor, target, active, hold } = now.backfill;
        self.backfill_floor.set(whole(floor));
        self.backfill_target.set(whole(target));
        self.backfill_active.set(whole(active));
        for reason in Hold::ALL {
            let holds = i64::from(hold == Some(reason));
            self.backfill_hold.get_or_create(&[("reason", reason.as_str())]).set(holds);
        }
        self.degradation.set(now.priority.level.gauge());
        self.users.get_or_create(&[("at", "engine")]).set(whole(now.priority.at.users));
        self.users.get_or_create(&[("at", "queue")]).set(whole(now.priority.at.queued));
        let EngineLoad { running, waiting, slots, generated: _ } = now.load;
        for (what, value) in [("running", running), ("waiting", waiting), ("slots", slots)] {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                self.engine_load
                    .get_or_create(&[("requests", what), ("engine", now.engine)])
                    .set(value);
            }
        }
        for breaker in now.breakers {
            let labels = [("breaker", names::label(breaker.name()))];
            self.breaker_state.get_or_create(&labels).set(breaker.state().gauge());
            let trips = i64::try_from(breaker.trips()).unwrap_or(i64::MAX);
            self.breaker_trips.get_or_create(&labels).set(trips);
        }
        let (rates, _) = self.throughput();
        for (what, value) in [
            ("prompt_tokens_per_second", rates.prompt_tokens_per_sec),
            ("completion_tokens_per_second", rates.completion_tokens_per_sec),
            ("completions_per_minute", rates.completions_per_min),
            ("hashes_per_second", rates.hashes_per_sec),
        ] {
            self.rates.get_or_create(&[("rate", what)]).set(value);
        }
        for budget in self.budgets() {
            let labels = [("objective", budget.objective.as_str()), ("window", budget.window)];
            self.slo_left.get_or_create(&labels).set(budget.left);
            self.slo_burn.get_or_create(&labels).set(budget.burn_rate);
        }
        let source = now.ledger.energy_source;
        for (what, value) in now.ledger.rows() {
            let labels = |source: Source| [("figure", what), ("energy_source", source.as_str())];
            self.money.get_or_create(&labels(source)).set(value);
            // A figure does not stay beside the one that takes its place.
            for other in Source::OF_ENERGY.into_iter().filter(|other| *other != source) {
                self.money.remove(&labels(other));
            }
        }
        self.replicas.set(i64::from(now.replicas));
    }
}
