//! The worker under test: `tensorpow serve` in broker mode as a process, with its data on disk, so that
//! it can be killed and its memory is its own.

use crate::broker::{Broker, MODEL};
use crate::engine::Engine;
use crate::http::{KEY, get};
use crate::memory::{self, Sample};
use crate::ports::free_addresses;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PROGRAM: &str = "tensorpow";
/// What a worker gets to start, to stop, and to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The spool in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpoolNumbers {
    pub(crate) entries: u64,
    /// Not delivered yet.
    pub(crate) open: u64,
}

#[derive(Debug, Default)]
struct Watched {
    /// Even while there is a worker, odd before and between.
    life: AtomicU64,
    process: Mutex<Option<u32>>,
    samples: Mutex<Vec<Sample>>,
}

pub(crate) struct Worker {
    address: String,
    collector: String,
    engine: String,
    environment: Vec<(&'static str, String)>,
    /// What is run, so that a build meanwhile does not change what is started again.
    program: tempfile::TempDir,
    data: tempfile::TempDir,
    child: Mutex<Option<Child>>,
    watched: Arc<Watched>,
}

impl Worker {
    pub(crate) fn new(engine: &Engine, broker: &Broker) -> Self {
        let program = tempfile::tempdir().unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_tensorpow"), program.path().join(PROGRAM)).unwrap();
        let [address, collector] = free_addresses();
        let watched = Arc::new(Watched { life: AtomicU64::new(1), ..Watched::default() });
        let weak = Arc::downgrade(&watched);
        std::thread::spawn(move || {
            while let Some(watched) = weak.upgrade() {
                watched.look();
                drop(watched);
                std::thread::sleep(memory::EVERY);
            }
        });
        Self {
            address,
            collector,
            engine: engine.url.clone(),
            environment: vec![
                ("WORKER_MODE", "broker".to_owned()),
                ("BROKER_WS_URL", broker.url()),
                ("PROVIDER_JWT_TOKEN", broker.books.provider_token("soak")),
                ("WORKER_ID", "soak-worker".to_owned()),
                ("TENSORPOW_API_KEY", KEY.to_owned()),
                // A connection that is dead is to be noticed within the test.
                ("TENSORPOW_BROKER_PING_INTERVAL", "1".to_owned()),
                ("TENSORPOW_BROKER_PONG_TIMEOUT", "3".to_owned()),
                // One short proof of each block: no core runs hot.
                ("VDF_CHECKPOINT_SIZE", "64".to_owned()),
                ("VDF_MAX_ITERATIONS", "64".to_owned()),
            ],
            program,
            data: tempfile::tempdir().unwrap(),
            child: Mutex::new(None),
            watched,
        }
    }

    /// Where users are served.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where windows go.
    pub(crate) fn collector(&self) -> String {
        format!("tcp://{}", self.collector)
    }

    pub(crate) fn spool_folder(&self) -> PathBuf {
        self.data.path().join("spool")
    }

    /// Starts it on what is in its folder; returns when it serves users.
    pub(crate) async fn start(&self) {
        let mut command = Command::new(self.program.path().join(PROGRAM));
        // The environment of whoever runs the tests has no say.
        command.env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(filter) = std::env::var_os("TENSORPOW_LOG") {
            command.env("TENSORPOW_LOG", filter).stderr(Stdio::inherit());
        }
        command.args(["serve", "--engine-kind", "llama.cpp", "--proof-version", "2"]);
        command.args(["--listen", &self.address, "--collector", &self.collector]);
        command.args(["--engine", &self.engine, "--pin", MODEL]).arg("--data-dir");
        command.arg(self.data.path());
        // Windows come from users and from the broker's jobs alone.
        command.args(["--set", "backfill.min_active=0"]);
        // A cache that is full soon: what grows after that, grows without need.
        command.args(["--set", "proofs.max_megabytes=2"]);
        let child = command.spawn().unwrap();
        *self.watched.process.lock().unwrap() = Some(child.id());
        *self.child.lock().unwrap() = Some(child);
        let started = Instant::now();
        while !get(&self.address, "/ready").await.is_ok_and(|answer| answer.status == 200) {
            assert!(started.elapsed() < PATIENCE, "the worker does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.watched.life.fetch_add(1, Ordering::SeqCst);
    }

    fn take(&self) -> Child {
        self.watched.life.fetch_add(1, Ordering::SeqCst);
        *self.watched.process.lock().unwrap() = None;
        let mut child = self.child.lock().unwrap().take().expect("it runs");
        assert!(child.try_wait().unwrap().is_none(), "the worker has ended by itself");
        child
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        let mut child = self.take();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The signal of an orderly stop, which it follows.
    pub(crate) fn stop(&self) {
        let mut child = self.take();
        let process = Pid::from_raw(child.id().try_into().unwrap());
        kill(process, Signal::SIGTERM).unwrap();
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "the worker does not stop");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}");
    }

    /// Which life it is in.
    pub(crate) fn life(&self) -> u64 {
        self.watched.life.load(Ordering::SeqCst)
    }

    /// True while it has been there all the time since then.
    pub(crate) fn has_lived_since(&self, life: u64) -> bool {
        life.is_multiple_of(2) && self.life() == life
    }

    /// `/status`; none while there is no worker to ask.
    async fn status(&self) -> Option<Value> {
        let life = self.life();
        match get(&self.address, "/status").await {
            Ok(answer) if answer.status == 200 => serde_json::from_slice(&answer.body).ok(),
            other => {
                assert!(!self.has_lived_since(life), "no status: {other:?}");
                None
            }
        }
    }

    pub(crate) async fn spool(&self) -> SpoolNumbers {
        let status = self.status().await.expect("it runs");
        let number = |name: &str| status["proofs"]["spool"][name].as_u64().unwrap();
        SpoolNumbers { entries: number("entries"), open: number("open") }
    }

    /// What it mines for.
    pub(crate) async fn context(&self) -> Value {
        self.status().await.map(|status| status["context"].clone()).unwrap_or_default()
    }

    /// True when more proofs than these wait for the broker, and when nobody can say.
    pub(crate) async fn is_behind(&self, most: u64) -> bool {
        let waiting = |status: Value| status["proofs"]["spool"]["outbox_waiting"].as_u64();
        self.status().await.and_then(waiting).is_none_or(|waiting| waiting >= most)
    }

    /// Waits until something is so of its spool.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(SpoolNumbers) -> bool) {
        let started = Instant::now();
        loop {
            let spool = self.spool().await;
            if so(spool) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "timed out waiting until {what}: {spool:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn resident_kb(&self) -> Option<u64> {
        memory::resident_kb((*self.watched.process.lock().unwrap())?)
    }

    /// What it has held so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.watched.samples.lock().unwrap().clone()
    }
}

impl Watched {
    fn look(&self) {
        let process = *self.process.lock().unwrap();
        let Some(kb) = process.and_then(memory::resident_kb) else { return };
        let life = process.map_or(0, u64::from);
        self.samples.lock().unwrap().push(Sample { at: Instant::now(), life, kb });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
