//! Inference jobs by hand: what a caller reads, what the ledger notes.

use crate::client::{Client, PATIENCE};
use crate::stage::{Stage, settings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;
use tensorpow_server::devnet::broker::jobs::{JobEvent, Order, dispatch};
use tensorpow_server::devnet::broker::{BrokerSettings, Timing, audit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An HTTP exchange with the controls; the whole answer.
pub(crate) async fn http(stage: &Stage, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(stage.broker.http().unwrap()).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// Takes a job and says that it has.
async fn start(client: &mut Client) -> Value {
    let start = client.wait_for("START").await;
    client.send(&json!({"type":"ACK","job_id":start["job_id"]})).await;
    start
}

fn chunk(start: &Value, delta: Value) -> Value {
    json!({"type":"CHUNK","job_id":start["job_id"],"completion_id":"chatcmpl-1","delta":delta})
}

fn end(start: &Value, response: Option<Value>) -> Value {
    let mut end = json!({"type":"END","job_id":start["job_id"],"completion_id":"chatcmpl-1",
        "usage":{}});
    if let Some(response) = response {
        end["response"] = response;
    }
    end
}

#[tokio::test]
async fn a_prompt_posted_to_the_controls_comes_back_as_text() {
    let stage = Stage::new().await;
    let none = http(&stage, "POST", "/dispatch", r#"{"prompt":"hi"}"#).await;
    assert!(none.starts_with("HTTP/1.1 503"), "{none}");
    let (mut client, _) = stage.miner("w").await;
    let worker = async {
        let start = start(&mut client).await;
        assert_eq!(
            (&start["api"], &start["payload"]["stream"]),
            (&json!("chat_completions"), &json!(true))
        );
        assert_eq!(start["payload"]["messages"][0]["content"], "hi");
        client.send(&chunk(&start, json!({"content":"The"}))).await;
        client.send(&chunk(&start, json!({"tool_calls":[{"index":0}]}))).await;
        client.send(&chunk(&start, json!({"content":" fox"}))).await;
        client.send(&end(&start, None)).await;
    };
    let (answer, ()) =
        tokio::join!(http(&stage, "POST", "/dispatch", r#"{"prompt":"hi"}"#), worker);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("The") && answer.contains(" fox"), "{answer}");
    let job = &stage.books.ledger().entries(Some("job"), 0)[0];
    assert_eq!((&job["outcome"], &job["chunks"]), (&json!("ended"), &json!(3)));
    assert_eq!(job["completion_id"], "chatcmpl-1");
    stage.counted("violation", 0).await;
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_comes_as_a_whole() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    let order = Order {
        api: "responses".to_owned(),
        payload: json!({"model":"org/tiny","input":"hi"}),
        worker: Some("w".to_owned()),
    };
    let mut job = dispatch(&stage.books, order).unwrap();
    let start = start(&mut client).await;
    assert_eq!(start["api"], "responses");
    let body = json!({"output":[{"content":[{"type":"output_text","text":"whole"}]}]});
    client.send(&end(&start, Some(body))).await;
    assert_eq!(job.events.recv().await, Some(JobEvent::Text("whole".to_owned())));
    assert!(matches!(job.events.recv().await, Some(JobEvent::End(_))));
    assert_eq!(job.events.recv().await, None);
}

#[tokio::test]
async fn a_job_fails_with_its_worker_its_error_or_time() {
    let timing = Timing { job_ack: Duration::from_millis(200), ..settings().timing };
    let stage = Stage::with(BrokerSettings { timing, ..settings() }).await;
    let (mut client, _) = stage.miner("w").await;
    let order = || Order::chat("org/tiny", "hi", 8);
    let mut failed = dispatch(&stage.books, order()).unwrap();
    let taken = start(&mut client).await;
    client.send(&json!({"type":"ERROR","job_id":taken["job_id"],"error":"no engine"})).await;
    assert_eq!(failed.events.recv().await, Some(JobEvent::Failed("no engine".to_owned())));
    let mut unheard = dispatch(&stage.books, order()).unwrap();
    assert_eq!(unheard.events.recv().await, Some(JobEvent::Failed("no ACK in time".to_owned())));
    let mut left = dispatch(&stage.books, order()).unwrap();
    client.wait_for("START").await;
    start(&mut client).await;
    client.settle().await;
    drop(client);
    assert_eq!(left.events.recv().await, Some(JobEvent::Failed("the worker left".to_owned())));
}

#[tokio::test]
async fn frames_out_of_order_are_violations() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    let _job = dispatch(&stage.books, Order::chat("org/tiny", "hi", 8)).unwrap();
    let start = client.wait_for("START").await;
    client.send(&chunk(&start, json!({"content":"too early"}))).await;
    client.send(&json!({"type":"ACK","job_id":start["job_id"]})).await;
    let mut other = chunk(&start, json!({"content":"x"}));
    other["completion_id"] = "chatcmpl-2".into();
    client.send(&other).await;
    client.send(&end(&start, None)).await;
    client.send(&end(&start, None)).await;
    client.settle().await;
    let whats = stage.books.ledger().entries(Some("violation"), 0);
    let whats: Vec<_> = whats.iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    for (what, expected) in
        whats.iter().zip(["CHUNK before the ACK", "with completion_id", "is over"])
    {
        assert!(what.contains(expected), "{what}");
    }
    assert_eq!(whats.len(), 3, "{whats:?}");
}

#[tokio::test]
async fn an_audit_asks_again_until_the_proof_is_there() {
    let timing = Timing { audit_again: Duration::from_millis(20), ..settings().timing };
    let stage = Stage::with(BrokerSettings { timing, ..settings() }).await;
    let (mut client, lease) = stage.miner("w").await;
    let mined = stage.mined(&lease, "cmpl-1", false).await;
    let worker = async {
        let not_yet = json!({"type":"PROOF_RESULT","completion_id":"cmpl-1",
            "error":"proof_not_ready"});
        assert_eq!(client.wait_for("PROOF_REQUEST").await["completion_id"], "cmpl-1");
        client.send(&not_yet).await;
        client.wait_for("PROOF_REQUEST").await;
        client
            .send(&json!({"type":"PROOF_RESULT","completion_id":"cmpl-1",
                "proof_b64":STANDARD.encode(mined.message())}))
            .await;
    };
    let (outcome, ()) = tokio::join!(audit(&stage.books, None, "cmpl-1"), worker);
    assert_eq!(outcome["hash"], hex::encode(&mined.proof.hash));
    assert!(outcome.get("error").is_none(), "{outcome}");
    stage.counted("proof", 1).await;
}

#[tokio::test]
async fn the_controls_show_and_change_what_goes_on() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    let status = http(&stage, "GET", "/status", "").await;
    assert!(status.contains(r#""worker":"w""#), "{status}");
    http(&stage, "POST", "/tip", "").await;
    client.wait_for("MINE_CANCEL").await;
    let ledger = http(&stage, "GET", "/ledger?kind=cancel", "").await;
    let lines: Vec<_> = ledger.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{ledger}");
    assert!(lines[0].contains("superseded"));
    assert!(http(&stage, "GET", "/misbehave", "").await.contains("half-open"));
    let unknown = http(&stage, "POST", "/misbehave", r#"["nicely"]"#).await;
    assert!(unknown.starts_with("HTTP/1.1 400"), "{unknown}");
    http(&stage, "POST", "/misbehave", r#"["drop"]"#).await;
    assert_eq!(client.closed().await.0, 0);
}
