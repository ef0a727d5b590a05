//! Proofs from the socket to the routes: garbage, staleness, aliases, limits.

use crate::engine::Script;
use crate::miner::{self, Mined, mine};
use crate::worker::{MODEL, Worker, wait_for};
use serde_json::Value;
use tensorpow_core::target::Target;
use tensorpow_server::collector::{Collector, CollectorSettings};

const REPLY: Script = Script::Json(200, "{}");

/// A payload nobody handed out: for proofs that are filed, not judged.
fn payload() -> Value {
    serde_json::json!({
        "header_prefix": "00".repeat(72) + "ffff7f20",
        "vdf": "ab".repeat(200),
        "tick": 5,
        "target": format!("{:x}", Target::POW_LIMIT_TENSOR),
        "ipfs_cid": "",
        "request_id": 9,
        "difficulty": 1,
        "model_identifier": MODEL,
    })
}

fn filed(worker: &Worker) -> usize {
    worker.app.store.stats().proofs
}

#[tokio::test]
async fn proofs_are_listed_and_fetched_by_completion_id() {
    let worker = Worker::plain(REPLY, &[]).await;
    let windows: Vec<Vec<u8>> =
        (0..3).map(|seed| mine(&payload(), "chatcmpl-x", seed).message()).collect();
    miner::push(&worker.collector, &windows);
    wait_for("three proofs", || filed(&worker) == 3).await;

    let newest = worker.get("/v1/proof/chatcmpl-x").await;
    assert_eq!(newest.status, 200);
    assert_eq!(newest.body, windows[2], "exactly as received");
    assert_eq!(newest.header("content-type"), "application/octet-stream");
    assert_eq!(
        newest.header("content-disposition"),
        "attachment; filename=\"proof_chatcmpl-x.bin\""
    );
    assert_eq!(newest.header("x-proof-canonical-id"), "chatcmpl-x");
    assert_eq!(newest.header("x-proof-aliased"), "0");
    assert_eq!(newest.header("x-proof-count"), "3");
    assert!(newest.header("x-proof-timestamp").parse::<u64>().unwrap() > 1_700_000_000);
    assert!((890..=900).contains(&newest.header("x-proof-ttl-remaining").parse::<u64>().unwrap()));

    let oldest = worker.get("/v1/proof/chatcmpl-x?index=0").await;
    assert_eq!(oldest.body, windows[0]);
    assert_eq!(worker.get("/v1/proof/chatcmpl-x?index=3").await.status, 404);
    let answer = worker.get("/v1/proof/chatcmpl-x?index=-1").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_query"));
    let answer = worker.get("/v1/proof/%ff").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_path"));
    let aliased = worker.get("/v1/proof/chatcmpl-x-0").await;
    assert_eq!(
        (aliased.header("x-proof-aliased"), aliased.header("x-proof-canonical-id")),
        ("1", "chatcmpl-x")
    );

    let missing = worker.get("/v1/proof/unknown").await;
    assert_eq!((missing.status, missing.error_code().as_str()), (404, "not_found"));
    let status = worker.get("/v1/proof/status/chatcmpl-x").await.json();
    assert_eq!(
        (&status["available"], &status["size_bytes"]),
        (&true.into(), &windows[2].len().into())
    );
    let status = worker.get("/v1/proof/status/unknown").await;
    assert_eq!((status.status, &status.json()["available"]), (200, &false.into()));
    let keys = worker.get("/v1/proof/keys").await.json();
    assert_eq!(keys, serde_json::json!({"count": 1, "keys": ["chatcmpl-x"]}));
    let stats = worker.get("/v1/proof/stats").await.json();
    assert_eq!(stats["items"], 1);
    assert_eq!(stats["bytes"], windows.iter().map(Vec::len).sum::<usize>());
    assert_eq!((&stats["max_bytes"], &stats["ttl_seconds"]), (&524_288_000.into(), &900.into()));
}

#[tokio::test]
async fn a_prompt_index_is_found_without_it() {
    let worker = Worker::plain(REPLY, &[]).await;
    let messages =
        [mine(&payload(), "cmpl-a-0", 1).message(), mine(&payload(), "cmpl-a-1", 2).message()];
    miner::push(&worker.collector, &messages);
    wait_for("two proofs", || filed(&worker) == 2).await;
    let found = worker.get("/v1/proof/cmpl-a").await;
    assert_eq!((found.status, found.header("x-proof-aliased")), (200, "1"));
    assert_eq!(found.header("x-proof-canonical-id"), "cmpl-a-1");
}

