//! What a worker must say about itself in its first frame, held against the specification key by
//! key, and what follows from it: whether it gets leases, and how many. spec: broker §3.1

use super::token::hmac_sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Characters of a worker id at most. spec: broker §1
const ID_LIMIT: usize = 64;

/// What a `HELLO` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) worker_id: String,
    pub(super) models: Vec<String>,
    /// Leases it takes at once, or why it gets none.
    pub(super) mining: Result<usize, String>,
    /// What is not as the specification has it.
    pub(super) oddities: Vec<String>,
}

/// Reads a `HELLO`.
///
/// # Errors
/// Why there is nobody to register.
pub(super) fn read(frame: &Value, network: &str) -> Result<Hello, String> {
    if frame["type"] != "HELLO" {
        return Err(format!("the first frame is {}, not a HELLO", frame["type"]));
    }
    let worker_id = match frame["worker_id"].as_str() {
        Some(id) if (1..=ID_LIMIT).contains(&id.chars().count()) => id.to_owned(),
        _ => return Err(format!("worker_id must have 1 to {ID_LIMIT} characters")),
    };
    let models = frame["models"].as_array().into_iter().flatten();
    let models: Vec<_> = models.filter_map(Value::as_str).map(str::to_owned).collect();
    let mut oddities = Vec::new();
    check(frame, &models, &mut oddities);
    let mining = leases(&frame["capabilities"]["mining"], network);
    Ok(Hello { worker_id, models, mining, oddities })
}

/// Every key of the two tables: present, of its type, nothing null, nothing unknown.
fn check(frame: &Value, models: &[String], oddities: &mut Vec<String>) {
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            oddities.push(what.to_owned());
        }
    };
    let known = |object: &Value, keys: &[&str]| {
        object.as_object().is_some_and(|object: &Map<String, Value>| {
            object.keys().all(|key| keys.contains(&key.as_str()))
        })
    };
    let top = ["type", "worker_id", "models", "capacity", "capabilities"];
    expect(known(frame, &top), "unknown keys in HELLO");
    expect(
        !models.is_empty()
            && frame["models"].as_array().is_some_and(|all| all.len() == models.len()),
        "models is no list of names",
    );
    expect(frame["capacity"].is_u64(), "capacity is no number");
    let can = &frame["capabilities"];
    let texts = ["compute_type", "gpu_model", "region"];
    let numbers = ["memory_gb", "max_context_window", "max_context_tokens", "max_output_tokens"];
    let lists = ["features", "quantization", "modes"];
    let keys = [&texts[..], &numbers, &lists, &["mining"]].concat();
    expect(known(can, &keys), "unknown keys in capabilities");
    for text in texts {
        expect(can[text].is_string(), &format!("{text} is no text"));
    }
    for number in numbers {
        expect(can[number].is_u64(), &format!("{number} is no number"));
    }
    for list in lists {
        let texts = can[list].as_array().is_some_and(|all| all.iter().all(Value::is_string));
        expect(texts, &format!("{list} is no list of names"));
    }
    expect(
        can["max_context_window"] == can["max_context_tokens"],
        "max_context_window and max_context_tokens differ",
    );
    let has = |list: &str, name: &str| {
        can[list].as_array().is_some_and(|all| all.iter().any(|item| item == name))
    };
    expect(has("features", "streaming"), "features without streaming");
    expect(has("features", "responses"), "features without responses");
    expect(has("modes", "plaintext"), "modes without plaintext");
    expect(
        has("features", "confidential_responses") == has("modes", "confidential"),
        "features and modes disagree about confidential jobs",
    );
    expect(
        has("features", "pow_injection") == can.get("mining").is_some(),
        "pow_injection and mining disagree",
    );
    let Some(mining) = can.get("mining") else { return };
    let keys = [
        "enabled",
        "schema_version",
        "networks",
        "supported_modes",
        "supports_broker_registry",
        "supports_solution_return",
        "max_parallel",
    ];
    expect(known(mining, &keys), "unknown keys in mining");
    expect(
        mining["supported_modes"] == serde_json::json!(["dummy_only", "request_attached"]),
        "supported_modes",
    );
    expect(
        mining["max_parallel"].as_u64().is_some_and(|most| most > 0),
        "max_parallel is no number",
    );
}

