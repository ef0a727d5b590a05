//! The proof that a worker knows the secret it was given. spec: broker §3.3

use super::frames::Challenge;
use super::outgoing::Outgoing;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// The answer: HMAC-SHA256 over nonce, worker id and timestamp, one behind the other. `None` for a
/// key that no HMAC takes, which there is none.
#[must_use]
pub fn answer(challenge: &Challenge, worker_id: &str, secret: &str) -> Option<Outgoing> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(as_text(&challenge.nonce).as_bytes());
    mac.update(worker_id.as_bytes());
    mac.update(as_text(&challenge.timestamp).as_bytes());
    let proof = STANDARD.encode(mac.finalize().into_bytes());
    Some(Outgoing::ChallengeResponse { nonce: challenge.nonce.clone(), proof })
}

/// Digits of a number, a string itself, nothing for what is absent.
fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
