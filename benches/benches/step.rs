//! Criterion groups of one decode step on one thread: `preimage`, `selection` (the first reading of
//! the row), `statistics` (rank selection, sums and evidence), `cdf` (survivors and choice) and
//! `step`, the whole of it, over vocabularies, batches and instructions. A batch steps as many
//! sequences, each with a row of its own, one after another.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tensorpow_benches::rows::{BATCHES, Decoder, GRID, VOCAB, VOCABULARIES, hasher, row};
use tensorpow_core::context::Context;
use tensorpow_core::evidence::Evidence;
use tensorpow_core::row::Row;
use tensorpow_core::sampler::{Params, Survivors};
use tensorpow_core::select::RowScratch;
use tensorpow_core::simd::Path;
use tensorpow_core::units::{Digest, Draw};

fn parts(c: &mut Criterion) {
    let hasher = hasher();
    let context: Context = Context::of_prompt(&[7; 300]);
    c.benchmark_group("preimage").bench_function("digest", |b| {
        b.iter(|| hasher.step(black_box(9), &context, b"bf16", None));
    });

    let logits = row(VOCAB, 1);
    let mut scratch = Box::new(RowScratch::new());
    for path in Path::available() {
        c.benchmark_group("selection").bench_function(path.name(), |b| {
            b.iter(|| Row::prepare_on(path, black_box(&logits), GRID, &mut scratch).is_ok());
        });
        c.benchmark_group("statistics").bench_function(path.name(), |b| {
            b.iter(|| {
                let mut row = Row::prepare_on(path, black_box(&logits), GRID, &mut scratch)
                    .expect("finite logits");
                Evidence::of(&mut row, 1.0)
            });
        });
    }

    let mut row = Row::prepare(&logits, GRID, &mut scratch).expect("finite logits");
    let evidence = Evidence::of(&mut row, 1.0);
    let top = (evidence.logits.first_chunk(), evidence.ids.first_chunk());
    let (Some(logits), Some(ids)) = top else { return };
    let draw = Draw::from_digest(&Digest::from_bytes([0x80; 32]));
    for (name, params) in
        [("top-k", Params::V3), ("top-k and top-p", Params { top_p: 0.9, ..Params::V3 })]
    {
        c.benchmark_group("cdf").bench_function(name, |b| {
            b.iter(|| Survivors::of(black_box(logits), ids, params).choose(draw));
        });
    }
}

fn step(c: &mut Criterion) {
    let mut scratch = Box::new(RowScratch::new());
    let mut group = c.benchmark_group("step");
    for vocab in VOCABULARIES {
        for batch in BATCHES {
            let rows: Vec<_> = (0..batch).map(|seed| row(vocab, seed as u64)).collect();
            let mut decoders: Vec<_> = rows.iter().map(|_| Decoder::new(vocab)).collect();
            group.throughput(Throughput::Elements(batch as u64));
            // The narrow paths at one vocabulary only: they say little more at the others.
            for path in Path::available().filter(|p| vocab == VOCAB || *p == Path::best()) {
                let id = BenchmarkId::new(path.name(), format!("{vocab} × {batch}"));
                group.bench_function(id, |b| {
                    b.iter(|| {
                        for (decoder, logits) in decoders.iter_mut().zip(&rows) {
                            black_box(decoder.step(path, logits, &mut scratch));
                        }
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, parts, step);
criterion_main!(benches);
