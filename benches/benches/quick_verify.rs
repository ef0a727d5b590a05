//! Criterion group `quick_verify`: the node's verdict on a 256-token proof as it is received,
//! without its VDF proof, beside one pass over the proof's bytes. With the real genesis proofs at
//! hand (`TENSORPOW_ARTEFACTS`, or `../shared/artefacts` beside the repository) on those too.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;
use tensorpow_benches::mined;
use tensorpow_core::proof::ProofRef;
use tensorpow_core::verify::{Chain, Context, Needs, Vdf, Verdict, Workspace, quick};

/// Reads every byte once, as fast as the machine lets it.
fn memory_pass(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    words.map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())).sum()
}

fn genesis(file: &str) -> Option<Vec<u8>> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/artefacts");
    let folder = std::env::var_os("TENSORPOW_ARTEFACTS").map_or(beside.into(), PathBuf::from);
    std::fs::read(folder.join(file)).ok()
}

fn quick_verify(c: &mut Criterion) {
    let mut proofs = vec![("mined", mined::proof())];
    for (name, file) in [
        ("genesis mainnet", "proof_genesis_mainnet.bin"),
        ("genesis tensor-test", "proof_genesis_tensor_test.bin"),
    ] {
        match genesis(file) {
            Some(bytes) => proofs.push((name, bytes)),
            None => println!("{file} is not here: not measured"),
        }
    }
    let mut group = c.benchmark_group("quick_verify");
    let chain = Chain::assumed(false, 1_000_000);
    let context = Context { chain: Some(chain), vdf: Vdf::Skip, ..Context::default() };
    let mut workspace = Workspace::new();
    for (name, bytes) in &proofs {
        let proof = ProofRef::read(bytes).expect("a proof");
        let mut scratch = workspace.scratch(&proof, Some(&chain));
        let report = quick(&proof, &context, &mut scratch).expect("a verdict");
        assert_eq!((report.verdict(), report.steps), (Verdict::Ok, 256), "{name}");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}: verdict"), |b| {
            b.iter(|| quick(black_box(&proof), &context, &mut scratch));
        });
        group.bench_function(format!("{name}: read and verdict"), |b| {
            b.iter(|| {
                let proof = ProofRef::read(black_box(bytes)).expect("a proof");
                quick(&proof, &context, &mut scratch)
            });
        });
        group.bench_function(format!("{name}: size of the scratch"), |b| {
            b.iter(|| Needs::of(black_box(&proof)));
        });
        group.bench_function(format!("{name}: memory pass"), |b| {
            b.iter(|| memory_pass(black_box(bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, quick_verify);
criterion_main!(benches);
