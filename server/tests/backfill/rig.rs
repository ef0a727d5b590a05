//! A proxy in front of the mock engine, on a chain that a test moves by hand.

use crate::engine::Engine;
use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_core::header::HeaderFields;
use tensorpow_core::target::{CompactTarget, Difficulty, Normalizer};
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot, Tick, VdfBlob};
use tensorpow_server::backfill::BackfillSettings;
use tensorpow_server::breaker::Breaker;
use tensorpow_server::config::{Config, DevnetArgs, ProxyArgs};
use tensorpow_server::devnet::chain::DevChain;
use tensorpow_server::http::App;
use tensorpow_server::link::Link;
use tensorpow_server::mining::job::{Job, JobSource, JobUpdate};
use tensorpow_server::mining::model::{ModelRecord, Models};
use tensorpow_server::mining::vdf::VdfState;
use tensorpow_server::service::Service;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const MODEL: &str = "org/tiny@0123456789abcdef0123456789abcdef01234567";
pub(crate) const MODEL_NAME: &str = "org/tiny";

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    proxy: ProxyArgs,
}

/// A configuration on free ports with fast backfill; the environment of whoever runs the tests has
/// no say.
fn config(engine: &Engine, kind: &str) -> Config {
    let args = Flags::parse_from([
        "x",
        "--listen",
        "127.0.0.1:0",
        "--collector",
        "127.0.0.1:0",
        "--engine",
        &engine.url,
        "--engine-key",
        "engine-key",
    ]);
    let layers = args.proxy.into_layers(&[("engine.kind", kind)], Vec::new()).unwrap();
    let mut config = Config::load(&layers).unwrap();
    config.workload.backfill = BackfillSettings {
        floor: 4,
        monitor: Duration::from_millis(50),
        poll: Duration::from_millis(20),
        backoff: Duration::from_millis(50),
        jitter: Duration::from_millis(20),
        ..BackfillSettings::default()
    };
    config
}

/// A chain whose jobs and proofs are what the test says.
struct Scripted(mpsc::UnboundedReceiver<JobUpdate>);

#[async_trait]
impl JobSource for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn next(&mut self) -> Option<JobUpdate> {
        self.0.recv().await
    }
}

pub(crate) struct Rig {
    pub(crate) engine: Arc<Engine>,
    pub(crate) app: Arc<App>,
    pub(crate) collector: String,
    address: SocketAddr,
    updates: mpsc::UnboundedSender<JobUpdate>,
    stop: oneshot::Sender<()>,
    service: JoinHandle<()>,
}

impl Rig {
    /// A proxy before an engine of this kind; nothing to mine yet.
    pub(crate) async fn start(
        engine: Arc<Engine>,
        kind: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(&engine, kind);
        change(&mut config);
        let (updates, source) = mpsc::unbounded_channel();
        let service = Service::start(config, Some(link(source))).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (app, address) = (service.app().clone(), service.address());
        let collector = service.collector().endpoint().to_owned();
        let service = service.spawn(async move {
            let _ = stopped.await;
        });
        let rig = Self { engine, app, collector, address, updates, stop, service };
        rig.wait_for("a healthy engine", |rig| {
            rig.app.engines.default().health() == tensorpow_server::http::engine::Health::Up
        })
        .await;
        rig
    }

    /// The same with something to mine.
    pub(crate) async fn mining(
        engine: Arc<Engine>,
        kind: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let rig = Self::start(engine, kind, change).await;
        rig.job(1, 1);
        rig.vdf(1, 10);
        rig
    }

    /// The breaker of users' requests.
    pub(crate) fn users(&self) -> &Arc<Breaker> {
        self.app.engines.default().breaker()
    }

    /// A template on a parent.
    pub(crate) fn job(&self, parent: u8, request_id: u32) {
        let prefix = HeaderPrefix::from_fields(&HeaderFields {
            version: 3,
            parent: BlockHash::from_bytes([parent; 32]),
            merkle_root: MerkleRoot::from_bytes([0; 32]),
            time: request_id,
            bits: CompactTarget::from_bits(0x1d00_ffff),
        });
        let job = Job { request_id, prefix, base_share_target: None, height: None };
        self.updates.send(JobUpdate::Job(job)).unwrap();
    }

    /// A VDF proof of a parent.
    pub(crate) fn vdf(&self, parent: u8, tick: u64) {
        let state = VdfState {
            challenge: BlockHash::from_bytes([parent; 32]),
            tick: Tick(tick),
            blob: VdfBlob::from_slice(&[parent; 200]).unwrap(),
        };
        self.updates.send(JobUpdate::Vdf(Arc::new(state))).unwrap();
    }

    /// The answer's head, and the time until it came.
    pub(crate) async fn post(&self, path: &str, body: &str) -> (Response<Incoming>, Duration) {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let request = Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let began = Instant::now();
        let answer = client.request(request).await.unwrap();
        (answer, began.elapsed())
    }

    /// Status, `Retry-After` and error code of a request that does not stream.
    pub(crate) async fn ask(&self) -> (u16, Option<u64>, String) {
        let (answer, _) = self.post("/v1/chat/completions", r#"{"model":"other"}"#).await;
        let (head, body) = answer.into_parts();
        let retry = head.headers.get("retry-after");
        let retry = retry.map(|value| value.to_str().unwrap().parse().unwrap());
        let body = body.collect().await.unwrap().to_bytes();
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let code = json["error"]["code"].as_str().unwrap_or_default().to_owned();
        (head.status.as_u16(), retry, code)
    }

    /// Time until a user's stream begins; reads it to its end.
    pub(crate) async fn stream(&self) -> Duration {
        let began = Instant::now();
        let body = r#"{"model":"org/tiny","messages":[],"stream":true}"#;
        let (answer, _) = self.post("/v1/chat/completions", body).await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        body.frame().await.expect("a first piece").unwrap();
        let first = began.elapsed();
        body.collect().await.unwrap();
        first
    }

    pub(crate) async fn get(&self, path: &str) -> Bytes {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let request = Request::get(format!("http://{}{path}", self.address))
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = client.request(request).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    pub(crate) async fn metrics(&self) -> String {
        String::from_utf8(self.get("/metrics").await.to_vec()).unwrap()
    }

    pub(crate) async fn status(&self) -> Value {
        serde_json::from_slice(&self.get("/status").await).unwrap()
    }

    /// Waits until `holds`, at most ten seconds.
    pub(crate) async fn wait_for(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < Duration::from_secs(10), "timed out waiting for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the proxy in order.
    pub(crate) async fn stop(self) -> Arc<Engine> {
        self.stop.send(()).unwrap();
        self.service.await.unwrap();
        self.engine
    }
}

#[derive(Debug, Parser)]
struct ChainFlags {
    #[command(flatten)]
    chain: DevnetArgs,
}

/// A link to the scripted chain, whose sink is a development chain that accepts nothing.
fn link(source: mpsc::UnboundedReceiver<JobUpdate>) -> Link {
    let record = ModelRecord {
        id: MODEL.parse().unwrap(),
        difficulty: Difficulty::new(1_000_000).unwrap(),
        cid: String::new(),
        commit_block_height: 0,
    };
    let (mut link, _): (Link, Arc<DevChain>) = {
        let flags = ChainFlags::parse_from(["x", "--model", MODEL, "--vdf-ticks", "64"]);
        Link::to_devnet(flags.chain.into_settings().unwrap())
    };
    link.models = Models::new(Some(record.id.clone()), [record]);
    link.source = Box::new(Scripted(source));
    link.proof_version = 3;
    link.normalizer = Normalizer::DEFAULT;
    link.report = None;
    link
}
