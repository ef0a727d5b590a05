//! One backfill request while it runs.

use super::busy::{BusyMetrics, RequestLabels};
use crate::backfill::End;
use crate::http::usage::Usage;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Counts one backfill request from its start to its end.
#[derive(Debug)]
pub struct BackfillInFlight {
    pub(super) metrics: Arc<BusyMetrics>,
    pub(super) labels: RequestLabels,
    pub(super) started: Instant,
    pub(super) finished: bool,
}

impl BackfillInFlight {
    /// Ends the count.
    pub fn finish(mut self, end: &End) {
        let (outcome, reason, usage) = match end {
            End::Completed(usage) => ("complete", "", *usage),
            End::Failed(_) => ("failed", "", None),
            End::Held(hold) => ("held", hold.as_str(), None),
            End::Cancelled(why) => ("cancelled", why.as_str(), None),
        };
        self.close(outcome, reason, usage);
    }

    fn close(&mut self, outcome: &'static str, reason: &'static str, usage: Option<Usage>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let labels = [("outcome", outcome), ("reason", reason)];
        self.metrics.backfill_requests.get_or_create(&labels).inc();
        self.metrics.end(self.labels, outcome, self.started.elapsed(), None, usage);
        if let Some(usage) = usage {
            self.metrics.count_mined_tokens(usage.output);
            self.metrics.backfill_tokens.fetch_add(usage.output, Ordering::Relaxed);
            self.metrics.generated.inc_by(usage.output);
        }
    }
}

impl Drop for BackfillInFlight {
    fn drop(&mut self) {
        self.close("cancelled", "stopping", None);
    }
}
