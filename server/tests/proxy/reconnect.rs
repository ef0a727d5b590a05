//! A node link that is opened anew: both sockets leave their connections, and the node finds them
//! again without being told.

use crate::engine::{MockEngine, Script};
use crate::node::{current, feed_settings, job, pusher};
use crate::ports::free_port;
use crate::worker::{Worker, try_config, wait_for};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tensorpow_server::active_model::ActiveModelSettings;
use tensorpow_server::devnet::messages::job_message;
use tensorpow_server::link::Link;
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::network::Network;
use tensorpow_server::mining::prover::VdfSettings;
use tensorpow_server::node::NodeSettings;
use tensorpow_server::node::feed::{FeedSettings, JobFeed};
use tensorpow_server::node::results::{NodeSink, ResultSettings};

/// Reads until the other end closes, which it must do.
fn read_to_the_end(mut stream: TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

#[tokio::test]
async fn a_feed_that_is_bound_anew_leaves_its_connections_and_keeps_its_port() {
    let (feed, mut jobs) = JobFeed::bind(feed_settings()).unwrap();
    let node = pusher(feed.endpoint());
    node.send(job_message(&job(1, 1)), 0).unwrap();
    assert_eq!(current(&mut jobs).await, job(1, 1));
    let open = TcpStream::connect(feed.endpoint().replace("tcp://", "")).unwrap();
    feed.reopen().order();
    read_to_the_end(open);
    wait_for("the port", || feed.counters().reopened() == 1).await;
    wait_for("the node again", || feed.counters().peers() == 1).await;
    node.send(job_message(&job(2, 2)), 0).unwrap();
    assert_eq!(current(&mut jobs).await, job(2, 2));
}

#[test]
fn a_result_socket_that_connects_anew_leaves_its_connection() {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = node.local_addr().unwrap().to_string().parse().unwrap();
    let sink = NodeSink::connect(ResultSettings { endpoint, forward: true }).unwrap();
    let (first, _) = node.accept().unwrap();
    sink.reconnect().unwrap();
    read_to_the_end(first);
    node.accept().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_opens_the_node_link_anew() {
    let jobs = format!("127.0.0.1:{}", free_port());
    let link = Link::to_node(
        NodeSettings {
            jobs: FeedSettings { address: jobs.parse().unwrap(), ..FeedSettings::default() },
            vdf: VdfSettings { checkpoint: 64, ..VdfSettings::default() },
            ..NodeSettings::new(Network::TensorTest)
        },
        Models::new(None, []),
        Vec::new(),
        ActiveModelSettings::default(),
    );
    let engine = MockEngine::start(Script::Json(200, "{}")).await;
    let watch = [("TENSORPOW_WATCH_JOB", "1"), ("TENSORPOW_WATCH_JOB_ACTION", "reconnect")];
    let config = try_config(&engine.url(), &[], &watch).unwrap();
    let worker = Worker::start_linked(engine, config, Some(link.unwrap()), None).await;
    let node = pusher(&format!("tcp://{jobs}"));
    node.send(job_message(&job(1, 1)), 0).unwrap();
    let of = |id| worker.app.context.load().job().is_some_and(|job| job.request_id == id);
    wait_for("a job", || of(1)).await;
    let reports = || worker.app.chain_report.as_ref().unwrap()()["zmq"]["reconnects"].clone();
    wait_for("the watchdog", || reports() == 1).await;
    node.send(job_message(&job(1, 2)), 0).unwrap();
    wait_for("a job over a new connection", || of(2)).await;
    let metrics = worker.metrics().await;
    for line in [
        "tensorpow_watchdog_alarms_total{watchdog=\"job\",action=\"reconnect\"} 1",
        "tensorpow_node_reconnects_total 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
