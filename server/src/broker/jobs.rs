//! A broker as a source of jobs: the newest lease's template, and behind it the VDF proofs of its
//! parent block as the prover finishes them. spec: broker §7.4

use crate::mining::job::{Job, JobSource, JobUpdate};
use crate::mining::prover::VdfFeed;
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// The shortest time between two looks for a better proof.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Jobs and VDF proofs for one broker's leases.
#[derive(Debug)]
pub struct BrokerJobs {
    jobs: watch::Receiver<Option<Job>>,
    vdf: VdfFeed,
    look: Interval,
}

impl BrokerJobs {
    /// Joins leases and a prover. Needs a running tokio.
    #[must_use]
    pub fn new(jobs: watch::Receiver<Option<Job>>, vdf: VdfFeed) -> Self {
        let interval = vdf.settings().update_interval.max(SHORTEST_INTERVAL);
        let mut look = tokio::time::interval(interval);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { jobs, vdf, look }
    }
}

#[async_trait]
impl JobSource for BrokerJobs {
    fn name(&self) -> &'static str {
        "broker"
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
