//! What a client sees beside streams: routes, errors, keys, limits.

use crate::engine::Script;
use crate::worker::{Worker, raw_post, wait_for};
use std::time::Duration;
use tensorpow_server::http::engine::Health;

const CHAT: &str = "/v1/chat/completions";
const REPLY: Script =
    Script::Json(200, r#"{"id":"c","usage":{"prompt_tokens":3,"completion_tokens":5}}"#);

async fn up(worker: &Worker) {
    wait_for("the engine to be up", || worker.app.engines.default().health() == Health::Up).await;
}

#[tokio::test]
async fn probes_answer_from_the_first_moment_and_name_their_reasons() {
    let worker = Worker::plain(REPLY, &[]).await;
    let health = worker.get("/health").await;
    assert_eq!((health.status, health.text()), (200, r#"{"status":"healthy"}"#.into()));
    up(&worker).await;
    let ready = worker.get("/ready").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["mining"]["reason"], "no_job");
    let status = worker.get("/status").await.json();
    assert_eq!(status["context"]["not_mining"], "no_job");
    assert_eq!(status["proxy"]["engine"], "up");
}

#[tokio::test]
async fn readiness_is_about_the_engine() {
    let engine = crate::engine::MockEngine::start(REPLY).await;
    let config = crate::worker::config("http://127.0.0.1:9", &[]);
    let worker = Worker::start(engine, config, None).await;
    wait_for("the engine to be down", || worker.app.engines.default().health() == Health::Down)
        .await;
    let ready = worker.get("/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"][0]["name"], "engine");
    assert_eq!(worker.get("/health").await.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_json_errors() {
    let worker = Worker::plain(REPLY, &[]).await;
    for path in ["/nope", "/v1/chat/completions/", "/v1", "/v1/proof/a/b"] {
        let answer = worker.get(path).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "not_found"), "{path}");
    }
    let answer = worker.get(CHAT).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(worker.engine.asked(), 0);
}

#[tokio::test]
async fn a_request_passes_with_its_status_headers_and_body() {
    let worker = Worker::plain(REPLY, &[]).await;
    let body = "{ \"model\": \"m\", \"big\": 123456789012345678901234567890, \"e\": \"\\u00e9\" }";
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("authorization", "Bearer theirs"),
        ("x-request-id", "client-7"),
        ("cookie", "a=b"),
        ("te", "trailers"),
    ];
    for path in [CHAT, "/v1/completions", "/v1/responses"] {
        let answer = worker.send("POST", &format!("{path}?x=1"), &headers, body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-engine"), "mock");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-request-id"), "client-7", "the client's id is echoed");
        assert_eq!(answer.header("x-tensorpow-mining"), "off; reason=no_job");
        assert_eq!(answer.json()["id"], "c");
        let asked = worker.engine.last();
        assert_eq!(asked.path, path, "the query is dropped");
        assert_eq!(asked.body, body, "an unmined body keeps its bytes");
        assert_eq!(asked.headers["authorization"], "Bearer theirs");
        assert_eq!(asked.headers["cookie"], "a=b");
        assert!(!asked.headers.contains_key("te"));
        let sent_id = asked.headers["x-request-id"].to_str().unwrap();
        assert_eq!(sent_id, answer.header("x-tensorpow-request-id"));
        assert!(sent_id.len() == 32 && sent_id != "client-7", "{sent_id}");
    }
}

