//! Which headers pass between client and engine, and which end at the proxy. spec: proxy §4

use super::request_id::{RequestId, TRACEPARENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// The id every request to an engine carries; vLLM makes the completion id out of it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Opt-out of a request: `off`.
pub const X_TENSORPOW_MINE: HeaderName = HeaderName::from_static("x-tensorpow-mine");
/// Says on the answer whether the request was mined, and if not, why.
pub const X_TENSORPOW_MINING: HeaderName = HeaderName::from_static("x-tensorpow-mining");
/// The fresh id on the answer, where the client brought its own `X-Request-Id`.
pub const X_TENSORPOW_REQUEST_ID: HeaderName = HeaderName::from_static("x-tensorpow-request-id");

/// Headers that belong to one connection. spec: RFC 9110 §7.6.1
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Takes out what belongs to one connection, and what `ours` says. What stays is not touched.
fn leave_behind(headers: &mut HeaderMap, ours: impl Fn(&HeaderName) -> bool) {
    let listed = named_by_connection(headers);
    let gone = |name: &&HeaderName| {
        ours(name)
            || HOP_BY_HOP.contains(&name.as_str())
            || listed.iter().any(|listed| listed.eq_ignore_ascii_case(name.as_str()))
    };
    let gone: Vec<HeaderName> = headers.keys().filter(gone).cloned().collect();
    for name in &gone {
        headers.remove(name);
    }
}

/// The header names a `Connection` header lists.
fn named_by_connection(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // They are dropped anyway.
        .filter(|name| !HOP_BY_HOP.contains(name))
        .collect()
}

/// The client's headers as the engine gets them: hop-by-hop headers, `Host`, framing and our own
/// are dropped, duplicates of the rest are kept. The engine's answer is wanted uncompressed, since
/// it is read on the way. A client that showed a key of ours comes with `engine_key` in its place; any
/// other `Authorization` is between the client and the engine. The request id is ours, the trace is
/// the client's with our span.
#[must_use]
pub fn for_engine(
    client: HeaderMap,
    id: &RequestId,
    engine_key: Option<&HeaderValue>,
    showed_our_key: bool,
) -> HeaderMap {
    let mut headers = client;
    leave_behind(&mut headers, |name| {
        *name == header::HOST
            || *name == header::CONTENT_LENGTH
            || *name == header::EXPECT
            || *name == header::ACCEPT_ENCODING
            || *name == X_REQUEST_ID
            || *name == X_TENSORPOW_MINE
            || *name == TRACEPARENT
            || (*name == header::AUTHORIZATION && showed_our_key)
    });
    if let (true, Some(key)) = (showed_our_key, engine_key) {
        headers.insert(header::AUTHORIZATION, key.clone());
    }
    if let Some(trace) = id.traceparent() {
        headers.insert(TRACEPARENT, trace.clone());
    }
    headers.insert(X_REQUEST_ID, id.header().clone());
    headers
}

/// The engine's headers as the client gets them: without hop-by-hop headers, framing (it is
/// recomputed) and CORS (which the proxy decides, not an engine behind it).
#[must_use]
pub fn for_client(engine: HeaderMap) -> HeaderMap {
    let mut headers = engine;
    leave_behind(&mut headers, |name| {
        *name == header::CONTENT_LENGTH
            || *name == X_REQUEST_ID
            || name.as_str().starts_with("access-control-")
    });
    headers
}

/// True when the headers say the body is an SSE stream.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}

/// The media type of `Content-Type`, without its parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn connection_headers_and_what_they_name_stay_behind() {
        let client = map(&[
            ("connection", "close, X-Local"),
            ("x-local", "1"),
            ("te", "trailers"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("host", "h"),
            ("content-length", "3"),
            ("x-request-id", "theirs"),
            ("cookie", "a"),
            ("cookie", "b"),
        ]);
        let id = RequestId::fresh(&client).unwrap();
        let sent = for_engine(client, &id, None, false);
        assert_eq!(sent.len(), 3);
        assert_eq!(sent.get_all("cookie").iter().count(), 2);
        assert_eq!(sent[X_REQUEST_ID], id.header());
    }

    #[test]
    fn our_key_never_reaches_the_engine() {
        let client = map(&[("authorization", "Bearer ours")]);
        let id = RequestId::fresh(&client).unwrap();
        let key = HeaderValue::from_static("Bearer engine");
        assert!(!for_engine(client.clone(), &id, None, true).contains_key("authorization"));
        assert_eq!(
            for_engine(client.clone(), &id, Some(&key), true)["authorization"],
            "Bearer engine"
        );
        assert_eq!(for_engine(client, &id, Some(&key), false)["authorization"], "Bearer ours");
    }

    #[test]
    fn answers_lose_framing_and_cors() {
        let engine = map(&[
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "*"),
            ("content-type", "text/event-stream; charset=utf-8"),
            ("server", "x"),
        ]);
        let answer = for_client(engine);
        assert_eq!(answer.len(), 2);
        assert!(is_event_stream(&answer));
    }
}
