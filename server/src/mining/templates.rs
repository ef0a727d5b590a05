//! A chain's templates as a source of jobs: the newest one, and behind it the VDF proofs of its
//! parent block as the prover finishes them. A node and a broker differ in where the templates come
//! from only. spec: node §2, broker §7.4

use super::job::{Job, JobSource, JobUpdate};
use super::prover::VdfFeed;
use async_trait::async_trait;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// The shortest time between two looks for a better proof.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Jobs and VDF proofs of one chain. `Origin` is what the templates come from, if it must live as
/// long as the source does.
#[derive(Debug)]
pub struct TemplateJobs<Origin = ()> {
    name: &'static str,
    jobs: watch::Receiver<Option<Job>>,
    vdf: VdfFeed,
    look: Interval,
    _origin: Origin,
}

impl<Origin> TemplateJobs<Origin> {
    /// Joins templates and a prover. Needs a running tokio.
    #[must_use]
    pub fn new(
        name: &'static str,
        jobs: watch::Receiver<Option<Job>>,
        vdf: VdfFeed,
        origin: Origin,
    ) -> Self {
        let interval = vdf.settings().update_interval.max(SHORTEST_INTERVAL);
        let mut look = tokio::time::interval(interval);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { name, jobs, vdf, look, _origin: origin }
    }
}

#[async_trait]
impl<Origin: Debug + Send> JobSource for TemplateJobs<Origin> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn next(&mut self) -> Option<JobUpdate> {
        loop {
            tokio::select! {
                biased;
                changed = self.jobs.changed() => {
                    changed.ok()?;
                    let job = self.jobs.borrow_and_update().clone();
                    if let Some(job) = job {
                        self.vdf.follow(job.parent());
                        return Some(JobUpdate::Job(job));
                    }
                }
                _ = self.look.tick() => {
                    if let Some(state) = self.vdf.poll() {
                        return Some(JobUpdate::Vdf(state));
                    }
                }
            }
        }
    }
}
