//! A prover as the feed of VDF proofs sees it, and core's, which is started on the cores it may use.

use super::prover::VdfSettings;
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::prover::{Progress, Prover, Published, Settings};

/// A prover at work on one challenge; dropping it stops it.
pub trait Proving: Send {
    /// Turns to another challenge.
    fn reset(&mut self, challenge: BlockHash);
    /// The latest proof of the current challenge.
    fn latest(&self) -> Option<Published>;
    /// What has been done so far.
    fn progress(&self) -> Progress;
}

impl Proving for Prover {
    fn reset(&mut self, challenge: BlockHash) {
        Self::reset(self, challenge);
    }

    fn latest(&self) -> Option<Published> {
        Self::latest(self)
    }

    fn progress(&self) -> Progress {
        Self::progress(self)
    }
}

/// Starts a prover. Core's by default; tests watch the calls with their own.
pub type StartProver =
    Box<dyn Fn(BlockHash, &VdfSettings) -> std::io::Result<Box<dyn Proving>> + Send>;

/// Core's prover verifies each proof itself before it shows it. spec: vdf §10.2
pub(super) fn start_core_prover(
    challenge: BlockHash,
    settings: &VdfSettings,
) -> std::io::Result<Box<dyn Proving>> {
    let core = Settings {
        chunk: settings.checkpoint.into(),
        limit: settings.max_iterations,
        threads: settings.threads,
    };
    let start = || Prover::start(challenge, core);
    let prover = if settings.cores.is_empty() { start() } else { on_cores(&settings.cores, start) };
    Ok(Box::new(prover?))
}

/// Runs `start` on a thread that is kept on some cores; the threads it starts inherit that.
#[cfg(target_os = "linux")]
fn on_cores<T: Send>(
    cores: &[usize],
    start: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    std::thread::scope(|scope| {
        let pinned = std::thread::Builder::new().name("vdf-pin".to_owned()).spawn_scoped(
            scope,
            move || {
                // 0 is the calling thread.
                sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
                start()
            },
        )?;
        pinned.join().unwrap_or_else(|_| Err(std::io::Error::other("the VDF thread panicked")))
    })
}

#[cfg(not(target_os = "linux"))]
fn on_cores<T: Send>(
    _cores: &[usize],
    start: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    tracing::warn!("the VDF prover cannot be kept on chosen cores on this system");
    start()
}
