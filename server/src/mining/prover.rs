//! The VDF prover behind a chain's jobs: it follows the parent block of the newest job and hands
//! out ever longer proofs of it, each once. A pause withholds proofs and stops no work, so ticks
//! never fall back within a block. spec: proxy §17, vdf §10.3

use super::pause::Pause;
use super::vdf::VdfState;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tensorpow_core::units::{BlockHash, Tick, VdfBlob};
use tensorpow_core::vdf::DISCRIMINANT_BITS;
use tensorpow_core::vdf::prover::{Progress, Prover, Published, Settings};

/// Blocks whose best proof is remembered, for a tip that comes back.
const REMEMBERED: usize = 8;
/// Between two attempts to start a prover that does not start.
const START_AGAIN: Duration = Duration::from_secs(5);

/// How a chain's VDF is proved. spec: proxy §20.1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VdfSettings {
    /// `VDF_CHECKPOINT_SIZE`: proofs are made for multiples of this many squarings.
    pub checkpoint: u32,
    /// `VDF_MAX_ITERS`: squarings after which a block's work ends. Samplers take the tick as a u32.
    pub max_iterations: u32,
    /// `VDF_UPDATE_INTERVAL`: how often a better proof is looked for.
    pub update_interval: Duration,
    /// Threads that construct proofs, beside the one that squares without pause.
    pub threads: u32,
    /// Cores the prover is kept on; empty leaves them to the system. Linux only.
    pub cores: Vec<usize>,
}

impl Default for VdfSettings {
    fn default() -> Self {
        Self {
            checkpoint: 32_768,
            max_iterations: 3_000_000_000,
            update_interval: Duration::from_millis(100),
            threads: 1,
            cores: Vec::new(),
        }
    }
}

/// `VDF_DISCRIMINANT_SIZE` is not the network's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a VDF discriminant of {found} bits makes proofs no node takes; every chain uses {DISCRIMINANT_BITS}"
)]
pub struct DiscriminantSizeError {
    found: u32,
}

impl VdfSettings {
    /// Takes `VDF_DISCRIMINANT_SIZE` only to say no to another size than consensus has.
    /// spec: vdf §1, §9
    ///
    /// # Errors
    /// [`DiscriminantSizeError`] for any size but 1024.
    pub const fn check_discriminant(bits: u32) -> Result<(), DiscriminantSizeError> {
        if bits == DISCRIMINANT_BITS { Ok(()) } else { Err(DiscriminantSizeError { found: bits }) }
    }
}

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

/// What the prover does, for gauges and `/status`.
#[derive(Debug, Default)]
pub struct VdfCounters {
    running: AtomicU64,
    ticks: AtomicU64,
    proofs: AtomicU64,
    faults: AtomicU64,
}

impl VdfCounters {
    /// True while a prover runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) != 0
    }

    /// Squarings for the current block, proofs of all blocks, proofs that failed their own check.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            ticks: read(&self.ticks),
            proofs: read(&self.proofs),
            faults: read(&self.faults),
        }
    }

    fn note(&self, progress: Option<Progress>) {
        self.running.store(progress.is_some().into(), Ordering::Relaxed);
        let Progress { ticks, proofs, faults } =
            progress.unwrap_or(Progress { ticks: 0, ..self.progress() });
        self.ticks.store(ticks, Ordering::Relaxed);
        self.proofs.store(proofs, Ordering::Relaxed);
        self.faults.store(faults, Ordering::Relaxed);
    }
}

/// Proofs for whatever block is being mined on.
pub struct VdfFeed {
    settings: VdfSettings,
    start: StartProver,
    prover: Option<Box<dyn Proving>>,
    /// A prover that did not start is not tried again before this.
    not_before: Option<Instant>,
    challenge: Option<BlockHash>,
    /// The best proof of each of the last blocks, the newest block at the back.
    best: VecDeque<Arc<VdfState>>,
    handed_out: Option<(BlockHash, Tick)>,
    pause: Arc<Pause>,
    counters: Arc<VdfCounters>,
}

