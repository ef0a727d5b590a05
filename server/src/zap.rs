//! An allow-list in front of a ZeroMQ socket, by the library's own authentication protocol (ZAP): it
//! asks a handler in the same context about every connection before it takes a byte. The bundled
//! library has no CURVE, so what crosses a network is neither encrypted nor signed: between machines
//! that do not trust the wire, tunnel it. spec: proxy §16.1

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where the library asks. One handler a context.
const HANDLER: &str = "inproc://zeromq.zap.01";
/// Any domain: an empty one means that nobody is asked.
const DOMAIN: &str = "tensorpow";
/// How often the handler looks whether it should stop.
const POLL_MS: i64 = 100;

/// Addresses that share a prefix, as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    bits: u8,
}

/// No address and no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address nor a range such as 10.0.0.0/8")]
pub struct AddressRangeError(String);

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AddressRangeError(text.to_owned());
        let (address, bits) = match text.trim().split_once('/') {
            None => (text.trim(), None),
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl AddressRange {
    /// Whether an address is in the range. An IPv4 address in IPv6 clothes counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(range) & kept == u32::from(address) & kept
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let kept = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(range) & kept == u128::from(address) & kept
            }
            _ => false,
        }
    }
}

/// The handler of one context; dropping it ends its thread.
#[derive(Debug)]
pub struct Gate {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gate {
    /// Lets only the listed addresses connect to `socket`, which must not be bound yet and must be
    /// of `context`.
    ///
    /// # Errors
    /// [`zmq::Error`] when the handler cannot be put in place; then nothing guards the socket.
    pub fn guard(
        context: &zmq::Context,
        socket: &zmq::Socket,
        allow: &[AddressRange],
    ) -> Result<Self, zmq::Error> {
        let handler = context.socket(zmq::REP)?;
        handler.set_linger(0)?;
        handler.bind(HANDLER)?;
        socket.set_zap_domain(DOMAIN)?;
        let (stop, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counter, allow) = (stop.clone(), refused.clone(), allow.to_vec());
        let thread = std::thread::Builder::new()
            .name("zap".to_owned())
            .spawn(move || answer(&handler, &allow, &counter, &stopped))
            .map_err(|_| zmq::Error::ENOMEM)?;
        Ok(Self { stop, refused, thread: Some(thread) })
    }

    /// Connections refused so far. A peer that keeps trying counts again and again.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It never panics; if it did there would be nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// Answers the library's questions: version, request, domain, address, identity, mechanism.
/// Silence refuses, so an error ends the thread and with it every new connection.
fn answer(handler: &zmq::Socket, allow: &[AddressRange], refused: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match handler.poll(zmq::POLLIN, POLL_MS) {
            Ok(0) | Err(zmq::Error::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return tracing::error!(%error, "no engine can connect any more"),
        }
        let Ok(question) = handler.recv_multipart(zmq::DONTWAIT) else { continue };
        let part = |index: usize| question.get(index).map_or(&[][..], Vec::as_slice);
        let address = std::str::from_utf8(part(3)).ok().and_then(|text| text.parse().ok());
        let known = address
            .is_some_and(|address: IpAddr| allow.iter().any(|range| range.contains(address)));
        let (code, text): (&[u8], &[u8]) =
            if known { (b"200", b"OK") } else { (b"400", b"address not allowed") };
        if !known && refused.fetch_add(1, Ordering::Relaxed) == 0 {
            let address = String::from_utf8_lossy(part(3)).into_owned();
            tracing::warn!(
                address,
                "an engine's connection is refused: it is not in the allow list"
            );
        }
        let reply: [&[u8]; 6] = [b"1.0", part(1), code, text, b"", b""];
        if let Err(error) = handler.send_multipart(reply, 0) {
            return tracing::error!(%error, "no engine can connect any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_what_shares_its_prefix() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            (" 10.1.0.0/16 ", "::ffff:10.1.2.3", "::1"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("fd00::/8", "fdab::1", "fe80::1"),
            ("::1", "::1", "::2"),
        ] {
            let range: AddressRange = range.parse().unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{range} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "engine", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad:?}");
        }
    }
}
