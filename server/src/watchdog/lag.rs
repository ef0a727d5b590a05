//! How late the event loops are: a timer on each that should ring every so often says by how much it
//! was late. Whatever blocks a thread shows here first.

use crate::metrics::busy::BusyMetrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(100);

/// The greatest lateness since somebody asked.
#[derive(Debug, Default)]
pub struct LoopLag {
    worst_micros: AtomicU64,
}

impl LoopLag {
    /// Measures for as long as the proxy runs.
    pub async fn measure_forever(self: Arc<Self>, metrics: Arc<BusyMetrics>) {
        loop {
            let began = Instant::now();
            tokio::time::sleep(EVERY).await;
            let lag = began.elapsed().saturating_sub(EVERY);
            metrics.observe_loop_lag(lag);
            let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
            self.worst_micros.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// The greatest lateness since the last call.
    pub fn take(&self) -> Duration {
        Duration::from_micros(self.worst_micros.swap(0, Ordering::Relaxed))
    }
}
