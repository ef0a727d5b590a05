//! The worker under test: the whole proxy in broker mode, with its spool on disk.

use crate::broker::{Broker, MODEL};
use crate::engine::Engine;
use clap::Parser;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tensorpow_server::config::{Config, ProxyArgs};
use tensorpow_server::http::App;
use tensorpow_server::service::Service;
use tokio::task::JoinHandle;

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    proxy: ProxyArgs,
}

pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    collector: String,
    _data: tempfile::TempDir,
    _running: JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn start(engine: &Engine, broker: &Broker) -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().to_str().unwrap();
        let args = Flags::parse_from([
            "x",
            "--listen",
            "127.0.0.1:0",
            "--collector",
            "127.0.0.1:0",
            "--engine",
            &engine.url,
            "--data-dir",
            folder,
            "--pin",
            MODEL,
            "--proof-version",
            "2",
            // A cache that is full soon: what grows after that, grows without need.
            "--set",
            "proofs.max_megabytes=10",
        ]);
        let environment = [
            ("WORKER_MODE", "broker".to_owned()),
            ("BROKER_WS_URL", broker.url()),
            ("PROVIDER_JWT_TOKEN", broker.books.provider_token("soak")),
            ("WORKER_ID", "soak-worker".to_owned()),
            // One short proof of each block: no core runs hot.
            ("VDF_CHECKPOINT_SIZE", "64".to_owned()),
            ("VDF_MAX_ITERATIONS", "64".to_owned()),
        ];
        let environment =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // Windows come from users and from the broker's jobs alone.
        let command = [("engine.kind", "llama.cpp"), ("backfill.min_active", "0")];
        let layers = args.proxy.into_layers(&command, environment).unwrap();
        let config = Config::load(&layers).unwrap();
        let mut link = config.broker.clone().expect("broker mode");
        // A connection that is dead is to be noticed within the test.
        link.settings.timings.ping = Duration::from_secs(1);
        link.settings.timings.pong = Duration::from_secs(3);
        let service = Service::start(config, Some(link.open())).await.unwrap();
        let (address, app) = (service.address(), service.app().clone());
        let collector = service.collector().endpoint().to_owned();
        let running = service.spawn(std::future::pending());
        Self { address, app, collector, _data: data, _running: running }
    }

    pub(crate) fn collector(&self) -> &str {
        &self.collector
    }
}
