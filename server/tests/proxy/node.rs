//! The node link over real ZeroMQ sockets: what becomes of jobs, backlogs and garbage, when
//! solutions leave, and the whole way from a stand-in of a node through the proxy and back.

use crate::engine::{MockEngine, Script};
use crate::miner::{self, mine_tier};
use crate::ports::free_port;
use crate::worker::{MODEL_NAME, Worker, chain_settings, config, wait_for};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tensorpow_core::classify::Tier;
use tensorpow_core::header::HeaderFields;
use tensorpow_core::proof::MiningResponseRef;
use tensorpow_core::target::CompactTarget;
use tensorpow_core::units::{BlockHash, Digest, HeaderPrefix, MerkleRoot};
use tensorpow_server::active_model::ActiveModelSettings;
use tensorpow_server::devnet::messages::{garbage, job_message};
use tensorpow_server::devnet::node::{DevNode, DevNodeSettings};
use tensorpow_server::link::Link;
use tensorpow_server::mining::job::{Job, JobSource, JobUpdate};
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::network::Network;
use tensorpow_server::mining::pause::Pause;
use tensorpow_server::mining::prover::VdfSettings;
use tensorpow_server::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use tensorpow_server::node::feed::{FeedSettings, JobFeed};
use tensorpow_server::node::results::{NodeSink, ResultSettings};
use tensorpow_server::node::{Node, NodeSettings};
use tensorpow_server::registry::rest::{RestRegistry, RestSettings};
use tensorpow_server::zap::AllowList;

const REPLY: Script = Script::Json(200, "{}");

pub(crate) fn feed_settings() -> FeedSettings {
    FeedSettings { address: "127.0.0.1:0".parse().unwrap(), ..FeedSettings::default() }
}

pub(crate) fn job(parent: u8, request_id: u32) -> Job {
    let prefix = HeaderPrefix::from_fields(&HeaderFields {
        version: 3,
        parent: BlockHash::from_bytes([parent; 32]),
        merkle_root: MerkleRoot::from_bytes([0x77; 32]),
        time: request_id,
        bits: CompactTarget::from_bits(0x207f_ffff),
    });
    Job { request_id, prefix, base_share_target: None, height: None }
}

