//! Every misbehaviour, as a worker sees it.

use crate::client::{Client, PATIENCE, connect, hello, share};
use crate::stage::{EVERY, Stage, settings};
use futures_util::SinkExt;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tensorpow_server::devnet::broker::jobs::{JobEvent, Order, dispatch};
use tensorpow_server::devnet::broker::misbehave::Fault;
use tensorpow_server::devnet::broker::{BrokerSettings, Timing};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

async fn knock(stage: &Stage) -> Result<Client, u16> {
    let token = format!("Bearer {}", stage.books.provider_token("w"));
    connect(stage.broker.address(), "/v1/ws", Some(("authorization", token))).await
}

#[tokio::test]
async fn the_door_can_refuse_close_or_drop() {
    let stage = Stage::new().await;
    stage.books.faults().set([Fault::Unauthorized]);
    assert_eq!(knock(&stage).await.err(), Some(401));
    stage.books.faults().set([Fault::Drop]);
    assert_eq!(knock(&stage).await.err(), Some(0));
    stage.books.faults().set([Fault::CloseAfterAccept]);
    assert_eq!(knock(&stage).await.unwrap().closed().await.0, 1008);
    stage.books.faults().set([Fault::CloseAfterHello]);
    let mut client = knock(&stage).await.unwrap();
    client.send(&hello("w")).await;
    assert_eq!(client.closed().await.0, 1008);
    stage.books.faults().set([]);
    stage.miner("w").await;
}

#[tokio::test]
async fn a_silent_broker_takes_the_hello_and_says_nothing() {
    let stage = Stage::new().await;
    stage.books.faults().set([Fault::Silent]);
    let mut client = knock(&stage).await.unwrap();
    client.send(&hello("w")).await;
    assert!(timeout(Duration::from_millis(300), client.message()).await.is_err());
    stage.books.faults().set([]);
    assert_eq!(client.closed().await.0, 0);
}

#[tokio::test]
async fn a_half_open_connection_answers_no_ping_and_takes_no_more_than_a_buffer() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    stage.books.faults().set([Fault::HalfOpen]);
    // The session notices within a moment.
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.0.send(Message::Ping(b"x"[..].into())).await.unwrap();
    let silence = async {
        loop {
            if let Some(Message::Pong(_)) | None = client.message().await {
                return;
            }
        }
    };
    assert!(timeout(Duration::from_millis(300), silence).await.is_err());
    let flood = async {
        for _ in 0..64 {
            if client.0.send(Message::text("x".repeat(1 << 20))).await.is_err() {
                return;
            }
        }
    };
    assert!(timeout(Duration::from_millis(500), flood).await.is_err(), "nobody reads it");
    stage.books.faults().set([]);
    stage.counted("disconnected", 1).await;
    assert!(stage.books.registered().is_empty());
}

