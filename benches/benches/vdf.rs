//! Criterion group `vdf`: squaring, composition, encoding, verification and, with `--features
//! gmp`, the same squaring on GMP.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{Criterion, criterion_group, criterion_main};
use tensorpow_core::vdf::prover::prove;
use tensorpow_core::vdf::{Discriminant, Form, verify_proof};

fn vdf(c: &mut Criterion) {
    let mut group = c.benchmark_group("vdf");
    group.sample_size(20);
    let d = Discriminant::from_challenge(&[7; 32], 1024).expect("32 bytes serve");
    let f = Form::generator(&d).square_repeatedly(1_000, &d);
    let g = f.square(&d);
    group.bench_function("discriminant", |b| {
        b.iter(|| Discriminant::from_challenge(&[7; 32], 1024))
    });
    group.bench_function("square x 1000", |b| b.iter(|| f.square_repeatedly(1_000, &d)));
    group.bench_function("compose", |b| b.iter(|| f.compose(&g, &d)));
    let bytes = f.encode(&d).expect("reduced forms encode");
    group.bench_function("encode", |b| b.iter(|| f.encode(&d)));
    group.bench_function("decode", |b| b.iter(|| Form::decode(&bytes, &d)));
    let blob = prove(&d, 32_768).expect("a proof");
    group.bench_function("verify", |b| b.iter(|| verify_proof(&d, 32_768, &blob)));
    #[cfg(feature = "gmp")]
    {
        let hex = |n: &tensorpow_core::vdf::Integer| format!("{n:x}");
        let mut theirs = tensorpow_benches::gmp::Squarer::new(
            &hex(&d.value()),
            &hex(f.a()),
            &hex(f.b()),
            &hex(f.c()),
        );
        group.bench_function("gmp square x 1000", |b| {
            b.iter(|| (0..1_000).for_each(|_| theirs.square()));
        });
    }
    group.finish();
}

criterion_group!(benches, vdf);
criterion_main!(benches);
