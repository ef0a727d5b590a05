//! What becomes of a message from an engine: verified, put into the spool, made known under its
//! completion id, and queued for the sink when it can still be of use. The order is that of the
//! specification with its corrections: filed first, only forwarding is filtered. Filing never waits
//! for whoever takes the proofs. spec: proxy §16.2, §16.3

use crate::metrics::{Metrics, ProofDrop};
use crate::mining::model::normalize_model_identifier;
use crate::mining::pause::{Pause, SolutionCooldown};
use crate::mining::sink::ReceivedProof;
use crate::mining::snapshot::ContextCell;
use crate::outbox::{Freshness, Outbox, freshness};
use crate::spool::{Delivery, INTAKE, Prepared, Put, SpoolError};
use crate::store::ProofStore;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tensorpow_core::classify::Tier;
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::units::{BlockHash, Digest, HeaderPrefix};
use tokio::sync::mpsc;

/// Proofs on their way to the disk at once. More wait in the socket, then in the engine's own queue,
/// which counts what it drops.
const IN_FLIGHT: usize = 128;
/// Proofs that are recognised as duplicates without the spool.
const REMEMBERED: usize = 4096;

/// The proof's way, decided when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Filed and handed to the sink.
    Forward,
    /// Filed only: an audit, or there is no sink for it.
    File,
    /// Filed; it goes no further, for this reason.
    Hold(ProofDrop),
    /// Not filed under its completion id.
    Refuse(ProofDrop),
}

impl Way {
    /// Whether the proof is found by its completion id.
    #[must_use]
    pub const fn is_filed(self) -> bool {
        !matches!(self, Self::Refuse(_))
    }
}

/// What became of a message, once it is on disk (or the disk has failed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// In the spool under this number.
    Stored(u64),
    /// In memory only.
    Unstored,
    /// It was there already.
    Duplicate,
    /// It is no proof, or none that is kept.
    Dropped(ProofDrop),
}

/// Files and forwards what the collector reads.
#[derive(Debug)]
pub struct Intake {
    store: Arc<ProofStore>,
    context: Arc<ContextCell>,
    pause: Arc<Pause>,
    cooldown: Option<SolutionCooldown>,
    metrics: Arc<Metrics>,
    outbox: Option<Arc<Outbox>>,
    seen: Seen,
}

/// The proofs that came last, for the time when the spool cannot tell.
#[derive(Debug, Default)]
struct Seen(Mutex<LastSeen>);

#[derive(Debug, Default)]
struct LastSeen {
    order: VecDeque<[u8; 32]>,
    known: HashSet<[u8; 32]>,
}

impl Seen {
    /// Notes a proof; true when it was noted before.
    fn insert(&self, identity: [u8; 32]) -> bool {
        // Should a panic have come between queue and set, a proof is forgotten too late.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let LastSeen { order, known } = &mut *last;
        if !known.insert(identity) {
            return true;
        }
        order.push_back(identity);
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        false
    }
}

impl Intake {
    /// An intake; without an outbox proofs are filed only.
    #[must_use]
    pub fn new(
        store: Arc<ProofStore>,
        context: Arc<ContextCell>,
        metrics: Arc<Metrics>,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        Self {
            store,
            context,
            pause: Arc::default(),
            cooldown: None,
            metrics,
            outbox,
            seen: Seen::default(),
        }
    }

    /// The pause during which nothing is forwarded, and how long one begins with each proof.
    #[must_use]
    pub fn pausing(mut self, pause: Arc<Pause>, cooldown: Option<SolutionCooldown>) -> Self {
        self.pause = pause;
        self.cooldown = cooldown;
        self
    }

    /// Takes messages until the collector stops, then waits for what is on its way to the disk.
    /// Messages are packed side by side and written many to a commit, but decided, stored and passed
    /// on in the order in which they came.
    pub async fn run(self, mut messages: mpsc::Receiver<Bytes>) {
        let (mut packing, mut writing) = (FuturesOrdered::new(), FuturesOrdered::new());
        let mut open = true;
        while open || !packing.is_empty() || !writing.is_empty() {
            let room = packing.len() + writing.len() < IN_FLIGHT;
            tokio::select! {
                message = messages.recv(), if open && room => match message {
                    Some(message) => packing.push_back(self.pack(self.receive(message))),
                    None => open = false,
                },
                Some(packed) = packing.next() => writing.push_back(self.write(packed)),
                Some(written) = writing.next() => { self.pass_on(written); }
            }
        }
        if let Some(outbox) = &self.outbox {
            outbox.close();
        }
    }

