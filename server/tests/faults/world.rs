//! The three processes that get killed, and when each of them was not there.

use crate::engine;
use crate::http::{KEY, get};
use crate::ports::free_addresses;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const MODEL: &str = "org/tiny@c0ffee";
/// A node that is silent for so long has read everything.
const READING: Duration = Duration::from_secs(3);
/// What a killed process gets to come back.
const RETURN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Proxy,
    Engine,
    Node,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Proxy, Self::Engine, Self::Node];
}

/// One kill and its end.
#[derive(Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) part: Part,
    pub(crate) from: Instant,
    /// When the process had ended.
    pub(crate) dead: Instant,
    /// Before the kill, by the clock.
    pub(crate) at: SystemTime,
    /// When the proxy said it was ready again.
    pub(crate) to: Option<Instant>,
}

impl std::fmt::Debug for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let took = self.to.map(|to| to - self.from);
        write!(f, "{:?} killed {:?} ago, away for {took:?}", self.part, self.from.elapsed())
    }
}

/// Proxy, engine and node.
pub(crate) struct World {
    folder: PathBuf,
    http: String,
    collector: String,
    jobs: String,
    results: String,
    registry: String,
    engine: String,
    children: [Option<Child>; 3],
    /// Lives of the node so far: each has a chain of its own.
    lives: u8,
    pub(crate) outages: Vec<Outage>,
}

impl World {
    pub(crate) fn start(folder: &Path) -> Self {
        let [http, collector, jobs, results, registry, engine] = free_addresses();
        let mut world = Self {
            folder: folder.to_owned(),
            http,
            collector,
            jobs,
            results,
            registry,
            engine,
            children: [None, None, None],
            lives: 0,
            outages: Vec::new(),
        };
        for part in Part::ALL {
            world.launch(part);
        }
        world
    }

    /// Where users are served.
    pub(crate) fn address(&self) -> &str {
        &self.http
    }

    /// Where the spool is.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A file of the run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn launch(&mut self, part: Part) {
        let program = match part {
            Part::Engine => std::env::current_exe().unwrap(),
            Part::Proxy | Part::Node => env!("CARGO_BIN_EXE_tensorpow").into(),
        };
        let mut command = Command::new(program);
        // The environment of whoever runs the tests has no say.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let name = match part {
            Part::Proxy => {
                command.args(self.proxy_flags()).env("TENSORPOW_API_KEY", KEY);
                "proxy.log"
            }
            Part::Node => {
                self.lives = self.lives.wrapping_add(1);
                command.args(self.node_flags());
                "node.log"
            }
            Part::Engine => {
                command.env(engine::LISTEN, &self.engine);
                command.env(engine::COLLECTOR, format!("tcp://{}", self.collector));
                command.env(engine::LOG, self.file("emitted"));
                "engine.log"
            }
        };
        let log = OpenOptions::new().create(true).append(true).open(self.file(name)).unwrap();
        self.children[part as usize] = Some(command.stderr(log).spawn().unwrap());
    }

    fn proxy_flags(&self) -> Vec<String> {
        let Self { http, collector, engine, jobs, results, registry, .. } = self;
        let mut flags = split(&format!(
            "serve --node --network devnet --proof-version 2 --pin {MODEL} --listen {http} \
             --collector {collector} --engine http://{engine} --engine-kind llama.cpp \
             --jobs {jobs} --results {results} --registry http://{registry} \
             --vdf-checkpoint 64 --set backfill.min_active=3"
        ));
        flags.extend(["--data-dir".to_owned(), self.data().display().to_string()]);
        flags
    }

    fn node_flags(&self) -> Vec<String> {
        let Self { jobs, results, registry, lives, .. } = self;
        let mut flags = split(&format!(
            "devnet node --seed {lives} --model {MODEL} --block-bits 0x207fffff --interval 0.2 --proof-version 2 \
             --jobs {jobs} --results {results} --registry {registry} --tip-every 3"
        ));
        flags.extend(["--ledger".to_owned(), self.file("ledger").display().to_string()]);
        flags
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, part: Part) {
        let (from, at) = (Instant::now(), SystemTime::now());
        let mut child = self.children[part as usize].take().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "{part:?} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        self.outages.push(Outage { part, from, dead: Instant::now(), at, to: None });
    }

    /// Starts what was killed; returns when the proxy says that users are served again.
    pub(crate) async fn restart(&mut self, part: Part) {
        self.launch(part);
        if part != Part::Node {
            let (engine, http) = (self.engine.clone(), self.http.clone());
            wait_for("the engine", async || is_ok(&engine, "/health").await).await;
            wait_for("readiness", async || is_ok(&http, "/ready").await).await;
        }
        self.outages.last_mut().unwrap().to = Some(Instant::now());
    }

    /// Returns when requests are mined.
    pub(crate) async fn until_it_mines(&self) {
        let http = &self.http;
        wait_for("job, VDF proof and registry", async || {
            let Ok(status) = get(http, "/status").await else { return false };
            let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
            status["context"]["has_vdf_proof"] == true
                && status["proxy"]["model_sync"]["models_loaded"] == 1
                && status["chain"]["zmq"]["results"]["connected"] == true
        })
        .await;
    }

    /// Returns when nothing waits to be delivered and the node has read what it was sent.
    pub(crate) async fn until_delivered(&self) {
        let http = &self.http;
        wait_for("the last deliveries", async || {
            let Ok(metrics) = get(http, "/metrics").await else { return false };
            String::from_utf8(metrics.body).unwrap().contains("tensorpow_spool_open 0\n")
        })
        .await;
        let size = || std::fs::metadata(self.file("ledger")).unwrap().len();
        let mut before = 0;
        while std::mem::replace(&mut before, size()) != before {
            tokio::time::sleep(READING).await;
        }
    }

    /// The end of the engine: nothing new is mined, neither for clients nor as backfill.
    pub(crate) fn end_mining(&mut self) {
        if let Some(engine) = self.children[Part::Engine as usize].take() {
            end(engine);
        }
    }

    /// The end of all three.
    pub(crate) fn end(&mut self) {
        for child in self.children.iter_mut().filter_map(Option::take) {
            end(child);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

async fn is_ok(address: &str, path: &str) -> bool {
    get(address, path).await.is_ok_and(|answer| answer.status == 200)
}

async fn wait_for(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < RETURN, "no {what} within {RETURN:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
