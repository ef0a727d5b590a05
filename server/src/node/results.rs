//! Solutions on their way to the node. Its result socket never answers: a solution counts as
//! delivered once the socket has taken it for a node that is connected at that moment. Without one
//! nothing is taken, and whoever keeps the proofs offers it again. What the node makes of it shows
//! only in the next tip. spec: proxy §1, node §3
//!
//! A node reads a limited number of messages a minute and throws away what is beyond that, and it
//! reads without verifying. So shares and audits never go there, every message is verified first,
//! the same solution goes out once in a run, and there is a pace. spec: node §3.3

use crate::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tensorpow_core::classify::Tier;
use tensorpow_core::header::header_hash;
use tensorpow_core::proof::accept::{Refusal, check_zmq};
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::target::Target;
use tensorpow_core::units::{Digest, HeaderPrefix};

/// Messages the socket holds for a connected node that does not read. spec: node §3.2
const HIGH_WATER: i32 = 1000;
/// What a closing socket gets to write what it holds. spec: node §3.2
const LINGER_MS: i32 = 1000;
/// Solutions remembered against being sent twice.
const REMEMBERED: usize = 1024;
/// A node takes 120 messages in 60 s and counts each idle second as one. spec: node §3.3
const PACE: (usize, Duration) = (60, Duration::from_secs(60));

/// A ZeroMQ address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

/// A text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {text:?} must be tcp://host:port or host:port")]
pub struct EndpointError {
    text: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError { text: text.to_owned() };
        let place = text.trim();
        let place = place.strip_prefix("tcp://").unwrap_or(place);
        let (host, port) = place.rsplit_once(':').ok_or_else(error)?;
        let port: u16 = port.parse().map_err(|_| error())?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'*' | b';'));
        if !plain || port == 0 || (host.contains(':') && !bracketed) {
            return Err(error());
        }
        Ok(Self(format!("tcp://{host}:{port}")))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where solutions go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultSettings {
    /// The node's result socket. It is not `ZMQ_PUSH_HOST`, which names the collector to our
    /// engines. spec: proxy §1
    pub endpoint: Endpoint,
    /// False leaves solutions to an engine that sends them to the node itself (`local_miner`).
    pub forward: bool,
}

impl Default for ResultSettings {
    fn default() -> Self {
        Self { endpoint: Endpoint("tcp://127.0.0.1:7000".to_owned()), forward: true }
    }
}

/// The result socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("no socket for results to {endpoint}: {error}")]
pub struct ResultsError {
    endpoint: Endpoint,
    error: zmq::Error,
}

/// Why a node would not take a solution, whatever else is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The message itself is not acceptable.
    #[error("{0}")]
    Message(Refusal),
    /// The proof does not say it is a solution.
    #[error("the proof is not marked as a solution")]
    NoSolution,
    /// Bits, nonce, target and digest of the message do not agree.
    #[error("{0}")]
    Header(&'static str),
    /// The header hash misses the block target.
    #[error("the header hash misses the block target")]
    HighHash,
}

impl Unfit {
    /// The reason's label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Message(_) => "invalid_payload",
            Self::NoSolution => "no_solution",
            Self::Header(_) => "bad_header",
            Self::HighHash => "high-hash",
        }
    }
}

/// What a node looks at first, and what costs nothing to look at: a message that fails here would
/// only burn its patience. spec: node §3.3, §3.4, targets §8
///
/// # Errors
/// [`Unfit`].
pub fn check_solution(message: &[u8]) -> Result<(), Unfit> {
    let response = check_zmq(message, |_| true).map_err(Unfit::Message)?;
    let proof = response.pow_blob.ok_or(Unfit::Message(Refusal::MissingPowBlob))?;
    if !proof.is_solution {
        return Err(Unfit::NoSolution);
    }
    check_header(&response, &proof)
}

