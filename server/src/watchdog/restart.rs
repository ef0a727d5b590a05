//! Restarting an engine from here: the operator's own command, since nobody else knows how theirs is
//! run. One at a time, and not again before an engine had time to load its model.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Between two restarts: an engine that loads has no tokens either.
const REST: Duration = Duration::from_secs(300);

/// The action that runs `command` in a shell. Needs a running tokio when it is called.
#[must_use]
pub fn by_command(command: String) -> Arc<dyn Fn() + Send + Sync> {
    let last: Mutex<Option<Instant>> = Mutex::new(None);
    Arc::new(move || {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < REST) {
            return tracing::warn!("the engine was restarted a moment ago; it gets its time");
        }
        *last = Some(Instant::now());
        let command = command.clone();
        tokio::spawn(async move {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(&command).stdin(Stdio::null());
            match shell.status().await {
                Ok(status) if status.success() => tracing::info!("engine restarted: {command}"),
                Ok(status) => tracing::error!("engine not restarted: {command}: {status}"),
                Err(error) => tracing::error!("engine not restarted: {command}: {error}"),
            }
        });
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_command_runs_once_and_not_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let restart = by_command(format!("echo x >> {}", mark.display()));
        restart();
        restart();
        let began = Instant::now();
        while std::fs::read_to_string(&mark).unwrap_or_default() != "x\n" {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n");
    }
}
