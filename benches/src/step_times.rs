//! Times of the decode step and its parts on one thread, one line each: name, vocabulary, batch,
//! microseconds a row. `step-times rows FOLDER` writes the rows for other programs to be timed on,
//! `step-times VOCAB...` times, `step-times parts` the parts. `benches/report` is what calls this.

use std::fs;
use std::hint::black_box;
use std::path::Path as Folder;
use std::time::{Duration, Instant};
use tensorpow_benches::closing::{Close, Closes};
use tensorpow_benches::mined;
use tensorpow_benches::rows::{BATCHES, Decoder, GRID, VOCAB, VOCABULARIES, hasher, row};
use tensorpow_core::context::Context;
use tensorpow_core::evidence::Evidence;
use tensorpow_core::proof::{Encode, ProofRef, commit};
use tensorpow_core::row::Row;
use tensorpow_core::sampler::{Params, Survivors};
use tensorpow_core::select::RowScratch;
use tensorpow_core::simd::Path;
use tensorpow_core::units::{Digest, Draw};
use tensorpow_core::verify::{Chain, Context as Judged, Vdf, Workspace, quick};

/// Rows in a file.
const ROWS: usize = 64;
/// Rows in turn where no batch is named: more than the L2 cache holds.
const BATCH: usize = 8;
/// How long one measurement repeats, its shortest round counting.
const PATIENCE: Duration = Duration::from_millis(60);
/// Fewest rounds of one measurement.
const ROUNDS: u32 = 12;
/// Windows that the engine closes.
const WINDOWS: usize = 60;

/// Microseconds a call, the least of many rounds of `calls`.
fn least<T>(calls: usize, mut round: impl FnMut() -> T) -> f64 {
    black_box(round());
    let start = Instant::now();
    let (mut least, mut rounds) = (Duration::MAX, 0);
    while start.elapsed() < PATIENCE || rounds < ROUNDS {
        rounds += 1;
        let began = Instant::now();
        black_box(round());
        least = least.min(began.elapsed());
    }
    least.as_secs_f64() * 1e6 / calls as f64
}

fn say(name: &str, vocab: usize, batch: usize, microseconds: f64) {
    println!("{name}\t{vocab}\t{batch}\t{microseconds:.3}");
}

/// Writes the rows of a vocabulary unless they are there.
fn write_rows(folder: &Folder, vocab: usize) -> std::io::Result<()> {
    let file = folder.join(format!("{vocab}.f32"));
    if file.exists() {
        return Ok(());
    }
    let rows = (0..ROWS).flat_map(|seed| row(vocab, seed as u64));
    fs::write(file, rows.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
}

fn steps(vocabularies: &[usize]) {
    let mut scratch = Box::new(RowScratch::new());
    for &vocab in vocabularies {
        let rows: Vec<_> = (0..ROWS).map(|seed| row(vocab, seed as u64)).collect();
        let mut decoders: Vec<_> = rows.iter().map(|_| Decoder::new(vocab)).collect();
        for batch in BATCHES {
            for path in Path::available() {
                let microseconds = least(batch, || {
                    for (decoder, logits) in decoders.iter_mut().zip(&rows).take(batch) {
                        black_box(decoder.step(path, logits, &mut scratch));
                    }
                });
                say(&format!("step {}", path.name()), vocab, batch, microseconds);
            }
        }
    }
}

fn parts() {
    let say = |name: &str, microseconds| say(&format!("part {name}"), VOCAB, BATCH, microseconds);
    let hasher = hasher();
    let context: Context = Context::of_prompt(&[7; 300]);
    say("preimage", least(1, || hasher.step(black_box(9), &context, b"bf16", None)));

    let rows: Vec<_> = (0..BATCH).map(|seed| row(VOCAB, seed as u64)).collect();
    let mut scratch = Box::new(RowScratch::new());
    let scan = least(BATCH, || {
        for logits in &rows {
            black_box(Row::prepare(black_box(logits), GRID, &mut scratch).is_ok());
        }
    });
    say("first reading: values and group maxima", scan);
    let mut evidence = Vec::new();
    let taken = least(BATCH, || {
        evidence.clear();
        for logits in &rows {
            let row = Row::prepare(black_box(logits), GRID, &mut scratch).ok();
            evidence.extend(row.map(|mut row| Evidence::of(&mut row, 1.0)));
        }
    });
    say("second reading and selection: sums, statistics, evidence", taken - scan);

    let draw = Draw::from_digest(&Digest::from_bytes([0x80; 32]));
    let cdf = least(BATCH, || {
        for evidence in &evidence {
            let top = (evidence.logits.first_chunk(), evidence.ids.first_chunk());
            let (Some(logits), Some(ids)) = top else { continue };
            black_box(Survivors::of(black_box(logits), ids, Params::V3).choose(draw));
        }
    });
    say("survivors, CDF and choice", cdf);
}

fn proofs() {
    let bytes = mined::proof();
    let Ok(proof) = ProofRef::read(&bytes) else { return };
    let tokens: Vec<u32> = proof.chosen_tokens.iter().collect();
    let mut workspace = Workspace::new();
    let chain = Chain::assumed(false, 1_000_000);
    let context = Judged { chain: Some(chain), vdf: Vdf::Skip, ..Judged::default() };
    let hasher = hasher();
    let mut check = || {
        let mut scratch = workspace.scratch(&proof, Some(&chain));
        quick(black_box(&proof), &context, &mut scratch).is_ok()
    };
    let say = |name: &str, microseconds| say(name, 0, 1, microseconds);
    let closing = || hasher.closing(black_box(&tokens), b"bf16", None);
    say("window closing digest", least(1, closing));
    say("window self-check", least(1, &mut check));
    say("window commit", least(1, || commit(black_box(&proof))));
    say("window encode", least(1, || black_box(&proof).encode_to_vec()));
    say("window decode", least(1, || ProofRef::read(black_box(&bytes)).is_ok()));
}

/// Closes by the engine's own threads.
fn closes() {
    let engine = Closes::new();
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    let mut closes: Vec<Close> = (0..WINDOWS).map(|_| engine.window()).collect();
    closes.sort_by_key(|close| close.close);
    let say = |name: &str, time| say(&format!("window {name}"), 0, 1, microseconds(time));
    if let (Some(first), Some(most)) = (closes.first(), closes.get(WINDOWS * 9 / 10)) {
        say("all of it by the engine's thread, last token to egress queue", first.close);
        say("the same, nine of ten windows within", most.close);
    }
    let hand_over = closes.iter().map(Close::hand_over).min();
    say("on the decode thread: the hand-over", hand_over.unwrap_or_default());
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [rows, folder] if rows == "rows" => {
            VOCABULARIES
                .into_iter()
                .try_for_each(|vocab| write_rows(Folder::new(folder), vocab))?;
        }
        [all] if all == "parts" => {
            parts();
            proofs();
            closes();
        }
        vocabularies => {
            let numbers: Vec<usize> = vocabularies.iter().filter_map(|v| v.parse().ok()).collect();
            steps(&numbers);
        }
    }
    Ok(())
}
