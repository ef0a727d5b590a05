//! From a proof to a frame: a share becomes `MINE_SHARE`, a solution `MINE_RESULT`, each under the
//! lease it was mined for. A broker answers neither, so a frame counts as delivered once its pong
//! has come; without that it is offered again on the next connection. spec: broker §7.5, §7.6

use super::leases::{Lease, NoLease};
use super::outgoing::{MineResult, Outgoing, WorkUnit};
use super::shared::Shared;
use crate::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tensorpow_core::classify::Tier;
use tensorpow_core::target::{Difficulty, Normalizer, Target, share_target};
use tensorpow_core::units::Digest;

/// Delivered proofs that are remembered against being sent twice.
const REMEMBERED: usize = 4096;

/// Why a share has no target that broker and sampler would agree on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoShareTarget {
    /// The lease asks for none.
    #[error("the lease has no share target")]
    NotAsked,
    /// The registry has not been heard of yet, or does not have the lease's model.
    #[error("{0}@{1} is not in the registry: no MODEL_REGISTRY_SYNC has named it")]
    UnknownModel(String, String),
    /// `MODEL_DIFFICULTY_NORMALIZER` is 0.
    #[error("MODEL_DIFFICULTY_NORMALIZER is 0, which switches shares off")]
    NoNormalizer,
}

/// A of the protocol: the lease's target scaled by the difficulty of the lease's model.
/// spec: broker §7.4
///
/// # Errors
/// [`NoShareTarget`]; mining for blocks goes on.
pub fn leased_share_target(
    lease: &Lease,
    difficulty: Option<Difficulty>,
    normalizer: Normalizer,
) -> Result<Target, NoShareTarget> {
    let base = lease.job.base_share_target.ok_or(NoShareTarget::NotAsked)?;
    let unknown =
        || NoShareTarget::UnknownModel(lease.model.name.clone(), lease.model.commit.clone());
    let difficulty = difficulty.ok_or_else(unknown)?;
    share_target(&base, difficulty, normalizer).map_err(|_| NoShareTarget::NoNormalizer)
}

/// A broker as a sink.
#[derive(Debug)]
pub struct BrokerSink {
    shared: Arc<Shared>,
    delivered: Mutex<VecDeque<Digest>>,
}

impl BrokerSink {
    /// A sink for what these leases bring.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, delivered: Mutex::default() }
    }

    fn was_delivered(&self, digest: Option<Digest>) -> bool {
        let delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        digest.is_some_and(|digest| delivered.contains(&digest))
    }

    fn note_delivered(&self, digest: Option<Digest>) {
        let mut delivered = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        if delivered.len() >= REMEMBERED {
            delivered.pop_front();
        }
        delivered.extend(digest);
    }

    /// The frame a proof becomes. spec: §7.5 steps 7–9
    fn frame(&self, proof: &ReceivedProof, lease: &Lease) -> Result<Outgoing, Verdict> {
        let settings = &self.shared.settings;
        let worker_id = settings.worker_id.clone();
        let message = STANDARD.encode(&proof.message);
        if proof.tier == Tier::Solution {
            return Ok(Outgoing::MineResult(MineResult::Full {
                unit: WorkUnit::from(lease),
                worker_id,
                solution_b64: Some(message),
                error: None,
            }));
        }
        let difficulty = self.shared.difficulty(&lease.model);
        let target =
            leased_share_target(lease, difficulty, settings.share_normalizer).map_err(|why| {
                Verdict::Rejected { reason: "no_share_target", detail: why.to_string() }
            })?;
        let digest = proof.digest.map(|digest| hex::encode(digest.as_bytes()));
        Ok(Outgoing::MineShare {
            unit: WorkUnit::from(lease),
            nonce: proof.nonce,
            achieved_hash: digest.unwrap_or_default(),
            share_target: format!("{target:x}"),
            worker_id,
            proof_b64: message,
        })
    }
}

impl From<NoLease> for Verdict {
    fn from(why: NoLease) -> Self {
        Self::Rejected { reason: why.label(), detail: why.to_string() }
    }
}

#[async_trait]
impl ProofSink for BrokerSink {
    fn name(&self) -> &'static str {
        "broker"
    }

    /// A block hit would end the lease of the shares behind it. spec: §1.1
    fn shares_first(&self) -> bool {
        true
    }

    fn has_waited(&self, received: Option<SystemTime>) -> bool {
        !self.shared.uplink.is_of_now(received)
    }

    /// What waited for a connection also waits for the registry, which gives shares their targets.
    fn is_ready_for(&self, received: Option<SystemTime>) -> bool {
        let uplink = &self.shared.uplink;
        uplink.is_ready_for(received) && (uplink.is_of_now(received) || self.shared.has_registry())
    }

    async fn readiness_changed(&self) {
        self.shared.uplink.changed().await;
    }

    async fn submit(&self, proof: &ReceivedProof, _: Attempt) -> Verdict {
        if self.was_delivered(proof.digest) {
            return Verdict::Sent;
        }
        let lease = match self.shared.leases.find(proof.request_id) {
            Ok(lease) => lease,
            Err(why) => {
                if let NoLease::StaleParent(_) = why
                    && proof.tier == Tier::Solution
                {
                    self.shared.leases.forget(proof.request_id);
                }
                return why.into();
            }
        };
        let frame = match self.frame(proof, &lease) {
            Ok(frame) => frame,
            Err(verdict) => return verdict,
        };
        let Some(wire) = self.shared.uplink.current() else {
            return Verdict::Unavailable { detail: "there is no connection to the broker".into() };
        };
        if wire.deliver(&frame).await.is_err() {
            let detail = "the connection ended before the broker had it".to_owned();
            return Verdict::Unavailable { detail };
        }
        self.note_delivered(proof.digest);
        let counters = &self.shared.counters;
        if proof.tier == Tier::Solution {
            self.shared.leases.close(proof.request_id, &lease.unit.job_id);
            counters.results.fetch_add(1, Ordering::Relaxed);
            tracing::info!("block-level result for req_id={} sent to the broker", proof.request_id);
        } else {
            counters.shares.fetch_add(1, Ordering::Relaxed);
            tracing::info!("share for req_id={} sent to the broker", proof.request_id);
        }
        Verdict::Sent
    }
}
