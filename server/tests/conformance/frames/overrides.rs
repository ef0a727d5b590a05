//! The one table of places where a RULE replaces what the recorded worker does, by group and case.
//! `conventions.rule_overrides` of the file lists the same cases. spec: broker §13

use serde_json::{Value, json};

/// What a case's frames become, and where the rule stands. `None` where the recording counts.
pub fn frames(group: &str, name: &str, step: usize, frame: &Value) -> Option<Vec<Value>> {
    let job = &frame["job_id"];
    Some(match (group, name) {
        // 5.1: a payload that is no object is answered.
        ("start_jobs", "payload_missing" | "payload_null" | "payload_string") => vec![
            json!({ "type": "ACK", "job_id": job }),
            json!({ "type": "ERROR", "job_id": job, "error": "invalid payload" }),
        ],
        // 1.2: a bad interval means 15 s, a bad agent id is ignored.
        ("sessions", "registration_ack") if frame["type"] == "ACK" && has_bad_value(frame) => {
            vec![idle_heartbeat()]
        }
        // 3.3: a null timestamp is none. HMAC of nonce and worker id alone.
        ("sessions", "challenge") if frame.get("timestamp").is_some_and(Value::is_null) => {
            vec![without_timestamp(frame)]
        }
        // 7.5: a response without a proof is dropped.
        ("sessions", "garbage_into_collector") if step == 5 => Vec::new(),
        _ => return None,
    })
}

/// Steps of a session whose proof is sent although its template is not the newest: name and step.
/// spec: §7.5, same parent
pub const SAME_PARENT: &[&str] = &["same_parent_refresh", "same_job_resent"];

/// Leases that stay open where the recording closes them: session, first step, request id.
pub const STILL_OPEN: &[(&str, usize, u32)] = &[
    // 1.1: the lease stays until its result is sent.
    ("disconnect_keeps_mining_state", 7, 50),
    // 7.5: a response without a proof is dropped.
    ("garbage_into_collector", 5, 56),
];

/// Ids that are cached where the recording does not: session, first step, completion id.
/// spec: proxy §16.3, proofs that arrive during a pause are cached
pub const CACHED: &[(&str, usize)] = &[("audit_proof", 3)];

/// A registry where one record is malformed: session, step. The others are kept. spec: §7.1
pub const REGISTRY: &[(&str, usize)] = &[("registry_sync", 4)];

/// Requests for a proof whose path is percent-encoded. spec: §6
pub fn proof_path(recorded: &str) -> String {
    match recorded.strip_prefix("GET /v1/proof/") {
        Some(id) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            let encoded: String = id
                .chars()
                .map(|c| match plain(c) {
                    true => c.to_string(),
                    false => c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
                })
                .collect();
            format!("GET /v1/proof/{encoded}")
        }
        None => recorded.to_owned(),
    }
}

/// §10: this worker refuses confidential jobs and says so in its first frame.
pub fn hello(mut frame: Value) -> Value {
    let capabilities = &mut frame["capabilities"];
    if let Some(features) = capabilities["features"].as_array_mut() {
        features.retain(|feature| feature != "confidential_responses");
    }
    if let Some(modes) = capabilities["modes"].as_array_mut() {
        modes.retain(|mode| mode != "confidential");
    }
    frame
}

fn has_bad_value(ack: &Value) -> bool {
    let interval = ack.get("heartbeat_interval_sec");
    let bad_interval = interval.is_some_and(|interval| match interval {
        Value::Number(_) => false,
        Value::String(text) => text.parse::<i64>().is_err(),
        _ => true,
    });
    bad_interval || ack.get("agent_id").is_some_and(|id| !id.is_string())
}

pub fn idle_heartbeat() -> Value {
    json!({
        "type": "HEARTBEAT", "busy": 0, "input_tokens_per_sec": 0.0,
        "output_tokens_per_sec": 0.0, "error_rate": 0.0, "queue_depth": 0,
    })
}

fn without_timestamp(challenge: &Value) -> Value {
    use base64::Engine as _;
    use hmac::{Hmac, Mac};
    let nonce = match &challenge["nonce"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"s3cret").expect("a key");
    mac.update(nonce.as_bytes());
    mac.update(b"worker-vec-01");
    let proof = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    json!({ "type": "CHALLENGE_RESP", "nonce": challenge["nonce"], "proof": proof })
}
