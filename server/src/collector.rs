//! The proof collector: engines push finished proofs over ZeroMQ, a thread reads them off the socket
//! for the intake ([`crate::intake`]). Anybody who reaches the socket can push, so it is on loopback,
//! or open to listed addresses only ([`crate::zap`]). spec: proxy §16.1

use crate::zap::{AddressRange, Gate};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Messages read ahead of their verification.
const READ_AHEAD: usize = 64;
/// How often the reader looks whether it should stop.
const POLL_MS: i64 = 100;

/// Where and what the collector takes.
#[derive(Debug, Clone)]
pub struct CollectorSettings {
    /// Address to bind; port 0 takes a free one.
    pub address: SocketAddr,
    /// Larger messages are refused by the socket itself.
    pub max_message: usize,
    /// Who may connect; with none, only loopback addresses can be bound.
    pub allow: Vec<AddressRange>,
}

/// The collector cannot start. Always fatal: without it every proof is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectorError {
    /// Proofs would be taken from anybody.
    #[error(
        "the proof collector would take proofs from anybody on {0}: bind 127.0.0.1, or list the engines' addresses with --collector-allow (TENSORPOW_COLLECTOR_ALLOW)"
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
    gate: Option<Gate>,
}

impl Collector {
    /// Binds the socket and starts the reader. spec: proxy §16.1
    ///
    /// # Errors
    /// [`CollectorError`]; a port that is taken is one.
    pub fn bind(
        settings: CollectorSettings,
    ) -> Result<(Self, mpsc::Receiver<Bytes>), CollectorError> {
        if !settings.address.ip().is_loopback() && settings.allow.is_empty() {
            return Err(CollectorError::NotLoopback(settings.address));
        }
        let context = zmq::Context::new();
        let socket = context.socket(zmq::PULL)?;
        let gate = match settings.allow.as_slice() {
            [] => None,
            allow => Some(Gate::guard(&context, &socket, allow)?),
        };
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
        Ok((Self { endpoint, stop, thread: Some(thread), gate }, receiver))
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

    /// Connections refused because their address is not listed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.gate.as_ref().map_or(0, Gate::refused)
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
