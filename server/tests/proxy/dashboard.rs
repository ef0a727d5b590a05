//! The dashboard's routes: who may see and change what, the stream of states and its end, the
//! wizard's file.

use crate::engine::Script;
use crate::worker::{Worker, wait_for};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;

const WIZARD: &str = r#"{"worker_mode":"broker","broker_url":"wss://b.example/ws","token":"eyJsecret","model":"a/b@c","engine_url":"http://127.0.0.1:8000"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

async fn with_config(script: Script, flags: &[&str]) -> (Worker, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, "").unwrap();
    let given = ["--config", path.to_str().unwrap()];
    (Worker::plain(script, &[&given, flags].concat()).await, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_open_and_its_data_needs_the_key() {
    let (worker, folder) = with_config(Script::Hang, &["--api-key", "secret"]).await;
    let page = worker.get("/ui/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let moved = worker.get("/ui").await;
    assert_eq!((moved.status, moved.header("location")), (308, "ui/"));
    assert_eq!(worker.get("/ui/no-such.js").await.status, 404);
    let views = ["state", "events", "proofs", "proof/1", "proof/1/plot.svg", "config"];
    for path in views.map(|view| format!("/ui/api/{view}")) {
        assert_eq!(worker.get(&path).await.status, 401, "{path}");
    }
    assert_eq!(worker.send("POST", "/ui/api/config", &[JSON], WIZARD).await.status, 401);
    assert_eq!(std::fs::read_to_string(folder.path().join("config.toml")).unwrap(), "");
    let key = ("authorization", "Bearer secret");
    let state = worker.send("GET", "/ui/api/state", &[key], "").await;
    assert_eq!(state.status, 200);
    assert!(!state.text().contains("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_holds_status_totals_and_the_past() {
    let answer = r#"{"usage":{"prompt_tokens":3,"completion_tokens":600}}"#;
    let worker = Worker::plain(Script::Json(200, answer), &[]).await;
    worker.post("/v1/completions", r#"{"model":"m","prompt":"x"}"#).await;
    let state = worker.get("/ui/api/state").await.json();
    assert_eq!(state["totals"]["tokens"]["output"], 600);
    assert_eq!(state["totals"]["windows"], 2);
    assert_eq!(state["totals"]["requests"]["complete"], 1);
    assert_eq!(state["latency"]["whole"].as_array().unwrap().len(), 16);
    assert!(state["latency"]["proof"].is_array());
    let status: Value = worker.get("/status").await.json();
    assert_eq!(state["status"]["proxy"]["target_url"], status["proxy"]["target_url"]);
    assert_eq!(state["ready"]["mining"]["ready"], false);
    assert!(state["history"]["tokens"].is_array());
    assert_eq!(worker.get("/ui/api/proofs").await.json()["proofs"], serde_json::json!([]));
    assert_eq!(worker.get("/ui/api/proof/1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_running_stream_are_counted_as_they_pass() {
    let pieces: Vec<&[u8]> = vec![b"data: {}\n\n", b"data: {}\n\ndata: {}\n\n", b": wait\n\n"];
    let script = Script::Stream([pieces, vec![b""; 1000]].concat(), Duration::from_millis(10));
    let worker = Worker::plain(script, &[]).await;
    let body = r#"{"model":"m","prompt":"x","stream":true}"#;
    let mut answer = worker.open("POST", "/v1/completions", &[JSON], body).await;
    let mut read = 0;
    while read < 30 {
        let frame = answer.body_mut().frame().await.unwrap().unwrap();
        read += frame.data_ref().map_or(0, |data| data.len());
    }
    let text = worker.metrics().await;
    assert!(text.contains("tensorpow_tokens_generated_total 3\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_every_second_and_end_with_the_proxy() {
    let worker = Worker::plain(Script::Hang, &[]).await;
    let answer = worker.open("GET", "/ui/api/events", &[], "").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    for _ in 0..2 {
        let next = tokio::time::timeout(Duration::from_secs(10), body.frame()).await;
        let data = next.unwrap().unwrap().unwrap().into_data().unwrap();
        let text = std::str::from_utf8(&data).unwrap();
        let json = text.strip_prefix("event: state\ndata: ").unwrap().trim_end();
        let state: Value = serde_json::from_str(json).unwrap();
        assert!(state["now"].as_u64().unwrap() > 1_700_000_000_000);
    }
    worker.stop().await;
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    tokio::time::timeout(Duration::from_secs(5), rest).await.expect("the stream ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_are_limited_and_leave_room_when_they_go() {
    let worker = Worker::plain(Script::Hang, &[]).await;
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(worker.open("GET", "/ui/api/events", &[], "").await);
    }
    let refused = worker.get("/ui/api/events").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "too_many_dashboards"));
    open.clear();
    let started = std::time::Instant::now();
    loop {
        let answer = worker.open("GET", "/ui/api/events", &[], "").await;
        if answer.status() == 200 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "no place becomes free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mined_proof_is_listed_replayed_and_drawn() {
    let mut worker = Worker::devnet(Script::Json(200, "{}"), &[], &[]).await;
    worker.post("/v1/completions", r#"{"model":"org/tiny","prompt":"x"}"#).await;
    let request: Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    let pow = &request["extra_sampling_params"]["pow"];
    let mined = crate::miner::mine_tier(pow, "cmpl-1", false);
    crate::miner::push(&worker.collector, &[mined.message()]);
    worker.judged().await;
    let app = worker.app.clone();
    wait_for("the judgement to be noted", || app.ui.newest_proof() == 1).await;
    let list = worker.get("/ui/api/proofs").await.json();
    let proof = &list["proofs"][0];
    assert_eq!((&proof["verdict"], &proof["completion_id"]), (&"share".into(), &"cmpl-1".into()));
    assert_eq!(proof["strip"].as_str().unwrap().len(), 256);
    assert!(!proof["strip"].as_str().unwrap().contains('!'));
    for id in ["1", "cmpl-1"] {
        let report = worker.get(&format!("/ui/api/proof/{id}")).await.json();
        assert_eq!(report["valid"], true, "{report}");
        let picture = worker.get(&format!("/ui/api/proof/{id}/plot.svg")).await;
        assert_eq!(picture.header("content-type"), "image/svg+xml");
        assert_eq!(picture.text().matches("<circle").count(), 256);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wizard_writes_for_its_own_pages_alone() {
    let (worker, folder) = with_config(Script::Hang, &["--engine-key", "secret"]).await;
    let key = ("authorization", "Bearer secret");
    let path = folder.path().join("config.toml");
    let foreign = [key, JSON, ("origin", "http://evil.example")];
    let refused = worker.send("POST", "/ui/api/config", &foreign, WIZARD).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (403, "foreign_origin"));
    let plain = [key, ("content-type", "text/plain")];
    let refused = worker.send("POST", "/ui/api/config", &plain, WIZARD).await;
    assert_eq!(refused.status, 415, "a form of another page is no JSON");
    let bad =
        worker.send("POST", "/ui/api/config", &[key, JSON], &WIZARD.replace("wss:", "ftp:")).await;
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("broker_url: "), "{}", bad.text());
    let unknown = worker.send("POST", "/ui/api/config", &[key, JSON], r#"{"shell":"x"}"#).await;
    assert_eq!(unknown.status, 422, "{}", unknown.text());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    let own = format!("http://{}", worker.address);
    let written =
        worker.send("POST", "/ui/api/config", &[key, JSON, ("origin", &own)], WIZARD).await;
    assert_eq!(written.status, 200, "{}", written.text());
    assert!(std::fs::read_to_string(&path).unwrap().contains("eyJsecret"));
    let known = worker.send("GET", "/ui/api/config", &[key], "").await.json();
    assert_eq!(known["values"]["has_token"], true);
    assert!(!known.to_string().contains("eyJsecret"));
}