    /// Takes one message and returns when it is on disk.
    pub async fn take(&self, message: Bytes) -> Taken {
        let packed = self.pack(self.receive(message)).await;
        self.pass_on(self.write(packed).await)
    }

    fn receive(&self, message: Bytes) -> Received {
        match classify(&message) {
            Err((reason, detail)) => Received::NoProof { message, reason, detail },
            Ok(proof) => {
                self.metrics.count_received(proof.tier);
                let way = self.decide(&proof);
                Received::Proof { proof: Arc::new(proof), way }
            }
        }
    }

    /// The way of a proof that arrives now. A fresh share or solution may begin a pause, which
    /// counts for those behind it. spec: proxy §16.3, §16.4
    #[must_use]
    pub fn decide(&self, proof: &ReceivedProof) -> Way {
        if proof.tier == Tier::Audit {
            return match proof.completion_id.is_empty() {
                true => Way::Refuse(ProofDrop::AuditWithoutId),
                false => Way::File,
            };
        }
        let snapshot = self.context.load();
        if snapshot.expected_model_identifier().is_some_and(|expected| {
            let found = normalize_model_identifier(&proof.model_identifier);
            !found.is_empty() && found != normalize_model_identifier(&expected)
        }) {
            tracing::warn!(model = proof.model_identifier, "a proof of another model");
            return Way::Refuse(ProofDrop::OtherModel);
        }
        if self.pause.is_paused() {
            tracing::info!("Dropping proof while mining is paused (it is kept, not forwarded)");
            return Way::Hold(ProofDrop::Paused);
        }
        if freshness(proof, &snapshot) == Freshness::Stale {
            tracing::info!(
                "Dropping stale proof: req_id={}, its parent is not the tip",
                proof.request_id
            );
            return Way::Hold(ProofDrop::StaleParent);
        }
        if let Some(cooldown) = self.cooldown {
            let length = cooldown.draw();
            tracing::info!(
                "Mining cooldown activated for {:.1}s (reason={})",
                length.as_secs_f64(),
                proof.tier
            );
            self.pause.extend(length);
        }
        match &self.outbox {
            Some(outbox) if outbox.sink().takes(proof.tier) => Way::Forward,
            _ => Way::File,
        }
    }

