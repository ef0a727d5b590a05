//! A node as a source of jobs: the newest template of the feed, and behind it the VDF proofs of its
//! parent block as the prover finishes them.

use super::feed::JobFeed;
use crate::mining::job::{Job, JobSource, JobUpdate};
use crate::mining::prover::VdfFeed;
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// The shortest time between two looks for a better proof.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Jobs and VDF proofs of one node.
#[derive(Debug)]
pub struct NodeJobs {
    jobs: watch::Receiver<Option<Job>>,
    vdf: VdfFeed,
    look: Interval,
    /// Its thread ends with the source.
    _feed: JobFeed,
}

impl NodeJobs {
    /// Joins a feed and a prover. Needs a running tokio.
    #[must_use]
    pub fn new(feed: JobFeed, jobs: watch::Receiver<Option<Job>>, vdf: VdfFeed) -> Self {
        let interval = vdf.settings().update_interval.max(SHORTEST_INTERVAL);
        let mut look = tokio::time::interval(interval);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { jobs, vdf, look, _feed: feed }
    }
}

#[async_trait]
impl JobSource for NodeJobs {
    fn name(&self) -> &'static str {
        "node"
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
