//! The inference jobs of one connection: each runs beside the others and under its own name once;
//! when the connection ends they are all aborted, and with them the engine's work. spec: broker
//! §1.1, §5.1

use super::frames::Start;
use super::inference::{self, Ended};
use super::inside::Inside;
use super::outgoing::Outgoing;
use super::shared::{Shared, count};
use super::uplink::{Gone, Wire};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;

/// What a drained worker says to a new job.
const DRAINED: &str = "the worker is drained: it takes no new jobs";

/// The jobs.
#[derive(Debug, Default)]
pub struct Desk {
    active: Mutex<HashSet<String>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Desk {
    /// Jobs in progress.
    #[must_use]
    pub fn active(&self) -> usize {
        self.names().len()
    }

    /// Inserts and removals are whole, so a poisoned lock guards a usable set.
    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acknowledges a job and runs it. One that runs already is only acknowledged again; a drained
    /// worker ends a new one with an error at once, so that the broker gives it to another.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn take(
        self: &Arc<Self>,
        start: Start,
        inside: &Arc<dyn Inside>,
        shared: &Arc<Shared>,
        wire: &Wire,
    ) -> Result<(), Gone> {
        let job_id = start.job_id.clone();
        let new = self.names().insert(job_id.clone());
        if let Err(gone) = wire.send(&Outgoing::JobAck { job_id: job_id.clone() }).await {
            if new {
                self.names().remove(&job_id);
            }
            return Err(gone);
        }
        if !new {
            return Ok(());
        }
        if inside.is_drained() {
            self.names().remove(&job_id);
            count(&shared.counters.refused_jobs);
            let error = DRAINED.to_owned();
            return wire.send(&Outgoing::JobError { job_id, error }).await;
        }
        count(&shared.counters.jobs);
        let (desk, inside, shared, wire) =
            (self.clone(), inside.clone(), shared.clone(), wire.clone());
        self.spawn(async move {
            let limit = shared.settings.timings.job;
            let ended = inference::run(&*inside, &wire, start, limit).await;
            desk.names().remove(&job_id);
            if ended != Ended::Unheard {
                shared.job_ended(ended == Ended::InError);
            }
        });
        Ok(())
    }

    /// Runs something that ends with the connection.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // What has ended is forgotten.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Aborts everything. The tasks hold the desk, so dropping it would not do.
    pub fn clear(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        self.names().clear();
    }
}