    /// The stored form of a message, made where computing does not hold anybody up.
    fn pack(&self, received: Received) -> impl Future<Output = Packed> + Send + 'static {
        let job = match &received {
            Received::NoProof { message, reason: ProofDrop::Malformed, detail } => {
                let (message, detail) = (message.clone(), detail.clone());
                Some(tokio::task::spawn_blocking(move || {
                    Prepared::undecodable(&message, ProofDrop::Malformed.label(), detail)
                }))
            }
            Received::NoProof { .. }
            | Received::Proof { way: Way::Refuse(ProofDrop::AuditWithoutId), .. } => None,
            Received::Proof { proof, way } => {
                let (proof, way, deliveries) = (proof.clone(), *way, self.deliveries(*way));
                Some(tokio::task::spawn_blocking(move || {
                    let prepared = Prepared::of(&proof, deliveries);
                    if way.is_filed() { prepared } else { prepared.without_completion_id() }
                }))
            }
        };
        async move {
            let prepared = match job {
                // It does not panic; if it did the proof would go on unstored.
                Some(job) => job.await.ok(),
                None => None,
            };
            Packed { received, prepared }
        }
    }

    fn write(&self, packed: Packed) -> impl Future<Output = Written> + Send + 'static {
        let Packed { received, prepared } = packed;
        let identity = prepared.as_ref().map(|prepared| *prepared.identity());
        let put = prepared.map(|prepared| self.store.spool().put(prepared));
        async move {
            let put = match put {
                Some(put) => Some(put.await),
                None => None,
            };
            Written { received, identity, put }
        }
    }

    /// Makes a message known that is on disk, or that the disk did not take.
    fn pass_on(&self, written: Written) -> Taken {
        let Written { received, identity, put } = written;
        let (proof, way) = match received {
            Received::Proof { proof, way } => (proof, way),
            Received::NoProof { message, reason, detail } => {
                tracing::warn!(bytes = message.len(), "dropping a message: {detail}");
                self.metrics.count_dropped(reason);
                return Taken::Dropped(reason);
            }
        };
        if way == Way::Refuse(ProofDrop::AuditWithoutId) {
            self.metrics.count_dropped(ProofDrop::AuditWithoutId);
            return Taken::Dropped(ProofDrop::AuditWithoutId);
        }
        let seen = identity.is_some_and(|identity| self.seen.insert(identity));
        let seq = match put {
            Some(Ok(Put::New { seq })) => Some(seq),
            Some(Ok(Put::Known { seq, new_id })) => {
                self.metrics.count_dropped(ProofDrop::Duplicate);
                if new_id {
                    self.store.put(&proof.completion_id, proof.clone(), Some(seq));
                }
                return Taken::Duplicate;
            }
            // Without the spool, memory tells what has come before.
            _ if seen => {
                self.metrics.count_dropped(ProofDrop::Duplicate);
                return Taken::Duplicate;
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a proof is in memory only");
                self.metrics.count_unstored();
                None
            }
            None => None,
        };
        self.forward(proof, way, seq);
        seq.map_or(Taken::Unstored, Taken::Stored)
    }

    /// The deliveries that are stored with a proof.
    fn deliveries(&self, way: Way) -> Vec<(&'static str, Delivery)> {
        let sink = self.outbox.as_ref().map(|outbox| outbox.sink().name());
        match (way, sink) {
            (Way::Forward, Some(sink)) => vec![(sink, Delivery::pending(0))],
            (Way::Hold(reason), Some(sink)) => {
                vec![(sink, Delivery::dead(0, reason.label(), reason.to_string()))]
            }
            (Way::Refuse(reason), _) => {
                vec![(INTAKE, Delivery::dead(0, reason.label(), reason.to_string()))]
            }
            _ => Vec::new(),
        }
    }

    fn forward(&self, proof: Arc<ReceivedProof>, way: Way, seq: Option<u64>) {
        match way {
            Way::Hold(reason) | Way::Refuse(reason) => self.metrics.count_dropped(reason),
            Way::File if proof.tier != Tier::Audit => {
                self.metrics.count_dropped(ProofDrop::NoSink);
            }
            Way::File | Way::Forward => {}
        }
        if way.is_filed() && !proof.completion_id.is_empty() {
            let what = if proof.tier == Tier::Audit { "audit proof" } else { "proof" };
            tracing::info!("Received {what} with completion_id: {}", proof.completion_id);
            self.store.put(&proof.completion_id, proof.clone(), seq);
            self.metrics.busy().proof_latency().stored(&proof.completion_id);
        }
        if let (Way::Forward, Some(outbox)) = (way, &self.outbox) {
            outbox.push(proof, seq);
        }
    }
}

/// A message that was looked at.
enum Received {
    Proof { proof: Arc<ReceivedProof>, way: Way },
    NoProof { message: Bytes, reason: ProofDrop, detail: String },
}

/// A message and its stored form; `None` for what is not stored.
struct Packed {
    received: Received,
    prepared: Option<Prepared>,
}

/// A message and what the spool made of it.
struct Written {
    received: Received,
    identity: Option<[u8; 32]>,
    put: Option<Result<Put, SpoolError>>,
}

/// Reads the fields that decide a proof's way out of a message. spec: proxy §16.2
///
/// # Errors
/// Why it is no proof, as a label and in words.
pub fn classify(message: &Bytes) -> Result<ReceivedProof, (ProofDrop, String)> {
    let response = MiningResponseRef::read(message)
        .map_err(|error| (ProofDrop::Malformed, error.to_string()))?;
    let proof = response
        .pow_blob
        .ok_or_else(|| (ProofDrop::NoPowBlob, ProofDrop::NoPowBlob.to_string()))?;
    let tier = if response.is_audit() {
        Tier::Audit
    } else if proof.is_solution {
        Tier::Solution
    } else {
        Tier::Share
    };
    Ok(ReceivedProof {
        completion_id: response.effective_completion_id().unwrap_or_default(),
        tier,
        request_id: response.req_id,
        nonce: response.nonce,
        parent: parent(&proof),
        digest: proof.hash.try_into().ok().map(Digest::from_bytes),
        model_identifier: String::from_utf8_lossy(proof.model_identifier).into_owned(),
        received_at: SystemTime::now(),
        message: message.clone(),
    })
}

/// The parent block a proof is bound to: what its header says, or its own field where the header
/// is missing. spec: proxy §16.3
fn parent(proof: &ProofRef<'_>) -> Option<BlockHash> {
    let prefix: Option<[u8; HeaderPrefix::LEN]> = proof.header_prefix.try_into().ok();
    match prefix {
        Some(prefix) => Some(HeaderPrefix::from_bytes(prefix).parent()),
        None => proof.block_hash.try_into().ok().map(BlockHash::from_bytes),
    }
}