fn check_header(response: &MiningResponseRef<'_>, proof: &ProofRef<'_>) -> Result<(), Unfit> {
    let prefix: [u8; HeaderPrefix::LEN] =
        proof.header_prefix.try_into().map_err(|_| Unfit::Header("header_prefix is no prefix"))?;
    let prefix = HeaderPrefix::from_bytes(prefix);
    let digest: [u8; 32] = proof.hash.try_into().map_err(|_| Unfit::Header("hash is no digest"))?;
    let digest = Digest::from_bytes(digest);
    if prefix.bits().to_bits() != response.adjusted_bits {
        return Err(Unfit::Header("adjusted_bits are not those of the header prefix"));
    }
    if digest.nonce() != response.nonce {
        return Err(Unfit::Header("nonce is not the digest's"));
    }
    let target = prefix.bits().derive(&Target::POW_LIMIT_TENSOR);
    let target = target.map_err(|_| Unfit::Header("adjusted_bits are no valid target"))?;
    if proof.target != target.to_be_bytes() {
        return Err(Unfit::Header("target is not that of adjusted_bits"));
    }
    match target.is_met_by(&header_hash(&prefix, digest.nonce_bytes())) {
        true => Ok(()),
        false => Err(Unfit::HighHash),
    }
}

/// What has gone out so far.
#[derive(Debug, Default)]
pub struct ResultCounters {
    sent: AtomicU64,
    unfit: AtomicU64,
    absent: AtomicU64,
}

impl ResultCounters {
    /// Solutions the node's socket took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Solutions that were not worth sending.
    #[must_use]
    pub fn unfit(&self) -> u64 {
        self.unfit.load(Ordering::Relaxed)
    }

    /// Attempts without a connected node.
    #[must_use]
    pub fn absent(&self) -> u64 {
        self.absent.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Sent {
    digests: VecDeque<Digest>,
    times: VecDeque<Instant>,
}

/// A node as a sink of solutions.
pub struct NodeSink {
    settings: ResultSettings,
    socket: Mutex<zmq::Socket>,
    sent: Mutex<Sent>,
    counters: ResultCounters,
}

impl fmt::Debug for NodeSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSink").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl NodeSink {
    /// A socket that connects to the node, now or as soon as the node is there.
    ///
    /// # Errors
    /// [`ResultsError`] for an endpoint the library does not take.
    pub fn connect(settings: ResultSettings) -> Result<Self, ResultsError> {
        let socket = open(&settings)?;
        Ok(Self {
            settings,
            socket: Mutex::new(socket),
            sent: Mutex::default(),
            counters: ResultCounters::default(),
        })
    }

    /// Connects anew. The old socket gets a second to write what it holds; this waits for that.
    ///
    /// # Errors
    /// [`ResultsError`]; then the old socket stays.
    pub fn reconnect(&self) -> Result<(), ResultsError> {
        let socket = open(&self.settings)?;
        let old = std::mem::replace(&mut *lock(&self.socket), socket);
        drop(old);
        Ok(())
    }

    /// Where solutions go.
    #[must_use]
    pub const fn settings(&self) -> &ResultSettings {
        &self.settings
    }

    /// What has gone out so far.
    #[must_use]
    pub const fn counters(&self) -> &ResultCounters {
        &self.counters
    }

    /// True while a node is connected and has room.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        lock(&self.socket).get_events().is_ok_and(|events| events.contains(zmq::POLLOUT))
    }

    /// Time until the node may be sent another message.
    fn wait(&self) -> Duration {
        let mut sent = lock(&self.sent);
        let (most, within) = PACE;
        while sent.times.front().is_some_and(|at| at.elapsed() >= within) {
            sent.times.pop_front();
        }
        match sent.times.front() {
            Some(oldest) if sent.times.len() >= most => within.saturating_sub(oldest.elapsed()),
            _ => Duration::ZERO,
        }
    }

    fn was_sent(&self, digest: Option<Digest>) -> bool {
        digest.is_some_and(|digest| lock(&self.sent).digests.contains(&digest))
    }

