//! `tensorpow quickstart` as a process, with this very binary as its llama-server: called the way
//! the quickstart calls an engine, it serves and mines on synthetic logits. What is shown, that
//! nothing is left running, and what is said when something fails.

// Without the usual harness clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../proxy/miner.rs"]
mod miner;

mod engine;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where the fake engine writes its process id.
pub(crate) const PID_FILE: &str = "TENSORPOW_TEST_ENGINE_PID";
/// How the fake engine behaves.
pub(crate) const BEHAVIOUR: &str = "TENSORPOW_TEST_ENGINE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if std::env::var_os(BEHAVIOUR).is_some() && arguments.get(1).is_some_and(|first| first == "-m")
    {
        return engine::run(&arguments);
    }
    let tests: [(&str, fn()); 7] = [
        ("a reply and its proof are shown and nothing is left", shows_reply_and_proof),
        ("with --broker the prompt is a job and the broker credits", works_for_a_broker),
        ("a short reply is followed by a filled window", fills_a_window),
        ("an engine that dies is reported with its log", reports_a_dead_engine),
        ("an engine that does not mine is reported", reports_an_unpatched_engine),
        ("an interrupt while loading stops the engine", stops_while_loading),
        ("with --keep it runs until it is told to stop", keeps_running),
    ];
    // Filters and flags of the usual harness: a name is a filter, flags are not for us.
    let filter = arguments.iter().skip(1).find(|argument| !argument.starts_with("--"));
    for (name, test) in tests {
        if filter.is_none_or(|filter| name.contains(filter.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

struct Run {
    child: Child,
    folder: tempfile::TempDir,
}

impl Run {
    fn start(behaviour: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.gguf");
        std::fs::write(&model, b"weights").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tensorpow"));
        command
            .arg("quickstart")
            .arg("--llama-server")
            .arg(std::env::current_exe().unwrap())
            .arg("--model")
            .arg(&model)
            .args(["--model-name", "org/tiny", "--prompt", "What is a proof?"])
            .args(["--vdf-ticks", "64"]) // few, because the code is not optimised
            .args(flags)
            .env(BEHAVIOUR, behaviour)
            .env(PID_FILE, folder.path().join("pid"))
            .env_remove("TENSORPOW_API_KEY")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), folder }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// The engine's process id, once it runs.
    fn engine(&self) -> Pid {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.pid_file()).unwrap_or_default();
            if let Ok(pid) = text.parse() {
                return Pid::from_raw(pid);
            }
            assert!(started.elapsed() < Duration::from_secs(30), "the engine was not started");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Reads standard output until a line holds `text`.
    fn read_until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut lines = BufReader::new(self.child.stdout.as_mut().unwrap());
        while !seen.contains(text) {
            assert_ne!(lines.read_line(&mut seen).unwrap(), 0, "ended before {text:?}:\n{seen}");
        }
        seen
    }

    /// Waits for the end: status, standard output, standard error. The engine must be gone.
    fn finish(mut self) -> (ExitStatus, String, String) {
        let engine = self.engine();
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = self.child.wait().unwrap();
        assert!(kill(engine, None).is_err(), "the engine {engine} is still running");
        (status, out, err)
    }
}

fn shows_reply_and_proof() {
    let (status, out, err) = Run::start("mine", &[]).finish();
    assert!(status.success(), "{out}\n{err}");
    for part in [
        "> What is a proof?",
        "It is a window.",
        "Completion chatcmpl-fake (mined)",
        "chatcmpl-fake",
        "256 of 256 steps",
        "64 squarings verified",
        "credited entropy",
        "every check passed",
        "A proof of another miner, by the same rules: Quick_OK",
        "--keep",
    ] {
        assert!(out.contains(part), "{part:?} in\n{out}");
    }
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(b"weights"));
    assert!(out.contains(&format!("org/tiny@{}", &digest[..40])), "{out}");
}

fn works_for_a_broker() {
    let (status, out, err) = Run::start("alternate", &["--broker"]).finish();
    assert!(status.success(), "{out}\n{err}");
    for part in [
        "Broker     ws://127.0.0.1:",
        "It is a window.",
        "Completion chatcmpl-fake, a job of the broker",
        "Filling a window (1 of 12 at most)",
        "  share ",
        "  solution ",
        " accepted",
        "the worker showed its proof",
        "accepted by the broker",
        "64 squarings verified",
        "every check passed",
    ] {
        assert!(out.contains(part), "{part:?} in:\n{out}\n{err}");
    }
    assert!(!out.contains("Filling a window (2 of"), "{out}");
}

fn fills_a_window() {
    let (status, out, err) = Run::start("short", &[]).finish();
    assert!(status.success(), "{out}\n{err}");
    assert!(
        out.contains("a window needs 256: filling one") && out.contains("every check passed"),
        "{out}"
    );
}

fn reports_a_dead_engine() {
    let (status, _, err) = Run::start("die", &[]).finish();
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("cannot load the model: out of luck"), "the log's tail: {err}");
    assert!(err.contains("the engine ended with exit status: 3"), "{err}");
}

fn reports_an_unpatched_engine() {
    let (status, _, err) = Run::start("stock", &["--patience", "3"]).finish();
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("is the llama-server patched?"), "{err}");
}

fn stops_while_loading() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let run = Run::start("load for ever", &[]);
        run.engine();
        run.signal(signal);
        let (status, _, err) = run.finish();
        assert_eq!(status.code(), Some(1), "{err}");
        assert!(err.contains("interrupted"), "{err}");
    }
}

fn keeps_running() {
    let mut run = Run::start("mine", &["--keep"]);
    run.read_until("Ctrl-C stops it.");
    std::thread::sleep(Duration::from_millis(300));
    assert!(run.child.try_wait().unwrap().is_none(), "it keeps running");
    run.signal(Signal::SIGTERM);
    let (status, out, err) = run.finish();
    assert!(status.success(), "{out}\n{err}");
}
