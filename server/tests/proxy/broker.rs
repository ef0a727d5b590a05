//! The broker link over real WebSockets, with a broker that lives in the test: how a refused worker
//! comes back, what becomes of a share whose broker goes before it could say that it has it, and of
//! a job whose broker goes.

use crate::engine::{MockEngine, Script};
use crate::worker::{Worker, try_config, wait_for};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tensorpow_core::header::HeaderFields;
use tensorpow_core::proof::{Encode, MiningResponseRef, Proof};
use tensorpow_core::target::CompactTarget;
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot};
use tensorpow_server::broker::settings::BrokerSettings;
use tensorpow_server::broker::socket::Bytes;
use tensorpow_server::mining::model::ModelId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// What the engine says to every question, that for its context too.
pub(crate) const ENGINE: &str = r#"{"default_generation_settings":{"n_ctx":4096},"id":"cmpl-1","choices":[{"message":{"content":"hi"}}]}"#;

/// A place where a broker listens.
pub(crate) struct Broker(TcpListener);

pub(crate) type Connection = WebSocketStream<TcpStream>;

impl Broker {
    pub(crate) async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.0.local_addr().unwrap())
    }

    /// The next worker that dials, its `HELLO` heard.
    pub(crate) async fn accept(&self) -> Connection {
        let dialled = tokio::time::timeout(LIMIT, self.0.accept()).await.expect("a worker dials");
        let mut connection =
            tokio_tungstenite::accept_async(dialled.unwrap().0).await.expect("an upgrade");
        assert_eq!(next(&mut connection, "HELLO").await["type"], "HELLO");
        connection
    }
}

