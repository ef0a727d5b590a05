//! Audits of completions: the broker asks for the proof of one, again while it is not ready, and
//! looks at what comes. spec: broker §6, §12 item 10

use super::{Books, frames};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tensorpow_core::proof::MiningResponseRef;
use tokio::sync::oneshot;

/// How often a proof is asked for before it is given up. spec: broker §12 item 10
const TRIES: u32 = 5;
/// A worker fetches for ten seconds at most; then its answer is due. spec: broker §6
const ANSWER: Duration = Duration::from_secs(15);

/// Questions that wait for their answer, by worker and completion.
#[derive(Debug, Default)]
pub(super) struct Audits(Mutex<HashMap<(String, String), oneshot::Sender<Value>>>);

impl Audits {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), oneshot::Sender<Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a worker, any one if none is named, for the proof of a completion. The outcome has either
/// `bytes` and what the proof says, or `error`; it is in the ledger too.
pub async fn audit(books: &Books, worker: Option<&str>, completion_id: &str) -> Value {
    let mut outcome = json!({ "completion_id": completion_id });
    let Some(worker) = books.workers.choose(worker) else {
        outcome["error"] = "no worker".into();
        return outcome;
    };
    outcome["worker"] = worker.id.clone().into();
    let key = (worker.id.clone(), completion_id.to_owned());
    for number in 1..=TRIES {
        let (sender, answer) = oneshot::channel();
        books.audits.lock().insert(key.clone(), sender);
        worker.send(frames::proof_request(completion_id));
        let frame = match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(frame)) => frame,
            _ => json!({ "error": "no answer" }),
        };
        if frame["error"] == "proof_not_ready" && number < TRIES {
            tokio::time::sleep(books.settings.timing.audit_again).await;
            continue;
        }
        read(&frame, completion_id, &mut outcome);
        break;
    }
    books.audits.lock().remove(&key);
    books.ledger.record("proof", outcome.clone());
    outcome
}

/// A `PROOF_RESULT`.
pub(super) fn take(books: &Books, worker: &str, frame: &Value) {
    let completion = frame["completion_id"].as_str().unwrap_or_default();
    let key = (worker.to_owned(), completion.to_owned());
    match books.audits.lock().remove(&key) {
        // Whoever asked may have given up.
        Some(sender) => drop(sender.send(frame.clone())),
        None => books.ledger.violation(worker, format!("an unasked PROOF_RESULT {completion:?}")),
    }
}

fn read(frame: &Value, completion_id: &str, outcome: &mut Value) {
    if let Some(error) = frame.get("error") {
        outcome["error"] = error.clone();
        return;
    }
    let bytes = frame["proof_b64"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let Some(bytes) = bytes else {
        outcome["error"] = "neither proof_b64 nor error".into();
        return;
    };
    outcome["bytes"] = bytes.len().into();
    match MiningResponseRef::read(&bytes) {
        Err(error) => outcome["error"] = error.to_string().into(),
        Ok(response) if response.completion_id != completion_id.as_bytes() => {
            outcome["error"] = "the proof of another completion".into();
        }
        Ok(response) => {
            outcome["request_id"] = response.req_id.into();
            outcome["hash"] = response.pow_blob.map(|proof| hex::encode(proof.hash)).into();
        }
    }
}
