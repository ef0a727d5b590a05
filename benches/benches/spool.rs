//! Criterion group `spool`: what it costs to have a proof on disk. The proof is a real one, in its
//! FlatBuffer about 167 kB; `TENSORPOW_BENCH_DIR` names the disk (by default that of temporary files).
//!
//! `pack` is computation alone: compact form, check that it gives back the message, commitment. `put`
//! is one proof from packed to synced, `burst` the same for 64 at once, which share their commits;
//! `mark` is one change of a delivery's state, `unpack` reads a stored proof back.
#![allow(missing_docs)] // criterion's macros make undocumented functions

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use std::cell::Cell;
use tensorpow_core::archive;
use tensorpow_core::proof::{Encode, MiningResponseRef, Proof};
use tensorpow_server::intake::classify;
use tensorpow_server::mining::sink::ReceivedProof;
use tensorpow_server::spool::{Delivery, Mark, Prepared, Put, Spool, SpoolSettings, form};

const PROOF: &[u8] = include_bytes!("../../server/tests/proofs/full_v1.tpwa");
const BURST: usize = 64;

/// Proofs that differ in their timestamp, so that each is a new one.
struct Proofs {
    proof: Proof,
    next: Cell<u64>,
}

impl Proofs {
    fn message(&self) -> Vec<u8> {
        let mut proof = self.proof.clone();
        proof.timestamp = self.next.replace(self.next.get() + 1);
        let response = MiningResponseRef {
            req_id: 7,
            pow_blob: Some(proof.as_ref()),
            completion_id: b"chatcmpl-0123456789abcdef0123456789abcdef",
            ..Default::default()
        };
        response.encode_to_vec().expect("a message")
    }

    fn received(&self) -> ReceivedProof {
        classify(&self.message().into()).expect("a proof")
    }

    fn prepared(&self) -> Prepared {
        Prepared::of(&self.received(), vec![("bench", Delivery::pending(0))])
    }
}

fn spool(c: &mut Criterion) {
    let place = std::env::var_os("TENSORPOW_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(place).expect("a folder");
    let spool = Spool::open(SpoolSettings::in_folder(folder.path())).expect("a spool");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio");
    let proofs = Proofs { proof: archive::decode(PROOF).expect("a proof"), next: Cell::new(0) };
    let (message, prepared) = (proofs.message(), proofs.prepared());
    println!(
        "one proof: {} bytes as a message, {} as stored ({}, {:.1} %)",
        message.len(),
        prepared.len(),
        prepared.form().as_str(),
        100.0 * prepared.len() as f64 / message.len() as f64,
    );
    let mut group = c.benchmark_group("spool");
    group.sample_size(50);
    let received = proofs.received();
    group.bench_function("pack", |b| b.iter(|| Prepared::of(&received, Vec::new())));
    let response = MiningResponseRef::read(&message).expect("a message");
    let (kind, body) = form::pack(&message, &response);
    group.bench_function("unpack", |b| b.iter(|| form::unpack(kind, &body)));
    let mut seq = 0;
    group.throughput(Throughput::Elements(1));
    group.bench_function("put", |b| {
        b.iter_batched(
            || proofs.prepared(),
            |prepared| match runtime.block_on(spool.put(prepared)).expect("on disk") {
                Put::New { seq: new } => seq = new,
                Put::Known { .. } => panic!("not a new proof"),
            },
            BatchSize::PerIteration,
        );
    });
    let mark = || Mark { seq, sink: "bench", delivery: Delivery::sent(1) };
    group.bench_function("mark", |b| {
        b.iter(|| runtime.block_on(spool.mark(vec![mark()])).expect("on disk"));
    });
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("burst", |b| {
        b.iter_batched(
            || (0..BURST).map(|_| proofs.prepared()).collect::<Vec<_>>(),
            |burst| {
                let puts = burst.into_iter().map(|prepared| spool.put(prepared));
                let puts = runtime.block_on(async { join_all(puts).await });
                assert!(puts.iter().all(Result::is_ok), "on disk");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let stats = spool.stats();
    println!(
        "{} proofs in {} bytes; {} commits, {:.2} ms each",
        stats.entries,
        stats.bytes,
        stats.commits,
        stats.commit_us as f64 / 1000.0 / stats.commits as f64,
    );
}

criterion_group!(benches, spool);
criterion_main!(benches);
