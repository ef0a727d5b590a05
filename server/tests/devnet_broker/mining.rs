//! Leases, what is found on them, and how they end.

use crate::client::{share, solution};
use crate::stage::{EVERY, Stage, settings};
use serde_json::{Value, json};
use std::time::Duration;
use tensorpow_server::devnet::broker::{BrokerSettings, DevBroker, Timing};

#[tokio::test]
async fn a_real_share_is_credited_once_and_a_block_moves_the_tip() {
    let stage = Stage::new().await;
    let (mut client, lease) = stage.miner("w").await;
    assert_eq!(lease["work_unit_id"], lease["template"]["request_id"]);
    let mined = stage.mined(&lease, "cmpl-1", false).await;
    let frame = share("w", &lease, &mined.proof.hash, EVERY, &mined.message());
    client.send(&frame).await;
    client.send(&frame).await;
    client.settle().await;
    stage.counted("share.accepted", 1).await;
    assert_eq!(stage.refusals("share"), ["duplicate_share"]);

    let block = stage.mined(&lease, "cmpl-2", true).await;
    client.send(&solution("w", &lease, &block.message())).await;
    let next = client.wait_for("MINE_REQUEST").await;
    assert_ne!(next["template"]["block_hash"], lease["template"]["block_hash"]);
    stage.counted("solution.accepted", 1).await;
    assert_eq!(stage.books.chain().tip().height, 1);

    // Whatever comes for the old lease comes too late.
    client.send(&frame).await;
    client.send(&solution("w", &lease, &block.message())).await;
    client.settle().await;
    assert_eq!(stage.refusals("share")[1], "lease_inactive");
    assert_eq!(stage.refusals("solution"), ["lease_inactive"]);
    assert_eq!(stage.books.chain().credits().shares, 1);
    stage.counted("violation", 0).await;
}

#[tokio::test]
async fn a_share_that_is_not_as_it_says_is_refused_for_its_reason() {
    let stage = Stage::new().await;
    let (mut client, lease) = stage.miner("w").await;
    let mined = stage.mined(&lease, "cmpl-1", false).await;
    let block = stage.mined(&lease, "cmpl-2", true).await;
    let good = share("w", &lease, &mined.proof.hash, EVERY, &mined.message());
    let with = |field: &str, value: Value| {
        let mut frame = good.clone();
        frame[field] = value;
        frame
    };
    let mut forged = mined.clone();
    forged.proof.chosen_tokens[100] ^= 1;
    let as_share = share("w", &lease, &block.proof.hash, EVERY, &block.message());
    let wrong = [
        (with("job_id", json!("job-unknown")), "lease_inactive"),
        (with("worker_id", json!("other")), "echo_mismatch"),
        (with("wallet_id", json!("mine")), "echo_mismatch"),
        (with("share_target", json!("0".repeat(64))), "share_target_mismatch"),
        (with("achieved_hash", json!("00".repeat(32))), "hash_mismatch"),
        (with("nonce", json!(1)), "bad-nonce"),
        (with("proof_b64", json!("!")), "invalid_payload"),
        (with("proof_b64", json!("AAAA")), "invalid_payload"),
        (as_share, "is_a_solution"),
    ];
    let mut reasons = Vec::new();
    for (frame, reason) in wrong {
        client.send(&frame).await;
        reasons.push(reason);
    }
    client.send(&share("w", &lease, &forged.proof.hash, EVERY, &forged.message())).await;
    client.send(&solution("w", &lease, &mined.message())).await;
    client.settle().await;
    let refused = stage.refusals("share");
    assert_eq!(refused[..reasons.len()], reasons);
    assert_eq!(refused.len(), reasons.len() + 1, "the forged window is refused by the chain");
    assert_eq!(stage.refusals("solution"), ["not_a_solution"]);
    stage.counted("share.accepted", 0).await;
}

#[tokio::test]
async fn a_new_tip_supersedes_the_lease() {
    let stage = Stage::new().await;
    let (mut client, lease) = stage.miner("w").await;
    stage.books.chain().advance();
    let cancel = client.wait_for("MINE_CANCEL").await;
    assert_eq!(cancel["reason"], "superseded");
    assert_eq!(
        (&cancel["job_id"], &cancel["work_unit_id"]),
        (&lease["job_id"], &lease["work_unit_id"])
    );
    let next = client.wait_for("MINE_REQUEST").await;
    assert_ne!(next["job_id"], lease["job_id"]);
}

#[tokio::test]
async fn silence_expires_a_lease_in_two_steps() {
    let timing = Timing {
        lease_silent: Duration::from_millis(200),
        lease_grace: Duration::from_millis(200),
        ..settings().timing
    };
    let stage = Stage::with(BrokerSettings { timing, ..settings() }).await;
    let (mut client, lease) = stage.miner("w").await;
    for reason in ["expired", "expired_final"] {
        let cancel = client.wait_for("MINE_CANCEL").await;
        assert_eq!((&cancel["reason"], &cancel["job_id"]), (&json!(reason), &lease["job_id"]));
    }
    assert_ne!(client.wait_for("MINE_REQUEST").await["job_id"], lease["job_id"]);
}

#[tokio::test]
async fn a_declined_lease_is_noted() {
    let stage = Stage::new().await;
    let (mut client, lease) = stage.miner("w").await;
    client
        .send(&json!({"type":"MINE_RESULT","job_id":lease["job_id"],
            "error":"invalid_payload: of a kind"}))
        .await;
    client.settle().await;
    let entry = &stage.books.ledger().entries(Some("declined"), 0)[0];
    assert_eq!((&entry["token"], &entry["closed"]), (&json!("invalid_payload"), &json!(true)));
}

#[tokio::test]
async fn work_outlives_a_broker_that_is_killed_and_restarted() {
    let stage = Stage::new().await;
    let (_client, lease) = stage.miner("w").await;
    let mined = stage.mined(&lease, "cmpl-1", false).await;
    let address = stage.broker.address();
    let Stage { books, broker } = stage;
    broker.kill().await;
    let broker = DevBroker::open(books.clone(), address, None).await.unwrap();
    let stage = Stage { books, broker };
    let (mut client, again) = stage.miner("w").await;
    assert_eq!(again, lease);
    client.send(&share("w", &lease, &mined.proof.hash, EVERY, &mined.message())).await;
    client.settle().await;
    stage.counted("share.accepted", 1).await;
    // The chain goes on while the worker is away, and it hears of that afterwards.
    drop(client);
    stage.counted("disconnected", 1).await;
    stage.books.chain().advance();
    stage.counted("cancel", 1).await;
    let mut client = stage.connect().await;
    client.register("w").await;
    let cancel = client.wait_for("MINE_CANCEL").await;
    assert_eq!(cancel["job_id"], lease["job_id"]);
    assert_ne!(client.wait_for("MINE_REQUEST").await["job_id"], lease["job_id"]);
}
