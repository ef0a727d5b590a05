//! The job socket itself: bound, guarded where others may connect, with a second socket on which
//! libzmq says who comes and goes. It has a ZeroMQ context of its own: once that is gone, so are its
//! connections and its port, and it can be bound anew.

use super::feed::{FeedError, FeedSettings};
use crate::zap::Door;
use std::net::SocketAddr;

/// What a job needs is a hundred bytes.
const MAX_MESSAGE: i64 = 64 * 1024;
const PEERS: &str = "inproc://node-jobs-peers";

/// A bound job socket. The fields are dropped in this order; the last one of the context's closes
/// everything.
pub(super) struct JobSocket {
    /// Where jobs are read.
    pub(super) jobs: zmq::Socket,
    /// Where libzmq tells of peers.
    peers: zmq::Socket,
    _door: Option<Door>,
    endpoint: String,
}

impl JobSocket {
    /// Binds it.
    pub(super) fn bind(settings: &FeedSettings) -> Result<Self, FeedError> {
        let address = settings.address;
        if !address.ip().is_loopback() && settings.allow.is_empty() {
            return Err(FeedError::NotLoopback(address));
        }
        let context = zmq::Context::new();
        let jobs = context.socket(zmq::PULL)?;
        jobs.set_linger(0)?;
        jobs.set_maxmsgsize(MAX_MESSAGE)?;
        jobs.set_ipv6(address.is_ipv6())?;
        let door = match address.ip().is_loopback() {
            true => None,
            false => {
                let door = Door::open(&context, settings.allow.clone())?;
                Door::guard(&jobs)?;
                Some(door)
            }
        };
        let peers = watch_peers(&context, &jobs)?;
        jobs.bind(&bind_endpoint(address)).map_err(|error| FeedError::Bind { address, error })?;
        let endpoint = jobs.get_last_endpoint()?.unwrap_or_default();
        Ok(Self { jobs, peers, _door: door, endpoint })
    }

    /// Where nodes connect, as `tcp://host:port`.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The bound address, its port known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.endpoint.strip_prefix("tcp://")?.parse().ok()
    }

    /// One more peer, one less, or no news.
    pub(super) fn next_peer(&self) -> Option<i64> {
        while let Ok(frames) = self.peers.recv_multipart(zmq::DONTWAIT) {
            let event = frames.first().and_then(|frame| frame.first_chunk().copied());
            let event = event.map(|bytes| zmq::SocketEvent::from_raw(u16::from_le_bytes(bytes)));
            match event {
                Some(zmq::SocketEvent::HANDSHAKE_SUCCEEDED) => return Some(1),
                Some(zmq::SocketEvent::DISCONNECTED) => return Some(-1),
                _ => {}
            }
        }
        None
    }
}

fn bind_endpoint(address: SocketAddr) -> String {
    let port = match address.port() {
        0 => "*".to_owned(),
        port => port.to_string(),
    };
    match address {
        SocketAddr::V4(address) => format!("tcp://{}:{port}", address.ip()),
        SocketAddr::V6(address) => format!("tcp://[{}]:{port}", address.ip()),
    }
}

/// A socket on which libzmq says who comes and goes.
fn watch_peers(context: &zmq::Context, socket: &zmq::Socket) -> zmq::Result<zmq::Socket> {
    let events =
        zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | zmq::SocketEvent::DISCONNECTED.to_raw();
    socket.monitor(PEERS, i32::from(events))?;
    let monitor = context.socket(zmq::PAIR)?;
    monitor.set_linger(0)?;
    monitor.connect(PEERS)?;
    Ok(monitor)
}