/// How many leases a worker takes, or why it is not given any. spec: broker §3.1
fn leases(mining: &Value, network: &str) -> Result<usize, String> {
    if mining["enabled"] != true {
        return Err("it does not mine".to_owned());
    }
    if mining["schema_version"] != 2 {
        return Err(format!("schema_version {} is not 2", mining["schema_version"]));
    }
    let networks = mining["networks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !networks.iter().any(|name| name == network) {
        return Err(format!("networks {} without {network:?}", mining["networks"]));
    }
    for flag in ["supports_broker_registry", "supports_solution_return"] {
        if mining[flag] != true {
            return Err(format!("{flag} is not set"));
        }
    }
    let most = mining["max_parallel"].as_u64().unwrap_or(1).max(1);
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

/// Whether a `CHALLENGE_RESP` proves that the worker has the secret. spec: broker §3.3
pub(super) fn proves(
    frame: &Value,
    secret: &str,
    nonce: &str,
    worker: &str,
    timestamp: u64,
) -> bool {
    let message = format!("{nonce}{worker}{timestamp}");
    let proof = STANDARD.encode(hmac_sha256(secret.as_bytes(), message.as_bytes()));
    frame["type"] == "CHALLENGE_RESP" && frame["nonce"] == nonce && frame["proof"] == *proof
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hello() -> Value {
        json!({"type":"HELLO","worker_id":"worker-vec-01","models":["Qwen/Qwen3-8B"],"capacity":4,
            "capabilities":{"compute_type":"nvidia-8.9","gpu_model":"RTX-4090","memory_gb":24,
            "region":"us-west-2","max_context_window":8192,"max_context_tokens":8192,
            "max_output_tokens":8192,"features":["streaming","pow_injection","responses"],
            "quantization":["fp16","int8"],"modes":["plaintext"],
            "mining":{"enabled":true,"schema_version":2,"networks":["tensor"],
            "supported_modes":["dummy_only","request_attached"],"supports_broker_registry":true,
            "supports_solution_return":true,"max_parallel":1}}})
    }

    #[test]
    fn the_specifications_example_is_as_specified() {
        let read = read(&hello(), "tensor").unwrap();
        assert_eq!(read.worker_id, "worker-vec-01");
        assert_eq!((read.mining, read.oddities), (Ok(1), Vec::<String>::new()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut frame = hello();
        frame["capabilities"]["memory_gb"] = Value::Null;
        frame["capabilities"]["mining"]["networks"] = json!([]);
        let found = read(&frame, "tensor").unwrap();
        assert_eq!(found.oddities, ["memory_gb is no number"]);
        assert_eq!(found.mining, Err("networks [] without \"tensor\"".to_owned()));
        frame["worker_id"] = "x".repeat(65).into();
        assert!(read(&frame, "tensor").is_err());
        assert!(read(&json!({"type":"HEARTBEAT"}), "tensor").is_err());
    }

    #[test]
    fn a_challenge_is_answered_with_the_published_proof() {
        // vectors frames.json, session `challenge`, step 1
        let frame = json!({ "type": "CHALLENGE_RESP", "nonce": "n-18c60a1cb560be77",
            "proof": "ScW6X7ObNXVKpIWIsuB/aXkSA8/b7fHct+HdFENtD9k=" });
        let proves = |worker, at| proves(&frame, "s3cret", "n-18c60a1cb560be77", worker, at);
        assert!(proves("worker-vec-01", 1_699_123_456));
        assert!(!proves("worker-vec-02", 1_699_123_456));
        assert!(!proves("worker-vec-01", 1_699_123_457));
    }
}
