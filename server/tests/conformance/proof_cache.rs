//! Group `proof_cache`: puts and gets with a clock of their own. The reference keeps one proof an id,
//! ours all of them; the newest is the one that is compared. spec: proxy §15

use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tensorpow_core::classify::Tier;
use tensorpow_server::cache::{CacheLimits, ProofCache};
use tensorpow_server::mining::sink::ReceivedProof;

/// Runs every case; panics at the first difference.
pub fn run(cases: &Value) {
    for (number, case) in cases.as_array().expect("a list of cases").iter().enumerate() {
        trace(number, case);
    }
}

fn trace(number: usize, case: &Value) {
    let ttl = Duration::from_secs(case["ttl"].as_u64().expect("ttl"));
    let megabytes = usize::try_from(case["mb"].as_u64().expect("mb")).unwrap().max(1);
    let limits = CacheLimits { ttl, max_bytes: megabytes * 1_048_576 };
    let cache = ProofCache::new(limits);
    let start = Instant::now();
    let results = case["results"].as_array().expect("results");
    for (op, expected) in case["ops"].as_array().expect("ops").iter().zip(results) {
        let seconds = op[0].as_f64().expect("a time");
        let now = start + Duration::from_secs_f64(seconds);
        let name = || op[2].as_str().expect("a key");
        let found = match op[1].as_str().expect("an operation") {
            "put" => {
                let size = usize::try_from(op[3].as_u64().expect("a size")).unwrap();
                cache.put(name(), proof(size), None, now, now);
                json!(cache.keys(usize::MAX).1)
            }
            "get" => cache.get(name(), now).last().map_or(Value::Null, |found| {
                // When it was put, from what is left of its life.
                let put = (seconds - (ttl - found.ttl_remaining).as_secs_f64()).round();
                json!([put as u64, found.proof.message.len(), found.ttl_remaining.as_secs()])
            }),
            "stats" => {
                let stats = cache.stats();
                json!({
                    "items": stats.items,
                    "bytes": stats.bytes,
                    "max_bytes": cache.limits().max_bytes,
                    "ttl_seconds": cache.limits().ttl.as_secs(),
                })
            }
            other => panic!("case {number}: unknown operation {other}"),
        };
        assert_eq!(&found, expected, "case {number}, {op}");
    }
}

fn proof(size: usize) -> Arc<ReceivedProof> {
    Arc::new(ReceivedProof {
        message: vec![0; size].into(),
        completion_id: String::new(),
        tier: Tier::Share,
        request_id: 0,
        nonce: 0,
        parent: None,
        digest: None,
        model_identifier: String::new(),
        received_at: SystemTime::now(),
    })
}