#[tokio::test]
async fn garbage_is_counted_and_harms_nobody() {
    let worker = Worker::plain(REPLY, &["--max-proof", "300000"]).await;
    let good = mine(&payload(), "after", 1).message();
    let mut cut = good.clone();
    cut.truncate(good.len() / 2);
    let mut bent = good.clone();
    bent[0] ^= 0x40;
    let no_blob =
        tensorpow_core::proof::Encode::encode_to_vec(&tensorpow_core::proof::MiningResponseRef {
            req_id: 9,
            completion_id: b"cmpl-p",
            ..Default::default()
        })
        .unwrap();
    miner::push(
        &worker.collector,
        &[vec![], vec![0], vec![0xff; 40], vec![0; 4096], cut, bent, no_blob],
    );
    // The socket itself refuses what is too large, and drops that connection only.
    miner::push(&worker.collector, &[vec![7; 400_000]]);
    miner::push(&worker.collector, &[good]);
    wait_for("the good proof", || filed(&worker) == 1).await;
    assert_eq!(worker.get("/v1/proof/after").await.status, 200);
    wait_for("all of them to be counted", || true).await;
    let metrics = worker.metrics().await;
    assert!(
        metrics.contains("tensorpow_proofs_dropped_total{reason=\"no_pow_blob\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("tensorpow_proofs_dropped_total{reason=\"malformed\"} 6"),
        "{metrics}"
    );
    assert!(metrics.contains("tensorpow_proofs_dropped_total{reason=\"no_sink\"} 1"), "{metrics}");
}

#[tokio::test]
async fn an_audit_is_filed_and_never_forwarded() {
    let worker = Worker::devnet(REPLY, &[], &[]).await;
    let audit = |id: &str| {
        let mut mined: Mined = mine(&payload(), id, 1);
        mined.proof.extra_flags = br#"{"proof_purpose":"audit"}"#.to_vec();
        mined.proof.is_solution = true;
        mined.proof.model_identifier = b"another/model@1".to_vec();
        mined.message()
    };
    miner::push(&worker.collector, &[audit("cmpl-audit"), audit("")]);
    wait_for("the audit", || filed(&worker) == 1).await;
    let status = worker.get("/v1/proof/status/cmpl-audit").await.json();
    assert_eq!(status["tier"], "audit");
    let metrics = worker.metrics().await;
    assert!(metrics.contains("reason=\"audit_without_completion_id\"} 1"), "{metrics}");
    assert!(!metrics.contains("proofs_judged_total{"), "{metrics}");
}

#[tokio::test]
async fn a_proof_of_another_model_is_dropped_and_one_of_another_parent_only_filed() {
    let worker = Worker::devnet(REPLY, &[], &[]).await;
    let stale = mine(&payload(), "stale", 1);
    let mut other = mine(&payload(), "other", 1);
    other.proof.model_identifier = b"x/y@z".to_vec();
    miner::push(&worker.collector, &[other.message(), stale.message()]);
    wait_for("the stale proof", || filed(&worker) == 1).await;
    assert_eq!(worker.get("/v1/proof/stale").await.status, 200);
    assert_eq!(worker.get("/v1/proof/other").await.status, 404);
    let metrics = worker.metrics().await;
    assert!(metrics.contains("reason=\"other_model\"} 1"), "{metrics}");
    assert!(metrics.contains("reason=\"stale_parent\"} 1"), "{metrics}");
}

#[test]
fn the_collector_binds_what_it_may_or_says_why() {
    let bind = |address: &str| {
        Collector::bind(CollectorSettings {
            address: address.parse().unwrap(),
            max_message: 1000,
            allow: Vec::new(),
        })
    };
    let (collector, _messages) = bind("127.0.0.1:0").unwrap();
    let taken = format!("127.0.0.1:{}", collector.port().unwrap());
    let error = bind(&taken).unwrap_err().to_string();
    assert!(error.contains(&taken), "{error}");
    let error = bind("0.0.0.0:0").unwrap_err().to_string();
    assert!(error.contains("--collector-allow"), "{error}");
    drop(collector);
    assert!(bind(&taken).is_ok(), "the port is free again");
}
