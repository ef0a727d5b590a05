//! The worker's memory: what it held at which time of which of its lives, and whether that is flat.

use crate::engine::Made;
use std::time::{Duration, Instant};

/// Between two looks.
pub(crate) const EVERY: Duration = Duration::from_millis(250);
/// What may come on top of a tenth: buffers of what is under way at that moment.
const SLACK_KB: u64 = 8 * 1024;
/// The spool's page cache, the largest of the caches with a limit.
const PAGE_CACHE_KB: u64 = 16 * 1024;
/// Windows of about 40 kB on disk fill it, and the dashboard's list of the last proofs long before.
const FILLS_CACHES: usize = 400;
/// A run that is as long fills them in each life.
const LONG: Duration = Duration::from_secs(900);

/// What the worker held at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Which of its processes it was.
    pub(crate) life: u64,
    pub(crate) kb: u64,
}

/// Resident memory of a process in kB; none when it has ended.
pub(crate) fn resident_kb(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A process begins small again, so each life is judged on its own: after the warm-up, the median of
/// its last quarter is at most a tenth and a little above the median of its first. The warm-up is a
/// tenth of the run and the windows that fill the caches; a life that ends before may fill them.
///
/// # Panics
/// When memory grows.
pub(crate) fn check(samples: &[Sample], made: &[Made], run: Duration) {
    let mut judged = 0;
    for life in samples.chunk_by(|one, other| one.life == other.life) {
        let (begin, end) = (life[0].at, life[life.len() - 1].at);
        let warm_up = begin + run / 10;
        let mut windows = made.iter().filter(|window| window.at >= begin && window.at < end);
        let full = windows.nth(FILLS_CACHES - 1).map(|window| window.at.max(warm_up));
        let warm = |from| -> Vec<u64> {
            life.iter().filter(|sample| sample.at >= from).map(|sample| sample.kb).collect()
        };
        let of_full = full.map(warm).filter(|samples| samples.len() >= 40);
        let filling = if of_full.is_some() { 0 } else { PAGE_CACHE_KB };
        let samples = of_full.unwrap_or_else(|| warm(warm_up));
        // The life between the two restarts.
        if samples.len() < 16 {
            continue;
        }
        judged += 1;
        let quarters: Vec<u64> = samples.chunks(samples.len().div_ceil(4)).map(median).collect();
        let (first, last) = (quarters[0], quarters[quarters.len() - 1]);
        let most = first + first / 10 + SLACK_KB + filling;
        println!(
            "memory of a worker of {:.0} s: {} samples after the warm-up, caches {}, medians of the \
             quarters in kB {quarters:?}, {most} at most",
            (end - begin).as_secs_f64(),
            samples.len(),
            if filling == 0 { "full" } else { "filling" },
        );
        assert!(last <= most, "memory grows: {quarters:?} kB, {most} at most");
        assert!(filling == 0 || run < LONG, "too few windows for a run of {run:?}");
    }
    assert!(judged >= 2, "a life before and one after the restart, not {judged}");
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
