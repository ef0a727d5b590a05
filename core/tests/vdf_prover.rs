//! The streaming prover: consistent proofs, rising ticks, quick resets, and the same bytes from any
//! number of threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::thread::sleep;
use std::time::{Duration, Instant};
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::prover::{
    Checkpoints, ProveError, Prover, Published, Settings, construct, construct_in_parallel, prove,
};
use tensorpow_core::vdf::{Discriminant, Form, verify, verify_proof};

const FIRST: BlockHash = BlockHash::from_bytes([0x11; 32]);
const SECOND: BlockHash = BlockHash::from_bytes([0x22; 32]);

fn wait_for(prover: &Prover, wanted: impl Fn(&Published) -> bool) -> Published {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match prover.latest() {
            Some(published) if wanted(&published) => return published,
            _ => assert!(Instant::now() < deadline, "no proof: {:?}", prover.progress()),
        }
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn proofs_verify_rise_and_stay_with_their_challenge_across_resets() {
    let settings = Settings { chunk: 500, threads: 2, ..Settings::default() };
    let mut prover = Prover::start(FIRST, settings).unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let published = wait_for(&prover, |p| p.tick > last);
        assert_eq!(published.challenge, FIRST);
        assert_eq!(published.tick % 500, 0);
        assert_eq!(verify(&FIRST, published.tick, &published.blob), Ok(()));
        last = published.tick;
    }
    // The same challenge again changes nothing.
    prover.reset(FIRST);
    assert!(prover.latest().unwrap().tick >= last);

    let asked = Instant::now();
    prover.reset(SECOND);
    assert_eq!(prover.latest().filter(|p| p.challenge == FIRST), None);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let published = wait_for(&prover, |_| true);
    assert_eq!(published.challenge, SECOND);
    let d = Discriminant::from_challenge(SECOND.as_bytes(), 1024).unwrap();
    assert_eq!(published.blob, prove(&d, published.tick).unwrap());

    prover.stop();
    assert_eq!(prover.latest(), None);
    assert_eq!(prover.progress().faults, 0);
}

#[test]
fn squaring_ends_at_the_limit_with_a_proof_of_a_shorter_chunk() {
    let settings = Settings { chunk: 400, limit: 1_001, threads: 1 };
    let prover = Prover::start(FIRST, settings).unwrap();
    let published = wait_for(&prover, |p| p.tick == 1_001);
    assert_eq!(verify(&FIRST, 1_001, &published.blob), Ok(()));
    sleep(Duration::from_millis(20));
    assert_eq!(prover.progress().ticks, 1_001);
}

#[test]
fn a_construction_can_be_cancelled_and_threads_do_not_change_its_bytes() {
    let d = Discriminant::from_challenge(FIRST.as_bytes(), 1024).unwrap();
    let mut checkpoints = Checkpoints::new(Form::generator(&d));
    checkpoints.square_to(20_011, &d);
    let blob = construct(&d, &checkpoints, &|| false).unwrap();
    assert_eq!(verify_proof(&d, 20_011, &blob), Ok(()));
    for threads in [2, 3, 7] {
        assert_eq!(construct_in_parallel(&d, &checkpoints, threads, &|| false), Ok(blob));
        let cancelled = construct_in_parallel(&d, &checkpoints, threads, &|| true);
        assert_eq!(cancelled, Err(ProveError::Cancelled));
    }
}

#[test]
fn every_number_of_passes_gives_a_proof_that_verifies() {
    let d = Discriminant::from_challenge(FIRST.as_bytes(), 1024).unwrap();
    let mut checkpoints = Checkpoints::new(Form::generator(&d));
    for tick in (0..30_000).step_by(1_500) {
        checkpoints.square_to(tick, &d);
        for threads in [1, 2, 4] {
            let blob = construct_in_parallel(&d, &checkpoints, threads, &|| false).unwrap();
            assert_eq!(verify_proof(&d, tick, &blob), Ok(()), "{tick} with {threads} threads");
        }
    }
}
