//! A worker that is to get no new work: told by a notice file, by `READY=0`, by an administrator; and
//! the heartbeat file that says so.

use crate::broker::{self, Broker, ENGINE, broker_status, lease, next, register, say};
use crate::engine::{MockEngine, Script};
use crate::worker::{Worker, try_config, wait_for};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tensorpow_server::http::engine::Health;

const CHAT: &str = "/v1/chat/completions";
const JSON: (&str, &str) = ("content-type", "application/json");
const REPLY: Script =
    Script::Json(200, r#"{"id":"c","usage":{"prompt_tokens":3,"completion_tokens":5}}"#);

async fn worker(script: Script, environment: &[(&str, &str)]) -> Worker {
    let engine = MockEngine::start(script).await;
    let config = try_config(&engine.url(), &[], environment).unwrap();
    let worker = Worker::start(engine, config, None).await;
    wait_for("the engine to be up", || worker.app.engines.default().health() == Health::Up).await;
    worker
}

/// Status of `/ready`, and the details of its reasons.
async fn ready(worker: &Worker) -> (u16, Vec<String>) {
    let answer = worker.get("/ready").await;
    let reasons = answer.json()["reasons"].as_array().unwrap().clone();
    let details = reasons.iter().map(|reason| {
        assert_eq!(reason["name"], "draining");
        reason["detail"].as_str().unwrap().to_owned()
    });
    (answer.status, details.collect())
}

#[tokio::test]
async fn a_notice_file_drains_and_its_removal_takes_that_back() {
    let folder = tempfile::tempdir().unwrap();
    let notice = folder.path().join("notice");
    let worker = worker(REPLY, &[("TENSORPOW_DRAIN_FILE", notice.to_str().unwrap())]).await;
    assert_eq!(ready(&worker).await, (200, Vec::new()));
    std::fs::write(&notice, "reclaimed at 12:00\n").unwrap();
    wait_for("the notice", || worker.app.drain.is_drained()).await;
    let (status, details) = ready(&worker).await;
    assert_eq!(status, 503);
    assert!(details.len() == 1 && details[0].contains("notice file"), "{details:?}");
    assert_eq!(worker.post(CHAT, "{}").await.status, 200, "who comes all the same is served");
    let metrics = worker.metrics().await;
    assert!(metrics.contains("tensorpow_draining{cause=\"notice_file\"} 1"), "{metrics}");
    assert_eq!(worker.get("/status").await.json()["proxy"]["draining"], json!(["notice_file"]));
    std::fs::remove_file(&notice).unwrap();
    wait_for("no notice", || !worker.app.drain.is_drained()).await;
    assert_eq!(ready(&worker).await, (200, Vec::new()));
    worker.stop().await;
}

#[tokio::test]
async fn a_notice_that_says_exit_ends_the_proxy_behind_its_last_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (notice, heartbeat) = (folder.path().join("notice"), folder.path().join("heartbeat"));
    let environment = [
        ("TENSORPOW_DRAIN_FILE", notice.to_str().unwrap()),
        ("TENSORPOW_HEARTBEAT_FILE", heartbeat.to_str().unwrap()),
    ];
    let pieces: Vec<&'static [u8]> = vec![b"data: {\"choices\":[]}\n\n"; 20];
    let script = Script::Stream(pieces, Duration::from_millis(100));
    let worker = worker(script, &environment).await;
    let mut answer = worker.open("POST", CHAT, &[JSON], r#"{"stream":true}"#).await;
    answer.body_mut().frame().await.unwrap().unwrap();
    std::fs::write(&notice, "exit\n").unwrap();
    wait_for("the end to begin", || worker.app.drain.is_stopping()).await;
    wait_for("the heartbeat", || state(&heartbeat) == "stopping").await;
    let rest = answer.into_body().collect().await.expect("a whole answer").to_bytes();
    assert_eq!(rest.len() % 22, 0, "{rest:?}");
    worker.ended().await;
    assert!(!heartbeat.exists(), "an orderly end leaves no heartbeat");
}

/// What the heartbeat file says; nothing where there is none.
fn heartbeat(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn state(path: &Path) -> String {
    heartbeat(path)["state"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_worker_started_unready_is_turned_round_by_an_administrator() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heartbeat");
    let environment = [
        ("READY", "0"),
        ("TENSORPOW_ADMIN_KEY", "boss"),
        ("TENSORPOW_HEARTBEAT_FILE", file.to_str().unwrap()),
        ("TENSORPOW_HEARTBEAT_EVERY", "0.1"),
    ];
    let worker = worker(REPLY, &environment).await;
    assert_eq!(ready(&worker).await, (503, vec!["READY=0".to_owned()]));
    assert_eq!(worker.post(CHAT, "{}").await.status, 200);
    wait_for("the heartbeat", || state(&file) == "draining").await;
    assert_eq!(worker.post("/v1/drain", r#"{"drain":false}"#).await.status, 401);
    let boss = [JSON, ("authorization", "Bearer boss")];
    for bad in ["", "{}", "[]", r#"{"drain":"no"}"#, r#"{"drain":true,"x":1}"#] {
        let answer = worker.send("POST", "/v1/drain", &boss, bad).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_body"), "{bad}");
    }
    let answer = worker.send("POST", "/v1/drain", &boss, r#"{"drain":false}"#).await;
    assert_eq!((answer.status, answer.json()["draining"].clone()), (200, false.into()));
    assert_eq!(ready(&worker).await, (200, Vec::new()));
    wait_for("the heartbeat", || state(&file) == "serving").await;
    wait_for("the tokens", || heartbeat(&file)["output_tokens_per_second"] == 5.0).await;
    let written = heartbeat(&file);
    assert_eq!((&written["busy"], &written["error_rate"]), (&0.into(), &json!(0.0)));
    assert_eq!(written["version"], env!("CARGO_PKG_VERSION"));
    worker.send("POST", "/v1/drain", &boss, r#"{"drain":true}"#).await;
    let shown = worker.get("/v1/drain").await.json();
    assert_eq!(
        (&shown["draining"], &shown["reasons"][0]["name"]),
        (&true.into(), &"ordered".into())
    );
    assert_eq!(ready(&worker).await.0, 503);
    worker.stop().await;
    assert!(!file.exists());
}

#[tokio::test]
async fn a_disk_that_takes_no_heartbeat_is_counted_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    let environment = [
        ("TENSORPOW_HEARTBEAT_FILE", taken.to_str().unwrap()),
        ("TENSORPOW_HEARTBEAT_EVERY", "0.1"),
    ];
    let worker = worker(REPLY, &environment).await;
    let failures = async || {
        let metrics = worker.metrics().await;
        let line =
            metrics.lines().find_map(|it| it.strip_prefix("tensorpow_heartbeat_failures_total "));
        line.expect("the counter").parse::<u64>().unwrap()
    };
    let began = std::time::Instant::now();
    while failures().await < 2 {
        assert!(began.elapsed() < Duration::from_secs(10), "no failure is counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(worker.post(CHAT, "{}").await.status, 200);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_takes_no_lease_and_no_job() {
    let broker = Broker::new().await;
    let worker = broker::worker(&broker, Script::Json(200, ENGINE)).await;
    let mut connection = broker.accept().await;
    register(&mut connection).await;
    worker.app.drain.order(true);
    say(&mut connection, lease("lease-1", 7, 1)).await;
    let refused = next(&mut connection, "MINE_RESULT").await;
    assert_eq!(
        (&refused["job_id"], &refused["error"]),
        (&json!("lease-1"), &json!("mining_not_available"))
    );
    let start = |id: &str| {
        json!({ "type": "START", "job_id": id, "payload": {
            "model": "org/tiny", "messages": [{ "role": "user", "content": "hi" }],
        } })
    };
    say(&mut connection, start("job-1")).await;
    assert_eq!(next(&mut connection, "ACK").await["job_id"], "job-1");
    let refused = next(&mut connection, "ERROR").await;
    assert!(refused["error"].as_str().unwrap().contains("drained"), "{refused}");
    assert!(worker.app.context.load().job().is_none());
    let status = broker_status(&worker);
    assert_eq!((&status["jobs"], &status["jobs_refused"]), (&0.into(), &1.into()));
    assert_eq!(status["leases_refused"], 1);
    worker.app.drain.order(false);
    say(&mut connection, start("job-1")).await;
    assert_eq!(next(&mut connection, "END").await["job_id"], "job-1");
    say(&mut connection, lease("lease-2", 8, 1)).await;
    wait_for("the lease", || worker.app.context.load().job().is_some()).await;
    worker.stop().await;
}
