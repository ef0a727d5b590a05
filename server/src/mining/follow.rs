//! From a job source into the mining context, for as long as the source has anything to say.

use crate::http::App;
use crate::mining::job::{JobSource, JobUpdate};
use crate::mining::snapshot::Applied;
use std::sync::Arc;

/// Applies a source's updates to the mining context until it closes.
pub(crate) async fn follow_jobs(app: Arc<App>, mut source: Box<dyn JobSource>) {
    while let Some(update) = source.next().await {
        log_update(&app, &update);
        let applied = app.context.apply(update);
        app.metrics.count_job(match applied {
            Applied::NewParent => "new_parent",
            Applied::SameParent => "same_parent",
            Applied::Vdf => "vdf",
            Applied::Dropped => "dropped",
        });
        if let Some(backfill) = &app.workload.backfill {
            backfill.wake();
        }
    }
    tracing::warn!(
        source = source.name(),
        "the job source has closed; requests are served unmined"
    );
}

/// The lines that operators look for. spec: proxy §21.3
fn log_update(app: &App, update: &JobUpdate) {
    let JobUpdate::Job(job) = update else { return };
    tracing::info!(
        "Received mining job: request_id={}, block={:x}, header_prefix={:x}, bits={}",
        job.request_id,
        job.parent(),
        job.prefix,
        job.bits(),
    );
    match app.context.load().parent() {
        Some(old) if old != job.parent() => {
            tracing::info!("Block hash changed: {old:x} -> {:x}", job.parent());
        }
        _ => {}
    }
}
