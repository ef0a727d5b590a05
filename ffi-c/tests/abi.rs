//! The C doors as a C caller meets them: what a correct caller gets, and what every wrong call is
//! answered with. Nothing here may crash.
#![allow(unsafe_code)] // the functions under test are called as C calls them
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test helper does

use std::ffi::{CStr, c_char};
use std::mem::size_of;
use std::ptr::{null, null_mut};

use tensorpow::*;

const VOCAB: usize = 256;

fn last_error() -> String {
    // SAFETY: the library promises a string that lives until the next call on this thread.
    unsafe { CStr::from_ptr(tensorpow_last_error()) }.to_str().unwrap().to_owned()
}

fn engine_args() -> EngineArgs {
    EngineArgs {
        size: size_of::<EngineArgs>(),
        engine: c"abi test".as_ptr(),
        model_identifier: c"synthetic/model@0123".as_ptr(),
        compute_precision: c"bf16".as_ptr(),
        max_sequences: 0,
        sample_threads: 3,
    }
}

/// An engine that is freed with the test.
struct Engine(*mut EngineHandle);

impl Engine {
    fn new() -> Self {
        let mut engine = null_mut();
        // SAFETY: correct arguments.
        let status = unsafe { tensorpow_engine_new(&engine_args(), &mut engine) };
        assert_eq!((status, last_error()), (Status::Ok, String::new()));
        Self(engine)
    }

    fn metrics(&self) -> String {
        let mut needed = 0;
        // SAFETY: correct arguments; no buffer.
        let status = unsafe { tensorpow_metrics(self.0, null_mut(), 0, &mut needed) };
        assert_eq!(status, Status::Ok);
        let mut buffer = vec![0_u8; needed + 100];
        let (at, capacity) = (buffer.as_mut_ptr().cast::<c_char>(), buffer.len());
        // SAFETY: correct arguments.
        let status = unsafe { tensorpow_metrics(self.0, at, capacity, &mut needed) };
        assert_eq!(status, Status::Ok);
        buffer.truncate(needed);
        String::from_utf8(buffer).unwrap()
    }

    fn begin(&self, args: &BeginArgs) -> (Status, *mut SequenceHandle) {
        let mut sequence = null_mut();
        // SAFETY: as good as `args` is.
        let status = unsafe { tensorpow_begin(self.0, args, &mut sequence) };
        assert_eq!(status == Status::Ok, !sequence.is_null());
        (status, sequence)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: made by `tensorpow_engine_new`.
        unsafe { tensorpow_engine_free(self.0) };
    }
}

const PROMPT: [i32; 3] = [1, 2, 3];

fn begin_args(pow: &str) -> BeginArgs {
    BeginArgs {
        size: size_of::<BeginArgs>(),
        pow_json: pow.as_ptr().cast(),
        pow_json_len: pow.len(),
        completion_id: c"cmpl-1".as_ptr(),
        temperature: 1.0,
        top_k: 50,
        top_p: 1.0,
        repetition_penalty: 1.0,
        exclusions: 0,
        slot_id: 0,
        n_vocab: u32::try_from(VOCAB).unwrap(),
        prompt: PROMPT.as_ptr(),
        n_prompt: PROMPT.len(),
    }
}

fn pow() -> String {
    serde_json::json!({
        "block_hash": "11".repeat(32),
        "vdf": "22".repeat(200),
        "tick": 1000,
        "target": "00ffff".to_owned() + &"00".repeat(29),
        "header_prefix": "11".repeat(72) + "ffff0020",
        "request_id": 1,
        "difficulty": 1_000_000,
    })
    .to_string()
}

fn logits(at: usize) -> Vec<f32> {
    let value = |id: usize| f32::from(u16::try_from((id * 7919 + at * 104_729) % 997).unwrap());
    (0..VOCAB).map(|id| value(id) / 250.0).collect()
}

#[test]
fn a_mined_request_chooses_ids_of_the_vocabulary_until_it_ends() {
    let engine = Engine::new();
    let pow = pow();
    let (status, sequence) = engine.begin(&begin_args(&pow));
    assert_eq!((status, last_error()), (Status::Ok, String::new()));
    for at in 0..300 {
        let row = logits(at);
        let mut token = -1;
        // SAFETY: correct arguments.
        let status = unsafe { tensorpow_sample(sequence, row.as_ptr(), row.len(), &mut token) };
        assert_eq!(status, Status::Ok, "{}", last_error());
        assert!((0..256).contains(&token));
    }
    // SAFETY: a live handle, given up.
    unsafe { tensorpow_end(sequence, 0) };
    assert!(engine.metrics().contains("tensorpow_tokens_total 300\n"));
    assert!(engine.metrics().contains("ended_total{reason=\"finished\"} 1\n"));
}

