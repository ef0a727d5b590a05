//! The two ends of the development chain: a job source with a template at every new tip and at
//! every interval, the VDF proof of its parent right behind it; and a sink that judges proofs.

use super::chain::{DevChain, Tip};
use crate::mining::job::{JobSource, JobUpdate};
use crate::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// How often a running prover is asked for a better proof. spec: proxy §17
const VDF_EVERY: Duration = Duration::from_millis(100);

/// Jobs of a development chain.
#[derive(Debug)]
pub struct DevJobs {
    chain: Arc<DevChain>,
    tip: watch::Receiver<Tip>,
    template: Interval,
    vdf: Interval,
    last_vdf: Option<JobUpdate>,
}

impl DevJobs {
    /// Jobs of `chain`, the first one at once. Needs a running tokio.
    #[must_use]
    pub fn new(chain: Arc<DevChain>) -> Self {
        let tip = chain.watch_tip();
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        // An interval of zero would never let anything else run.
        let template = every(chain.settings().interval.max(Duration::from_millis(10)));
        Self { tip, template, vdf: every(VDF_EVERY), last_vdf: None, chain }
    }

    fn new_job(&mut self) -> JobUpdate {
        self.tip.mark_unchanged();
        self.template.reset();
        self.vdf.reset_immediately();
        self.last_vdf = None;
        JobUpdate::Job(self.chain.new_job())
    }

    /// The latest VDF proof of the tip, unless it was handed out already.
    fn new_vdf(&mut self) -> Option<JobUpdate> {
        let state = self.chain.vdf().latest(&self.chain.tip().hash)?;
        let known = match &self.last_vdf {
            Some(JobUpdate::Vdf(last)) => **last == state,
            _ => false,
        };
        let update = JobUpdate::Vdf(Arc::new(state));
        (!known).then(|| {
            self.last_vdf = Some(update.clone());
            update
        })
    }
}

#[async_trait]
impl JobSource for DevJobs {
    fn name(&self) -> &'static str {
        "devnet"
    }

    async fn next(&mut self) -> Option<JobUpdate> {
        loop {
            tokio::select! {
                biased;
                changed = self.tip.changed() => {
                    changed.ok()?;
                    return Some(self.new_job());
                }
                _ = self.template.tick() => return Some(self.new_job()),
                _ = self.vdf.tick() => {
                    if let Some(update) = self.new_vdf() {
                        return Some(update);
                    }
                }
            }
        }
    }
}

/// Where proofs for a development chain go.
#[derive(Debug)]
pub struct DevSink {
    chain: Arc<DevChain>,
}

impl DevSink {
    /// Submits to `chain`.
    #[must_use]
    pub const fn new(chain: Arc<DevChain>) -> Self {
        Self { chain }
    }
}

#[async_trait]
impl ProofSink for DevSink {
    fn name(&self) -> &'static str {
        "devnet"
    }

    async fn submit(&self, proof: &ReceivedProof, _: Attempt) -> Verdict {
        let (chain, message) = (self.chain.clone(), proof.message.clone());
        // Replaying a window takes milliseconds: not on a thread that serves sockets.
        let judged = tokio::task::spawn_blocking(move || chain.submit(&message)).await;
        let verdict = match judged {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(rejection)) => {
                Verdict::Rejected { reason: rejection.label(), detail: rejection.to_string() }
            }
            Err(error) => Verdict::Rejected { reason: "internal", detail: error.to_string() },
        };
        let (request_id, completion) = (proof.request_id, &proof.completion_id);
        tracing::info!(
            "{} for req_id={request_id}, completion {completion:?}: {verdict}",
            proof.tier
        );
        verdict
    }
}
