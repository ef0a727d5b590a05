//! The face beside its routes: keys by scope, rates, full houses, web pages, HTTPS, traces, strict
//! mining.

use crate::engine::{MockEngine, Script};
use crate::worker::{MODEL_NAME, Worker, chain_settings, config, try_config, wait_for};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const CHAT: &str = "/v1/chat/completions";
const REPLY: Script = Script::Json(200, "{}");
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn keys_open_what_their_scopes_say() {
    let engine = MockEngine::start(REPLY).await;
    let environment = [
        ("TENSORPOW_INFERENCE_KEY", "i"),
        ("TENSORPOW_PROOF_KEY", "p"),
        ("TENSORPOW_ADMIN_KEY", "a"),
    ];
    let config = try_config(&engine.url(), &[], &environment).unwrap();
    let worker = Worker::start(engine, config, None).await;
    let pin = "/v1/mining/active-model";
    for (method, path, statuses) in [
        ("POST", CHAT, [200, 403, 403, 401]),
        ("GET", "/v1/models", [200, 403, 403, 401]),
        ("GET", "/v1/proof/stats", [403, 200, 403, 401]),
        ("GET", "/metrics", [403, 200, 403, 401]),
        ("GET", pin, [403, 200, 403, 401]),
        ("POST", pin, [403, 403, 200, 401]),
        ("GET", "/health", [200, 200, 200, 200]),
    ] {
        for (key, status) in ["i", "p", "a", "x"].into_iter().zip(statuses) {
            let key = format!("Bearer {key}");
            let answer = worker.send(method, path, &[JSON, ("authorization", &key)], "{}").await;
            assert_eq!(answer.status, status, "{method} {path} with {key}: {}", answer.text());
        }
    }
    assert!(worker.engine.last().headers.get("authorization").is_none(), "our key stays here");
}

#[tokio::test]
async fn what_changes_the_worker_needs_a_key_on_this_machine_too() {
    let worker = Worker::plain(REPLY, &["--engine-key", "internal-secret"]).await;
    let pin = "/v1/mining/active-model";
    assert_eq!(worker.get(pin).await.status, 200);
    assert_eq!(worker.post(pin, "{}").await.status, 401);
    let theirs = [JSON, ("authorization", "Bearer internal-secret")];
    assert_ne!(worker.send("POST", pin, &theirs, "{}").await.status, 401, "the guide's command");
}

#[tokio::test]
async fn a_rate_is_kept_and_says_when_to_come_again() {
    let flags = ["--set", "limits.per_address=1", "--set", "limits.burst=2"];
    let worker = Worker::plain(REPLY, &flags).await;
    assert_eq!(worker.post(CHAT, "{}").await.status, 200);
    assert_eq!(worker.get("/v1/models").await.status, 200);
    let refused = worker.post(CHAT, "{}").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(worker.get("/health").await.status, 200, "probes are not counted");
}

#[tokio::test]
async fn a_full_house_refuses_and_a_place_is_given_back() {
    let flags = ["--set", "limits.concurrency=1", "--set", "priority.queue=0"];
    let worker = Worker::plain(Script::Silent(b"data: 1\n\n"), &flags).await;
    let first = worker.open("POST", CHAT, &[JSON], r#"{"stream":true}"#).await;
    let refused = worker.post(CHAT, "{}").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "at_capacity"));
    assert_eq!(refused.header("retry-after"), "1");
    drop(first);
    wait_for("the place", || worker.app.limiter.in_flight() == 0).await;
}