/// A node's end of the job feed.
pub(crate) fn pusher(endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.set_sndhwm(2000).unwrap();
    socket.set_linger(1000).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

pub(crate) async fn current(jobs: &mut tokio::sync::watch::Receiver<Option<Job>>) -> Job {
    let changed = tokio::time::timeout(Duration::from_secs(10), jobs.changed()).await;
    changed.expect("a job in time").unwrap();
    jobs.borrow_and_update().clone().unwrap()
}

#[tokio::test]
async fn a_backlog_ends_on_the_newest_job_and_garbage_changes_nothing() {
    // The worker comes late: a thousand templates are waiting for it.
    let port = free_port();
    let node = pusher(&format!("tcp://127.0.0.1:{port}"));
    for id in 1..=999 {
        let parent = u8::try_from(id % 200).unwrap();
        node.send(job_message(&job(parent, id)), 0).unwrap();
    }
    node.send(job_message(&job(250, 1000)), 0).unwrap();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let settings = FeedSettings { address, ..FeedSettings::default() };
    let (feed, mut jobs) = JobFeed::bind(settings).unwrap();
    while current(&mut jobs).await != job(250, 1000) {}
    let (taken, superseded) = (feed.counters().taken(), feed.counters().superseded());
    assert_eq!(taken + superseded, 1000);
    // One, unless the machine is so busy that the backlog itself comes in pieces.
    assert!(taken <= 3, "{taken}");
    wait_for("the node to be counted", || feed.counters().peers() == 1).await;

    for kind in 0..12 {
        node.send(garbage(kind), 0).unwrap();
    }
    let refused = || feed.counters().refused().map(|(_, count)| count).sum::<u64>();
    wait_for("the garbage", || refused() == 12).await;
    assert_eq!(feed.counters().taken(), taken, "the job stays");
    assert!(!jobs.has_changed().unwrap());

    // Of a burst the last valid one counts, garbage behind it or not.
    for message in [job_message(&job(1, 1001)), job_message(&job(250, 1002)), garbage(3)] {
        node.send(message, 0).unwrap();
    }
    let mut newest = current(&mut jobs).await;
    if newest.request_id == 1001 {
        newest = current(&mut jobs).await;
    }
    assert_eq!(newest, job(250, 1002));
}

#[tokio::test]
async fn two_parts_are_two_messages_and_huge_ones_are_cut_off() {
    let (feed, mut jobs) = JobFeed::bind(feed_settings()).unwrap();
    let node = pusher(feed.endpoint());
    node.send_multipart([job_message(&job(1, 1)), garbage(2)], 0).unwrap();
    assert_eq!(current(&mut jobs).await, job(1, 1));
    wait_for("the second part", || feed.counters().refused().any(|(_, count)| count > 0)).await;
    node.send(vec![0; 1 << 20], 0).unwrap();
    let another = pusher(feed.endpoint());
    another.send(job_message(&job(2, 2)), 0).unwrap();
    assert_eq!(current(&mut jobs).await, job(2, 2));
}

#[tokio::test]
async fn silence_is_noticed_and_ends() {
    let settings = FeedSettings { silent_after: Duration::from_millis(200), ..feed_settings() };
    let (feed, mut jobs) = JobFeed::bind(settings).unwrap();
    assert!(!feed.counters().is_silent());
    wait_for("silence", || feed.counters().is_silent()).await;
    assert_eq!((feed.counters().peers(), feed.counters().job_age()), (0, None));
    let node = pusher(feed.endpoint());
    node.send(job_message(&job(1, 1)), 0).unwrap();
    current(&mut jobs).await;
    assert!(!feed.counters().is_silent());
    drop(node);
    wait_for("the node to be gone", || feed.counters().peers() == 0).await;
}

#[test]
fn the_job_feed_binds_what_it_may_or_says_why() {
    let bind = |address: &str, allow: &[&str]| {
        JobFeed::bind(FeedSettings {
            address: address.parse().unwrap(),
            allow: AllowList::new(allow.iter().map(|range| range.parse().unwrap()).collect()),
            ..FeedSettings::default()
        })
    };
    let (feed, _jobs) = bind("127.0.0.1:0", &[]).unwrap();
    let taken = feed.endpoint().replace("tcp://", "");
    let error = bind(&taken, &[]).unwrap_err().to_string();
    assert!(error.contains(&taken), "{error}");
    let error = bind("0.0.0.0:0", &[]).unwrap_err().to_string();
    assert!(error.contains("0.0.0.0:0") && error.contains("networks"), "{error}");
    let started = Instant::now();
    drop(feed);
    assert!(started.elapsed() < Duration::from_secs(2), "the thread ends promptly");
    assert!(bind(&taken, &[]).is_ok(), "the port is free again");
}

#[tokio::test]
async fn on_an_open_address_this_machine_may_send_jobs_whoever_is_listed() {
    let settings = FeedSettings {
        address: "0.0.0.0:0".parse().unwrap(),
        allow: AllowList::new(vec!["10.99.0.0/16".parse().unwrap()]),
        ..FeedSettings::default()
    };
    // Who else is let in is tested where the list is.
    let (open, mut taken) = JobFeed::bind(settings).unwrap();
    let here = open.endpoint().replace("0.0.0.0", "127.0.0.1");
    pusher(&here).send(job_message(&job(2, 2)), 0).unwrap();
    assert_eq!(current(&mut taken).await, job(2, 2));
}

#[tokio::test]
async fn jobs_bring_vdf_proofs_of_their_parent_and_a_refresh_resets_nothing() {
    let settings = NodeSettings {
        jobs: feed_settings(),
        results: ResultSettings { forward: false, ..ResultSettings::default() },
        vdf: VdfSettings {
            checkpoint: 64,
            update_interval: Duration::from_millis(5),
            ..VdfSettings::default()
        },
        ..NodeSettings::new(Network::Devnet)
    };
    let mut node = Node::open(settings, Arc::new(Pause::default())).unwrap();
    assert!(!node.sink.takes(Tier::Solution), "forwarding is off");
    let stand_in = pusher(node.report.jobs_endpoint());
    stand_in.send(job_message(&job(1, 1)), 0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut ticks = Vec::new();
    let mut last = (0, BlockHash::from_bytes([0; 32]));
    while ticks.len() < 12 {
        assert!(Instant::now() < deadline, "{ticks:?}");
        match node.source.next().await.unwrap() {
            JobUpdate::Job(job) => last = (job.request_id, job.parent()),
            JobUpdate::Vdf(state) => {
                assert_eq!(state.challenge, last.1, "a proof of the current parent only");
                ticks.push((last.0, state.tick.0));
                match ticks.len() {
                    4 => stand_in.send(job_message(&job(1, 2)), 0).unwrap(),
                    8 => stand_in.send(job_message(&job(2, 3)), 0).unwrap(),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let of = |parent: fn(u32) -> bool| {
        ticks.iter().filter(|(id, _)| parent(*id)).map(|(_, tick)| *tick).collect::<Vec<_>>()
    };
    let first = of(|id| id < 3);
    assert!(first.len() >= 8 && first.is_sorted() && first.iter().all(|tick| tick % 64 == 0));
    assert!(ticks.iter().any(|(id, _)| *id == 2), "the refresh arrived: {ticks:?}");
    assert!(node.report.vdf().is_running());
    let started = Instant::now();
    drop(node);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

fn received(message: Vec<u8>, digest: u8) -> ReceivedProof {
    let response = MiningResponseRef::read(&message).unwrap();
    ReceivedProof {
        completion_id: "cmpl-1".to_owned(),
        tier: Tier::Solution,
        request_id: response.req_id,
        nonce: response.nonce,
        parent: None,
        digest: Some(Digest::from_bytes([digest; 32])),
        model_identifier: String::new(),
        received_at: SystemTime::now(),
        message: message.into(),
    }
}

fn payload() -> Value {
    serde_json::json!({
        "header_prefix": "00".repeat(72) + "ffff7f20",
        "vdf": "ab".repeat(200),
        "tick": 5,
        "target": format!("{:x}", CompactTarget::from_bits(0x207f_ffff).expand().target),
        "ipfs_cid": "",
        "request_id": 9,
        "difficulty": 1,
        "model_identifier": "a/b@c",
    })
}

#[tokio::test]
async fn a_solution_leaves_once_and_only_to_a_node_that_is_there() {
    let port = free_port();
    let settings =
        ResultSettings { endpoint: format!("127.0.0.1:{port}").parse().unwrap(), forward: true };
    let sink = NodeSink::connect(settings).unwrap();
    assert!(sink.takes(Tier::Solution) && !sink.takes(Tier::Share) && !sink.takes(Tier::Audit));
    let solution = received(mine_tier(&payload(), "a", true).message(), 1);
    let verdict = sink.submit(&solution, Attempt::FIRST).await;
    assert!(matches!(verdict, Verdict::Unavailable { .. }), "{verdict}");
    assert!(!sink.is_connected());

    let node = zmq::Context::new().socket(zmq::PULL).unwrap();
    node.set_rcvtimeo(5000).unwrap();
    node.bind(&format!("tcp://127.0.0.1:{port}")).unwrap();
    wait_for("the connection", || sink.is_connected()).await;
    for _ in 0..3 {
        assert_eq!(sink.submit(&solution, Attempt::FIRST).await, Verdict::Sent);
    }
    assert_eq!(node.recv_bytes(0).unwrap(), solution.message);
    node.set_rcvtimeo(200).unwrap();
    assert!(node.recv_bytes(0).is_err(), "one message for one solution");
    assert_eq!(sink.counters().sent(), 1);
}

#[tokio::test]
async fn what_a_node_would_not_take_is_not_sent() {
    let sink = NodeSink::connect(ResultSettings::default()).unwrap();
    let solution = mine_tier(&payload(), "a", true);
    type Break = fn(&mut miner::Mined);
    let cases: [(&str, Break); 9] = [
        ("invalid_payload", |m| m.req_id = 0),
        ("invalid_payload", |m| m.req_id = 10_000_000),
        ("invalid_payload", |m| m.pow_blob_hash.truncate(31)),
        ("no_solution", |m| m.proof.is_solution = false),
        ("bad_header", |m| m.nonce ^= 1),
        ("bad_header", |m| m.adjusted_bits -= 1),
        ("bad_header", |m| m.proof.target[3] ^= 1),
        ("bad_header", |m| m.proof.hash.truncate(31)),
        ("bad_header", |m| m.proof.header_prefix.truncate(75)),
    ];
    for (expected, break_it) in cases {
        let mut broken = solution.clone();
        break_it(&mut broken);
        let verdict = sink.submit(&received(broken.message(), 1), Attempt::FIRST).await;
        assert_eq!(verdict.label(), expected, "{verdict}");
    }
    let mut hard = mine_tier(&payload(), "b", false);
    hard.proof.is_solution = true;
    let verdict = sink.submit(&received(hard.message(), 2), Attempt::FIRST).await;
    assert_eq!(verdict.label(), "high-hash");
}

/// A node stand-in and a proxy that believes it talks to a node.
struct World {
    node: DevNode,
    worker: Worker,
}

impl World {
    async fn start(chain: &[&str], faults: impl FnOnce(&mut DevNodeSettings)) -> Self {
        let port = free_port();
        let mut settings = DevNodeSettings {
            jobs: format!("127.0.0.1:{port}").parse().unwrap(),
            results: "127.0.0.1:0".parse().unwrap(),
            registry: "127.0.0.1:0".parse().unwrap(),
            registry_key: Some("k1".to_owned()),
            tip_every: None,
            garbage_every: None,
            backlog: 0,
            limit_reads: false,
            ledger: None,
        };
        faults(&mut settings);
        let chain = chain_settings(chain);
        let model = chain.model.id.clone();
        let node = DevNode::start(chain, settings).await.unwrap();
        let link = Link::to_node(
            NodeSettings {
                proof_version: Some(2),
                jobs: FeedSettings {
                    address: format!("127.0.0.1:{port}").parse().unwrap(),
                    ..FeedSettings::default()
                },
                results: ResultSettings {
                    endpoint: node.results_endpoint().parse().unwrap(),
                    forward: true,
                },
                vdf: VdfSettings {
                    checkpoint: 64,
                    update_interval: Duration::from_millis(20),
                    ..VdfSettings::default()
                },
                ..NodeSettings::new(Network::Devnet)
            },
            Models { pin: Some(model), ..Models::default() },
            vec![Box::new(RestRegistry::new(RestSettings {
                key: Some("Bearer k1".parse().unwrap()),
                ..RestSettings::new(format!("http://{}", node.registry_address()).parse().unwrap())
            }))],
            ActiveModelSettings::default(),
        );
        let engine = MockEngine::start(REPLY).await;
        let config = config(&engine.url(), &[]);
        let worker = Worker::start_linked(engine, config, Some(link.unwrap()), None).await;
        wait_for("a job, its VDF proof and the registry", || {
            let snapshot = worker.app.context.load();
            snapshot.vdf().is_some() && snapshot.models().loaded
        })
        .await;
        Self { node, worker }
    }

    /// A request through the proxy; what the engine got as `pow`.
    async fn pow(&self) -> Value {
        let body = format!(r#"{{"model":"{MODEL_NAME}","prompt":"p"}}"#);
        let answer = self.worker.post("/v1/completions", &body).await;
        assert_eq!((answer.status, answer.header("x-tensorpow-mining")), (200, "mined"));
        let body: Value = serde_json::from_slice(&self.worker.engine.last().body).unwrap();
        body["extra_sampling_params"]["pow"].clone()
    }
}

#[tokio::test]
async fn a_request_is_mined_for_a_node_and_its_solution_becomes_a_block() {
    let mut world = World::start(&["--interval", "0.2"], |_| ()).await;
    let genesis = world.node.chain().tip();
    let pow = world.pow().await;
    assert_eq!(pow["block_hash"], format!("{:x}", genesis.hash));
    assert!(pow["share_target"].is_null(), "a node takes no shares");
    let solution = mine_tier(&pow, "cmpl-x", true);
    // Templates are renewed meanwhile, on the same parent: that makes nothing stale.
    let jobs = world.node.counters().jobs();
    wait_for("another template", || world.node.counters().jobs() > jobs + 1).await;
    miner::push(&world.worker.collector, &[solution.message()]);
    assert_eq!(world.worker.judged().await.verdict, Verdict::Sent);
    wait_for("the block", || world.node.chain().tip().height == 1).await;
    assert_eq!(world.node.counters().unreadable(), 0);

    // The next tip reaches the requests, with a VDF proof of its own.
    let tip = world.node.chain().tip();
    wait_for("the next job's proof", || {
        let snapshot = world.worker.app.context.load();
        snapshot.vdf().is_some_and(|vdf| vdf.challenge == tip.hash)
    })
    .await;
    assert_eq!(world.pow().await["block_hash"], format!("{:x}", tip.hash));

    // A share stays here; a late solution is not sent.
    let share = mine_tier(&world.pow().await, "cmpl-y", false);
    let late = mine_tier(&pow, "cmpl-z", true);
    miner::push(&world.worker.collector, &[share.message(), late.message()]);
    wait_for("both", || world.worker.app.store.stats().proofs == 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.node.counters().results(), 1);

    let status = world.worker.get("/status").await.json();
    assert_eq!(status["chain"]["name"], "devnet");
    assert_eq!(status["chain"]["zmq"]["nodes_connected"], 1);
    assert_eq!(status["chain"]["zmq"]["results"]["sent"], 1);
    assert_eq!(status["chain"]["vdf"]["discriminant_size"], 1024);
    assert_eq!(status["proxy"]["model_sync"]["models_loaded"], 1);
    let metrics = world.worker.metrics().await;
    for line in [
        "tensorpow_node_peers 1",
        "tensorpow_node_results_sent_total 1",
        "tensorpow_registry_models 1",
        "tensorpow_vdf_faults_total 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_node_that_misbehaves_costs_nothing_but_counters() {
    let world = World::start(&["--interval", "0.05"], |settings| {
        settings.backlog = 300;
        settings.garbage_every = Some(1);
        settings.tip_every = Some(Duration::from_millis(700));
    })
    .await;
    let height = world.node.chain().tip().height;
    assert!(height >= 300, "{height}");
    wait_for("more blocks", || world.node.chain().tip().height > height + 2).await;
    let status = world.worker.get("/status").await.json();
    let refused = &status["chain"]["zmq"]["messages_refused"];
    assert!(refused["unreadable"].as_u64().unwrap() > 0, "{refused}");
    // In the middle of it all requests are served, mined when there is a proof for the tip.
    let answer = world
        .worker
        .post("/v1/completions", &format!(r#"{{"model":"{MODEL_NAME}","prompt":"p"}}"#))
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_node_that_goes_away_leaves_requests_unmined_after_the_threshold() {
    let port = free_port();
    let link = Link::to_node(
        NodeSettings {
            jobs: FeedSettings {
                address: format!("127.0.0.1:{port}").parse().unwrap(),
                ..FeedSettings::default()
            },
            vdf: VdfSettings { checkpoint: 64, ..VdfSettings::default() },
            ..NodeSettings::new(Network::TensorTest)
        },
        Models::new(None, []),
        Vec::new(),
        ActiveModelSettings::default(),
    )
    .unwrap();
    assert_eq!(link.proof_version, 2, "the network's");
    let engine = MockEngine::start(REPLY).await;
    let config = config(&engine.url(), &["--job-stale", "1"]);
    let worker = Worker::start_linked(engine, config, Some(link), None).await;
    let class = async || {
        let answer = worker.post("/v1/completions", r#"{"prompt":"p"}"#).await;
        assert_eq!(answer.status, 200, "users are served whatever the node does");
        answer.header("x-tensorpow-mining").to_owned()
    };
    assert_eq!(class().await, "off; reason=no_job");
    let node = pusher(&format!("tcp://127.0.0.1:{port}"));
    node.send(job_message(&job(1, 1)), 0).unwrap();
    wait_for("a proof", || worker.app.context.load().vdf().is_some()).await;
    node.send(job_message(&job(1, 2)), 0).unwrap();
    wait_for("the refresh", || {
        worker.app.context.load().job().is_some_and(|job| job.request_id == 2)
    })
    .await;
    assert_eq!(class().await, "audit", "nothing is registered");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(class().await, "off; reason=job_stale");
    node.send(job_message(&job(1, 3)), 0).unwrap();
    wait_for("the node again", || {
        worker.app.context.load().job().is_some_and(|job| job.request_id == 3)
    })
    .await;
    assert_eq!(class().await, "audit", "its proof was kept");
}
