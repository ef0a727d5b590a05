//! Who gets in, and what happens until a worker is registered.

use crate::client::{connect, hello};
use crate::stage::{Stage, settings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::Duration;
use tensorpow_server::devnet::broker::Timing;
use tensorpow_server::devnet::broker::token::Tokens;

#[tokio::test]
async fn only_tokens_of_this_broker_open_the_door() {
    let stage = Stage::new().await;
    let address = stage.broker.address();
    let bearer = |token: String| Some(("authorization", format!("Bearer {token}")));
    let others = Tokens::new("another").provider_token("w", u64::MAX);
    let expired = stage.books.tokens().provider_token("w", 1_000_000_000);
    for (header, status) in [
        (bearer(others), Some(401)),
        (bearer(expired), Some(401)),
        (bearer("nonsense".to_owned()), Some(401)),
        (Some(("x-worker-token", "wrong".to_owned())), Some(401)),
        (None, Some(401)),
        (Some(("x-worker-token", stage.books.tokens().worker_token())), None),
        (bearer(stage.books.provider_token("w")), None),
    ] {
        let shown = format!("{header:?}");
        assert_eq!(connect(address, "/v1/ws", header).await.err(), status, "{shown}");
    }
    let token = bearer(stage.books.provider_token("w"));
    assert_eq!(connect(address, "/elsewhere", token).await.err(), Some(404));
    stage.counted("connection.refused", 6).await;
    stage.counted("connection.accepted", 2).await;
}

#[tokio::test]
async fn a_worker_registers_and_hears_of_the_registry() {
    let stage = Stage::new().await;
    let mut client = stage.connect().await;
    let ack = client.register("w").await;
    assert_eq!((&ack["heartbeat_interval_sec"], &ack["status"]), (&json!(1), &json!("registered")));
    let sync = client.frame().await;
    assert_eq!(sync["type"], "MODEL_REGISTRY_SYNC");
    let model = &sync["models"][0];
    assert_eq!((&model["model_name"], &model["status"]), (&json!("org/tiny"), &json!(2)));
    assert_eq!(model["difficulty"], 1_000_000);
    client.settle().await;
    assert_eq!(stage.books.registered(), ["w"]);
    stage.counted("heartbeat", 1).await;
    stage.counted("violation", 0).await;
}

#[tokio::test]
async fn the_first_frame_must_be_a_hello_and_come_in_time() {
    let timing = Timing { hello: Duration::from_millis(300), ..settings().timing };
    let stage =
        Stage::with(tensorpow_server::devnet::broker::BrokerSettings { timing, ..settings() })
            .await;
    let mut other = stage.connect().await;
    other.heartbeat().await;
    assert_eq!(other.closed().await.0, 1008);
    let mut silent = stage.connect().await;
    assert_eq!(silent.closed().await, (1008, "too late".to_owned()));
    let mut long = stage.connect().await;
    long.send(&hello(&"x".repeat(65))).await;
    assert_eq!(long.closed().await.0, 1008);
    assert!(stage.books.registered().is_empty());
}

#[tokio::test]
async fn what_a_hello_lacks_is_noted_and_costs_the_leases() {
    let stage = Stage::new().await;
    let mut client = stage.connect().await;
    let mut frame = hello("w");
    frame["capabilities"]["mining"]["networks"] = json!([]);
    frame["capabilities"]["gpu_model"] = Value::Null;
    client.send(&frame).await;
    client.wait_for("MODEL_REGISTRY_SYNC").await;
    client.settle().await;
    stage.counted("violation", 1).await;
    stage.counted("lease", 0).await;
    let entry = &stage.books.ledger().entries(Some("hello"), 0)[0];
    assert!(entry["no_leases"].as_str().unwrap().contains("tensor"), "{entry}");
}

#[tokio::test]
async fn a_challenge_wants_its_proof() {
    let secret = Some("s3cret".to_owned());
    let stage = Stage::with(tensorpow_server::devnet::broker::BrokerSettings {
        challenge_secret: secret,
        ..settings()
    })
    .await;
    for (key, registered) in [("s3cret", true), ("other", false)] {
        let mut client = stage.connect().await;
        client.send(&hello("w")).await;
        let challenge = client.frame().await;
        assert_eq!(challenge["type"], "CHALLENGE");
        let nonce = challenge["nonce"].as_str().unwrap();
        let message = format!("{nonce}w{}", challenge["timestamp"].as_u64().unwrap());
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        let proof = STANDARD.encode(mac.chain_update(message).finalize().into_bytes());
        client.send(&json!({"type":"CHALLENGE_RESP","nonce":nonce,"proof":proof})).await;
        match registered {
            true => assert_eq!(client.frame().await["type"], "ACK"),
            false => assert_eq!(client.closed().await.0, 1008),
        }
    }
    stage.counted("challenge.accepted", 1).await;
    stage.counted("challenge.refused", 1).await;
}

#[tokio::test]
async fn a_second_connection_replaces_the_first() {
    let stage = Stage::new().await;
    let (mut first, lease) = stage.miner("w").await;
    let (second, again) = stage.miner("w").await;
    assert_eq!(first.closed().await.0, 1008);
    assert_eq!(again["job_id"], lease["job_id"], "the lease outlives the connection");
    assert_eq!(stage.books.registered(), ["w"]);
    drop(second);
    stage.counted("disconnected", 2).await;
    assert!(stage.books.registered().is_empty());
}

#[tokio::test]
async fn three_missed_heartbeats_are_the_end() {
    let timing = Timing { late: Duration::from_millis(100), ..settings().timing };
    let stage =
        Stage::with(tensorpow_server::devnet::broker::BrokerSettings { timing, ..settings() })
            .await;
    let (mut client, _) = stage.miner("w").await;
    assert_eq!(client.closed().await, (1008, "no heartbeat".to_owned()));
    stage.counted("dead", 1).await;
}