#[test]
fn bad_logits_stop_mining_and_leave_the_token_alone() {
    let engine = Engine::new();
    let pow = pow();
    let (_, sequence) = engine.begin(&begin_args(&pow));
    let mut row = logits(0);
    row[9] = f32::NAN;
    let mut token = -7;
    for _ in 0..2 {
        // SAFETY: correct arguments.
        let status = unsafe { tensorpow_sample(sequence, row.as_ptr(), row.len(), &mut token) };
        assert_eq!((status, token), (Status::NotMined, -7));
        assert!(last_error().contains('9'), "{}", last_error());
    }
    // SAFETY: a live handle, given up; the reason is none of the known ones.
    unsafe { tensorpow_end(sequence, 77) };
    assert!(engine.metrics().contains("stopped_total{reason=\"logits_nan\"} 1\n"));
    assert!(engine.metrics().contains("ended_total{reason=\"error\"} 1\n"));
}

#[test]
fn a_request_that_is_not_mined_says_why_and_is_counted() {
    let engine = Engine::new();
    let pow = pow();
    let good = begin_args(&pow);
    let cases = [
        (BeginArgs { exclusions: TENSORPOW_EXCLUDE_SEED, ..good }, "seed", "seed"),
        (BeginArgs { exclusions: 1 << 30, ..good }, "excluded_other", "unknown"),
        (BeginArgs { top_k: -1, ..good }, "top_k", "-1"),
        (BeginArgs { n_vocab: 127, ..good }, "vocabulary", "127"),
        (BeginArgs { n_prompt: 0, prompt: null(), ..good }, "empty_prompt", "empty"),
        (BeginArgs { pow_json_len: 0, pow_json: null(), ..good }, "payload_not_json", "JSON"),
    ];
    for (args, label, words) in cases {
        assert_eq!(engine.begin(&args).0, Status::NotMined, "{label}");
        assert!(last_error().contains(words), "{label}: {}", last_error());
        let line = format!("tensorpow_not_mined_total{{reason=\"{label}\"}} 1\n");
        assert!(engine.metrics().contains(&line), "{label}");
    }
    let negative = [1, -1];
    let args = BeginArgs { prompt: negative.as_ptr(), n_prompt: 2, ..good };
    assert_eq!(engine.begin(&args).0, Status::NotMined);
    assert!(last_error().contains("entry 1 is -1"), "{}", last_error());
}

#[test]
fn begin_names_each_broken_argument_and_counts_it() {
    let engine = Engine::new();
    let pow = pow();
    let good = begin_args(&pow);
    let latin1 = c"caf\xe9";
    let odd = PROMPT.as_ptr().cast::<u8>().wrapping_add(1).cast::<i32>();
    let cases = [
        (BeginArgs { size: 8, ..good }, "tensorpow_begin_args.size is 8"),
        (BeginArgs { size: usize::MAX, ..good }, "which no release has"),
        (
            BeginArgs { completion_id: latin1.as_ptr(), ..good },
            "completion_id is not UTF-8: byte 3",
        ),
        (BeginArgs { pow_json: null(), ..good }, "pow_json is null"),
        (BeginArgs { prompt: null(), ..good }, "prompt is null but its length is 3"),
        (BeginArgs { prompt: odd, ..good }, "prompt is not aligned"),
        (BeginArgs { n_prompt: usize::MAX / 2, ..good }, "impossible length"),
    ];
    for (args, words) in &cases {
        assert_eq!(engine.begin(args).0, Status::InvalidArgument, "{words}");
        assert!(last_error().contains(words), "{words}: {}", last_error());
    }
    // SAFETY: null is what is tested.
    unsafe {
        let mut sequence = null_mut();
        let status = tensorpow_begin(engine.0, null(), &mut sequence);
        assert_eq!(status, Status::InvalidArgument);
        assert_eq!(last_error(), "tensorpow_begin_args is null");
        assert_eq!(tensorpow_begin(engine.0, &good, null_mut()), Status::InvalidArgument);
        assert_eq!(tensorpow_begin(null_mut(), &good, &mut sequence), Status::InvalidArgument);
        assert!(last_error().contains("engine handle is null"));
    }
    let count = cases.len() + 2;
    let line = format!("tensorpow_not_mined_total{{reason=\"invalid_argument\"}} {count}\n");
    assert!(engine.metrics().contains(&line), "{}", engine.metrics());
}