impl std::fmt::Debug for VdfFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VdfFeed").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

impl VdfFeed {
    /// Core's prover. Nothing runs before the first block.
    #[must_use]
    pub fn new(settings: VdfSettings, pause: Arc<Pause>) -> Self {
        Self::with_prover(settings, pause, Box::new(start_core_prover))
    }

    /// Any prover.
    #[must_use]
    pub fn with_prover(settings: VdfSettings, pause: Arc<Pause>, start: StartProver) -> Self {
        Self {
            settings,
            start,
            prover: None,
            not_before: None,
            challenge: None,
            best: VecDeque::new(),
            handed_out: None,
            pause,
            counters: Arc::default(),
        }
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &VdfSettings {
        &self.settings
    }

    /// What the prover does.
    #[must_use]
    pub const fn counters(&self) -> &Arc<VdfCounters> {
        &self.counters
    }

    /// Turns to the parent block of the newest job. The same block again changes nothing; a parent
    /// of zeros, as before any block, stops all work. spec: proxy §17
    pub fn follow(&mut self, parent: BlockHash) {
        if self.challenge == Some(parent) {
            return;
        }
        if parent.as_bytes().iter().all(|byte| *byte == 0) {
            self.challenge = None;
            self.prover = None;
            self.counters.note(None);
            return;
        }
        self.challenge = Some(parent);
        match &mut self.prover {
            Some(prover) => {
                tracing::info!("Resetting VDF prover for block {parent:x}");
                prover.reset(parent);
            }
            None => self.start_prover(parent),
        }
    }

    fn start_prover(&mut self, challenge: BlockHash) {
        match (self.start)(challenge, &self.settings) {
            Ok(prover) => {
                tracing::info!(
                    "VDF prover created with discriminant_size={DISCRIMINANT_BITS}, checkpoint_size={}",
                    self.settings.checkpoint
                );
                self.prover = Some(prover);
            }
            Err(error) => {
                tracing::error!(%error, "the VDF prover does not start; tried again");
                self.not_before = Instant::now().checked_add(START_AGAIN);
            }
        }
    }

    /// A proof of the current block that was not handed out before and is longer than any that was.
    /// None during a pause. spec: proxy §2
    pub fn poll(&mut self) -> Option<Arc<VdfState>> {
        let challenge = self.challenge?;
        if self.prover.is_none() && self.not_before.is_none_or(|at| Instant::now() >= at) {
            self.start_prover(challenge);
        }
        let prover = self.prover.as_deref();
        self.counters.note(prover.map(Proving::progress));
        let latest = prover.and_then(Proving::latest);
        if let Some(latest) = latest.filter(|latest| latest.challenge == challenge) {
            self.remember(&latest);
        }
        if self.pause.is_paused() {
            return None;
        }
        let best = self.best.iter().find(|state| state.challenge == challenge)?;
        let handed_out = Some((best.challenge, best.tick));
        if self.handed_out == handed_out {
            return None;
        }
        self.handed_out = handed_out;
        Some(best.clone())
    }

    /// Keeps the longer proof.
    fn remember(&mut self, latest: &Published) {
        let known = self.best.iter().position(|state| state.challenge == latest.challenge);
        let known_tick = known.and_then(|at| self.best.get(at)).map_or(0, |state| state.tick.0);
        let Ok(blob) = VdfBlob::from_slice(&latest.blob) else { return };
        if latest.tick <= known_tick {
            return;
        }
        if let Some(at) = known {
            self.best.remove(at);
        } else if self.best.len() >= REMEMBERED {
            self.best.pop_front();
        }
        let (challenge, tick) = (latest.challenge, Tick(latest.tick));
        self.best.push_back(Arc::new(VdfState { challenge, tick, blob }));
    }
}

impl Drop for VdfFeed {
    fn drop(&mut self) {
        self.prover = None;
        self.counters.note(None);
    }
}

/// Core's prover verifies each proof itself before it shows it. spec: vdf §10.2
fn start_core_prover(
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

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::vdf::verify;

    fn feed(settings: VdfSettings) -> VdfFeed {
        VdfFeed::new(settings, Arc::default())
    }

    fn short() -> VdfSettings {
        VdfSettings { checkpoint: 50, max_iterations: 200, ..VdfSettings::default() }
    }

    fn next(feed: &mut VdfFeed) -> Arc<VdfState> {
        let started = Instant::now();
        loop {
            if let Some(state) = feed.poll() {
                return state;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "no proof");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn until(feed: &mut VdfFeed, tick: u64) -> Arc<VdfState> {
        loop {
            let state = next(feed);
            if state.tick.0 >= tick {
                return state;
            }
        }
    }

    #[test]
    fn proofs_belong_to_the_block_that_is_followed_and_only_grow() {
        let mut feed = feed(short());
        assert_eq!(feed.poll(), None, "no block yet");
        let (a, b) = (BlockHash::from_bytes([1; 32]), BlockHash::from_bytes([2; 32]));
        feed.follow(a);
        let mut last = 0;
        while last < 200 {
            let state = next(&mut feed);
            assert_eq!(state.challenge, a);
            assert!(state.tick.0 > last && state.tick.0 % 50 == 0, "{:?}", state.tick);
            assert_eq!(verify(&a, state.tick.0, state.blob.as_bytes()), Ok(()));
            last = state.tick.0;
        }
        assert_eq!(feed.poll(), None, "each proof once");
        feed.follow(b);
        assert_eq!(next(&mut feed).challenge, b);
        feed.follow(a);
        let back = next(&mut feed);
        assert_eq!((back.challenge, back.tick), (a, Tick(200)), "a tip that comes back");
        assert_eq!(feed.counters().progress().faults, 0);
        assert!(feed.counters().is_running());
    }

    #[test]
    fn a_pause_withholds_proofs_and_stops_no_work() {
        let pause = Arc::new(Pause::default());
        let mut feed = VdfFeed::new(short(), pause.clone());
        feed.follow(BlockHash::from_bytes([5; 32]));
        pause.extend(Duration::from_secs(2));
        let started = Instant::now();
        while feed.counters().progress().ticks < 200 {
            assert!(pause.is_paused() && started.elapsed() < Duration::from_secs(2), "too slow");
            assert_eq!(feed.poll(), None);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(until(&mut feed, 200).tick, Tick(200), "nothing was lost");
    }

    #[test]
    fn a_parent_of_zeros_stops_the_prover_and_dropping_it_is_prompt() {
        let endless = VdfSettings { checkpoint: 50, ..VdfSettings::default() };
        let mut feed = feed(endless);
        feed.follow(BlockHash::from_bytes([9; 32]));
        next(&mut feed);
        feed.follow(BlockHash::from_bytes([0; 32]));
        assert!(!feed.counters().is_running());
        assert_eq!(feed.poll(), None);
        feed.follow(BlockHash::from_bytes([9; 32]));
        next(&mut feed);
        let started = Instant::now();
        drop(feed);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_prover_can_be_kept_on_a_core() {
        let mut feed = feed(VdfSettings { cores: vec![0], ..short() });
        feed.follow(BlockHash::from_bytes([3; 32]));
        until(&mut feed, 200);
        let mut nowhere = self::feed(VdfSettings { cores: vec![1_000_000], ..short() });
        nowhere.follow(BlockHash::from_bytes([3; 32]));
        assert_eq!(nowhere.poll(), None, "a core that is not there is reported, not ignored");
    }

    #[test]
    fn another_discriminant_size_is_refused() {
        assert_eq!(VdfSettings::check_discriminant(1024), Ok(()));
        let error = VdfSettings::check_discriminant(512).unwrap_err().to_string();
        assert!(error.contains("512") && error.contains("1024"), "{error}");
    }
}
