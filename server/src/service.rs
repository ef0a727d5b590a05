//! The proxy put together: sockets are bound, tasks started, and on shutdown the pieces stop in the
//! order in which work flows through them. spec: proxy §3

mod opening;

pub use opening::StartError;

use crate::active_model::{ActiveModel, ActiveModelSettings};
use crate::broker::inside::Proxy;
use crate::collector::Collector;
use crate::config::{Config, WorkerMode};
use crate::drain::Drain;
use crate::gpu::gauges::GpuGauges;
use crate::heartbeat::HeartbeatFile;
use crate::http::auth::Scope;
use crate::http::door::Door;
use crate::http::engines::Engines;
use crate::http::limits::Limiter;
use crate::http::listen::ConnectionLimits;
use crate::http::mcp::Mcp;
use crate::http::router::Face;
use crate::http::serving::Serving;
use crate::http::tls;
use crate::http::{App, listen};
use crate::intake::Intake;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::metrics::info::MiningInfo;
use crate::mining::follow::follow_jobs;
use crate::mining::payload::PayloadSettings;
use crate::mining::snapshot::ContextCell;
use crate::outbox::{Judged, Outbox};
use crate::registry::registrar::Registrar;
use crate::rollout::probe::EngineProbe;
use crate::rollout::rollback::Rollout;
use crate::store::ProofStore;
use crate::supervisor;
use crate::ui::{self, Ui};
use crate::watchdog::{Actions, restart};
use crate::workload::Workload;
use bytes::Bytes;
use opening::{gpu_gauges, open_records, open_spool, trial};
use prometheus_client::collector::Collector as MetricCollector;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_core::target::Normalizer;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How often expired proofs are dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// What a broker gets to take the last frames on shutdown.
const LAST_FRAMES: Duration = Duration::from_secs(8);
/// What the sink gets to take the last proofs on shutdown.
const LAST_PROOFS: Duration = Duration::from_secs(5);