#[test]
fn the_other_doors_take_null_without_harm() {
    let engine = Engine::new();
    let pow = pow();
    let (_, sequence) = engine.begin(&begin_args(&pow));
    let row = logits(0);
    let mut token = 0;
    let mut needed = 0;
    let mut accepted = 0;
    // SAFETY: null is what is tested.
    unsafe {
        let invalid = Status::InvalidArgument;
        let n = row.len();
        let mut ready = -1;
        assert_eq!(tensorpow_ready(null_mut(), 0, &mut ready), invalid);
        assert_eq!(tensorpow_ready(sequence, 0, null_mut()), invalid);
        assert_eq!(tensorpow_ready(sequence, 0, &mut ready), Status::Ok);
        assert_eq!(ready, 1, "version 2 waits for nothing");
        assert_eq!(tensorpow_sample(null_mut(), row.as_ptr(), n, &mut token), invalid);
        assert_eq!(tensorpow_sample(sequence, null(), n, &mut token), invalid);
        assert_eq!(tensorpow_sample(sequence, row.as_ptr(), n, null_mut()), invalid);
        assert_eq!(tensorpow_sample(sequence, row.as_ptr(), n, &mut token), Status::Ok);
        assert_eq!(tensorpow_metrics(null(), null_mut(), 0, &mut needed), invalid);
        assert_eq!(tensorpow_metrics(engine.0, null_mut(), 0, null_mut()), invalid);
        assert_eq!(tensorpow_metrics(engine.0, null_mut(), 1 << 20, &mut needed), invalid);
        assert_eq!(tensorpow_engine_new(null(), null_mut()), invalid);
        let mut other = null_mut();
        assert_eq!(tensorpow_engine_new(null(), &mut other), invalid);
        assert_eq!(tensorpow_proof_commitment(null(), 5, null_mut()), invalid);
        assert_eq!(tensorpow_proof_commitment(null(), 0, [0; 32].as_mut_ptr()), invalid);
        let check = |bytes: *const u8, len, accepted, needed| {
            tensorpow_proof_check(bytes, len, null(), accepted, null_mut(), 0, needed)
        };
        assert_eq!(check(null(), 9, &mut accepted, &mut needed), invalid);
        assert_eq!(check([0; 64].as_ptr(), 64, &mut accepted, &mut needed), invalid);
        assert_eq!(check([0; 64].as_ptr(), 64, null_mut(), &mut needed), invalid);
        tensorpow_end(null_mut(), 0);
        tensorpow_engine_free(null_mut());
        tensorpow_end(sequence, 1);
    }
}

#[test]
fn older_and_newer_structs_are_understood() {
    #[repr(C)]
    struct Newer {
        known: BeginArgs,
        unknown: u64,
    }
    let engine = Engine::new();
    let pow = pow();
    let known = BeginArgs { size: size_of::<Newer>(), ..begin_args(&pow) };
    let mut newer = Newer { known, unknown: 0 };
    let begin = |newer: &Newer| {
        let mut sequence = null_mut();
        // SAFETY: a struct of the size it says.
        let status =
            unsafe { tensorpow_begin(engine.0, std::ptr::from_ref(newer).cast(), &mut sequence) };
        let message = last_error();
        // SAFETY: null or a live handle, given up.
        unsafe { tensorpow_end(sequence, 0) };
        (status, message)
    };
    assert_eq!(begin(&newer), (Status::Ok, String::new()));
    newer.unknown = 1;
    let (status, message) = begin(&newer);
    assert_eq!(status, Status::InvalidArgument);
    assert!(message.contains("does not know"), "{message}");
}

#[test]
fn metrics_are_written_only_when_they_fit() {
    let engine = Engine::new();
    let full = engine.metrics();
    let mut needed = 0;
    let mut small = [0x55_u8; 64];
    // SAFETY: correct arguments.
    let status = unsafe { tensorpow_metrics(engine.0, small.as_mut_ptr().cast(), 64, &mut needed) };
    assert_eq!((status, needed), (Status::Ok, full.len()));
    assert_eq!(small, [0x55; 64]);
}

#[test]
fn a_sequence_may_outlive_its_engine() {
    let engine = Engine::new();
    let pow = pow();
    let (_, sequence) = engine.begin(&begin_args(&pow));
    drop(engine);
    for at in 0..260 {
        let row = logits(at);
        let mut token = 0;
        // SAFETY: correct arguments.
        let status = unsafe { tensorpow_sample(sequence, row.as_ptr(), row.len(), &mut token) };
        assert_eq!(status, Status::Ok);
    }
    // SAFETY: a live handle, given up.
    unsafe { tensorpow_end(sequence, 0) };
}

