//! One round of everything a broker can do wrong, and how fast the worker comes back after it.

use crate::broker::Broker;
use crate::engine::Engine;
use crate::worker::Worker;
use std::time::Duration;
use tensorpow_server::devnet::broker::misbehave::Fault;

/// What a loaded machine may add to a wait.
const SLACK: Duration = Duration::from_secs(2);

async fn seconds(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// All faults, one after the other.
pub(crate) async fn all(broker: &mut Broker, worker: &Worker) {
    killed(broker).await;
    half_open(broker).await;
    disturbing(broker, worker).await;
    oversize(broker).await;
    slow(broker).await;
    clock(broker).await;
    accepted_then_closed(broker).await;
    unauthorized(broker).await;
}

/// The worker itself ends and starts again on the same data: by kill -9, with proofs that no broker
/// has taken yet, and by the signal of an orderly stop, with a broker at the other end. What the
/// engine makes meanwhile it keeps until there is a worker again.
pub(crate) async fn worker_restarted(broker: &mut Broker, worker: &Worker, engine: &Engine) {
    broker.kill().await;
    worker.until("proofs wait for the broker", |spool| spool.open > 0).await;
    let handed = engine.hold();
    worker.until("every proof is on disk", |spool| spool.entries >= handed).await;
    let before = worker.spool().await;
    worker.kill();
    worker.start().await;
    let after = worker.spool().await;
    assert!(after.entries == before.entries && after.open > 0, "{before:?}, then {after:?}");
    println!(
        "the worker was killed with {} proofs to deliver, and has {}",
        before.open, after.open
    );
    engine.release();
    broker.restart().await;
    calm(broker).await;

    let handed = engine.hold();
    worker.until("every proof is on disk", |spool| spool.entries >= handed).await;
    worker.stop();
    worker.start().await;
    engine.release();
    calm(broker).await;
}

/// Everybody works again for a while.
async fn calm(broker: &Broker) {
    broker.misbehave(&[]);
    broker.wait_for_worker().await;
    seconds(1.0).await;
}

/// Killed and restarted.
async fn killed(broker: &mut Broker) {
    broker.kill().await;
    seconds(1.5).await;
    // Meanwhile the chain may go on.
    broker.books.chain().advance();
    broker.restart().await;
    calm(broker).await;
}

/// The connection stands, nothing moves; the worker notices it by itself.
async fn half_open(broker: &Broker) {
    broker.misbehave(&[Fault::HalfOpen]);
    let before = broker.books.ledger().count("connection.accepted");
    // A ping, its pong's time and the wait before the next connection are five seconds.
    seconds(6.0).await;
    let dials = || broker.books.ledger().count("connection.accepted") > before;
    let late = broker.until("the worker leaves a connection that is dead", dials).await;
    assert!(late < SLACK * 2, "{late:?} late");
    // The connections end now; the worker comes back on another one.
    let ledger = broker.books.ledger();
    let hellos = ledger.count("hello");
    broker.misbehave(&[]);
    broker.until("the worker is back", || ledger.count("hello") > hellos).await;
    calm(broker).await;
}

/// What a worker has to ignore: it stays, and so do its leases.
async fn disturbing(broker: &Broker, worker: &Worker) {
    let before = broker.books.ledger().count("hello");
    for fault in [Fault::Garbage, Fault::Cancels, Fault::ForeignCancels] {
        broker.burst(fault).await;
        seconds(0.3).await;
    }
    broker.misbehave(&[Fault::Duplicates, Fault::CancelFirst]);
    broker.books.chain().advance();
    seconds(1.0).await;
    broker.misbehave(&[]);
    let after = broker.books.ledger().count("hello");
    let ends = broker.books.ledger().entries(Some("disconnected"), 0);
    assert_eq!(after, before, "the worker left for what it should ignore: {ends:?}");
    let context = worker.context().await;
    assert!(context["request_id"].is_u64(), "{context}");
    calm(broker).await;
}

/// A message that no worker takes ends the connection.
async fn oversize(broker: &Broker) {
    let from = newest(broker);
    broker.burst(Fault::Oversize).await;
    broker.misbehave(&[]);
    let ends = || broker.books.ledger().entries(Some("disconnected"), from);
    broker.until("the connection ends over it", || !ends().is_empty()).await;
    // A socket that is closed with bytes unread is reset, which may overtake the reason.
    let why = ends()[0]["why"].as_str().unwrap().to_owned();
    assert!(["1009", "reset", "Broken pipe"].iter().any(|end| why.contains(end)), "{why}");
    calm(broker).await;
}

async fn slow(broker: &Broker) {
    broker.misbehave(&[Fault::SlowReader]);
    seconds(3.0).await;
    calm(broker).await;
}

async fn clock(broker: &Broker) {
    for fault in [Fault::ClockAhead, Fault::ClockBehind] {
        broker.cut().await;
        broker.misbehave(&[fault]);
        broker.wait_for_worker().await;
        seconds(0.5).await;
    }
    calm(broker).await;
}

/// Accepted, then closed: failures like any other.
async fn accepted_then_closed(broker: &Broker) {
    broker.cut().await;
    broker.misbehave(&[Fault::CloseAfterAccept]);
    check_backoff(broker, newest(broker), |entry| entry["verdict"] == "accepted").await;
    calm(broker).await;
}

async fn unauthorized(broker: &Broker) {
    broker.cut().await;
    broker.misbehave(&[Fault::Unauthorized]);
    check_backoff(broker, newest(broker), |entry| {
        entry["reason"].as_str().is_some_and(|reason| reason.starts_with("401"))
    })
    .await;
    calm(broker).await;
}

fn newest(broker: &Broker) -> u64 {
    let entries = broker.books.ledger().entries(None, 0);
    entries.last().and_then(|entry| entry["n"].as_u64()).unwrap_or_default()
}

/// Failures are followed by 1, 2, 4, … seconds and at most a fifth more. spec: broker §1.1
async fn check_backoff(broker: &Broker, from: u64, wanted: impl Fn(&serde_json::Value) -> bool) {
    let times = || -> Vec<u64> {
        let entries = broker.books.ledger().entries(Some("connection"), from);
        entries.iter().filter(|entry| wanted(entry)).map(|e| e["at"].as_u64().unwrap()).collect()
    };
    broker.until("there were three tries", || times().len() >= 3).await;
    let mut wait = Duration::from_secs(1);
    for pair in times().windows(2) {
        let gap = Duration::from_millis(pair[1] - pair[0]);
        let most = wait.mul_f64(1.2) + SLACK;
        // Times in the ledger are whole milliseconds.
        assert!(gap + Duration::from_millis(5) >= wait && gap <= most, "{gap:?} for {wait:?}");
        wait *= 2;
    }
}
