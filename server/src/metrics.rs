//! Counters, gauges and histograms of the proxy, and their Prometheus text. Every label value comes
//! from a fixed set, so that no client can grow the registry. spec: proxy §25

pub mod backfill;
pub mod busy;
pub mod in_flight;
pub mod info;
pub mod names;
pub mod outcome;
pub mod proof_latency;
pub mod refresh;

pub use in_flight::InFlight;
pub use outcome::{Outcome, ProofDrop};

use crate::http::inject::{Class, Route};
use crate::mining::snapshot::NotMined;
use crate::rollout::trial::Trial;
use crate::slo::SloSettings;
use crate::spool::SpoolStats;
use busy::{BusyMetrics, RequestLabels};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tensorpow_core::classify::Tier;

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// Seconds from 10 ms to 300 s.
const LATENCY_BUCKETS: [f64; 15] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0];

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

/// Values that are read when somebody asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Age of the current job in seconds, -1 without a job.
    pub job_age_seconds: i64,
    /// Ticks of the current VDF proof, 0 without one.
    pub vdf_tick: i64,
    /// Proofs in the store.
    pub store_proofs: i64,
    /// Their bytes.
    pub store_bytes: i64,
    /// Size of the spool.
    pub spool: SpoolStats,
    /// 1 while the spool's disk fails.
    pub spool_degraded: i64,
    /// Deliveries that wait in memory.
    pub outbox_waiting: i64,
}

#[derive(Debug, Default)]
struct GaugeSet {
    job_age: Gauge,
    vdf_tick: Gauge,
    store_proofs: Gauge,
    store_bytes: Gauge,
    spool_entries: Gauge,
    spool_bytes: Gauge,
    spool_open: Gauge,
    spool_dead: Gauge,
    spool_commits: Gauge,
    spool_evicted: Gauge,
    spool_degraded: Gauge,
    outbox_waiting: Gauge,
    engine_up: Family<Labels<1>, Gauge>,
}

