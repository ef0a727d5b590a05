//! The worker's memory: what it held at which time of which of its lives, and whether that is flat.

use std::time::{Duration, Instant};

/// Between two looks.
pub(crate) const EVERY: Duration = Duration::from_millis(250);
/// What may come on top of a tenth: buffers of what is under way at that moment.
const SLACK_KB: u64 = 8 * 1024;

/// The spool's page cache, which is not full before a few hundred windows have passed it.
const PAGE_CACHE_KB: u64 = 16 * 1024;
/// By then it is.
const FILLED: Duration = Duration::from_secs(300);

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

/// A process begins small again, so each life is judged on its own, if it is long enough to be: after
/// a warm-up of a tenth of the run, the median of its last quarter is at most a tenth and a little
/// above the median of its first. In a life of seconds a cache of a known size may fill as well.
///
/// # Panics
/// When memory grows, and when no life is long enough.
pub(crate) fn check(samples: &[Sample], run: Duration) {
    let warm_up = run / 10;
    let mut judged = 0;
    for life in samples.chunk_by(|one, other| one.life == other.life) {
        let begin = life[0].at;
        let warm: Vec<u64> =
            life.iter().filter(|it| it.at - begin >= warm_up).map(|it| it.kb).collect();
        let lasted = life[life.len() - 1].at - begin;
        if lasted < warm_up * 3 || warm.len() < 16 {
            continue;
        }
        judged += 1;
        let quarters: Vec<u64> = warm.chunks(warm.len().div_ceil(4)).map(median).collect();
        println!(
            "memory of a worker of {:.0} s, {} samples, medians of the quarters in kB: {quarters:?}",
            lasted.as_secs_f64(),
            life.len(),
        );
        let (first, last) = (quarters[0], quarters[quarters.len() - 1]);
        let filling = if lasted < FILLED { PAGE_CACHE_KB } else { 0 };
        let most = first + first / 10 + SLACK_KB + filling;
        assert!(last <= most, "memory grows: {quarters:?} kB, {most} at most");
    }
    assert!(judged >= 2, "a life before and one after the restart, not {judged}");
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
