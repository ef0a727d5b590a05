//! Criterion group `archive`: the compact form of a proof, written and read. The proof is the one of
//! the file in `TENSORPOW_PROOF`, else the largest of the conformance vectors, whose evidence is
//! random and which therefore shrinks less than a real one.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::io::Read as _;
use tensorpow_core::archive::{decode, encode, key};
use tensorpow_core::proof::{ProofRef, canonical};

fn flatbuffer() -> Vec<u8> {
    if let Ok(path) = std::env::var("TENSORPOW_PROOF") {
        return std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/vectors/proof.json.gz");
    let file = std::fs::File::open(path).expect("the project's vectors");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip of text");
    // The longest hex string of the file is the proof.
    let longest = text.split('"').max_by_key(|part| part.len()).expect("a string");
    hex::decode(longest).expect("hex")
}

fn archive(c: &mut Criterion) {
    let bytes = flatbuffer();
    let proof = ProofRef::read(&bytes).expect("a standalone proof");
    let packed = encode(&proof).expect("within the limit");
    let mut group = c.benchmark_group("archive");
    group.throughput(Throughput::Bytes(canonical::canonical_len(&proof)));
    group.bench_function("key", |b| b.iter(|| key(&proof)));
    group.bench_function("encode", |b| b.iter(|| encode(&proof)));
    group.bench_function("decode", |b| b.iter(|| decode(&packed)));
    group.finish();
}

criterion_group!(benches, archive);
criterion_main!(benches);
