//! The dashboard in a real browser: `tensorpow devnet` with an engine that mines on synthetic
//! logits and clients that keep it busy, and Chromium, driven by `browser.py`. `make test-ui` runs
//! it; without a browser it says so and passes.
//!
//! `TENSORPOW_UI_SHOTS` names a folder for screenshots, `TENSORPOW_UI_WARM` the seconds of work that
//! they should show, `TENSORPOW_UI_HOLD` the seconds to keep everything running for a look by hand.

// Without the usual harness clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)] // the other tests use more of it
#[path = "../proxy/miner.rs"]
mod miner;
#[allow(dead_code)] // as there
#[path = "../proxy/ports.rs"]
mod ports;

mod clients;
mod engine;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const MODEL: &str = "HuggingFaceTB/SmolLM2-135M-Instruct@5a33ba103645800d7b3790c4448546c1b73efc71";
const KEY: &str = "key-of-the-ui-test";

fn main() -> ExitCode {
    let Some(browser) = browser() else {
        println!("SKIPPED: test-ui: no Chromium (apt-get install chromium, or set CHROMIUM)");
        return ExitCode::SUCCESS;
    };
    let Some(python) = in_path("python3") else {
        println!("SKIPPED: test-ui: no python3");
        return ExitCode::SUCCESS;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "# kept by the wizard\n[http]\nmax_body = 1000000\n").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let collector = ports::free_port();
    let engine = runtime.block_on(engine::start(format!("tcp://127.0.0.1:{collector}")));
    let worker = Worker::start(&engine, collector, &config);
    println!("worker at {}/ui, key {KEY}", worker.url);
    let (name, _) = MODEL.split_once('@').unwrap();
    runtime.spawn(clients::keep_busy(worker.url.clone(), KEY, name));
    if let Some(seconds) = variable("TENSORPOW_UI_HOLD") {
        std::thread::sleep(Duration::from_secs(seconds));
        return ExitCode::SUCCESS;
    }
    std::thread::sleep(Duration::from_secs(variable("TENSORPOW_UI_WARM").unwrap_or(0)));
    let shots = std::env::var_os("TENSORPOW_UI_SHOTS").map_or(folder.path().into(), PathBuf::from);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui/browser.py");
    let status = Command::new(python)
        .arg(script)
        .args(["--browser".as_ref(), browser.as_os_str()])
        .args(["--url", &worker.url, "--key", KEY])
        .args(["--config".as_ref(), config.as_os_str()])
        .args(["--model", MODEL])
        .args(["--shots".as_ref(), shots.as_os_str()])
        .status()
        .unwrap();
    worker.stop();
    match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn browser() -> Option<PathBuf> {
    match std::env::var_os("CHROMIUM") {
        Some(path) => Some(path.into()),
        None => ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(in_path),
    }
}

/// The real program as a child.
struct Worker {
    child: Child,
    url: String,
}

impl Worker {
    fn start(engine: &str, collector: u16, config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorpow"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TENSORPOW_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["devnet", "--model", MODEL, "--engine", engine])
            .args(["--listen", "127.0.0.1:0", "--api-key", KEY])
            .args(["--collector", &format!("127.0.0.1:{collector}")])
            .args(["--vdf-ticks", "2048", "--block-bits", "0x200fffff"])
            .args(["--config".as_ref(), config.file_name().unwrap()])
            .args(["--data-dir", "data"])
            // A floor that leaves users most of the pictures.
            .env("MIN_ACTIVE_REQUESTS", "8")
            .current_dir(config.parent().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        // The log is read to its end: a worker must never wait for its reader.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("started successfully: ") {
                    let url = rest.split(',').next().unwrap_or_default().to_owned();
                    let _ = sender.send(url);
                }
                if line.contains("ERROR") || line.contains("panicked") {
                    eprintln!("worker: {line}");
                }
            }
        });
        let url = receiver.recv_timeout(Duration::from_secs(30)).expect("the worker starts");
        Self { child, url }
    }

    /// SIGTERM, and the end: an open dashboard must not hold it up.
    fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(30), "the worker does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Nothing is left running, whatever failed; one that has ended cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
