//! A proxy under test with its engine, and the ways to talk to it.

use crate::engine::{MockEngine, Script};
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
use tensorpow_server::config::{Config, ConfigError, DevnetArgs, ProxyArgs};
use tensorpow_server::devnet::chain::{ChainSettings, DevChain};
use tensorpow_server::http::App;
use tensorpow_server::link::Link;
use tensorpow_server::outbox::Judged;
use tensorpow_server::service::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, oneshot};

pub(crate) const MODEL: &str = "org/tiny@0123456789abcdef0123456789abcdef01234567";
pub(crate) const MODEL_NAME: &str = "org/tiny";
/// Squarings behind the VDF proofs of tests: few, because the code is not optimised.
pub(crate) const VDF_TICKS: u32 = 64;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    proxy: ProxyArgs,
}

#[derive(Debug, Parser)]
struct ChainFlags {
    #[command(flatten)]
    chain: DevnetArgs,
}

/// A configuration on free ports, of these flags alone: the environment of whoever runs the tests
/// has no say.
pub(crate) fn config(engine: &str, flags: &[&str]) -> Config {
    try_config(engine, flags, &[]).unwrap()
}

/// The same with an environment.
pub(crate) fn try_config(
    engine: &str,
    flags: &[&str],
    environment: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    let fixed = ["x", "--listen", "127.0.0.1:0", "--engine", engine];
    let given = |flag| flags.contains(&flag);
    let collector: &[&str] =
        if given("--collector") { &[] } else { &["--collector", "127.0.0.1:0"] };
    let spool: &[&str] = if given("--data-dir") { &[] } else { &["--spool=false"] };
    let args = Flags::parse_from(fixed.iter().chain(collector).chain(spool).chain(flags)).proxy;
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = environment.iter().map(owned).collect();
    // Backfill has tests of its own; here it would only be in the way.
    let command = [("engine.kind", "llama.cpp"), ("backfill.min_active", "0")];
    Config::load(&args.into_layers(&command, environment)?)
}

pub(crate) fn chain_settings(flags: &[&str]) -> ChainSettings {
    let ticks = VDF_TICKS.to_string();
    let fixed = ["x", "--model", MODEL, "--seed", "7", "--vdf-ticks", &ticks];
    let version =
        if flags.contains(&"--proof-version") { &[][..] } else { &["--proof-version", "2"] };
    ChainFlags::parse_from(fixed.iter().chain(flags).chain(version)).chain.into_settings().unwrap()
}

/// A running proxy.
pub(crate) struct Worker {
    pub(crate) engine: MockEngine,
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) collector: String,
    pub(crate) chain: Option<Arc<DevChain>>,
    pub(crate) judgements: broadcast::Receiver<Judged>,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// A proxy without a chain.
    pub(crate) async fn plain(script: Script, flags: &[&str]) -> Self {
        let engine = MockEngine::start(script).await;
        let config = config(&engine.url(), flags);
        Self::start(engine, config, None).await
    }

    /// A proxy on a development chain, once it can mine.
    pub(crate) async fn devnet(script: Script, flags: &[&str], chain: &[&str]) -> Self {
        let engine = MockEngine::start(script).await;
        let config = config(&engine.url(), flags);
        let worker = Self::start(engine, config, Some(chain_settings(chain))).await;
        wait_for("a job and its VDF proof", || worker.app.context.load().vdf().is_some()).await;
        worker
    }

    pub(crate) async fn start(
        engine: MockEngine,
        config: Config,
        chain: Option<ChainSettings>,
    ) -> Self {
        let (link, chain) = match chain {
            Some(settings) => {
                let (link, chain) = Link::to_devnet(settings);
                (Some(link), Some(chain))
            }
            None => (None, None),
        };
        Self::start_linked(engine, config, link, chain).await
    }

    /// A proxy on any link.
    pub(crate) async fn start_linked(
        engine: MockEngine,
        config: Config,
        link: Option<Link>,
        chain: Option<Arc<DevChain>>,
    ) -> Self {
        let service = Service::start(config, link).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (address, app) = (service.address(), service.app().clone());
        let collector = service.collector().endpoint().to_owned();
        let judgements = service.judgements();
        let running = service.spawn(async move {
            let _ = stopped.await;
        });
        Self { engine, address, app, collector, chain, judgements, stop, running }
    }

    /// Stops the proxy and waits until everything it holds is free again.
    pub(crate) async fn stop(self) {
        let Self { stop, running, app, .. } = self;
        drop(stop);
        running.await.unwrap();
        drop(app);
    }

    /// Waits until the proxy has ended by itself.
    pub(crate) async fn ended(self) {
        let Self { stop, running, .. } = self;
        tokio::time::timeout(Duration::from_secs(30), running).await.expect("an end").unwrap();
        drop(stop);
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// A JSON POST.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// The answer's headers; its body is up to the caller.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        client.request(request.body(body).unwrap()).await.unwrap()
    }

    /// Sends raw bytes and reads until the proxy closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The proxy may have heard enough before the end.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        // A connection that is cut may end in a reset; what came before it counts.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The Prometheus text.
    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.text()
    }

    /// The next judgement.
    pub(crate) async fn judged(&mut self) -> Judged {
        tokio::time::timeout(Duration::from_secs(30), self.judgements.recv())
            .await
            .expect("a judgement in time")
            .unwrap()
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON answer")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Code of an error answer.
    pub(crate) fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// A raw JSON POST on a connection of its own.
pub(crate) fn raw_post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Waits until `holds`, at most ten seconds.
pub(crate) async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
