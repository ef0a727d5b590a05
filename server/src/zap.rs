//! Who may connect to a ZeroMQ socket of ours: nobody but this machine, or the networks an operator
//! has named. The network's feeds know no authentication, so a socket on another address than
//! loopback asks for every connection here, before it is made (ZMTP's ZAP). spec: proxy §16.1, §24

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Where libzmq looks for whoever answers.
const ENDPOINT: &str = "inproc://zeromq.zap.01";
/// How often the door looks whether it should close.
const POLL_MS: i64 = 100;

/// A network in the form `address/prefix`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u8,
}

/// A text names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network: write an address, or address/prefix as in 172.16.0.0/12")]
pub struct IpNetworkError {
    text: String,
}

impl FromStr for IpNetwork {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        let error = || IpNetworkError { text: text.to_owned() };
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(|_| error()))?;
        if prefix > longest {
            return Err(error());
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl IpNetwork {
    /// True when the address lies in the network. An IPv4 address in IPv6 clothes is one of IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

/// The networks that may connect; this machine always may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNetwork>);

impl AllowList {
    /// A list of networks.
    #[must_use]
    pub const fn new(networks: Vec<IpNetwork>) -> Self {
        Self(networks)
    }

    /// True when it names nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when this address may connect.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback()
            || self.0.iter().any(|network| network.contains(address))
    }
}

/// Answers for all sockets of one context that ask. Dropping it stops the answers, and with them
/// new connections.
#[derive(Debug)]
pub struct Door {
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Stands at the door of a context. Sockets made to ask by [`Door::guard`] must be bound after
    /// this.
    ///
    /// # Errors
    /// When the context has its door already, or there is no thread.
    pub fn open(context: &zmq::Context, allowed: AllowList) -> std::io::Result<Self> {
        let socket = context.socket(zmq::REP)?;
        socket.set_linger(0)?;
        socket.bind(ENDPOINT)?;
        let stop = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (stop.clone(), refused.clone());
        let thread = std::thread::Builder::new()
            .name("zmq-door".to_owned())
            .spawn(move || answer(&socket, &allowed, &stopped, &counter))?;
        Ok(Self { refused, stop, thread: Some(thread) })
    }

    /// Makes a socket ask before it takes a connection.
    ///
    /// # Errors
    /// When the socket does not take the option.
    pub fn guard(socket: &zmq::Socket) -> zmq::Result<()> {
        socket.set_zap_domain("tensorpow")
    }

    /// Connections refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread never panics; if it did there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &zmq::Socket, allowed: &AllowList, stop: &AtomicBool, refused: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        match socket.poll(zmq::POLLIN, POLL_MS) {
            Ok(0) | Err(zmq::Error::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return tracing::error!(%error, "nobody answers for ZeroMQ peers"),
        }
        let Ok(frames) = socket.recv_multipart(zmq::DONTWAIT) else { continue };
        let frame = |at: usize| frames.get(at).map(Vec::as_slice).unwrap_or_default();
        let address = std::str::from_utf8(frame(3)).unwrap_or_default();
        let welcome = parse_peer(address).is_some_and(|address| allowed.allows(address));
        if !welcome {
            refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer = address, "a ZeroMQ peer outside the allow list was refused");
        }
        let status: [&[u8]; 2] = if welcome { [b"200", b"OK"] } else { [b"400", b"refused"] };
        let reply: [&[u8]; 6] = [b"1.0", frame(1), status[0], status[1], b"", b""];
        if let Err(error) = socket.send_multipart(reply, zmq::DONTWAIT) {
            tracing::warn!(%error, "a ZeroMQ peer got no answer");
        }
    }
}

/// A peer's address as libzmq writes it, perhaps with a scope.
fn parse_peer(text: &str) -> Option<IpAddr> {
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    text.parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .ok()
        .or_else(|| text.trim_matches(['[', ']']).parse::<Ipv6Addr>().map(IpAddr::V6).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_only() {
        let cases = [
            ("172.16.0.0/12", "172.31.255.255", true),
            ("172.16.0.0/12", "172.32.0.0", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ];
        for (network, address, expected) in cases {
            let network: IpNetwork = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
        for bad in ["", "x", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(bad.parse::<IpNetwork>().is_err(), "{bad:?}");
        }
        assert!(AllowList::default().allows("127.0.0.1".parse().unwrap()));
        assert!(!AllowList::default().allows("10.0.0.1".parse().unwrap()));
    }

    /// A peer from 127.0.0.1 is always let in, so the refusal is tested on the protocol itself.
    #[test]
    fn the_door_answers_by_the_list() {
        let context = zmq::Context::new();
        let allowed = AllowList::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let door = Door::open(&context, allowed).unwrap();
        let asking = context.socket(zmq::REQ).unwrap();
        asking.connect(ENDPOINT).unwrap();
        for (peer, status) in
            [("127.0.0.1", "200"), ("10.9.9.9", "200"), ("192.168.0.1", "400"), ("?", "400")]
        {
            let request = ["1.0", "7", "tensorpow", peer, "", "NULL"];
            asking.send_multipart(request, 0).unwrap();
            let reply = asking.recv_multipart(0).unwrap();
            assert_eq!(reply[..3], [b"1.0".to_vec(), b"7".to_vec(), status.into()], "{peer}");
            assert_eq!(reply.len(), 6);
        }
        assert_eq!(door.refused(), 2);
    }
}