/// A proxy whose sockets are bound and whose tasks run; it serves once [`Service::run`] is called.
pub struct Service {
    app: Arc<App>,
    serving: Serving,
    mcp: Option<Serving>,
    address: SocketAddr,
    collector: Collector,
    /// Held for those who watch a proxy without a sink.
    _no_judgements: broadcast::Sender<Judged>,
    judgements: broadcast::Receiver<Judged>,
    /// End by themselves once the collector is gone.
    proof_tasks: JoinSet<()>,
    /// Run for as long as the proxy does.
    tasks: JoinSet<()>,
    /// Ends when the last backfill is cancelled at the engine.
    backfill: JoinHandle<()>,
    stop_backfill: oneshot::Sender<()>,
    /// Ends when the broker has been told goodbye.
    broker: Option<JoinHandle<()>>,
    stop_broker: watch::Sender<bool>,
    /// Ends when the heartbeat file is removed.
    heartbeat: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Rings when a watchdog or the notice file ends the proxy.
    exit: Arc<Notify>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    /// Binds the sockets and starts the tasks. Without a link requests are forwarded without `pow`.
    ///
    /// # Errors
    /// [`StartError`] when an address is taken or not allowed.
    pub async fn start(config: Config, mut link: Option<Link>) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = listen::bind(config.listen).await?;
        let address = listener.local_addr().map_err(StartError::Address)?;
        let door = Door::default();
        let serving = Serving::start(listener, door.clone(), tls, config.connections)
            .map_err(StartError::Threads)?;
        let (collector, messages) = Collector::bind(config.collector)?;
        let spool = open_spool(config.spool).await?;
        let store = Arc::new(ProofStore::new(config.cache, spool.clone()));
        let settings = PayloadSettings {
            engine: config.engine.dialect.kind,
            form: config.engine.dialect.form,
            proof_version: link.as_ref().map_or(config.proof_version, |link| link.proof_version),
            normalizer: link.as_ref().map_or(Normalizer::DEFAULT, |link| link.normalizer),
            share_normalizer: config.share_normalizer,
        };
        let models = link.as_ref().map(|link| link.models.clone()).unwrap_or_default();
        let pause = link.as_ref().map(|link| link.pause.clone()).unwrap_or_default();
        let context = Arc::new(ContextCell::with_pause(models, settings, pause.clone()));
        let registrar = Arc::new(Registrar::new(context.clone()));
        let mut collectors: Vec<Box<dyn MetricCollector>> = vec![Box::new(registrar.clone())];
        let network = match link.as_ref().map(|link| link.source.name()) {
            Some(name @ "devnet") => name,
            _ => config.network.as_str(),
        };
        collectors.push(Box::new(MiningInfo::new(network, context.clone())));
        let drain = Arc::new(Drain::new(config.drain));
        collectors.push(Box::new(drain.clone()));
        let heartbeat = config.heartbeat.map(|settings| Arc::new(HeartbeatFile::new(settings)));
        if let Some(heartbeat) = &heartbeat {
            collectors.push(Box::new(heartbeat.clone()));
        }
        let gpus = if config.settings.gpu.gauges { gpu_gauges() } else { None };
        let meter = gpus.as_ref().map(GpuGauges::meter).unwrap_or_default();
        collectors.extend(gpus.map(|gauges| Box::new(gauges) as Box<dyn MetricCollector>));
        let mut active_model =
            ActiveModelSettings { has_registry: false, ..ActiveModelSettings::default() };
        if let Some(link) = &mut link {
            collectors.append(&mut link.metrics);
            active_model = link.active_model.clone();
        }
        let rollout = config.rollout;
        let records = Arc::new(open_records(rollout.file, rollout.image).await);
        let trial = trial(&config.engine, &records);
        if let Some(trial) = &trial {
            collectors.push(Box::new(trial.clone()));
        }
        let slo = config.workload.slo;
        let metrics = Arc::new(Metrics::with_collectors(collectors, slo, trial.clone()));
        let outbox = match &link {
            Some(link) => {
                let (sink, context, metrics) =
                    (link.sink.clone(), context.clone(), metrics.clone());
                Some(Arc::new(Outbox::open(sink, spool, context, metrics).await))
            }
            None => None,
        };
        let intake = Intake::new(store.clone(), context.clone(), metrics.clone(), outbox.clone())
            .pausing(pause, config.solution_cooldown);
        let (no_judgements, silence) = broadcast::channel(1);
        let judgements = outbox.as_ref().map_or(silence, |outbox| outbox.judgements());
        let engines = Arc::new(Engines::new(&config.engine, metrics.busy()));
        let probe = EngineProbe {
            mode: rollout.probe,
            limit: rollout.probe_limit,
            stale_after: config.limits.job_stale_after,
            engines: engines.clone(),
            context: context.clone(),
            store: store.clone(),
            metrics: metrics.clone(),
        };
        let active_model = ActiveModel::new(active_model, context.clone());
        let active_model =
            Arc::new(active_model.probing(Arc::new(probe)).remembering(records.clone()));
        // Where nothing is ever mined there is nothing to keep busy for, and no job to wait for.
        let inference_only = matches!(config.mode, WorkerMode::Broker { mining: false, .. });
        let mines = (link.is_some() && !inference_only).then_some(config.limits.job_stale_after);
        let restart_engine = config.workload.restart_command.clone().map(restart::by_command);
        let breakers = link.iter().flat_map(|link| &link.registry);
        let breakers = breakers.filter_map(|source| source.breaker()).collect();
        let workload = Workload::new(
            config.workload,
            engines.clone(),
            context.clone(),
            metrics.clone(),
            mines,
            breakers,
            drain.clone(),
        )?
        .metered_by(meter);
        let app = Arc::new(App {
            engines,
            workload: Arc::new(workload),
            limiter: Arc::new(Limiter::new(config.clients)),
            context,
            rollout: Rollout {
                trial: trial.clone(),
                active_model: active_model.clone(),
                records,
                command: rollout.rollback_command,
            },
            trial,
            active_model,
            registrar,
            store,
            outbox,
            metrics,
            limits: config.limits,
            network,
            source: link.as_ref().map(|link| link.source.name()),
            chain_report: link.as_ref().and_then(|link| link.report.clone()),
            collector_endpoint: collector.endpoint().to_owned(),
            ui: Ui::new(config.config_file),
            started: Instant::now(),
            drain,
        });
        let face = Face::new(app.clone(), config.access.clone(), config.cors);
        let mcp = match config.mcp {
            None => None,
            Some(_) if !config.access.has_key_for(Scope::Inference) => {
                return Err(StartError::McpWithoutKey);
            }
            Some(address) => {
                let listener = listen::bind(address).await?;
                let mcp = Mcp::new(face.clone(), &config.access);
                tracing::info!("MCP server on http://{address}/mcp");
                let few = ConnectionLimits { lanes: 0, ..config.connections };
                let serving = Serving::start(listener, mcp, None, few);
                Some(serving.map_err(StartError::Threads)?)
            }
        };
        let (stop_broker, stopping) = watch::channel(false);
        let client = link.as_mut().and_then(|link| link.broker.take());
        let broker = client.map(|client| {
            // It is set once, here.
            let _ = client.shared().context.set(app.context.clone());
            tokio::spawn(client.run(Arc::new(Proxy::new(app.clone(), face.clone())), stopping))
        });
        door.open(face);
        let exit = Arc::new(Notify::new());
        let (stop_backfill, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let reconnect = link.as_ref().and_then(|link| link.reconnect.clone());
        let actions = Actions { exit: Some(exit_action(&exit)), restart_engine, reconnect };
        let stopped = async move {
            // A service that is dropped stops it too.
            let _ = stopped.await;
        };
        let backfill = app.workload.spawn(actions, stopped, &mut tasks);
        let mut service = Self {
            app,
            serving,
            mcp,
            address,
            collector,
            _no_judgements: no_judgements,
            judgements,
            proof_tasks: JoinSet::new(),
            tasks,
            backfill,
            stop_backfill,
            broker,
            stop_broker,
            heartbeat: None,
            exit,
        };
        service.heartbeat = heartbeat.map(|file| {
            let (stop, stopped) = oneshot::channel();
            let stopped = async move {
                // A service that is dropped stops it too.
                let _ = stopped.await;
            };
            (stop, tokio::spawn(file.run(service.app.clone(), stopped)))
        });
        service.spawn_tasks(intake, messages, link);
        Ok(service)
    }

