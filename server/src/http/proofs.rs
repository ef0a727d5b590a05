//! Collected proofs by completion id. The route order matters: `keys`, `stats` and `status` are
//! words of the API, so a proof filed under them cannot be fetched. spec: proxy §6

use super::App;
use super::errors::ApiError;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Keys listed at most.
const KEYS_LISTED: usize = 500;

const TIMESTAMP: HeaderName = HeaderName::from_static("x-proof-timestamp");
const TTL_REMAINING: HeaderName = HeaderName::from_static("x-proof-ttl-remaining");
const CANONICAL_ID: HeaderName = HeaderName::from_static("x-proof-canonical-id");
const ALIASED: HeaderName = HeaderName::from_static("x-proof-aliased");
const INDEX: HeaderName = HeaderName::from_static("x-proof-index");
const COUNT: HeaderName = HeaderName::from_static("x-proof-count");

/// Which of a completion's proofs.
#[derive(Debug, Deserialize)]
pub struct Which {
    /// In order of arrival, from 0; the newest when absent.
    index: Option<usize>,
}

/// GET `/v1/proof/{id}`: the message as the engine sent it.
///
/// # Errors
/// 404 when there is no such proof, 400 for a malformed id or index.
pub async fn proof(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, ApiError> {
    let (Path(id), Query(which)) = (id?, which?);
    let found =
        app.store.find(&id, which.index).await.ok_or_else(|| ApiError::not_found("not found"))?;
    let number = |value: u64| HeaderValue::from(value);
    let mut response = found.proof.message.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(TIMESTAMP, number(found.unix_seconds()));
    headers.insert(TTL_REMAINING, number(found.ttl_remaining.as_secs()));
    headers.insert(ALIASED, number(u64::from(found.aliased)));
    headers.insert(INDEX, HeaderValue::from(found.index));
    headers.insert(COUNT, HeaderValue::from(found.count));
    // An id that cannot stand in a header is known to whoever asked with it.
    if let Ok(id) = HeaderValue::from_str(&found.canonical_id) {
        headers.insert(CANONICAL_ID, id);
    }
    let name = file_name(&found.canonical_id);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// `proof_<id>.bin`, with `_` for what has no place in a file name.
fn file_name(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    format!("proof_{}.bin", id.chars().map(safe).collect::<String>())
}

/// GET `/v1/proof/status/{id}`: 200 whether there is a proof or not.
///
/// # Errors
/// 400 for a malformed id.
pub async fn status(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id?;
    Ok(Json(match app.store.find(&id, None).await {
        None => json!({ "completion_id": id, "available": false }),
        Some(found) => json!({
            "completion_id": found.canonical_id,
            "available": true,
            "timestamp": found.unix_seconds(),
            "size_bytes": found.proof.message.len(),
            "ttl_remaining_seconds": found.ttl_remaining.as_secs(),
            "aliased": found.aliased,
            "count": found.count,
            "tier": found.proof.tier.as_str(),
        }),
    }))
}

/// GET `/v1/proof/keys`
pub async fn keys(State(app): State<Arc<App>>) -> Json<Value> {
    let (count, keys) = app.store.keys(KEYS_LISTED).await;
    Json(json!({ "count": count, "keys": keys }))
}

/// GET `/v1/proof/stats`
pub async fn stats(State(app): State<Arc<App>>) -> Json<Value> {
    let (stats, limits) = (app.store.stats(), app.store.limits());
    Json(json!({
        "items": stats.items,
        "bytes": stats.bytes,
        "max_bytes": limits.max_bytes,
        "ttl_seconds": limits.ttl.as_secs(),
        "proofs": stats.proofs,
        "spool": super::spool::summary(&app),
    }))
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_file_name_holds_no_surprises() {
        assert_eq!(file_name("chatcmpl-a.b"), "proof_chatcmpl-a.b.bin");
        assert_eq!(file_name("../x\"\r\n"), "proof_.._x___.bin");
    }
}
