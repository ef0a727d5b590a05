//! Windows closed by the engine's own threads, and the two times that count: how long the thread
//! that decodes is held up, and how long until the proof is in the queue to the sockets.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use tensorpow_core::evidence::Evidence;
use tensorpow_core::row::Row;
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::WINDOW;
use tensorpow_engine::settings::Settings;
use tensorpow_engine::{BeginRequest, EndReason, Engine, Exclusions, Identity, Log, Requested};

use crate::rows::{GRID, row};

const VOCAB: usize = 32_000;
const PROMPT: [u32; 300] = [7; 300];
/// A job whose target nearly every window meets.
const JOB: &str = r#"{"block_hash":"BLOCK","vdf":"VDF","tick":32768,"target":"TARGET",
    "header_prefix":"PREFIX","request_id":1,"difficulty":1000000,
    "model_identifier":"example/model@0123456789abcdef","compute_precision":"bf16"}"#;

/// One window, closed.
#[derive(Debug, Clone, Copy)]
pub struct Close {
    /// The call that chose the last token and handed the window over.
    pub last: Duration,
    /// The fastest call of the others.
    pub other: Duration,
    /// From the last token to the proof's place in the queue to the sockets.
    pub close: Duration,
}

impl Close {
    /// What the thread that decodes pays for the hand-over.
    #[must_use]
    pub fn hand_over(&self) -> Duration {
        self.last.saturating_sub(self.other)
    }
}

/// An engine with a collector behind it. Tokens are chosen from evidence that is there already, so
/// that a window costs little but its close.
#[derive(Debug)]
pub struct Closes {
    engine: Engine,
    job: String,
    evidence: Vec<Evidence>,
    _collector: Collector,
}

impl Default for Closes {
    fn default() -> Self {
        Self::new()
    }
}

impl Closes {
    /// Starts the engine.
    ///
    /// # Panics
    /// When the loopback has no port to give or the machine no thread.
    #[must_use]
    pub fn new() -> Self {
        let collector = Collector::new();
        let value = |name: &'static str| match name {
            "POW_EGRESS_MODE" => Some(OsString::from("broker")),
            "ZMQ_PUSH_HOST" => Some(OsString::from("127.0.0.1")),
            "ZMQ_PUSH_PORT" => Some(OsString::from(&collector.port)),
            _ => None,
        };
        let settings = Settings::from_lookup(&value).expect("settings of its own");
        let engine =
            Engine::start(settings, Identity::default(), Log::new(|_, _| {})).expect("two threads");
        let job = JOB
            .replace("BLOCK", &"11".repeat(32))
            .replace("VDF", &"09".repeat(241))
            .replace("TARGET", &("ffff".to_owned() + &"00".repeat(30)))
            .replace("PREFIX", &("11".repeat(72) + "ffff0021"));
        let mut scratch = Box::new(RowScratch::new());
        let evidence = (0..WINDOW)
            .map(|seed| {
                let logits = row(VOCAB, seed as u64);
                let mut row = Row::prepare(&logits, GRID, &mut scratch).expect("finite logits");
                Evidence::of(&mut row, 1.0)
            })
            .collect();
        Self { engine, job, evidence, _collector: collector }
    }

    /// Mines one window after the prompt of 300 tokens and waits until it is closed.
    ///
    /// # Panics
    /// When the window is not mined or leaves no proof within ten seconds.
    pub fn window(&self) -> Close {
        let mut sequence = self
            .engine
            .begin(&BeginRequest {
                pow_json: self.job.as_bytes(),
                completion_id: "cmpl-0123456789abcdef",
                sampling: Requested::default(),
                exclusions: Exclusions::default(),
                slot_id: 0,
                vocab: VOCAB,
                prompt: &PROMPT,
            })
            .expect("mined");
        let before = self.closing_time();
        let (mut last, mut other) = (Duration::ZERO, Duration::MAX);
        for (at, evidence) in self.evidence.iter().enumerate() {
            let began = Instant::now();
            sequence.record(evidence).expect("evidence of its own");
            let took = began.elapsed();
            if at + 1 == WINDOW {
                last = took;
            } else {
                other = other.min(took);
            }
        }
        let patience = Instant::now();
        let close = loop {
            let close = self.closing_time() - before;
            if !close.is_zero() {
                break close;
            }
            let metrics = || self.engine.metrics();
            assert!(patience.elapsed() < Duration::from_secs(10), "no proof:\n{}", metrics());
            sleep(Duration::from_micros(500));
        };
        sequence.end(EndReason::Finished);
        Close { last, other, close }
    }

    /// Time all closes took, as the engine counts it.
    fn closing_time(&self) -> Duration {
        let name = "tensorpow_window_close_nanoseconds_total ";
        let text = self.engine.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok());
        Duration::from_nanos(value.expect("the engine counts it"))
    }
}

/// A PULL socket on the loopback that takes what comes.
#[derive(Debug)]
struct Collector {
    port: String,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn new() -> Self {
        let socket = zmq::Context::new().socket(zmq::PULL).expect("a socket");
        socket.set_rcvtimeo(20).expect("a timeout");
        socket.bind("tcp://127.0.0.1:*").expect("a port");
        let endpoint = socket.get_last_endpoint().ok().and_then(Result::ok).expect("bound");
        let port = endpoint.rsplit(':').next().unwrap_or_default().to_owned();
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut message = zmq::Message::new();
            while !seen.load(Relaxed) {
                // Nothing within the timeout is an error too.
                let _ = socket.recv(&mut message, 0);
            }
        });
        Self { port, ends, thread: Some(thread) }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        // What became of the thread is of no matter any more.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
