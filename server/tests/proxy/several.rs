//! Several engines: each request goes where its model is routed, a stored response is looked for
//! where it was made, and the models of all are one list.

use crate::engine::{MockEngine, Script};
use crate::worker::{MODEL, MODEL_NAME, Worker, chain_settings, config, raw_post, wait_for};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

fn reply(id: &'static str) -> Script {
    Script::Json(200, id)
}

/// A proxy before two engines; `routed` is the model of the second.
async fn two(first: Script, second: Script, flags: &[&str]) -> (Worker, MockEngine) {
    let (main, other) = (MockEngine::start(first).await, MockEngine::start(second).await);
    let route = format!("routed={}", other.url());
    let flags = [&["--route", &route][..], flags].concat();
    let config = config(&main.url(), &flags);
    (Worker::start(main, config, None).await, other)
}

#[tokio::test]
async fn a_request_goes_where_its_model_is_routed() {
    let (worker, other) = two(reply(r#"{"e":1}"#), reply(r#"{"e":2}"#), &[]).await;
    for path in [CHAT, "/v1/completions", RESPONSES, "/v1/embeddings"] {
        for (body, engine) in [
            (r#"{"model":"routed"}"#, 2),
            (r#"{"model":"routed@c"}"#, 1),
            (r#"{"model":"x"}"#, 1),
            (r#"{"model":null}"#, 1),
            ("{}", 1),
        ] {
            assert_eq!(worker.post(path, body).await.json()["e"], engine, "{path} {body}");
        }
    }
    assert_eq!(worker.get("/props").await.json()["e"], 1);
    assert_eq!(worker.get("/props?model=routed").await.json()["e"], 2);
    assert_eq!(other.last().path, "/props?model=routed", "the query is kept");
}

#[tokio::test]
async fn a_stored_response_is_asked_for_where_it_was_made() {
    let made = reply(r#"{"id":"resp_2","e":2}"#);
    let (worker, other) = two(reply(r#"{"id":"resp_1","e":1}"#), made, &[]).await;
    worker.post(RESPONSES, r#"{"model":"routed"}"#).await;
    worker.post(RESPONSES, "{}").await;
    assert_eq!(worker.get("/v1/responses/resp_2?stream=false&a=1&a=2").await.json()["e"], 2);
    assert_eq!(other.last().path, "/v1/responses/resp_2?stream=false&a=1&a=2");
    assert_eq!(worker.get("/v1/responses/resp_1").await.json()["e"], 1);
    let cancelled = worker.send("POST", "/v1/responses/resp_2/cancel?x=1", &[], "").await;
    assert_eq!(cancelled.json()["e"], 2);
    assert_eq!(other.last().path, "/v1/responses/resp_2/cancel", "the query is dropped");
}

#[tokio::test]
async fn a_streamed_response_is_remembered_too() {
    let event = b"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_s\"}}\n\n";
    let stream = Script::Stream(vec![event, b"data: x\n\n"], Duration::ZERO);
    let (worker, other) = two(reply("{}"), stream, &[]).await;
    worker.post(RESPONSES, r#"{"model":"routed","stream":true}"#).await;
    worker.get("/v1/responses/resp_s").await;
    assert_eq!(other.last().path, "/v1/responses/resp_s");
}

#[tokio::test]
async fn an_unknown_response_is_asked_of_every_engine() {
    let (worker, _) = two(Script::Json(404, "{}"), reply(r#"{"e":2}"#), &[]).await;
    assert_eq!(worker.get("/v1/responses/resp_old").await.json()["e"], 2);
    let (worker, _) = two(Script::Json(404, "{}"), Script::Json(404, "{}"), &[]).await;
    assert_eq!(worker.get("/v1/responses/resp_none").await.status, 404);
}

#[tokio::test]
async fn an_id_cannot_leave_its_place() {
    let (worker, _) = two(reply("{}"), reply("{}"), &[]).await;
    for (path, status) in [
        ("/v1/responses/..%2F..%2Fmetrics", 400),
        ("/v1/responses/%2e%2e/cancel", 405),
        ("/v1/responses/a/b", 404),
        ("/v1/responses/", 404),
    ] {
        assert_eq!(worker.get(path).await.status, status, "{path}");
    }
    let dots = worker.send("POST", "/v1/responses/%2e%2e/cancel", &[], "").await;
    assert_eq!((dots.status, dots.error_code().as_str()), (400, "invalid_path"));
    assert_eq!(worker.engine.asked(), 0);
    worker.get("/v1/responses/a%20b").await;
    assert_eq!(worker.engine.last().path, "/v1/responses/a%20b", "the encoding stays");
}

#[tokio::test]
async fn models_are_those_of_every_engine_that_answers() {
    let (worker, _) = two(reply("{}"), reply("{}"), &["--engine-key", "engine-key"]).await;
    let answer = worker.get("/v1/models").await;
    assert_eq!(answer.text(), r#"{"object":"list","data":[{"id":"m","max_model_len":8192}]}"#);
    let engine = MockEngine::start(reply("{}")).await;
    let down = "routed=http://127.0.0.1:9";
    let config = config(&engine.url(), &["--route", down]);
    let worker = Worker::start(engine, config, None).await;
    assert_eq!(worker.get("/v1/models").await.json()["data"][0]["id"], "m");
    let engine = MockEngine::start(reply("{}")).await;
    let config = crate::worker::config("http://127.0.0.1:9", &["--route", "r=http://127.0.0.1:11"]);
    let worker = Worker::start(engine, config, None).await;
    let answer = worker.get("/v1/models").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["message"], "no upstream backend reachable");
}

#[tokio::test]
async fn each_engine_is_spoken_to_in_its_own_dialect() {
    let (main, other) =
        (MockEngine::start(reply("{}")).await, MockEngine::start(reply("{}")).await);
    let file = tempfile::NamedTempFile::new().unwrap();
    let route =
        format!("[[route]]\nmodel = {MODEL_NAME:?}\nurl = {:?}\nkind = \"vllm\"", other.url());
    std::fs::write(file.path(), route).unwrap();
    let config = config(&main.url(), &["--config", file.path().to_str().unwrap()]);
    let worker = Worker::start(main, config, Some(chain_settings(&[]))).await;
    wait_for("a job and its VDF proof", || worker.app.context.load().vdf().is_some()).await;
    worker.post(CHAT, &format!("{{\"model\":{MODEL_NAME:?}}}")).await;
    let asked: serde_json::Value = serde_json::from_slice(&other.last().body).unwrap();
    assert!(asked["vllm_xargs"]["pow"]["block_hash"].is_string(), "{asked}");
    assert_eq!(asked["vllm_xargs"]["pow"].get("model_identifier"), None);
    worker.post(CHAT, r#"{"model":"other"}"#).await;
    let asked: serde_json::Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    assert!(asked["extra_sampling_params"]["pow"]["audit_emit"].is_boolean(), "{asked}");
    assert!(MODEL.starts_with(MODEL_NAME));
}

#[tokio::test]
async fn whoever_leaves_aborts_the_engine_on_every_route() {
    for (method, path) in [
        ("POST", CHAT),
        ("POST", "/v1/completions"),
        ("POST", RESPONSES),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/props"),
    ] {
        for script in [Script::Hang, Script::Silent(b"data: 1\n\n")] {
            let worker = Worker::plain(script.clone(), &[]).await;
            let mut client = TcpStream::connect(worker.address).await.unwrap();
            let request = raw_post(path, "{}").replacen("POST", method, 1);
            client.write_all(request.as_bytes()).await.unwrap();
            wait_for("the engine to be asked", || worker.engine.asked() == 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let left = std::time::Instant::now();
            drop(client);
            wait_for(path, || worker.engine.aborted() == 1).await;
            assert!(left.elapsed() < Duration::from_secs(3), "{path} {script:?}");
        }
    }
}

#[tokio::test]
async fn a_mined_request_may_be_finished_for_its_proof() {
    let pieces = vec![&b"data: 1\n\n"[..]; 10];
    let flags = ["--set", "engine.finish_for_proof=true"];
    for (stream, path) in [(true, CHAT), (false, "/v1/completions")] {
        let script = Script::Stream(pieces.clone(), Duration::from_millis(30));
        let worker = Worker::devnet(script, &flags, &[]).await;
        let body = format!("{{\"model\":{MODEL_NAME:?},\"stream\":{stream}}}");
        let mut client = TcpStream::connect(worker.address).await.unwrap();
        client.write_all(raw_post(path, &body).as_bytes()).await.unwrap();
        wait_for("the engine to be asked", || worker.engine.asked() == 1).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        drop(client);
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(worker.engine.aborted(), 0, "{path}: the engine went on to its end");
        let other = Script::Stream(pieces.clone(), Duration::from_millis(30));
        let unmined = Worker::devnet(other, &flags, &[]).await;
        let mut client = TcpStream::connect(unmined.address).await.unwrap();
        client.write_all(raw_post(path, r#"{"model":"x"}"#).as_bytes()).await.unwrap();
        wait_for("the engine to be asked", || unmined.engine.asked() == 1).await;
        drop(client);
        wait_for("the engine request to be dropped", || unmined.engine.aborted() == 1).await;
    }
}

#[tokio::test]
async fn every_route_maps_failures_alike() {
    let engine = MockEngine::start(reply("{}")).await;
    let config = config("http://127.0.0.1:9", &[]);
    let worker = Worker::start(engine, config, None).await;
    for (method, path) in [
        ("POST", CHAT),
        ("POST", RESPONSES),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/responses/r"),
        ("GET", "/v1/models"),
        ("GET", "/props"),
    ] {
        let json = [("content-type", "application/json")];
        let answer = worker.send(method, path, &json, "{}").await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (502, "engine_unreachable"),
            "{path}"
        );
    }
    let worker = Worker::plain(Script::Hang, &["--engine-timeout", "1"]).await;
    let answer = worker.post("/v1/embeddings", "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "engine_timeout"));
}
