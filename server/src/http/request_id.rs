//! The ids of a request: our own, fresh and unique, which becomes the engine's completion id and so
//! the key of its proofs; and the client's trace, in which the proxy is one more hop.
//! spec: proxy §4, W3C Trace Context

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::RefCell;
use std::fmt::Write as _;

/// The trace a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The ids of one request. An extension of every request.
#[derive(Debug, Clone)]
pub struct RequestId {
    fresh: HeaderValue,
    traceparent: Option<HeaderValue>,
}

impl RequestId {
    /// 128 random bits in hex, and the client's trace with a span of our own. `None` when the system
    /// has no random numbers.
    #[must_use]
    pub fn fresh(client: &HeaderMap) -> Option<Self> {
        let bits = fresh_bits()?;
        let (id, span) = bits.split_at(16);
        let mut text = [0; 32];
        hex::encode_to_slice(id, &mut text).ok()?;
        let fresh = HeaderValue::from_bytes(&text).ok()?;
        let traceparent = client
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .filter(|value| is_traceparent(value))
            .and_then(|value| with_span(value, span));
        Some(Self { fresh, traceparent })
    }

    /// Our id as a header value.
    #[must_use]
    pub const fn header(&self) -> &HeaderValue {
        &self.fresh
    }

    /// Our id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.fresh.to_str().unwrap_or_default()
    }

    /// The client's trace, continued.
    #[must_use]
    pub const fn traceparent(&self) -> Option<&HeaderValue> {
        self.traceparent.as_ref()
    }

    /// Id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_ref()?.to_str().ok()?.get(3..35)
    }
}

/// Random bytes that a thread has in store.
struct Stock {
    bytes: [u8; 64 * BITS],
    left: usize,
}

/// Bytes of an id and a span.
const BITS: usize = 24;

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; 64 * BITS], left: 0 }) };
}

/// Random bytes that nobody gets twice; the system is asked once for many.
fn fresh_bits() -> Option<[u8; BITS]> {
    STOCK.with_borrow_mut(|Stock { bytes, left }| {
        if *left == 0 {
            getrandom::fill(bytes).ok()?;
            *left = bytes.len() / BITS;
        }
        *left -= 1;
        bytes.as_chunks().0.get(*left).copied()
    })
}

/// `version-traceid-parentid-flags`, all of it lowercase hex, no id all zeros, no version ff.
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.splitn(5, '-').collect();
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_id = |text: &str, len: usize| is_hex(text, len) && text.bytes().any(|b| b != b'0');
    match parts[..] {
        [version, trace, parent, flags] => {
            is_hex(version, 2)
                && version != "ff"
                && is_id(trace, 32)
                && is_id(parent, 16)
                && is_hex(flags, 2)
        }
        // A later version may say more; what is known of it stands at the beginning.
        [version, trace, parent, flags, _] => {
            is_hex(version, 2)
                && !["00", "ff"].contains(&version)
                && is_id(trace, 32)
                && is_id(parent, 16)
                && is_hex(flags, 2)
        }
        _ => false,
    }
}

/// The same trace and flags with us as the parent.
fn with_span(value: &str, span: &[u8]) -> Option<HeaderValue> {
    let (trace, flags) = (value.get(3..35)?, value.get(53..55)?);
    let mut text = format!("00-{trace}-");
    for byte in span {
        write!(text, "{byte:02x}").ok()?;
    }
    HeaderValue::from_str(&format!("{text}-{flags}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(traceparent: &str) -> RequestId {
        let value = HeaderValue::from_str(traceparent).unwrap();
        RequestId::fresh(&HeaderMap::from_iter([(TRACEPARENT, value)])).unwrap()
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let ours = id(given);
        assert_eq!(ours.trace_id(), Some("0af7651916cd43dd8448eb211c80319c"));
        let sent = ours.traceparent().unwrap().to_str().unwrap();
        assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with("-01"));
        assert_ne!(sent, given);
        assert_eq!(ours.as_str().len(), 32);
    }

    #[test]
    fn a_malformed_trace_is_dropped() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert!(id(bad).traceparent().is_none(), "{bad:?}");
        }
        assert!(
            id("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x").traceparent().is_some()
        );
    }
}