    fn note_sent(&self, digest: Option<Digest>) {
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        let mut sent = lock(&self.sent);
        sent.times.push_back(Instant::now());
        if sent.digests.len() >= REMEMBERED {
            sent.digests.pop_front();
        }
        sent.digests.extend(digest);
    }
}

/// A socket that connects to the node.
fn open(settings: &ResultSettings) -> Result<zmq::Socket, ResultsError> {
    let open = || {
        let socket = zmq::Context::new().socket(zmq::PUSH)?;
        socket.set_sndhwm(HIGH_WATER)?;
        socket.set_linger(LINGER_MS)?;
        // Without a connection nothing is taken: what waits, waits where it is durable.
        socket.set_immediate(true)?;
        socket.set_ipv6(settings.endpoint.0.contains('['))?;
        if settings.forward {
            socket.connect(&settings.endpoint.0)?;
        }
        Ok(socket)
    };
    open().map_err(|error| ResultsError { endpoint: settings.endpoint.clone(), error })
}

/// Neither value is ever left half-changed, so a poisoned lock guards a usable one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ProofSink for NodeSink {
    fn name(&self) -> &'static str {
        "node"
    }

    /// A node is no share sink. spec: node §3.3
    fn takes(&self, tier: Tier) -> bool {
        self.settings.forward && tier == Tier::Solution
    }

    async fn submit(&self, proof: &ReceivedProof, _: Attempt) -> Verdict {
        if let Err(unfit) = check_solution(&proof.message) {
            self.counters.unfit.fetch_add(1, Ordering::Relaxed);
            return Verdict::Rejected { reason: unfit.label(), detail: unfit.to_string() };
        }
        if self.was_sent(proof.digest) {
            return Verdict::Sent;
        }
        let wait = self.wait();
        if !wait.is_zero() {
            let seconds = wait.as_secs() + 1;
            let detail =
                format!("the node has been sent all it reads in a minute, {seconds} s left");
            return Verdict::Unavailable { detail };
        }
        let taken = lock(&self.socket).send(&proof.message[..], zmq::DONTWAIT);
        match taken {
            Ok(()) => {
                self.note_sent(proof.digest);
                tracing::info!(
                    "solution for req_id={} sent to the node at {}, completion {:?}",
                    proof.request_id,
                    self.settings.endpoint,
                    proof.completion_id
                );
                Verdict::Sent
            }
            Err(error) => {
                self.counters.absent.fetch_add(1, Ordering::Relaxed);
                let endpoint = &self.settings.endpoint;
                let detail = match error {
                    zmq::Error::EAGAIN => format!("no node is connected to {endpoint}"),
                    error => format!("{endpoint}: {error}"),
                };
                Verdict::Unavailable { detail }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_place_to_connect_to() {
        let endpoint = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
        for (text, expected) in [
            ("tcp://127.0.0.1:7000", "tcp://127.0.0.1:7000"),
            (" core-node:7000 ", "tcp://core-node:7000"),
            ("[::1]:7000", "tcp://[::1]:7000"),
        ] {
            assert_eq!(endpoint(text).as_deref(), Ok(expected));
        }
        for bad in [
            "",
            "host",
            "host:",
            ":7000",
            "host:0",
            "host:70x",
            "::1:7000",
            "*:7000",
            "tcp://a/b:7000",
            "a b:7000",
            "host:70000",
        ] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_pace_leaves_a_node_its_patience() {
        let sink = NodeSink::connect(ResultSettings::default()).unwrap();
        for _ in 0..59 {
            assert_eq!(sink.wait(), Duration::ZERO);
            sink.note_sent(None);
        }
        assert_eq!(sink.wait(), Duration::ZERO, "the sixtieth");
        sink.note_sent(None);
        let wait = sink.wait();
        assert!(wait > Duration::from_secs(50) && wait <= PACE.1, "{wait:?}");
    }

    #[test]
    fn garbage_is_unfit() {
        for message in [&[][..], &[0; 3], &[0xff; 100]] {
            assert_eq!(check_solution(message).unwrap_err().label(), "invalid_payload");
        }
    }
}