#[tokio::test]
async fn only_listed_pages_may_call() {
    let flags = ["--set", "http.cors_origins=https://a.example"];
    let worker = Worker::plain(Script::Stream(vec![b"data: 1\n\n"], Duration::ZERO), &flags).await;
    let from = |origin: &'static str| [JSON, ("origin", origin)];
    for (path, body, status) in
        [(CHAT, r#"{"stream":true}"#, 200), (CHAT, "no json", 400), ("/nope", "", 404)]
    {
        let answer = worker.send("POST", path, &from("https://a.example"), body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), "https://a.example", "{path}");
        assert_eq!(answer.header("vary"), "origin");
        let other = worker.send("POST", path, &from("https://b.example"), body).await;
        assert_eq!(other.header("access-control-allow-origin"), "");
    }
    let asks = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization, content-type"),
    ];
    let preflight = worker.send("OPTIONS", CHAT, &asks, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers"), "authorization, content-type");
    let stranger = [("origin", "https://b.example"), asks[1]];
    assert_eq!(worker.send("OPTIONS", CHAT, &stranger, "").await.status, 405);
}

#[tokio::test]
async fn https_with_a_certificate() {
    let engine = MockEngine::start(REPLY).await;
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let flags = ["--tls-cert", &path(&cert), "--tls-key", &path(&key)];
    let worker = Worker::start(engine, config("http://127.0.0.1:9", &flags), None).await;

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(worker.address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The server may end the connection without the farewell of TLS.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("healthy"), "{answer}");
    let plain = worker.raw("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!plain.contains("healthy"), "{plain}");

    let missing = ["--tls-cert", "/nowhere.pem", "--tls-key", &path(&key)];
    let config = config("http://127.0.0.1:9", &missing);
    let error = tensorpow_server::service::Service::start(config, None).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
    assert!(try_config("http://127.0.0.1:9", &["--tls-cert", "c"], &[]).is_err(), "both or none");
}

#[tokio::test]
async fn a_trace_goes_on_to_the_engine() {
    let worker = Worker::plain(REPLY, &[]).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [JSON, ("traceparent", trace), ("tracestate", "a=b")];
    worker.send("POST", CHAT, &headers, "{}").await;
    let asked = worker.engine.last();
    let sent = asked.headers["traceparent"].to_str().unwrap();
    assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent != trace, "{sent}");
    assert_eq!(asked.headers["tracestate"], "a=b");
    worker.send("POST", CHAT, &[JSON, ("traceparent", "nonsense")], "{}").await;
    assert!(!worker.engine.last().headers.contains_key("traceparent"));
}

#[tokio::test]
async fn strict_mining_refuses_what_cannot_be_mined() {
    let worker = Worker::devnet(REPLY, &["--strict-mining", "--job-stale", "0"], &[]).await;
    let mined = format!("{{\"model\":{MODEL_NAME:?}}}");
    let refused = worker.post(CHAT, &mined).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "not_mining"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(worker.engine.asked(), 0);
    assert_eq!(worker.post(CHAT, r#"{"model":"other"}"#).await.status, 200);
    let off_profile = format!("{{\"model\":{MODEL_NAME:?},\"seed\":1}}");
    assert_eq!(worker.post(CHAT, &off_profile).await.status, 200, "the client's own choice");
}

#[tokio::test]
async fn proofs_can_be_closed() {
    let engine = MockEngine::start(REPLY).await;
    let environment = [("PROOF_CACHE_ENABLED", "false")];
    let config = try_config(&engine.url(), &[], &environment).unwrap();
    let worker = Worker::start(engine, config, Some(chain_settings(&[]))).await;
    for path in ["/v1/proof/x", "/v1/proof/status/x", "/v1/proof/keys", "/v1/proof/stats"] {
        let answer = worker.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["message"], "proof cache disabled");
    }
}

#[tokio::test]
async fn a_head_is_answered_like_a_get() {
    let worker = Worker::plain(REPLY, &[]).await;
    let answer = worker.send("HEAD", "/health", &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(worker.send("HEAD", CHAT, &[], "").await.status, 405);
}

#[tokio::test]
async fn everybody_may_read_what_a_worker_publishes_about_itself() {
    let worker = Worker::devnet(REPLY, &["--api-key", "secret"], &[]).await;
    assert_eq!(worker.get("/status").await.status, 401);
    let answer = worker.get("/transparency").await;
    assert_eq!(answer.status, 200);
    let said = answer.json();
    assert_eq!((&said["network"], &said["proof_version"]), (&"devnet".into(), &2.into()));
    assert_eq!((&said["model"], &said["mining"]), (&crate::worker::MODEL.into(), &true.into()));
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    assert!(said["uptime_seconds"].is_u64() && said["change_log"].is_string());
    let plain = Worker::plain(REPLY, &[]).await.get("/transparency").await.json();
    assert_eq!((&plain["mining"], &plain["network"]), (&false.into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn status_has_what_the_node_reads() {
    let reply = Script::Json(200, r#"{"usage":{"prompt_tokens":3,"completion_tokens":512}}"#);
    let worker = Worker::devnet(reply, &[], &[]).await;
    worker.post(CHAT, "{}").await;
    assert_eq!(worker.get("/startup").await.status, 200);
    let status = worker.get("/status").await.json();
    let proxy = &status["proxy"];
    assert_eq!(proxy["totals"]["completion_tokens"], 512);
    assert_eq!(proxy["totals"]["hashes"], 2);
    assert_eq!(proxy["throughput"]["completion_tokens_per_sec"], 512.0);
    assert_eq!(proxy["output_tokens_per_sec"], 512.0);
    assert_eq!(proxy["active_requests"], 0);
    assert_eq!(proxy["engines"][0]["url"], proxy["target_url"]);
    assert!(status["context"]["block_hash"].as_str().unwrap().ends_with("..."));
    assert!(status["context"]["age_seconds"].is_f64());
    assert!(status["vdf"]["current_block"].is_string() && status["zmq"].is_object());
}
