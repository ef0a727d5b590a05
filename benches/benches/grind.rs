//! Criterion group `grind`: one try of the admission puzzle, one on each of two threads, and
//! reading a carrier.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tensorpow_core::admission::{Memory, argon2id, extract, merge_to_vec};
use tensorpow_core::units::AdmissionNonce;

/// Bytes of a usual message.
const MESSAGE: usize = 2437;

fn grind(c: &mut Criterion) {
    let mut group = c.benchmark_group("grind");
    group.sample_size(20);
    let mut memories = [Memory::new(), Memory::new()];
    let message = [7; MESSAGE];
    for threads in [1, 2] {
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(format!("try, {threads} thread(s)"), |b| {
            b.iter(|| {
                std::thread::scope(|scope| {
                    for memory in &mut memories[..threads] {
                        scope.spawn(|| black_box(argon2id(&message, memory.scratch(0).memory)));
                    }
                });
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("carrier");
    let nonce = AdmissionNonce::from_bytes([1; 32]);
    let usual = merge_to_vec(br#"{"completion_id":"cmpl-0123456789"}"#, &nonce).expect("fits");
    group.bench_function("extract", |b| b.iter(|| extract(black_box(&usual))));
    let mut keys = String::from("{");
    (0..440).for_each(|key| keys += &format!("\"{key:x}\":0,"));
    keys.pop();
    let many = merge_to_vec((keys + "}").as_bytes(), &nonce).expect("fits");
    group.bench_function("extract, 440 keys", |b| b.iter(|| extract(black_box(&many))));
    group.finish();
}

criterion_group!(benches, grind);
criterion_main!(benches);
