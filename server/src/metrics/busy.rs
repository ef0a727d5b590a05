//! What is counted about keeping busy and keeping promises: backfill, the queue, breakers,
//! watchdogs, throughput, objectives and money. Everything is counted where it happens; what is
//! read elsewhere (states, rates, budgets) is set when somebody asks. spec: proxy §21.2, §25

use super::backfill::BackfillInFlight;
use super::proof_latency::ProofLatency;
use super::{Counters, Labels, Outcome, latency};
use crate::http::usage::Usage;
use crate::rollout::trial::Trial;
use crate::slo::{Budget, Kept as Promise, Slo, SloSettings};
use crate::throughput::{Rates, Throughput, Totals};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Float = Gauge<f64, AtomicU64>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Floats<const N: usize> = Family<Labels<N>, Float>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Seconds from 1 ms to 5 s: one token, one look of a timer.
fn short_times() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
}

fn histograms<const N: usize>(buckets: fn() -> Histogram) -> Histograms<N> {
    Histograms::new_with_constructor(buckets)
}

/// How a request is labelled in every histogram.
#[derive(Debug, Clone, Copy)]
pub struct RequestLabels {
    /// The path.
    pub route: &'static str,
    /// The model that is mined, or `other`.
    pub model: &'static str,
    /// `user` or `backfill`.
    pub class: &'static str,
    /// The engine, by its URL.
    pub engine: &'static str,
}

/// How long the engine has had something to do.
#[derive(Debug)]
struct BusyClock {
    running: usize,
    since: Instant,
    busy: Duration,
}

#[derive(Debug)]
struct Kept {
    throughput: Throughput,
    slo: Slo,
    clock: BusyClock,
}

/// Counters, gauges and histograms of this part.
#[derive(Debug)]
pub struct BusyMetrics {
    pub(super) origin: Instant,
    kept: Mutex<Kept>,
    /// Bits of an f64.
    pub(super) floor_factor: AtomicU64,
    pub(super) duration: Histograms<5>,
    pub(super) first_token: Histograms<4>,
    pub(super) output_token: Histograms<4>,
    pub(super) proof_latency: ProofLatency,
    pub(super) queue_wait: Histograms<2>,
    pub(super) refused: Counters<2>,
    pub(super) connect: Histograms<1>,
    pub(super) loop_lag: Histogram,
    pub(super) backfill_requests: Counters<2>,
    pub(super) backfill_retries: Counter,
    pub(super) token_signs: AtomicU64,
    pub(super) mined_tokens: Counter,
    pub(super) backfill_tokens: AtomicU64,
    /// Generated tokens of users and backfill, as they come.
    pub(super) generated: Counter,
    pub(super) shares: AtomicU64,
    pub(super) blocks: AtomicU64,
    pub(super) alarms: Counters<2>,
    pub(super) alarm_state: Gauges<1>,
    pub(super) backfill_floor: Gauge,
    pub(super) backfill_target: Gauge,
    pub(super) backfill_active: Gauge,
    pub(super) backfill_hold: Gauges<1>,
    pub(super) degradation: Gauge,
    pub(super) users: Gauges<1>,
    pub(super) engine_load: Gauges<2>,
    pub(super) breaker_state: Gauges<1>,
    pub(super) breaker_trips: Gauges<1>,
    pub(super) rates: Floats<1>,
    pub(super) slo_left: Floats<2>,
    pub(super) slo_burn: Floats<2>,
    pub(super) money: Floats<2>,
    pub(super) replicas: Gauge,
}