    fn spawn_tasks(&mut self, intake: Intake, messages: mpsc::Receiver<Bytes>, link: Option<Link>) {
        if let Some(outbox) = self.app.outbox.clone() {
            self.proof_tasks.spawn(outbox.run());
        }
        if let Some(link) = link {
            self.tasks.spawn(follow_jobs(self.app.clone(), link.source));
            for source in link.registry {
                self.tasks.spawn(self.app.registrar.clone().follow(source));
            }
            self.tasks.spawn(self.app.active_model.clone().run());
        }
        self.proof_tasks.spawn(intake.run(messages));
        if let Some(trial) = self.app.trial.clone() {
            self.tasks.spawn(trial.clone().watch());
            let (metrics, judgements) = (self.app.metrics.clone(), self.judgements());
            self.tasks.spawn(trial.follow(judgements, metrics));
        }
        let exit = self.exit.clone();
        self.tasks.spawn(self.app.drain.clone().watch_file(move || exit.notify_one()));
        for lane in self.serving.lanes().handles() {
            lane.spawn(self.app.workload.measure_lag());
        }
        self.tasks.spawn(supervisor::keep_alive_forever());
        self.tasks.spawn(ui::observe(self.app.clone()));
        self.tasks.spawn(ui::follow_judgements(self.app.clone(), self.judgements()));
        let app = self.app.clone();
        self.tasks.spawn(async move { app.engines.probe_forever().await });
        let app = self.app.clone();
        self.tasks.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                app.store.sweep();
            }
        });
    }

    /// Where the OpenAI API is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where engines push their proofs.
    #[must_use]
    pub const fn collector(&self) -> &Collector {
        &self.collector
    }

    /// What the handlers share.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// What the sink makes of proofs, from now on.
    #[must_use]
    pub fn judgements(&self) -> broadcast::Receiver<Judged> {
        self.judgements.resubscribe()
    }

    /// Serves until `stop` completes, then lets requests finish, takes the last proofs and ends.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tracing::info!(
            "Mining proxy application started successfully: http://{}, engine {}, {}",
            self.address,
            self.app.engines.default().url(),
            self.app.source.unwrap_or("no job source, inference only"),
        );
        supervisor::ready();
        tokio::select! {
            () = stop => {}
            () = self.exit.notified() => {}
        }
        supervisor::stopping();
        self.app.drain.stop();
        // Users' last requests get the engine to themselves.
        let _ = self.stop_backfill.send(());
        if let Some(mcp) = self.mcp {
            mcp.stop().await;
        }
        self.serving.stop().await;
        if self.backfill.await.is_err() {
            tracing::error!("backfill broke off");
        }
        self.app.workload.save().await;
        // Without the collector the intake runs dry, and after it the sink's queue.
        // Its thread may be waiting for the intake, which must not wait for it here.
        let collector = self.collector;
        let _ = tokio::task::spawn_blocking(move || drop(collector)).await;
        let last_proofs = async { while self.proof_tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_PROOFS, last_proofs).await.is_err() {
            tracing::warn!("proofs were left unforwarded: the sink did not answer");
        }
        self.stop_broker.send_replace(true);
        if let Some(broker) = self.broker
            && tokio::time::timeout(LAST_FRAMES, broker).await.is_err()
        {
            tracing::warn!("the broker was left without a goodbye");
        }
        self.tasks.shutdown().await;
        if let Some((stop, written)) = self.heartbeat {
            drop(stop);
            // Its own patience with the disk is its end.
            let _ = written.await;
        }
    }

    /// [`Service::run`] as a task of its own.
    pub fn spawn(self, stop: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(self.run(stop))
    }
}

fn exit_action(exit: &Arc<Notify>) -> Arc<dyn Fn() + Send + Sync> {
    let exit = exit.clone();
    Arc::new(move || {
        tracing::error!("a watchdog ends the proxy");
        exit.notify_one();
    })
}
