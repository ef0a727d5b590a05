//! How long a proof comes after its answer, as the proxy counts it: after a buffered answer, and in
//! the middle of a stream.

use crate::engine::Script;
use crate::miner::{self, mine_tier};
use crate::worker::{MODEL_NAME, Worker, wait_for};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");

fn pow(worker: &Worker) -> Value {
    let body: Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    body["extra_sampling_params"]["pow"].clone()
}

/// The value of the histogram's line that ends so, for users of the mined model; 0 without one.
async fn latency(worker: &Worker, part: &str) -> f64 {
    let line = format!("tensorpow_proof_latency_seconds_{part}{{model=\"org/tiny\",class=\"user\"");
    let text = worker.metrics().await;
    let found = text.lines().find_map(|it| it.strip_prefix(&line)?.rsplit_once(' '));
    found.map_or(0.0, |(_, value)| value.parse().unwrap())
}

#[tokio::test]
async fn a_proof_is_late_by_the_time_since_its_answer() {
    let answer = r#"{"id":"chatcmpl-late","usage":{"prompt_tokens":3,"completion_tokens":256}}"#;
    let mut worker = Worker::devnet(Script::Json(200, answer), &[], &[]).await;
    let body = format!(r#"{{"model":"{MODEL_NAME}","messages":[]}}"#);
    worker.post("/v1/chat/completions", &body).await;
    let share = mine_tier(&pow(&worker), "chatcmpl-late", false);
    assert_eq!(latency(&worker, "count").await, 0.0, "it is not there yet");
    tokio::time::sleep(Duration::from_millis(30)).await;
    miner::push(&worker.collector, &[share.message()]);
    worker.judged().await;
    assert_eq!(latency(&worker, "count").await, 1.0);
    let seconds = latency(&worker, "sum").await;
    assert!((0.03..30.0).contains(&seconds), "{seconds}");

    // An answer that was not mined waits for no proof.
    let headers = [JSON, ("x-tensorpow-mine", "off")];
    worker.send("POST", "/v1/chat/completions", &headers, &body).await;
    let another = mine_tier(&pow_of_nobody(&share), "chatcmpl-other", false);
    miner::push(&worker.collector, &[another.message()]);
    wait_for("it to be filed", || worker.app.store.stats().proofs == 2).await;
    assert_eq!(latency(&worker, "count").await, 1.0);
}

/// A payload like that of a proof.
fn pow_of_nobody(like: &miner::Mined) -> Value {
    serde_json::json!({
        "header_prefix": hex::encode(&like.proof.header_prefix),
        "vdf": hex::encode(&like.proof.vdf),
        "tick": like.proof.tick,
        "target": hex::encode(&like.proof.target),
        "ipfs_cid": "",
        "request_id": like.req_id,
        "difficulty": like.difficulty,
        "model_identifier": String::from_utf8_lossy(&like.proof.model_identifier),
    })
}

#[tokio::test]
async fn a_proof_in_the_middle_of_a_stream_is_not_late() {
    // The first event is cut in two.
    let mut pieces: Vec<&'static [u8]> = vec![b"data: {\"id\":\"cmpl-", b"early\"}\n\n"];
    pieces.extend([&b"data: {\"id\":\"cmpl-early\",\"choices\":[]}\n\n"[..]; 40]);
    pieces.push(b"data: [DONE]\n\n");
    let script = Script::Stream(pieces, Duration::from_millis(50));
    let mut worker = Worker::devnet(script, &[], &[]).await;
    let body = format!(r#"{{"model":"{MODEL_NAME}","prompt":"p","stream":true}}"#);
    let mut answer = worker.open("POST", "/v1/completions", &[JSON], &body).await;
    answer.body_mut().frame().await.unwrap().unwrap();
    let share = mine_tier(&pow(&worker), "cmpl-early", false);
    miner::push(&worker.collector, &[share.message()]);
    worker.judged().await;
    assert_eq!(latency(&worker, "count").await, 0.0, "the answer has not ended");
    while let Some(piece) = answer.body_mut().frame().await {
        piece.unwrap();
    }
    assert_eq!(latency(&worker, "count").await, 1.0);
    assert_eq!(latency(&worker, "sum").await, 0.0);
}
