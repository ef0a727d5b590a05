//! Streams: byte for byte, held back by a slow client, aborted with a client that leaves, visibly
//! broken when the engine breaks.

use crate::engine::Script;
use crate::worker::{Worker, raw_post, wait_for};
use http_body_util::BodyExt;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
/// A client must be missed within this time: one second, and the rest for a busy machine.
/// spec: proxy §5.2
const ABORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_stream_arrives_byte_for_byte() {
    let pieces: Vec<&'static [u8]> = vec![
        b"data: {\"choi",
        b"ces\":[]}\r\n\r\n: a comment\n\ndata",
        b": \xff\x00 not UTF-8\n",
        b"\n",
        b"data: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}\n\n",
        b"data: [DONE]\n\n",
        b"no newline at the end",
    ];
    let expected = pieces.concat();
    let worker = Worker::plain(Script::Stream(pieces, Duration::from_millis(2)), &[]).await;
    for path in [CHAT, "/v1/completions", "/v1/responses"] {
        let answer = worker.post(path, r#"{"stream":true}"#).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(answer.body, expected, "{path}");
    }
    assert_eq!(worker.engine.aborted(), 0);
    let metrics = worker.metrics().await;
    let engine = worker.engine.url();
    let line = format!(
        "tensorpow_tokens_total{{direction=\"output\",engine=\"{engine}\",model=\"other\"}} 27"
    );
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("tensorpow_requests_active 0"), "{metrics}");
}

#[tokio::test]
async fn pieces_are_passed_on_when_they_come() {
    let script = Script::Stream(vec![b"data: 1\n\n", b"data: 2\n\n"], Duration::from_secs(1));
    let worker = Worker::plain(script, &[]).await;
    let headers = [("content-type", "application/json")];
    let mut response = worker.open("POST", CHAT, &headers, r#"{"stream":true}"#).await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    let first_at = Instant::now();
    assert_eq!(first.into_data().unwrap(), "data: 1\n\n");
    let second = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(second.into_data().unwrap(), "data: 2\n\n");
    assert!(first_at.elapsed() > Duration::from_millis(150), "the first piece did not wait");
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_engine_request_with_it() {
    let scripts = [
        ("before the answer", Script::Hang),
        ("in a silent stream", Script::Silent(b"data: 1\n\n")),
        ("in a busy stream", Script::Endless),
    ];
    for (name, script) in scripts {
        let worker = Worker::plain(script, &[]).await;
        let body = r#"{"stream":true}"#;
        let mut client = TcpStream::connect(worker.address).await.unwrap();
        client.write_all(raw_post(CHAT, body).as_bytes()).await.unwrap();
        wait_for("the engine to be asked", || worker.engine.asked() == 1).await;
        if name != "before the answer" {
            let mut some = [0; 64];
            assert!(client.read(&mut some).await.unwrap() > 0);
        }
        let left = Instant::now();
        drop(client);
        wait_for(name, || worker.engine.aborted() == 1).await;
        assert!(left.elapsed() < ABORT, "{name}: {:?}", left.elapsed());
        let gone = "mining=\"off\",outcome=\"client_gone\",engine=";
        assert!(worker.metrics().await.contains(gone), "{name}");
    }
}

#[tokio::test]
async fn an_engine_that_breaks_off_is_visible() {
    let worker = Worker::plain(Script::Break(vec![b"data: 1\n\n", b"data: {\"half"]), &[]).await;
    let answer = worker.raw(&raw_post(CHAT, r#"{"stream":true}"#)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("data: 1\n\n"), "{answer}");
    assert!(answer.contains("\n\ndata: {\"error\":{"), "an error event: {answer}");
    assert!(!answer.contains("[DONE]"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "no clean end: {answer}");
    assert!(worker.metrics().await.contains("outcome=\"engine_broke\",engine="));
}

#[tokio::test]
async fn an_engine_that_falls_silent_is_given_up() {
    let worker = Worker::plain(Script::Silent(b"data: 1\n\n"), &["--engine-idle", "1"]).await;
    let answer = worker.raw(&raw_post(CHAT, r#"{"stream":true}"#)).await;
    assert!(answer.contains("data: 1\n\n") && answer.contains("\"error\""), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    wait_for("the engine request to be dropped", || worker.engine.aborted() == 1).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_engine_back() {
    let worker = Worker::plain(Script::Endless, &[]).await;
    let mut client = TcpStream::connect(worker.address).await.unwrap();
    client.write_all(raw_post(CHAT, r#"{"stream":true}"#).as_bytes()).await.unwrap();
    wait_for("the stream to begin", || worker.engine.sent() > 0).await;
    // Socket buffers fill up; then nothing may move.
    let mut before = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = worker.engine.sent();
        if now == before {
            break;
        }
        before = now;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(worker.engine.sent(), before, "the engine is still being read");
    assert!(before < 64 * 1024 * 1024, "{before} bytes are held somewhere");
}
