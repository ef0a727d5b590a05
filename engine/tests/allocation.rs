//! Memory of a window's close, by an allocator that counts: after a few windows the thread that
//! decodes asks for none at all, and the threads behind it for none of a proof's size.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test helper does
#![allow(unsafe_code)] // a global allocator is unsafe to write

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tensorpow_engine::settings::Settings;
use tensorpow_engine::{BeginRequest, Engine, Exclusions, Identity, Log, Requested, Sequence};

/// Less than a window, a proof or its prompt of a few thousand tokens takes, more than a log line,
/// a queue's slot or the text of the counters.
const BIG: usize = 32 << 10;
const VOCAB: usize = 512;

thread_local! {
    /// Allocations of this thread, of any size.
    static OWN: Cell<u64> = const { Cell::new(0) };
}
/// Allocations of [`BIG`] or more, of all threads.
static BIG_ONES: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no count of its own any more.
        let _ = OWN.try_with(|own| own.set(own.get() + 1));
        if layout.size() >= BIG {
            BIG_ONES.fetch_add(1, Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn row(at: usize) -> Vec<f32> {
    let mut state = u32::try_from(at).unwrap();
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 65_536.0
    };
    (0..VOCAB).map(|_| (next() + next() + next() + next() - 2.0) * 3.0).collect()
}

/// Draws one window and waits for its proof; how often this thread allocated while it drew.
fn window(sequence: &mut Sequence, rows: &[Vec<f32>], collector: &zmq::Socket) -> u64 {
    let before = OWN.with(Cell::get);
    for row in rows {
        sequence.sample(row).expect("mined");
    }
    let own = OWN.with(Cell::get) - before;
    let mut message = zmq::Message::new();
    collector.recv(&mut message, 0).expect("a message within ten seconds");
    assert!(message.len() > BIG);
    // The message has left its buffer, which goes back in a moment.
    std::thread::sleep(Duration::from_millis(5));
    own
}

#[test]
fn after_a_few_windows_no_close_takes_memory_of_a_proofs_size() {
    let before = (OWN.with(Cell::get), BIG_ONES.load(Relaxed));
    drop(std::hint::black_box(vec![1_u8; BIG]));
    let after = (OWN.with(Cell::get), BIG_ONES.load(Relaxed));
    assert_eq!(after, (before.0 + 1, before.1 + 1), "the allocator counts");

    let collector = zmq::Context::new().socket(zmq::PULL).unwrap();
    collector.set_rcvtimeo(10_000).unwrap();
    collector.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = collector.get_last_endpoint().unwrap().unwrap();
    let port = endpoint.rsplit(':').next().unwrap().to_owned();
    let value = |name: &'static str| match name {
        "POW_EGRESS_MODE" => Some(OsString::from("broker")),
        "ZMQ_PUSH_HOST" => Some(OsString::from("127.0.0.1")),
        "ZMQ_PUSH_PORT" => Some(OsString::from(&port)),
        _ => None,
    };
    let settings = Settings::from_lookup(&value).unwrap();
    let engine = Engine::start(settings, Identity::default(), Log::new(|_, _| {})).unwrap();
    let pow = json!({
        "block_hash": "11".repeat(32), "vdf": "22".repeat(200), "tick": 1000,
        "target": "ffff".to_owned() + &"00".repeat(30), "request_id": 7, "difficulty": 1_000_000,
        "header_prefix": "11".repeat(72) + "ffff0021", "model_identifier": "m/m@0123456789abcdef",
        "compute_precision": "bf16",
    });
    let pow = pow.to_string();
    let prompt: Vec<u32> = (1..1000).collect();
    let mut sequence = engine
        .begin(&BeginRequest {
            pow_json: pow.as_bytes(),
            completion_id: "",
            sampling: Requested::default(),
            exclusions: Exclusions::default(),
            slot_id: 0,
            vocab: VOCAB,
            prompt: &prompt,
        })
        .expect("mined");
    let rows: Vec<Vec<f32>> = (0..256).map(row).collect();

    window(&mut sequence, &rows, &collector);
    // A buffer that is late in coming back makes the pool one larger, once: on a machine that
    // stops the socket's thread for long, some windows may still find it empty.
    let mut quiet = false;
    for _ in 0..8 {
        let big = BIG_ONES.load(Relaxed);
        let own: u64 = (0..3).map(|_| window(&mut sequence, &rows, &collector)).sum();
        assert_eq!(own, 0, "the thread that decodes asks for memory");
        quiet = BIG_ONES.load(Relaxed) == big;
        if quiet {
            break;
        }
    }
    assert!(quiet, "closing a window asks for memory every time");
}