/// All metrics of one proxy.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counters<4>,
    rejected: Counters<1>,
    active: Gauge,
    tokens: Counters<3>,
    injected: Counters<1>,
    uninjected: Counters<2>,
    proofs_received: Counters<1>,
    proofs_dropped: Counters<1>,
    proofs_judged: Counters<1>,
    proofs_unstored: Counter,
    jobs: Counters<1>,
    gauges: GaugeSet,
    busy: Arc<BusyMetrics>,
    trial: Option<Arc<Trial>>,
    /// Proofs of all tiers.
    proofs: AtomicU64,
    /// Milliseconds from the start to the last proof, and one; 0 before the first.
    last_proof: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with everything at zero and the usual objectives.
    #[must_use]
    pub fn new() -> Self {
        Self::with_collectors(Vec::new(), SloSettings::default(), None)
    }

    /// The same with these objectives, beside what others count by themselves; `trial` is told how
    /// engines do.
    #[must_use]
    pub fn with_collectors(
        collectors: Vec<Box<dyn Collector>>,
        slo: SloSettings,
        trial: Option<Arc<Trial>>,
    ) -> Self {
        let mut registry = Registry::with_prefix("tensorpow");
        for collector in collectors {
            registry.register_collector(collector);
        }
        let build = Family::<Labels<1>, Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "Version of the proxy", build);
        let metrics = Self {
            requests: Counters::default(),
            rejected: Counters::default(),
            active: Gauge::default(),
            tokens: Counters::default(),
            injected: Counters::default(),
            uninjected: Counters::default(),
            proofs_received: Counters::default(),
            proofs_dropped: Counters::default(),
            proofs_judged: Counters::default(),
            proofs_unstored: Counter::default(),
            jobs: Counters::default(),
            gauges: GaugeSet::default(),
            busy: Arc::new(BusyMetrics::new(slo, trial.clone())),
            trial,
            proofs: AtomicU64::new(0),
            last_proof: AtomicU64::new(0),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        Self { registry, ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        self.busy.register(registry);
        registry.register("requests", "Forwarded generation requests", self.requests.clone());
        registry.register(
            "requests_rejected",
            "Requests answered by the proxy with an error",
            self.rejected.clone(),
        );
        registry.register("requests_active", "Generation requests in flight", self.active.clone());
        registry.register("tokens", "Tokens of complete answers", self.tokens.clone());
        registry.register(
            "inference_injected",
            "Requests that carry a pow payload",
            self.injected.clone(),
        );
        registry.register(
            "inference_uninjected",
            "Requests served without a pow payload, by reason",
            self.uninjected.clone(),
        );
        registry.register(
            "proofs_received",
            "Proofs received from engines, by tier",
            self.proofs_received.clone(),
        );
        registry.register(
            "proofs_dropped",
            "Proofs that went no further, by reason",
            self.proofs_dropped.clone(),
        );
        registry.register(
            "proofs_judged",
            "Verdicts of the sink: block, share or the reject reason",
            self.proofs_judged.clone(),
        );
        registry.register(
            "proofs_unstored",
            "Proofs that the spool did not take, kept in memory only",
            self.proofs_unstored.clone(),
        );
        registry.register("jobs", "Updates of the mining context", self.jobs.clone());
        let gauges = &self.gauges;
        registry.register(
            "job_age_seconds",
            "Age of the current job, -1 without one",
            gauges.job_age.clone(),
        );
        registry.register("vdf_tick", "Ticks of the current VDF proof", gauges.vdf_tick.clone());
        registry.register("store_proofs", "Proofs in the store", gauges.store_proofs.clone());
        registry.register(
            "store_bytes",
            "Bytes of the proofs in the store",
            gauges.store_bytes.clone(),
        );
        for (name, help, gauge) in [
            ("spool_entries", "Proofs in the spool", &gauges.spool_entries),
            ("spool_bytes", "Bytes of the proofs in the spool", &gauges.spool_bytes),
            ("spool_open", "Proofs still to be delivered", &gauges.spool_open),
            ("spool_dead", "Proofs with a dead delivery", &gauges.spool_dead),
            ("spool_commits", "Commits of the spool since the start", &gauges.spool_commits),
            ("spool_evicted", "Proofs removed by age or size", &gauges.spool_evicted),
            ("spool_degraded", "1 while the spool's disk fails", &gauges.spool_degraded),
            ("outbox_waiting", "Deliveries that wait in memory", &gauges.outbox_waiting),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "engine_up",
            "1 while the engine's health probe succeeds",
            gauges.engine_up.clone(),
        );
    }

    /// What is counted about keeping busy.
    #[must_use]
    pub const fn busy(&self) -> &Arc<BusyMetrics> {
        &self.busy
    }

    /// Starts counting one request that is forwarded without regard to mining.
    #[must_use]
    pub fn begin_pass(self: &Arc<Self>, route: &'static str, engine: &'static str) -> InFlight {
        self.busy.begin();
        let labels = RequestLabels { route, model: names::OTHER, class: "user", engine };
        InFlight::begin(self.clone(), labels, None)
    }

    /// Starts counting one generation request; `model` is the one that is mined or `other`, as a
    /// label of [`names`] like `engine`.
    #[must_use]
    pub fn begin(
        self: &Arc<Self>,
        route: Route,
        class: Class,
        model: &'static str,
        engine: &'static str,
    ) -> InFlight {
        self.active.inc();
        self.busy.begin();
        let kind = match class {
            Class::Mined => "mining",
            Class::Audited => "audit",
            Class::Plain(reason) => {
                self.count_uninjected(reason);
                "off"
            }
        };
        if !matches!(class, Class::Plain(_)) {
            self.injected.get_or_create(&[("kind", kind)]).inc();
        }
        let labels = RequestLabels { route: route.path(), model, class: "user", engine };
        InFlight::begin(self.clone(), labels, Some(kind))
    }

    fn count_uninjected(&self, reason: NotMined) {
        let labels = [("reason", reason.reason()), ("parameter", reason.parameter())];
        self.uninjected.get_or_create(&labels).inc();
    }

    /// Counts a request that the proxy answered itself with an error.
    pub fn count_rejected(&self, code: &'static str) {
        self.rejected.get_or_create(&[("code", code)]).inc();
    }

    /// Counts a proof that arrived.
    pub fn count_received(&self, tier: Tier) {
        self.proofs.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.busy.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_proof.store(now.saturating_add(1), Ordering::Relaxed);
        self.proofs_received.get_or_create(&[("tier", tier.as_str())]).inc();
    }

    /// Counts a proof that went no further.
    pub fn count_dropped(&self, reason: ProofDrop) {
        self.proofs_dropped.get_or_create(&[("reason", reason.label())]).inc();
    }

    /// Counts a proof that is in memory only.
    pub fn count_unstored(&self) {
        self.proofs_unstored.inc();
    }

    /// Counts a sink's verdict.
    pub fn count_judged(&self, verdict: &'static str) {
        self.busy.count_accepted(verdict);
        self.proofs_judged.get_or_create(&[("verdict", verdict)]).inc();
    }

    /// Counts an update of the mining context.
    pub fn count_job(&self, kind: &'static str) {
        self.jobs.get_or_create(&[("update", kind)]).inc();
    }

    /// 1 while an engine's health probe succeeds.
    pub fn set_engine_up(&self, engine: &'static str, up: bool) {
        self.gauges.engine_up.get_or_create(&[("engine", engine)]).set(i64::from(up));
    }

    /// Proofs received so far.
    #[must_use]
    pub fn proofs_received(&self) -> u64 {
        self.proofs.load(Ordering::Relaxed)
    }

    /// Time since the last proof came; none before the first.
    #[must_use]
    pub fn last_proof_age(&self) -> Option<Duration> {
        let at = self.last_proof.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.busy.origin.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    /// Requests in flight.
    #[must_use]
    pub fn active_requests(&self) -> i64 {
        self.active.get()
    }

    /// The Prometheus text with the given gauges.
    ///
    /// # Errors
    /// [`std::fmt::Error`] never in practice: it is the encoder's signature.
    pub fn render(&self, now: &Gauges) -> Result<String, std::fmt::Error> {
        self.gauges.job_age.set(now.job_age_seconds);
        self.gauges.vdf_tick.set(now.vdf_tick);
        self.gauges.store_proofs.set(now.store_proofs);
        self.gauges.store_bytes.set(now.store_bytes);
        let spool = &now.spool;
        for (gauge, value) in [
            (&self.gauges.spool_entries, spool.entries),
            (&self.gauges.spool_bytes, spool.bytes),
            (&self.gauges.spool_open, spool.open),
            (&self.gauges.spool_dead, spool.dead),
            (&self.gauges.spool_commits, spool.commits),
            (&self.gauges.spool_evicted, spool.evicted),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.gauges.spool_degraded.set(now.spool_degraded);
        self.gauges.outbox_waiting.set(now.outbox_waiting);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