impl BusyMetrics {
    /// Everything at zero; `trial` is told of proofs.
    #[must_use]
    pub fn new(slo: SloSettings, trial: Option<Arc<Trial>>) -> Self {
        let now = Instant::now();
        let clock = BusyClock { running: 0, since: now, busy: Duration::ZERO };
        let kept = Kept { throughput: Throughput::default(), slo: Slo::new(slo), clock };
        Self {
            origin: now,
            kept: Mutex::new(kept),
            floor_factor: AtomicU64::new(1_f64.to_bits()),
            duration: histograms(latency),
            first_token: histograms(latency),
            output_token: histograms(short_times),
            proof_latency: ProofLatency::new(trial),
            queue_wait: histograms(latency),
            refused: Counters::default(),
            connect: histograms(short_times),
            loop_lag: short_times(),
            backfill_requests: Counters::default(),
            backfill_retries: Counter::default(),
            token_signs: AtomicU64::new(0),
            mined_tokens: Counter::default(),
            backfill_tokens: AtomicU64::new(0),
            generated: Counter::default(),
            shares: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
            alarms: Counters::default(),
            alarm_state: Gauges::default(),
            backfill_floor: Gauge::default(),
            backfill_target: Gauge::default(),
            backfill_active: Gauge::default(),
            backfill_hold: Gauges::default(),
            degradation: Gauge::default(),
            users: Gauges::default(),
            engine_load: Gauges::default(),
            breaker_state: Gauges::default(),
            breaker_trips: Gauges::default(),
            rates: Floats::default(),
            slo_left: Floats::default(),
            slo_burn: Floats::default(),
            money: Floats::default(),
            replicas: Gauge::default(),
        }
    }

