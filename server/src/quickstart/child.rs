//! The engine as a child process: started in a group of its own, its output kept for the case that
//! it fails, stopped politely and then for certain.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Lines of the engine's output that are kept.
const TAIL: usize = 60;
/// Time the engine gets to end by itself; it flushes its proofs meanwhile.
const POLITE: Duration = Duration::from_secs(5);

/// How llama-server is started.
#[derive(Debug)]
pub(super) struct EngineCommand {
    pub(super) program: PathBuf,
    pub(super) model: PathBuf,
    /// Model name it serves under.
    pub(super) alias: String,
    pub(super) port: u16,
    pub(super) threads: u32,
    /// Where it pushes its proofs, on this machine.
    pub(super) collector_port: u16,
    /// Version 3 is active on the chain: every window is to be admitted.
    pub(super) admission: bool,
}

/// The engine could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {error}")]
pub struct SpawnError {
    /// The program.
    program: PathBuf,
    /// What the system says.
    error: std::io::Error,
}

/// A running llama-server.
#[derive(Debug)]
pub(super) struct EngineProcess {
    child: Child,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// The tasks that fill `tail`.
    readers: Vec<JoinHandle<()>>,
}

impl EngineProcess {
    /// Starts it. spec: research/engines §3, node §3.2
    pub(super) fn spawn(command: &EngineCommand) -> Result<Self, SpawnError> {
        let mut process = Command::new(&command.program);
        process
            .arg("-m")
            .arg(&command.model)
            .args(["--host", "127.0.0.1", "--port", &command.port.to_string()])
            .args(["-c", "4096", "--parallel", "2", "-t", &command.threads.to_string()])
            .args(["--cache-ram", "0", "--metrics", "--alias", &command.alias])
            .env("POW_EGRESS_MODE", "broker")
            .env("ZMQ_PUSH_HOST", "127.0.0.1")
            .env("ZMQ_PUSH_PORT", command.collector_port.to_string())
            .env("POW_V3_ADMISSION_MODE", if command.admission { "always" } else { "off" })
            .env_remove("POW_PROXY_ENABLE")
            .env_remove("POW_PROOF_VERSION")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C in a terminal reaches the whole group; the engine is to be stopped by us.
        #[cfg(unix)]
        process.process_group(0);
        let mut child = process
            .spawn()
            .map_err(|error| SpawnError { program: command.program.clone(), error })?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL)));
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            readers.push(tokio::spawn(keep_tail(output, tail.clone())));
        }
        if let Some(output) = child.stderr.take() {
            readers.push(tokio::spawn(keep_tail(output, tail.clone())));
        }
        Ok(Self { child, tail, readers })
    }

    /// Waits until it ends by itself and its last words have been read.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        for reader in self.readers.drain(..) {
            // A grandchild may hold the pipe open; then what came so far has to do.
            let _ = tokio::time::timeout(POLITE, reader).await;
        }
        Ok(status)
    }

    /// The last lines it wrote.
    pub(super) fn log_tail(&self) -> String {
        let lines = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }

    /// Asks it to end, and ends it if it does not.
    pub(super) async fn stop(&mut self) {
        self.ask_to_end();
        if tokio::time::timeout(POLITE, self.child.wait()).await.is_err() {
            // It cannot refuse; an error means that it is gone already.
            let _ = self.child.kill().await;
        }
    }

    #[cfg(unix)]
    fn ask_to_end(&self) {
        use nix::sys::signal::{Signal, kill};
        use nix::unistd::Pid;
        // None once it has been waited for: its number may be somebody else's by then.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    #[cfg(not(unix))]
    fn ask_to_end(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Reads lines for as long as there are any, so that the engine never waits for its reader.
async fn keep_tail(output: impl AsyncRead + Unpin, tail: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}
