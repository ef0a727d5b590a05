//! The thread against real sockets on the loopback.

use super::*;
use crate::settings::Endpoint;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A collector bound to a free port.
fn collector(context: &zmq::Context) -> (zmq::Socket, Endpoint) {
    let socket = context.socket(zmq::PULL).unwrap();
    socket.set_rcvtimeo(5000).unwrap();
    socket.set_linger(0).unwrap();
    socket.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    let port = endpoint.rsplit(':').next().unwrap().parse().unwrap();
    (socket, Endpoint { host: "127.0.0.1".into(), port })
}

/// A port on which nobody listens: bound and released again.
fn nobody() -> Endpoint {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() }
}

fn settings(primary: Endpoint, proxy: Option<Endpoint>) -> Settings {
    let mut settings = Settings::from_lookup(&|_| None).unwrap();
    settings.egress.primary = primary;
    settings.egress.proxy = proxy;
    settings
}

fn proof(n: u8, route: Route) -> Outgoing {
    let mut bytes = Arc::new(Buffers::default()).take();
    bytes.bytes_mut().resize(100, n);
    Outgoing { bytes, purpose: Purpose::Solution, route, req_id: u32::from(n), digest: [n; 32] }
}

const PRIMARY: Route = Route { primary: true, proxy: false };
const BOTH: Route = Route { primary: true, proxy: true };

/// A running thread with what a test looks at.
struct Bench {
    egress: Egress,
    sender: Option<Sender>,
    counters: Arc<Counters>,
    deadline: Arc<Deadline>,
    errors: Arc<AtomicUsize>,
}

impl Bench {
    fn start(settings: &Settings) -> Self {
        let counters = Arc::new(Counters::new([]));
        let deadline = Arc::new(Deadline::default());
        let errors = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&errors);
        let log = Log::new(move |level, _| {
            if level == Level::Error {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (egress, sender) = Egress::start(settings, &counters, &log, &deadline).unwrap();
        Self { egress, sender: Some(sender), counters, deadline, errors }
    }

    fn offer(&self, proof: Outgoing) {
        self.sender.as_ref().unwrap().offer(proof);
    }

    /// Ends the thread as the engine does and says how long it took.
    fn end(&mut self) -> Duration {
        let start = Instant::now();
        self.deadline.set(start + FLUSH);
        self.sender = None;
        self.egress.join(FLUSH);
        start.elapsed()
    }
}

#[test]
fn a_proof_reaches_each_socket_of_its_route_as_one_frame() {
    let context = zmq::Context::new();
    let (node, node_at) = collector(&context);
    let (proxy, proxy_at) = collector(&context);
    let mut bench = Bench::start(&settings(node_at, Some(proxy_at)));
    bench.offer(proof(1, PRIMARY));
    bench.offer(proof(2, BOTH));
    for (socket, expected) in [(&node, 1), (&node, 2), (&proxy, 2)] {
        assert_eq!(socket.recv_bytes(0).unwrap(), vec![expected; 100]);
        assert!(!socket.get_rcvmore().unwrap());
    }
    bench.end();
    assert_eq!(bench.counters.sent.get("primary"), 2);
    assert_eq!(bench.counters.sent.get("proxy"), 1);
    assert_eq!(bench.counters.sent_bytes.get(), 300);
    assert_eq!(bench.counters.proofs_queued.get(), 0);
}

#[test]
fn a_late_collector_gets_what_waited_for_it() {
    let at = nobody();
    let bench = Bench::start(&settings(at.clone(), None));
    bench.offer(proof(3, PRIMARY));
    while bench.counters.sent.get("primary") == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PULL).unwrap();
    socket.set_rcvtimeo(5000).unwrap();
    socket.bind(&at.to_string()).unwrap();
    assert_eq!(socket.recv_bytes(0).unwrap(), vec![3; 100]);
}

#[test]
fn without_a_peer_the_high_water_mark_is_counted_and_the_end_takes_a_second_at_most() {
    let mut settings = settings(nobody(), None);
    settings.egress.high_water_mark = 2;
    let mut bench = Bench::start(&settings);
    for n in 0..10 {
        bench.offer(proof(n, PRIMARY));
    }
    let took = bench.end();
    // The rest is for a busy machine.
    assert!(took <= FLUSH + Duration::from_secs(2), "{took:?}");
    let sent = bench.counters.sent.get("primary");
    let dropped = bench.counters.dropped.get("high_water_mark");
    assert_eq!((sent, dropped), (2, 8));
    assert_eq!(bench.errors.load(Ordering::Relaxed), 8, "each dropped solution is logged");
}

#[test]
fn a_full_queue_drops_and_counts_the_new_proof_without_blocking() {
    let folder = tempfile::tempdir().unwrap();
    // The thread hangs in its file: a pipe nobody reads, under the name of the half-written proof.
    let partial = format!(".0_0_{}.{}.partial", "00".repeat(8), std::process::id());
    let pipe = folder.path().join(partial);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut settings = settings(nobody(), None);
    settings.save_dir = Some(folder.path().to_owned());
    settings.proof_queue = 3;
    let bench = Bench::start(&settings);
    bench.offer(proof(0, PRIMARY));
    while bench.counters.proofs_queued.get() > 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    for n in 1..=5 {
        bench.offer(proof(n, PRIMARY));
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(bench.counters.dropped.get("queue_full"), 2);
    assert_eq!(bench.counters.proofs_queued.get(), 3);
    // Let the thread go on; the pipe takes the first proof's place.
    std::fs::read(&pipe).unwrap();
}

#[test]
fn proofs_are_saved_beside_being_sent_and_a_bad_folder_is_only_counted() {
    let context = zmq::Context::new();
    let (node, at) = collector(&context);
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(at, None);
    settings.save_dir = Some(folder.path().join("proofs"));
    let mut bench = Bench::start(&settings);
    bench.offer(proof(1, PRIMARY));
    bench.end();
    assert_eq!(bench.counters.saved.get(), 1);
    let saved = std::fs::read_dir(folder.path().join("proofs")).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read(saved.path()).unwrap(), node.recv_bytes(0).unwrap());

    settings.save_dir = Some(saved.path().join("below-a-file"));
    let mut bench = Bench::start(&settings);
    bench.offer(proof(2, PRIMARY));
    bench.end();
    assert_eq!((bench.counters.saved.get(), bench.counters.save_errors.get()), (0, 1));
    assert_eq!(node.recv_bytes(0).unwrap(), vec![2; 100]);
}

#[test]
fn a_destination_libzmq_cannot_use_is_counted_and_tried_again() {
    let bad = Endpoint { host: "no_such|host".into(), port: 1 };
    let mut bench = Bench::start(&settings(bad, None));
    bench.offer(proof(1, PRIMARY));
    bench.offer(proof(2, PRIMARY));
    bench.end();
    assert_eq!(bench.counters.dropped.get("socket_error"), 2);
    assert_eq!(bench.counters.sent.get("primary"), 0);
}
