//! Criterion groups of what happens to a finished window, off the decode thread: `window` (closing
//! digest, all of a window's close, the same by the engine's own threads, and what the thread that
//! decodes pays for it), `proof` (encode, into a buffer that is there and into a new
//! one, decode, commit) and `carrier` (the admission nonce in `extra_flags`).
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tensorpow_benches::closing::{Close, Closes};
use tensorpow_benches::{mined, rows::hasher};
use tensorpow_core::admission::{MAX_CARRIER, extract, merge};
use tensorpow_core::proof::{Encode, ProofRef, commit};
use tensorpow_core::units::AdmissionNonce;
use tensorpow_core::verify::{Chain, Context, Vdf, Workspace, quick};

fn window(c: &mut Criterion) {
    let bytes = mined::proof();
    let proof = ProofRef::read(&bytes).expect("a proof");
    let tokens: Vec<u32> = proof.chosen_tokens.iter().collect();
    let mut buffer = vec![0; bytes.len()];
    let mut workspace = Workspace::new();
    let chain = Chain::assumed(false, 1_000_000);
    let context = Context { chain: Some(chain), vdf: Vdf::Skip, ..Context::default() };
    let hasher = hasher();

    let mut group = c.benchmark_group("window");
    group.bench_function("closing digest", |b| {
        b.iter(|| hasher.closing(black_box(&tokens), b"bf16", None));
    });
    group.bench_function("close: digest, self-check, encoding, commitment", |b| {
        b.iter(|| {
            let digest = hasher.closing(black_box(&tokens), b"bf16", None);
            let mut scratch = workspace.scratch(&proof, Some(&chain));
            let report = quick(black_box(&proof), &context, &mut scratch).expect("a verdict");
            let commitment = commit(&proof).expect("within the limit");
            let length = proof.encode(&mut buffer).expect("room enough");
            (digest, report.steps, commitment, length)
        });
    });
    let engine = Closes::new();
    let windows = |count: u64| (0..count).map(|_| engine.window());
    group.sample_size(20);
    group.bench_function("engine: last token to egress queue", |b| {
        b.iter_custom(|count| windows(count).map(|close| close.close).sum());
    });
    group.bench_function("engine: hand-over on the decode thread", |b| {
        b.iter_custom(|count| windows(count).map(|close| Close::hand_over(&close)).sum());
    });
    group.finish();

    let mut group = c.benchmark_group("proof");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode into a buffer", |b| {
        b.iter(|| black_box(&proof).encode(&mut buffer).expect("room enough"));
    });
    group.bench_function("encode into a new vector", |b| {
        b.iter(|| black_box(&proof).encode_to_vec().expect("within the limit"));
    });
    group.bench_function("decode", |b| {
        b.iter(|| ProofRef::read(black_box(&bytes)).expect("a proof"));
    });
    group.bench_function("commit", |b| {
        b.iter(|| commit(black_box(&proof)).expect("within the limit"));
    });
    group.finish();
}

fn carrier(c: &mut Criterion) {
    let nonce = AdmissionNonce::from_bytes([0x5a; 32]);
    let mut flags = [0; MAX_CARRIER];
    let text = br#"{"completion_id":"cmpl-0123456789abcdef","proof_purpose":"audit"}"#;
    let length = merge(text, &nonce, &mut flags).expect("room enough");
    let mut group = c.benchmark_group("carrier");
    group.bench_function("read", |b| b.iter(|| extract(black_box(&flags[..length]))));
    group.bench_function("write", |b| {
        let mut out = [0; MAX_CARRIER];
        b.iter(|| merge(black_box(text), &nonce, &mut out));
    });
    group.finish();
}

criterion_group!(benches, window, carrier);
criterion_main!(benches);
