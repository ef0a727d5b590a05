//! Limits in tokens, as clients meet them: most tokens of one request, tokens a minute of one client.

use crate::engine::{MockEngine, Script};
use crate::worker::{Worker, try_config, wait_for};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";
const JSON: (&str, &str) = ("content-type", "application/json");
const REPLY: Script =
    Script::Json(200, r#"{"id":"c","usage":{"prompt_tokens":400,"completion_tokens":500}}"#);

fn sent(worker: &Worker) -> Value {
    serde_json::from_slice(&worker.engine.last().body).unwrap()
}

#[tokio::test]
async fn a_request_gets_the_limit_or_asks_for_less() {
    let worker = Worker::plain(REPLY, &["--set", "limits.max_tokens=4096"]).await;
    for (path, member) in [
        (CHAT, "max_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ] {
        assert_eq!(worker.post(path, r#"{"model":"m"}"#).await.status, 200);
        assert_eq!(sent(&worker)[member], 4096, "{path}");
        let refused = worker.post(path, &format!("{{\"{member}\":5000}}")).await;
        assert_eq!((refused.status, refused.error_code().as_str()), (400, "too_many_tokens"));
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("5000") && message.contains("4096"), "{message}");
        assert_eq!(worker.engine.asked(), 0, "the engine is not asked");
    }
    assert_eq!(worker.post(CHAT, r#"{"max_completion_tokens":7}"#).await.status, 200);
    assert_eq!(sent(&worker).get("max_tokens"), None);
    let metrics = worker.metrics().await;
    let line = "tensorpow_requests_rejected_total{code=\"too_many_tokens\"} 3";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn who_has_used_up_the_minute_waits_and_nobody_else() {
    let engine = MockEngine::start(REPLY).await;
    let environment = [
        ("TENSORPOW_TOKENS_PER_MINUTE", "1000"),
        ("TENSORPOW_INFERENCE_KEY", "one"),
        ("TENSORPOW_API_KEY", "two"),
    ];
    let config = try_config(&engine.url(), &[], &environment).unwrap();
    let worker = Worker::start(engine, config, None).await;
    let one = [JSON, ("authorization", "Bearer one")];
    let two = [JSON, ("authorization", "Bearer two")];
    assert_eq!(worker.send("POST", CHAT, &one, "{}").await.status, 200);
    assert_eq!(worker.send("POST", CHAT, &one, "{}").await.status, 200, "100 tokens were left");
    // 1 800 of 1 000 are used: the debt of 800 takes 48 s.
    let refused = worker.send("POST", "/v1/completions", &one, "{}").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "token_rate_exceeded"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((40..=48).contains(&wait), "{wait}");
    assert_eq!(worker.app.limiter.in_flight(), 0);
    assert_eq!(worker.send("GET", "/v1/models", &one, "").await.status, 200, "not generation");
    assert_eq!(worker.send("POST", CHAT, &two, "{}").await.status, 200);
    let metrics = worker.send("GET", "/metrics", &two, "").await.text();
    let line = "tensorpow_requests_rejected_total{code=\"token_rate_exceeded\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_stream_is_paid_for_to_its_end_and_one_that_is_left_up_to_there() {
    let pieces: Vec<&'static [u8]> = vec![b"data: {\"choices\":[{}]}\n\n"; 40];
    let script = Script::Stream(pieces, Duration::from_millis(5));
    let worker = Worker::plain(script, &["--set", "limits.tokens_per_minute=30"]).await;
    let mut answer = worker.open("POST", CHAT, &[JSON], r#"{"stream":true}"#).await;
    for _ in 0..20 {
        answer.body_mut().frame().await.unwrap().unwrap();
    }
    drop(answer);
    wait_for("the end", || worker.app.limiter.in_flight() == 0).await;
    let whole = worker.post(CHAT, r#"{"stream":true}"#).await;
    assert_eq!(whole.status, 200, "some tokens are left of thirty");
    let refused = worker.post(CHAT, r#"{"stream":true}"#).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "token_rate_exceeded"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!(wait > 40, "both streams are paid for: {wait}");
}
