//! A whole proxy with its spool on disk: restarts, a disk that is not there, the routes of the
//! operator, and who may connect to the collector.

use crate::engine::{MockEngine, Script};
use crate::miner::{self, mine, mine_tier};
use crate::worker::{MODEL_NAME, Worker, chain_settings, config, try_config, wait_for};
use serde_json::{Value, json};
use tensorpow_server::mining::sink::Verdict;

const REPLY: Script = Script::Json(200, "{}");

/// What the engine was sent to mine.
async fn payload(worker: &Worker) -> Value {
    let body = format!(r#"{{"model":"{MODEL_NAME}"}}"#);
    assert_eq!(worker.post("/v1/completions", &body).await.status, 200);
    let sent: Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    sent["extra_sampling_params"]["pow"].clone()
}

#[tokio::test]
async fn proofs_and_their_fates_survive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let flags = ["--data-dir", folder];
    let mut worker = Worker::devnet(REPLY, &flags, &["--interval", "3600"]).await;
    let share = mine_tier(&payload(&worker).await, "cmpl-keep", false);
    miner::push(&worker.collector, &[share.message(), b"garbage".to_vec()]);
    assert_eq!(worker.judged().await.verdict, Verdict::Share);
    let store = worker.app.store.clone();
    wait_for("both on disk", || store.spool().stats().entries == 2).await;
    drop(store);
    worker.stop().await;

    let worker = Worker::plain(REPLY, &flags).await;
    let found = worker.get("/v1/proof/cmpl-keep").await;
    assert_eq!((found.status, &*found.body), (200, &*share.message()));
    assert_eq!(worker.get("/v1/proof/keys").await.json()["keys"], json!(["cmpl-keep"]));
    let listed = worker.get("/v1/spool").await.json();
    assert_eq!(listed["spool"]["health"], "durable");
    assert_eq!(listed["entries"][1]["deliveries"]["devnet"]["state"], "confirmed");
    assert_eq!(listed["entries"][1]["deliveries"]["devnet"]["reason"], "share");
    let dead = worker.get("/v1/spool?state=dead").await.json();
    assert_eq!(dead["entries"].as_array().unwrap().len(), 1);
    assert_eq!(dead["entries"][0]["deliveries"]["intake"]["reason"], "malformed");
    let answer = worker.get("/v1/spool?state=lost").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_query"));
    let ready = worker.get("/ready").await.json();
    assert_eq!(ready["degraded"], json!([]));
    assert!(worker.metrics().await.contains("tensorpow_spool_entries 2"));
}

#[tokio::test]
async fn a_dead_letter_is_delivered_again_on_request() {
    let flags = ["--set", "keys.admin=secret"];
    let mut worker = Worker::devnet(REPLY, &flags, &["--interval", "3600"]).await;
    let payload = payload(&worker).await;
    let mut share = mine_tier(&payload, "cmpl-again", false);
    share.req_id = 4_000_000;
    miner::push(&worker.collector, &[share.message()]);
    let judged = worker.judged().await;
    assert!(matches!(judged.verdict, Verdict::Rejected { reason: "unknown_req_id", .. }));
    let app = worker.app.clone();
    wait_for("the dead letter", || app.store.spool().stats().dead == 1).await;
    let body = r#"{"reason":"unknown_req_id"}"#;
    assert_eq!(worker.post("/v1/spool/replay", body).await.status, 401, "for an administrator");
    let replay = async |worker: &Worker, body: &str| {
        let headers = [("content-type", "application/json"), ("authorization", "Bearer secret")];
        worker.send("POST", "/v1/spool/replay", &headers, body).await
    };
    assert_eq!(replay(&worker, body).await.json(), json!({ "replayed": [0] }));
    assert!(matches!(worker.judged().await.verdict, Verdict::Rejected { .. }));
    assert_eq!(replay(&worker, "nonsense").await.status, 400);
    assert_eq!(replay(&worker, r#"{"seqs":[77]}"#).await.json(), json!({ "replayed": [] }));
}

#[tokio::test]
async fn without_a_disk_users_and_the_chain_notice_nothing() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("spool"), "a file is in the way").unwrap();
    let folder = data.path().to_str().unwrap();
    let mut worker = Worker::devnet(REPLY, &["--data-dir", folder], &["--interval", "3600"]).await;
    let ready = worker.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["degraded"][0]["name"]), (200, &json!("spool")));
    assert!(ready.text().contains(folder), "{}", ready.text());
    let share = mine_tier(&payload(&worker).await, "cmpl-memory", false);
    miner::push(&worker.collector, &[share.message()]);
    assert_eq!(worker.judged().await.verdict, Verdict::Share);
    assert_eq!(&*worker.get("/v1/proof/cmpl-memory").await.body, &*share.message());
    let answer = worker.get("/v1/spool").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "spool_unavailable"));
    let metrics = worker.metrics().await;
    assert!(metrics.contains("tensorpow_spool_degraded 1"), "{metrics}");
    assert!(metrics.contains("tensorpow_proofs_unstored_total 1"), "{metrics}");
}

#[tokio::test]
async fn a_second_proxy_on_the_same_folder_does_not_start() {
    let data = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", data.path().to_str().unwrap()];
    let _first = Worker::plain(REPLY, &flags).await;
    let engine = MockEngine::start(REPLY).await;
    let (link, _) = tensorpow_server::link::Link::to_devnet(chain_settings(&[]));
    let config = config(&engine.url(), &flags);
    let error = tensorpow_server::service::Service::start(config, Some(link)).await.unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn a_collector_that_is_not_on_loopback_needs_a_list_of_who_may_push() {
    let proof = |id| {
        let payload = json!({
            "header_prefix": "00".repeat(76), "vdf": "ab", "tick": 5, "target": "ff".repeat(32),
            "ipfs_cid": "", "request_id": 9, "difficulty": 1, "model_identifier": "a/b@c",
        });
        mine(&payload, id, 1).message()
    };
    // Everybody on this machine may connect; who else, is decided by the list (tested with it).
    let flags = ["--collector", "0.0.0.0:0", "--collector-allow", "10.0.0.0/8,fd00::/8"];
    let worker = Worker::plain(REPLY, &flags).await;
    let port = worker.collector.rsplit(':').next().unwrap();
    miner::push(&format!("tcp://127.0.0.1:{port}"), &[proof("cmpl-in")]);
    wait_for("the proof", || worker.app.store.stats().proofs == 1).await;
    let engine = MockEngine::start(REPLY).await;
    let error = try_config(&engine.url(), &["--collector-allow", "10.0.0.0/33"], &[]).unwrap_err();
    assert!(error.to_string().contains("proofs.collector_allow"), "{error}");
}
