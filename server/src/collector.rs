//! The proof collector: engines push finished proofs over ZeroMQ, a thread reads them off the
//! socket, every message is verified, filed under its completion id, and forwarded when it can
//! still be of use. Filing never waits for whoever takes the proofs. spec: proxy §16

use crate::metrics::{Metrics, ProofDrop};
use crate::mining::model::normalize_model_identifier;
use crate::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use crate::mining::snapshot::ContextCell;
use crate::store::ProofStore;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tensorpow_core::classify::Tier;
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::units::{BlockHash, Digest, HeaderPrefix};
use tokio::sync::{broadcast, mpsc};

/// Messages read ahead of their verification.
const READ_AHEAD: usize = 64;
/// Proofs waiting for the sink.
const SINK_QUEUE: usize = 1024;
/// Judgements an observer may lag behind.
const EVENTS: usize = 256;
/// How often the reader looks whether it should stop.
const POLL_MS: i64 = 100;

/// Where and what the collector takes.
#[derive(Debug, Clone, Copy)]
pub struct CollectorSettings {
    /// Address to bind; port 0 takes a free one.
    pub address: SocketAddr,
    /// Larger messages are refused by the socket itself.
    pub max_message: usize,
}

/// The collector cannot start. Always fatal: without it every proof is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectorError {
    /// Proofs would be taken from anybody.
    #[error(
        "the proof collector has no authentication and binds loopback addresses only, not {0}; tunnel the proofs of a remote engine"
    )]
    NotLoopback(SocketAddr),
    /// The socket could not be bound.
    #[error("the proof collector cannot bind {address}: {error}; is another proxy running?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: zmq::Error,
    },
    /// The socket could not be made or set up.
    #[error("the proof collector has no socket: {0}")]
    Socket(#[from] zmq::Error),
    /// The reader thread could not be started.
    #[error("the proof collector has no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A bound collector socket with its reader thread; dropping it stops the thread.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Collector {
    /// Binds the socket and starts the reader. spec: proxy §16.1
    ///
    /// # Errors
    /// [`CollectorError`]; a port that is taken is one.
    pub fn bind(
        settings: CollectorSettings,
    ) -> Result<(Self, mpsc::Receiver<Bytes>), CollectorError> {
        if !settings.address.ip().is_loopback() {
            return Err(CollectorError::NotLoopback(settings.address));
        }
        let socket = zmq::Context::new().socket(zmq::PULL)?;
        socket.set_linger(0)?;
        socket.set_rcvhwm(i32::try_from(READ_AHEAD).unwrap_or(i32::MAX))?;
        socket.set_maxmsgsize(i64::try_from(settings.max_message).unwrap_or(i64::MAX))?;
        socket.set_ipv6(settings.address.is_ipv6())?;
        let port = match settings.address.port() {
            0 => "*".to_owned(),
            port => port.to_string(),
        };
        let host = match settings.address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        socket
            .bind(&format!("tcp://{host}:{port}"))
            .map_err(|error| CollectorError::Bind { address: settings.address, error })?;
        let endpoint = socket.get_last_endpoint()?.unwrap_or_default();
        tracing::info!("ProofCollector listening on {endpoint}");
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("proof-collector".to_owned())
            .spawn(move || read(&socket, &sender, &stopped))?;
        Ok((Self { endpoint, stop, thread: Some(thread) }, receiver))
    }

    /// Where engines connect, as `tcp://host:port`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The bound port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.endpoint.rsplit(':').next()?.parse().ok()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The reader never panics; if it did there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// Reads messages off the socket until it is told to stop. A message of several parts is read as
/// several messages. spec: node §1
fn read(socket: &zmq::Socket, sender: &mpsc::Sender<Bytes>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) && !sender.is_closed() {
        match socket.poll(zmq::POLLIN, POLL_MS) {
            Ok(0) | Err(zmq::Error::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return tracing::error!(%error, "the proof collector stopped reading"),
        }
        // A full channel holds the reader back, then the socket, then the engine's own queue, which
        // counts what it drops.
        while let Ok(message) = socket.recv_msg(zmq::DONTWAIT) {
            if stop.load(Ordering::Relaxed)
                || sender.blocking_send(Bytes::copy_from_slice(&message)).is_err()
            {
                return;
            }
        }
    }
}

/// A proof and what the sink made of it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The proof.
    pub proof: Arc<ReceivedProof>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Files and forwards what the collector reads.
#[derive(Debug)]
pub struct Intake {
    store: Arc<ProofStore>,
    context: Arc<ContextCell>,
    metrics: Arc<Metrics>,
    sink: Option<mpsc::Sender<Arc<ReceivedProof>>>,
    events: broadcast::Sender<Judged>,
}

impl Intake {
    /// An intake without a sink: proofs are filed only.
    #[must_use]
    pub fn new(store: Arc<ProofStore>, context: Arc<ContextCell>, metrics: Arc<Metrics>) -> Self {
        Self { store, context, metrics, sink: None, events: broadcast::Sender::new(EVENTS) }
    }

    /// Judgements as they are made.
    #[must_use]
    pub fn judgements(&self) -> broadcast::Receiver<Judged> {
        self.events.subscribe()
    }

    /// Forwards to `sink` from now on; the returned future does the work.
    pub fn forward_to(
        &mut self,
        sink: Arc<dyn ProofSink>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (sender, mut waiting) = mpsc::channel::<Arc<ReceivedProof>>(SINK_QUEUE);
        self.sink = Some(sender);
        let (metrics, events) = (self.metrics.clone(), self.events.clone());
        async move {
            while let Some(proof) = waiting.recv().await {
                let verdict = sink.submit(&proof, Attempt::FIRST).await;
                metrics.count_judged(verdict.label());
                // Nobody may be watching.
                let _ = events.send(Judged { proof, verdict });
            }
        }
    }

    /// Takes messages until the collector stops.
    pub async fn run(self, mut messages: mpsc::Receiver<Bytes>) {
        while let Some(message) = messages.recv().await {
            if let Err(reason) = self.accept(message) {
                self.metrics.count_dropped(reason);
            }
        }
    }

    /// One message: verified, filed, forwarded. An audit is filed only. What is filed and not
    /// forwarded has a reason too. spec: proxy §16.3
    fn accept(&self, message: Bytes) -> Result<(), ProofDrop> {
        let proof = classify(message)?;
        self.metrics.count_received(proof.tier);
        if proof.tier == Tier::Audit {
            if proof.completion_id.is_empty() {
                return Err(ProofDrop::AuditWithoutId);
            }
            tracing::info!(completion_id = proof.completion_id, "audit proof filed");
            self.store.put(Arc::new(proof));
            return Ok(());
        }
        if self.is_other_model(&proof) {
            tracing::warn!(model = proof.model_identifier, "dropping a proof of another model");
            return Err(ProofDrop::OtherModel);
        }
        let proof = Arc::new(proof);
        if !proof.completion_id.is_empty() {
            tracing::info!("Received proof with completion_id: {}", proof.completion_id);
            self.store.put(proof.clone());
        }
        self.forward(proof)
    }

    fn is_other_model(&self, proof: &ReceivedProof) -> bool {
        self.context.load().expected_model_identifier().is_some_and(|expected| {
            let found = normalize_model_identifier(&proof.model_identifier);
            !found.is_empty() && found != normalize_model_identifier(&expected)
        })
    }

    /// Staleness is decided by the parent block, never by the request id: templates are renewed
    /// every few seconds on the same parent. spec: proxy §16.3
    fn forward(&self, proof: Arc<ReceivedProof>) -> Result<(), ProofDrop> {
        let Some(sink) = &self.sink else { return Err(ProofDrop::NoSink) };
        let current = self.context.load().parent();
        if current.is_none() || proof.parent != current {
            tracing::info!(
                "Dropping stale proof: req_id={}, its parent is not the tip",
                proof.request_id
            );
            return Err(ProofDrop::StaleParent);
        }
        sink.try_send(proof).map_err(|_| {
            tracing::error!("the proof sink does not keep up; a proof was not forwarded");
            ProofDrop::SinkQueueFull
        })
    }
}

/// Reads the fields that decide a proof's way out of a message. spec: proxy §16.2
fn classify(message: Bytes) -> Result<ReceivedProof, ProofDrop> {
    let response = MiningResponseRef::read(&message).map_err(|error| {
        tracing::warn!(%error, bytes = message.len(), "dropping a message that is no proof");
        ProofDrop::Malformed
    })?;
    let proof = response.pow_blob.ok_or(ProofDrop::NoPowBlob)?;
    let tier = if response.is_audit() {
        Tier::Audit
    } else if proof.is_solution {
        Tier::Solution
    } else {
        Tier::Share
    };
    let received = ReceivedProof {
        completion_id: response.effective_completion_id().unwrap_or_default(),
        tier,
        request_id: response.req_id,
        nonce: response.nonce,
        parent: parent(&proof),
        digest: proof.hash.try_into().ok().map(Digest::from_bytes),
        model_identifier: String::from_utf8_lossy(proof.model_identifier).into_owned(),
        received_at: SystemTime::now(),
        message: message.clone(),
    };
    Ok(received)
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