    /// Puts everything into the registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let to = registry;
        to.register(
            "tokens_generated",
            "Generated tokens, those of running streams included: an event counts as a token until \
             the answer's usage says more",
            self.generated.clone(),
        );
        to.register(
            "mined_tokens",
            "Generated tokens of mined answers; 256 of an answer are a window",
            self.mined_tokens.clone(),
        );
        to.register("request_duration_seconds", "Time until the last byte", self.duration.clone());
        to.register("first_token_seconds", "Time until a stream begins", self.first_token.clone());
        to.register("output_token_seconds", "Time per generated token", self.output_token.clone());
        self.proof_latency.register(to);
        to.register("queue_wait_seconds", "Time spent at the door", self.queue_wait.clone());
        to.register("engine_connect_seconds", "Time to connect to an engine", self.connect.clone());
        to.register("queue_refused", "Requests that were not let in", self.refused.clone());
        to.register("event_loop_lag_seconds", "Lateness of a timer", self.loop_lag.clone());
        let requests = self.backfill_requests.clone();
        to.register("backfill_requests", "Backfill requests by their end", requests);
        let retries = self.backfill_retries.clone();
        to.register("backfill_retries", "Backfill requests sent once more", retries);
        to.register("watchdog_alarms", "Alarms of watchdogs", self.alarms.clone());
        to.register("watchdog_alarmed", "1 while a watchdog is alarmed", self.alarm_state.clone());
        to.register("backfill_floor", "Requests to keep up", self.backfill_floor.clone());
        to.register("backfill_target", "Backfill wanted now", self.backfill_target.clone());
        to.register("backfill_active", "Backfill under way", self.backfill_active.clone());
        to.register("backfill_hold", "1 for why backfill rests", self.backfill_hold.clone());
        let level = self.degradation.clone();
        to.register("degradation_level", "0 normal, 1 no backfill, 2 short queues, 3 shed", level);
        to.register("user_requests", "Users at the engine and at the door", self.users.clone());
        to.register("engine_load", "What the engine says about itself", self.engine_load.clone());
        let states = self.breaker_state.clone();
        to.register("breaker_state", "0 closed, 1 half open, 2 open", states);
        to.register("breaker_trips", "Times a breaker has opened", self.breaker_trips.clone());
        to.register("throughput", "Rates over the last minute", self.rates.clone());
        let left = self.slo_left.clone();
        to.register("slo_error_budget_left", "Share of the error budget that is left", left);
        let burn = self.slo_burn.clone();
        to.register("slo_burn_rate", "1 uses the budget up at the window's end", burn);
        to.register("economics", "Costs and revenue by the configured prices", self.money.clone());
        to.register("recommended_replicas", "Engines this load needs", self.replicas.clone());
    }

    /// The histogram of an engine's connections.
    #[must_use]
    pub fn connects(&self, engine: &'static str) -> Histogram {
        self.connect.get_or_create(&[("engine", engine)]).clone()
    }

    /// How long proofs come after their answers.
    #[must_use]
    pub const fn proof_latency(&self) -> &ProofLatency {
        &self.proof_latency
    }

    /// A user's request was let in, or sent away, after waiting.
    pub fn observe_wait(&self, class: &'static str, outcome: &'static str, waited: Duration) {
        let labels = [("client", class), ("outcome", outcome)];
        self.queue_wait.get_or_create(&labels).observe(waited.as_secs_f64());
    }

    /// A user's request was not let in.
    pub fn count_refused(&self, class: &'static str, reason: &'static str) {
        self.refused.get_or_create(&[("client", class), ("reason", reason)]).inc();
        self.lock().slo.ended(unix_seconds(), Promise::Unanswered);
    }

    /// A request goes to the engine.
    pub fn begin(&self) {
        let mut kept = self.lock();
        let clock = &mut kept.clock;
        if clock.running == 0 {
            clock.since = Instant::now();
        }
        clock.running += 1;
    }

    /// A user's stream has begun.
    pub fn stream_began(&self, labels: RequestLabels, after: Duration) {
        let RequestLabels { route, model, class, engine } = labels;
        let labels = [("route", route), ("model", model), ("class", class), ("engine", engine)];
        self.first_token.get_or_create(&labels).observe(after.as_secs_f64());
        self.lock().slo.began(unix_seconds(), after);
    }

    /// A request at the engine has ended. `generating` is the time since the stream began.
    pub fn end(
        &self,
        labels: RequestLabels,
        outcome: &'static str,
        took: Duration,
        generating: Option<Duration>,
        usage: Option<Usage>,
    ) {
        let RequestLabels { route, model, class, engine } = labels;
        let all = [
            ("route", route),
            ("model", model),
            ("class", class),
            ("outcome", outcome),
            ("engine", engine),
        ];
        self.duration.get_or_create(&all).observe(took.as_secs_f64());
        let mut kept = self.lock();
        let clock = &mut kept.clock;
        clock.running = clock.running.saturating_sub(1);
        if clock.running == 0 {
            clock.busy += clock.since.elapsed();
        }
        let Some(usage) = usage else { return };
        kept.throughput.record(self.origin.elapsed().as_secs_f64(), usage);
        drop(kept);
        // Of a stream the first token is already there when the clock starts.
        let tokens =
            if generating.is_some() { usage.output.saturating_sub(1) } else { usage.output };
        if tokens > 0 {
            #[allow(clippy::cast_precision_loss)] // tokens of one answer
            let each = generating.unwrap_or(took).as_secs_f64() / tokens as f64;
            let labels = [("route", route), ("model", model), ("class", class), ("engine", engine)];
            self.output_token.get_or_create(&labels).observe(each);
        }
    }

    /// How a user's request ended, for the objectives.
    pub fn judge(&self, outcome: Outcome) {
        let kept = match outcome {
            Outcome::Complete | Outcome::EngineRefused => Promise::Answered,
            Outcome::EngineError => Promise::Error,
            Outcome::EngineBroke => Promise::Unanswered,
            // Nobody's failure.
            Outcome::ClientGone => return,
        };
        self.lock().slo.ended(unix_seconds(), kept);
    }

    /// Generated tokens that came.
    pub fn count_generated(&self, tokens: u64) {
        self.generated.inc_by(tokens);
    }

    /// Something has come from the engine that only generated tokens explain.
    pub fn token_sign(&self) {
        self.token_signs.fetch_add(1, Ordering::Relaxed);
    }

    /// All of these so far.
    #[must_use]
    pub fn token_signs(&self) -> u64 {
        self.token_signs.load(Ordering::Relaxed)
    }

    /// Generated tokens that were mined: their windows must leave proofs.
    pub fn count_mined_tokens(&self, tokens: u64) {
        self.mined_tokens.inc_by(tokens);
    }

    /// All of them so far.
    #[must_use]
    pub fn mined_tokens(&self) -> u64 {
        self.mined_tokens.get()
    }

    /// Generated tokens of backfill so far.
    #[must_use]
    pub fn backfill_tokens(&self) -> u64 {
        self.backfill_tokens.load(Ordering::Relaxed)
    }

    /// A verdict of the sink, for the books.
    pub fn count_accepted(&self, verdict: &'static str) {
        match verdict {
            "block" => self.blocks.fetch_add(1, Ordering::Relaxed),
            "share" => self.shares.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Accepted shares and blocks.
    #[must_use]
    pub fn accepted(&self) -> (u64, u64) {
        (self.shares.load(Ordering::Relaxed), self.blocks.load(Ordering::Relaxed))
    }

    /// Starts counting one backfill request; `model` and `engine` are labels of [`super::names`].
    pub fn begin_backfill(
        self: &Arc<Self>,
        model: &'static str,
        engine: &'static str,
    ) -> BackfillInFlight {
        self.begin();
        let labels = RequestLabels { route: "backfill", model, class: "backfill", engine };
        BackfillInFlight { metrics: self.clone(), labels, started: Instant::now(), finished: false }
    }

    /// A backfill request is sent once more.
    pub fn count_retry(&self) {
        self.backfill_retries.inc();
    }

    /// A watchdog barks.
    pub fn count_alarm(&self, watchdog: &'static str, action: &'static str) {
        self.alarms.get_or_create(&[("watchdog", watchdog), ("action", action)]).inc();
    }

    /// Whether a watchdog is alarmed.
    pub fn set_alarmed(&self, watchdog: &'static str, alarmed: bool) {
        self.alarm_state.get_or_create(&[("watchdog", watchdog)]).set(i64::from(alarmed));
    }

    /// A timer of the event loop was so late.
    pub fn observe_loop_lag(&self, lag: Duration) {
        self.loop_lag.observe(lag.as_secs_f64());
    }

    /// What exhausted budgets leave of the backfill floor.
    #[must_use]
    pub fn floor_factor(&self) -> f64 {
        f64::from_bits(self.floor_factor.load(Ordering::Relaxed))
    }

    /// Computes it anew; the new factor where it changed.
    pub fn renew_floor_factor(&self) -> Option<f64> {
        let factor = self.lock().slo.floor_factor(unix_seconds());
        let old = self.floor_factor.swap(factor.to_bits(), Ordering::Relaxed);
        (old != factor.to_bits()).then_some(factor)
    }

    /// The rates of the last minute and the totals.
    #[must_use]
    pub fn throughput(&self) -> (Rates, Totals) {
        let mut kept = self.lock();
        let rates = kept.throughput.rates(self.origin.elapsed().as_secs_f64());
        (rates, kept.throughput.totals())
    }

    /// The objectives as they stand.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        self.lock().slo.budgets(unix_seconds())
    }

    /// Reads or writes the counts of the objectives.
    pub fn with_slo<T>(&self, use_it: impl FnOnce(&mut Slo) -> T) -> T {
        use_it(&mut self.lock().slo)
    }

    /// Time since the start, and of it the time the engine had something to do.
    #[must_use]
    pub fn busy_time(&self) -> (Duration, Duration) {
        let kept = self.lock();
        let running =
            if kept.clock.running > 0 { kept.clock.since.elapsed() } else { Duration::ZERO };
        (self.origin.elapsed(), kept.clock.busy + running)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Counts stay usable whatever happened to whoever held it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970; 0 on a machine whose clock is before.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