#[tokio::test]
async fn a_slow_reader_answers_late_but_answers() {
    let timing = Timing { slow_reader: Duration::from_millis(200), ..settings().timing };
    let stage = Stage::with(BrokerSettings { timing, ..settings() }).await;
    let (mut client, _) = stage.miner("w").await;
    client.settle().await;
    stage.books.faults().set([Fault::SlowReader]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    for _ in 0..3 {
        client.heartbeat().await;
    }
    client.settle().await;
    assert!(started.elapsed() >= Duration::from_millis(600), "{:?}", started.elapsed());
    stage.counted("heartbeat", 4).await;
}

#[tokio::test]
async fn garbage_comes_in_every_kind_and_is_no_end() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    stage.books.faults().set([Fault::Garbage]);
    stage.counted("burst", 1).await;
    let count = stage.books.ledger().entries(Some("burst"), 0)[0]["frames"].as_u64().unwrap();
    let (mut texts, mut bytes) = (0, 0);
    while texts + bytes < count {
        match client.message().await.unwrap() {
            Message::Text(_) => texts += 1,
            Message::Binary(_) => bytes += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(texts > 15 && bytes > 0);
    client.settle().await;
}

#[tokio::test]
async fn a_message_can_be_one_byte_too_large() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    stage.books.faults().set([Fault::Oversize]);
    loop {
        if let Message::Text(text) = client.message().await.unwrap()
            && text.len() > 100_000
        {
            assert_eq!(text.len(), 1_048_577);
            return;
        }
    }
}

#[tokio::test]
async fn cancels_come_in_thousands_and_in_the_names_of_others() {
    let stage = Stage::new().await;
    let (mut client, lease) = stage.miner("w").await;
    stage.books.faults().set([Fault::Cancels, Fault::ForeignCancels]);
    for _ in 0..5000 {
        let cancel = client.wait_for("MINE_CANCEL").await;
        assert_ne!(cancel["work_unit_id"], lease["work_unit_id"]);
        assert_eq!(cancel["reason"], "superseded");
    }
    let foreign = client.wait_for("MINE_CANCEL").await;
    assert_eq!(foreign["work_unit_id"], lease["work_unit_id"]);
    assert_ne!(foreign["job_id"], lease["job_id"]);
    // The lease itself stands.
    let mined = stage.mined(&lease, "cmpl-1", false).await;
    client.send(&share("w", &lease, &mined.proof.hash, EVERY, &mined.message())).await;
    client.settle().await;
    stage.counted("share.accepted", 1).await;
}

#[tokio::test]
async fn frames_come_twice_and_cancels_before_their_requests() {
    let faults = vec![Fault::Duplicates, Fault::CancelFirst];
    let stage = Stage::with(BrokerSettings { faults, ..settings() }).await;
    let mut client = stage.connect().await;
    client.send(&hello("w")).await;
    let mut kinds = Vec::new();
    let mut job_ids = Vec::new();
    while kinds.len() < 8 {
        let frame = client.frame().await;
        kinds.push(frame["type"].as_str().unwrap().to_owned());
        job_ids.push(frame["job_id"].clone());
    }
    let each = ["ACK", "MODEL_REGISTRY_SYNC", "MINE_CANCEL", "MINE_REQUEST"];
    assert_eq!(kinds, each.iter().flat_map(|kind| [*kind, *kind]).collect::<Vec<_>>());
    assert_eq!(job_ids[4], job_ids[6], "the cancel names the lease that follows");
}

#[tokio::test]
async fn a_job_that_is_started_twice_may_end_twice() {
    let stage = Stage::new().await;
    let (mut client, _) = stage.miner("w").await;
    for (starts, violations) in [(2, 0), (1, 2)] {
        stage.books.faults().set((starts == 2).then_some(Fault::Duplicates));
        let mut job = dispatch(&stage.books, Order::chat("org/tiny", "hi", 8)).unwrap();
        let mut id = json!(null);
        for _ in 0..starts {
            id = client.wait_for("START").await["job_id"].take();
        }
        // As a worker answers that is done before the second START is there.
        for _ in 0..2 {
            client.send(&json!({"type":"ACK","job_id":id})).await;
            let end = json!({"type":"END","job_id":id,"completion_id":"chatcmpl-1","usage":{}});
            client.send(&end).await;
        }
        client.settle().await;
        assert!(matches!(job.events.recv().await, Some(JobEvent::End(_))));
        assert_eq!(job.events.recv().await, None, "its caller hears of one end");
        stage.counted("violation", violations).await;
    }
}

#[tokio::test]
async fn a_clock_is_a_day_off() {
    let secret = Some("s".to_owned());
    let stage = Stage::with(BrokerSettings { challenge_secret: secret, ..settings() }).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (fault, sign) in [(Fault::ClockAhead, 1), (Fault::ClockBehind, -1)] {
        stage.books.faults().set([fault]);
        let mut client = stage.connect().await;
        client.send(&hello("w")).await;
        let challenge = timeout(PATIENCE, client.frame()).await.unwrap();
        let off = challenge["timestamp"].as_i64().unwrap() - i64::try_from(now).unwrap();
        assert!((off - sign * 86_400).abs() < 60, "{off}");
    }
    assert_eq!(json!(Fault::ClockAhead.name()), "clock-ahead");
}