#[test]
fn the_version_is_the_crate_s() {
    // SAFETY: a static string.
    let version = unsafe { CStr::from_ptr(tensorpow_version()) };
    assert_eq!(version.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
}

/// Sequences that differ by their prompt, and batches over them.
struct Batch {
    sequences: Vec<*mut SequenceHandle>,
}

impl Batch {
    fn begin(engine: &Engine, pow: &str, count: i32) -> Self {
        let begin = |at| {
            let prompt = [at + 1, 2, 3];
            let (_, sequence) =
                engine.begin(&BeginArgs { prompt: prompt.as_ptr(), ..begin_args(pow) });
            assert!(!sequence.is_null());
            sequence
        };
        Self { sequences: (0..count).map(begin).collect() }
    }

    /// A row for each sequence; they point into `logits`.
    fn rows(&self, logits: &[Vec<f32>]) -> Vec<BatchRow> {
        let row = |(seq, logits): (&*mut SequenceHandle, &Vec<f32>)| BatchRow {
            seq: *seq,
            logits: logits.as_ptr(),
            n_vocab: logits.len(),
            token: -7,
            status: -7,
        };
        self.sequences.iter().zip(logits).map(row).collect()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: live handles, given up.
        self.sequences.iter().for_each(|seq| unsafe { tensorpow_end(*seq, 0) });
    }
}

fn sample_batch(engine: &Engine, rows: &mut [BatchRow]) -> Status {
    // SAFETY: rows of live sequences and of logits that live as long.
    unsafe { tensorpow_sample_batch(engine.0, rows.as_mut_ptr(), rows.len()) }
}

#[test]
fn a_batch_chooses_what_row_by_row_chooses_and_passes_over_what_is_not_mined() {
    let engine = Engine::new();
    let pow = pow();
    let (one_by_one, at_once) = (Batch::begin(&engine, &pow, 8), Batch::begin(&engine, &pow, 8));
    // Beyond the end of a window.
    for step in 0..270 {
        let logits: Vec<_> = (0..8).map(|at| logits(step * 8 + at)).collect();
        let mut rows = at_once.rows(&logits);
        let unmined =
            BatchRow { seq: null_mut(), logits: null(), n_vocab: 0, token: -7, status: -7 };
        rows.insert(step % 9, unmined);
        assert_eq!(sample_batch(&engine, &mut rows), Status::Ok, "{}", last_error());
        let unmined = rows.remove(step % 9);
        assert_eq!((unmined.token, unmined.status), (-7, Status::NotMined as i32));
        for ((sequence, logits), row) in one_by_one.sequences.iter().zip(&logits).zip(&rows) {
            let mut token = -1;
            // SAFETY: correct arguments.
            let status =
                unsafe { tensorpow_sample(*sequence, logits.as_ptr(), logits.len(), &mut token) };
            assert_eq!((status as i32, token), (row.status, row.token), "step {step}");
        }
    }
    let tokens = format!("tensorpow_tokens_total {}\n", 2 * 8 * 270);
    assert!(engine.metrics().contains(&tokens), "{}", engine.metrics());
}

#[test]
fn one_bad_row_of_a_batch_is_named_and_the_others_are_done() {
    let engine = Engine::new();
    let pow = pow();
    let batch = Batch::begin(&engine, &pow, 5);
    let mut logits: Vec<_> = (0..5).map(logits).collect();
    logits[3][9] = f32::NAN;
    let mut rows = batch.rows(&logits);
    rows[1].logits = null();
    rows[4].seq = rows[0].seq;
    assert_eq!(sample_batch(&engine, &mut rows), Status::InvalidArgument);
    assert_eq!(last_error(), format!("row 1: logits is null but its length is {VOCAB}"));
    let (ok, not, bad) =
        (Status::Ok as i32, Status::NotMined as i32, Status::InvalidArgument as i32);
    assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [ok, bad, ok, not, bad]);
    let chosen = |row: &BatchRow| (0..256).contains(&row.token);
    let drawn: Vec<bool> = rows.iter().map(chosen).collect();
    assert_eq!(drawn, [true, false, true, false, false]);

    // The marks of the first call are gone; the row that stopped says so again.
    let mut rows = batch.rows(&logits);
    assert_eq!(sample_batch(&engine, &mut rows), Status::NotMined);
    assert!(last_error().starts_with("row 3: the sequence stopped mining"), "{}", last_error());
    assert_eq!(rows.iter().map(|row| row.status).collect::<Vec<_>>(), [ok, ok, ok, not, ok]);

    // SAFETY: null is what is tested.
    unsafe {
        let invalid = Status::InvalidArgument;
        assert_eq!(tensorpow_sample_batch(null(), rows.as_mut_ptr(), 5), invalid);
        assert_eq!(tensorpow_sample_batch(engine.0, null_mut(), 5), invalid);
        assert_eq!(last_error(), "rows is null but its length is 5");
        assert_eq!(tensorpow_sample_batch(engine.0, null_mut(), 0), Status::Ok);
    }
}