#[tokio::test]
async fn engine_errors_keep_their_status_and_body() {
    let worker = Worker::plain(Script::Json(429, r#"{"error":"slow down"}"#), &[]).await;
    let answer = worker.post(CHAT, r#"{"stream":true}"#).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.text(), r#"{"error":"slow down"}"#);
    let line = format!(
        "tensorpow_requests_total{{route=\"{CHAT}\",mining=\"off\",outcome=\"engine_refused\",engine=\"{}\"}} 1",
        worker.engine.url()
    );
    assert!(worker.metrics().await.contains(&line));
}

#[tokio::test]
async fn an_engine_that_is_down_or_silent_is_a_gateway_error_without_addresses() {
    let engine = crate::engine::MockEngine::start(REPLY).await;
    let config = crate::worker::config("http://127.0.0.1:9", &[]);
    let worker = Worker::start(engine, config, None).await;
    let answer = worker.post(CHAT, "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (502, "engine_unreachable"));
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    assert_eq!(worker.get("/v1/models").await.status, 502);

    let worker = Worker::plain(Script::Hang, &["--engine-timeout", "1"]).await;
    let answer = worker.post(CHAT, "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (504, "engine_timeout"));
    wait_for("the engine request to be dropped", || worker.engine.aborted() == 1).await;
}

#[tokio::test]
async fn bad_bodies_are_named_and_never_reach_the_engine() {
    let worker = Worker::plain(REPLY, &["--max-body", "1000"]).await;
    let json = &[("content-type", "application/json")][..];
    let cases = [
        ("no content type", &[][..], "{}".into(), 400, "invalid_content_type"),
        ("text", &[("content-type", "text/plain")][..], "{}".into(), 400, "invalid_content_type"),
        ("no JSON", json, "{".into(), 400, "invalid_body"),
        ("NaN", json, r#"{"temperature":NaN}"#.into(), 400, "invalid_body"),
        ("an array", json, "[]".into(), 400, "invalid_body"),
        ("a bare control character", json, "{\"a\":\"\u{1}\"}".into(), 400, "invalid_body"),
        (
            "too large",
            json,
            format!("{{\"a\":\"{}\"}}", "x".repeat(1000)),
            413,
            "request_too_large",
        ),
    ];
    for (name, headers, body, status, code) in cases {
        let answer = worker.send("POST", CHAT, headers, &body).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{name}");
    }
    assert_eq!(worker.engine.asked(), 0);
    assert!(worker.metrics().await.contains("requests_rejected_total{code=\"invalid_body\"} 4"));
}

#[tokio::test]
async fn a_chunked_body_cannot_hide_its_size() {
    let worker = Worker::plain(REPLY, &["--max-body", "1000"]).await;
    let piece = "x".repeat(400);
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let answer = worker.raw(&format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Nor does a body that nobody will read cost the client its answer.
    let worker = Worker::plain(REPLY, &["--max-body", "1000000"]).await;
    let answer = worker.raw(&raw_post("/v1/completions", &"x".repeat(1_900_000))).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn an_endless_or_slow_head_is_cut() {
    let engine = crate::engine::MockEngine::start(REPLY).await;
    let mut config = crate::worker::config(&engine.url(), &[]);
    config.connections.head_time = Duration::from_millis(300);
    let worker = Worker::start(engine, config, None).await;
    let endless = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(4 << 20));
    let answer = worker.raw(&endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let started = std::time::Instant::now();
    let answer = worker.raw("GET /health HTTP/1.1\r\nHost:").await;
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5), "the connection was closed");
}

#[tokio::test]
async fn a_key_guards_everything_but_the_probes() {
    let flags = ["--api-key", "secret", "--engine-key", "engine-secret"];
    let worker = Worker::plain(REPLY, &flags).await;
    for (name, header) in [
        ("none", None),
        ("wrong", Some("Bearer secres")),
        ("longer", Some("Bearer secret1")),
        ("other scheme", Some("Basic secret")),
    ] {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(header.map(|value| ("authorization", value)));
        for (method, path) in [
            ("POST", CHAT),
            ("GET", "/v1/models"),
            ("GET", "/status"),
            ("GET", "/metrics"),
            ("GET", "/v1/proof/keys"),
        ] {
            let answer = worker.send(method, path, &headers, "{}").await;
            assert_eq!(answer.status, 401, "{name} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    assert_eq!(worker.engine.asked(), 0);
    assert_eq!(worker.get("/health").await.status, 200);
    assert_ne!(worker.get("/ready").await.status, 401);

    let headers = [("content-type", "application/json"), ("authorization", "Bearer secret")];
    assert_eq!(worker.send("POST", CHAT, &headers, "{}").await.status, 200);
    assert_eq!(worker.engine.last().headers["authorization"], "Bearer engine-secret");
    let models = worker.send("GET", "/v1/models", &headers, "").await;
    assert_eq!(models.json()["data"][0]["max_model_len"], 8192);
    assert_eq!(models.header("x-seen-authorization"), "Bearer engine-secret");
}

#[tokio::test]
async fn without_a_key_a_foreign_name_is_refused() {
    let worker = Worker::plain(REPLY, &[]).await;
    let ask = |host: &str| {
        format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    };
    assert!(worker.raw(&ask("localhost:8080")).await.starts_with("HTTP/1.1 200 "));
    assert!(worker.raw(&ask("127.0.0.1")).await.starts_with("HTTP/1.1 200 "));
    assert!(worker.raw(&ask("attacker.example")).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn answers_carry_no_cors_headers() {
    let worker = Worker::plain(Script::Stream(vec![b"data: 1\n\n"], Duration::ZERO), &[]).await;
    let answer = worker.post(CHAT, r#"{"stream":true}"#).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    assert_eq!(answer.header("cache-control"), "no-cache");
}

#[tokio::test]
async fn a_taken_port_is_fatal() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = crate::worker::config("http://127.0.0.1:9", &[]);
    config.listen = taken.local_addr().unwrap();
    let error = tensorpow_server::service::Service::start(config, None).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen on"), "{error}");
}

#[tokio::test]
async fn shutdown_lets_a_running_answer_finish() {
    let engine = crate::engine::MockEngine::start(Script::Stream(
        vec![b"a", b"b", b"c"],
        Duration::from_millis(100),
    ))
    .await;
    let config = crate::worker::config(&engine.url(), &[]);
    let service = tensorpow_server::service::Service::start(config, None).await.unwrap();
    let address = service.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let proxy = service.spawn(async move {
        let _ = stopped.await;
    });
    let reading = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(raw_post(CHAT, "{}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    stop.send(()).unwrap();
    let answer = reading.await.unwrap();
    assert!(answer.ends_with("1\r\nc\r\n0\r\n\r\n"), "{answer}");
    proxy.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the socket is closed");
}
