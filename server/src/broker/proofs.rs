//! The audit of a completion: its proof is looked up in the proxy's own cache. spec: broker §6

use super::inside::{Inside, read};
use super::outgoing::Outgoing;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::Duration;

/// Limit on the look-up.
const LIMIT: Duration = Duration::from_secs(10);
/// What a path segment may hold as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The answer to a request for a proof.
pub async fn answer(inside: &dyn Inside, completion_id: String) -> Outgoing {
    let outcome = match tokio::time::timeout(LIMIT, look_up(inside, &completion_id)).await {
        Ok(outcome) => outcome,
        Err(_) => Err("proof_timeout".to_owned()),
    };
    let (proof_b64, error) = match outcome {
        Ok(proof) => (Some(STANDARD.encode(proof)), None),
        Err(error) => (None, Some(error)),
    };
    Outgoing::ProofResult { completion_id, proof_b64, error }
}

async fn look_up(inside: &dyn Inside, completion_id: &str) -> Result<Bytes, String> {
    let path = format!("/v1/proof/{}", utf8_percent_encode(completion_id, SEGMENT));
    let answer = inside.call(Method::GET, &path, Bytes::new()).await;
    let status = answer.status();
    let body = read(answer).await.map_err(|error| format!("internal_error:{error}"))?;
    match status {
        StatusCode::OK if body.is_empty() => {
            Err("internal_error:Empty proof blob received".to_owned())
        }
        StatusCode::OK => Ok(body),
        StatusCode::NOT_FOUND => Err("proof_not_ready".to_owned()),
        other => Err(format!("http_{}:{}", other.as_u16(), String::from_utf8_lossy(&body))),
    }
}