/// The next frame of this type; others are passed over.
pub(crate) async fn next<S: Bytes>(connection: &mut WebSocketStream<S>, wanted: &str) -> Value {
    let waiting = async {
        loop {
            let message = connection.next().await.expect("an open connection").expect("a message");
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(text.as_str()).expect("a JSON object");
            if frame["type"] == wanted {
                return frame;
            }
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("no {wanted}"))
}

pub(crate) async fn say<S: Bytes>(connection: &mut WebSocketStream<S>, frame: Value) {
    connection.send(Message::text(frame.to_string())).await.expect("an open connection");
}

pub(crate) async fn register<S: Bytes>(connection: &mut WebSocketStream<S>) {
    say(connection, json!({ "type": "ACK", "heartbeat_interval_sec": 1 })).await;
}

/// A worker of this broker that keeps everything in memory.
pub(crate) async fn worker(broker: &Broker, script: Script) -> Worker {
    worker_with(broker, script, &[]).await
}

async fn worker_with(broker: &Broker, script: Script, flags: &[&str]) -> Worker {
    worker_in(broker, script, flags, &[], |_| ()).await
}

async fn worker_in(
    broker: &Broker,
    script: Script,
    flags: &[&str],
    environment: &[(&str, &str)],
    change: impl FnOnce(&mut BrokerSettings),
) -> Worker {
    let engine = MockEngine::start(script).await;
    let url = broker.url();
    let always = [
        ("WORKER_MODE", "broker"),
        ("BROKER_WS_URL", &*url),
        ("PROVIDER_JWT_TOKEN", "eyJ0"),
        ("WORKER_ID", "worker-test"),
        ("MAX_CONTEXT_WINDOW", "2048"),
    ];
    let environment = [&always, environment].concat();
    let config = try_config(&engine.url(), flags, &environment).expect("a configuration");
    let mut link = config.broker.clone().expect("a broker link");
    change(&mut link.settings);
    Worker::start_linked(engine, config, Some(link.open()), None).await
}

fn prefix(parent: u8) -> HeaderPrefix {
    HeaderPrefix::from_fields(&HeaderFields {
        version: 3,
        parent: BlockHash::from_bytes([parent; 32]),
        merkle_root: MerkleRoot::from_bytes([0; 32]),
        time: 1,
        bits: CompactTarget::from_bits(0x1f00_ffff),
    })
}

pub(crate) fn lease(job_id: &str, request_id: u32, parent: u8) -> Value {
    json!({
        "type": "MINE_REQUEST", "job_id": job_id, "work_unit_id": request_id, "wallet_id": "w",
        "network": "tensor", "mode": "dummy_only",
        "model": { "name": "org/tiny", "commit": "c0ffee" },
        "template": {
            "template_id": "t", "request_id": request_id, "block_hash": "00", "target": "00",
            "header_prefix": format!("{:x}", prefix(parent)), "bits": 0x1f00_ffff_u32,
            "expires_at": 0, "base_share_target": "ff".repeat(32),
        },
    })
}

fn registry() -> Value {
    let id: ModelId = "org/tiny@c0ffee".parse().unwrap();
    json!({ "type": "MODEL_REGISTRY_SYNC", "models": [{
        "model_hash": id.display_hash(), "model_name": "org/tiny", "model_commit": "c0ffee",
        "difficulty": 2_000_000, "status": 2,
    }] })
}

/// A proof as an engine pushes it. Its number is its digest.
fn proof(number: u32, request_id: u32, parent: u8, is_solution: bool) -> Vec<u8> {
    let mut hash = vec![0; 32];
    hash[..4].copy_from_slice(&number.to_le_bytes());
    let proof = Proof {
        hash,
        header_prefix: prefix(parent).as_bytes().to_vec(),
        is_solution,
        model_identifier: b"org/tiny@c0ffee".to_vec(),
        ..Proof::default()
    };
    let message = MiningResponseRef {
        req_id: request_id,
        nonce: number,
        pow_blob: Some(proof.as_ref()),
        ..Default::default()
    };
    message.encode_to_vec().unwrap()
}

fn engine_socket(worker: &Worker) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.connect(&worker.collector).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_worker_comes_back_ever_later() {
    let broker = Broker::new().await;
    let worker = worker(&broker, Script::Json(200, ENGINE)).await;
    let mut attempts = Vec::new();
    for answer in ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 401 Unauthorized", "HTTP/1.1 503 Busy"] {
        let dialled = tokio::time::timeout(LIMIT, broker.0.accept()).await.unwrap();
        let mut stream = dialled.unwrap().0;
        attempts.push(Instant::now());
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
        assert!(request.starts_with("get /v1/ws http/1.1"), "{request}");
        assert!(request.contains("authorization: bearer eyj0"), "{request}");
        let answer = format!("{answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    // Accepted and closed at once is a failure too.
    broker.accept().await.close(None).await.unwrap();
    attempts.push(Instant::now());
    for (waited, least) in attempts.windows(2).map(|pair| pair[1] - pair[0]).zip([1_u64, 2, 4]) {
        let least = Duration::from_secs(least);
        assert!(waited >= least && waited < least * 2, "{waited:?} for {least:?}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_confirmed_leaves_again_after_the_next_registration() {
    let broker = Broker::new().await;
    let worker = worker(&broker, Script::Json(200, ENGINE)).await;
    let engine = engine_socket(&worker);
    let mut first = broker.accept().await;
    register(&mut first).await;
    say(&mut first, registry()).await;
    say(&mut first, lease("job-a", 7, 1)).await;
    wait_for("the lease", || worker.app.context.load().job().is_some()).await;
    wait_for("the registry", || worker.app.context.load().models().loaded).await;
    engine.send(proof(1, 7, 1, false), 0).unwrap();
    let share = next(&mut first, "MINE_SHARE").await;
    assert_eq!((&share["job_id"], &share["nonce"]), (&json!("job-a"), &json!(1)));
    // Half of the base, for a model of twice the difficulty.
    assert_eq!(share["share_target"], format!("7f{}", "ff".repeat(31)));
    // The broker goes without having answered the ping behind the share.
    drop(first);
    wait_for("the end", || broker_status(&worker)["registered"] == false).await;
    engine.send(proof(2, 7, 1, true), 0).unwrap();
    engine.send(proof(3, 7, 1, false), 0).unwrap();
    engine.send(proof(4, 8, 1, false), 0).unwrap();
    let mut second = broker.accept().await;
    register(&mut second).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let frame = loop {
            let message = tokio::time::timeout(LIMIT, second.next()).await.expect("in time");
            let Message::Text(text) = message.unwrap().unwrap() else { continue };
            let frame: Value = serde_json::from_str(text.as_str()).unwrap();
            if frame["type"] != "HEARTBEAT" {
                break frame;
            }
        };
        told.push((frame["type"].as_str().unwrap().to_owned(), frame["nonce"].as_u64()));
    }
    let expected = [("MINE_SHARE", Some(1)), ("MINE_SHARE", Some(3)), ("MINE_RESULT", None)];
    assert_eq!(told, expected.map(|(kind, nonce)| (kind.to_owned(), nonce)), "shares first");
    // Answering pings is part of reading.
    next(&mut second, "HEARTBEAT").await;
    next(&mut second, "HEARTBEAT").await;
    let deliveries = worker.app.store.spool().view().unwrap().open_deliveries("broker").unwrap();
    assert!(deliveries.is_empty(), "{deliveries:?}");
    assert_eq!(broker_status(&worker)["leases"], json!({}), "the result has closed it");
    assert_eq!(broker_status(&worker)["shares"], 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_ends_with_its_connection_and_is_not_heard_on_the_next() {
    let broker = Broker::new().await;
    let worker = worker(&broker, Script::Hang).await;
    let mut first = broker.accept().await;
    register(&mut first).await;
    let start = json!({ "type": "START", "job_id": "j", "payload": {
        "model": "org/tiny", "messages": [{ "role": "user", "content": "hi" }],
    } });
    say(&mut first, start.clone()).await;
    assert_eq!(next(&mut first, "ACK").await["job_id"], "j");
    loop {
        if next(&mut first, "HEARTBEAT").await["busy"] == 1 {
            break;
        }
    }
    // A second START of a job that runs is only acknowledged.
    say(&mut first, start).await;
    assert_eq!(next(&mut first, "ACK").await["job_id"], "j");
    wait_for("the engine's request", || worker.engine.asked() >= 1).await;
    drop(first);
    let engine = worker.engine.clone();
    wait_for("the engine's work to be aborted", || engine.aborted() >= 1).await;
    let mut second = broker.accept().await;
    register(&mut second).await;
    assert_eq!(next(&mut second, "HEARTBEAT").await["busy"], 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_has_the_broker_dialled_anew() {
    let broker = Broker::new().await;
    let watch = [("TENSORPOW_WATCH_JOB", "1"), ("TENSORPOW_WATCH_JOB_ACTION", "reconnect")];
    let worker = worker_in(&broker, Script::Json(200, ENGINE), &[], &watch, |_| ()).await;
    let mut first = broker.accept().await;
    register(&mut first).await;
    // No lease comes. The broker hears why the connection ends, and answers by reading on.
    let ending = async {
        let mut said = None;
        while let Some(Ok(message)) = first.next().await {
            if let Message::Close(frame) = message {
                said = frame;
            }
        }
        said.expect("a close frame with a reason")
    };
    let said = tokio::time::timeout(LIMIT, ending).await.expect("an end");
    assert_eq!((u16::from(said.code), said.reason.as_str()), (1001, "reconnect"));
    let mut second = broker.accept().await;
    register(&mut second).await;
    next(&mut second, "HEARTBEAT").await;
    let metrics = worker.metrics().await;
    for line in [
        "tensorpow_watchdog_alarms_total{watchdog=\"job\",action=\"reconnect\"} 1",
        "tensorpow_broker_reconnects_total 1",
        "tensorpow_broker_attempts_total 2",
        "tensorpow_broker_silences_total 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_mines_nothing_waits_for_no_job() {
    let broker = Broker::new().await;
    let environment = [
        ("MINING_ENABLED", "false"),
        ("TENSORPOW_WATCH_JOB", "1"),
        ("TENSORPOW_WATCH_JOB_ACTION", "reconnect"),
    ];
    let script = Script::Json(200, ENGINE);
    let worker = worker_in(&broker, script, &[], &environment, |_| ()).await;
    let mut connection = broker.accept().await;
    register(&mut connection).await;
    for _ in 0..4 {
        next(&mut connection, "HEARTBEAT").await;
    }
    let metrics = worker.metrics().await;
    assert!(metrics.contains("tensorpow_broker_attempts_total 1"), "{metrics}");
    assert!(!metrics.contains("watchdog=\"job\""), "{metrics}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_answers_no_ping_is_left() {
    let broker = Broker::new().await;
    let impatient = |settings: &mut BrokerSettings| {
        settings.timings.ping = Duration::from_millis(200);
        settings.timings.pong = Duration::from_secs(1);
    };
    let worker = worker_in(&broker, Script::Json(200, ENGINE), &[], &[], impatient).await;
    let mut first = broker.accept().await;
    register(&mut first).await;
    // It is open, and nobody reads it: pongs are part of reading.
    let second = broker.accept().await;
    let metrics = worker.metrics().await;
    assert!(metrics.contains("tensorpow_broker_silences_total 1"), "{metrics}");
    drop((first, second));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_runs_share_leaves_under_its_lease() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", folder.path().to_str().unwrap()];
    let broker = Broker::new().await;
    let run = worker_with(&broker, Script::Json(200, ENGINE), &flags).await;
    let mut first = broker.accept().await;
    register(&mut first).await;
    say(&mut first, registry()).await;
    say(&mut first, lease("job-a", 7, 1)).await;
    let kept = folder.path().join("broker-leases.json");
    wait_for("the lease on disk", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("job-a"))
    })
    .await;
    wait_for("the lease", || run.app.context.load().job().is_some()).await;
    drop(first);
    wait_for("the end", || broker_status(&run)["registered"] == false).await;
    engine_socket(&run).send(proof(5, 7, 1, false), 0).unwrap();
    let open = || run.app.store.spool().view().unwrap().open_deliveries("broker").unwrap().len();
    wait_for("the share on disk", || open() == 1).await;
    run.stop().await;

    let again = worker_with(&broker, Script::Json(200, ENGINE), &flags).await;
    // The first run may have dialled once more before it stopped.
    let mut second = loop {
        let mut connection = broker.accept().await;
        register(&mut connection).await;
        let heard = tokio::time::timeout(Duration::from_secs(2), connection.next()).await;
        if matches!(heard, Ok(Some(Ok(Message::Text(_))))) {
            break connection;
        }
    };
    // The lease comes before the registry, which the share waits for.
    say(&mut second, lease("job-b", 8, 1)).await;
    say(&mut second, registry()).await;
    let share = next(&mut second, "MINE_SHARE").await;
    assert_eq!((&share["job_id"], &share["nonce"]), (&json!("job-a"), &json!(5)));
    again.stop().await;
}

pub(crate) fn broker_status(worker: &Worker) -> Value {
    let report = worker.app.chain_report.as_ref().expect("a report");
    report()["broker"].clone()
}
