//! Version-3 windows with admission: which get a nonce, what the nonce is good for, and who waits.

use std::time::{Duration, Instant};

use crate::world::{
    Collector, EASY, HARD, VOCAB, any_share, begin, decode, draw, engine, job, metric, request,
    wait_for, with,
};
use serde_json::{Value, json};
use tensorpow_core::admission::{Memory, extract, judge, message_len};
use tensorpow_core::replay;
use tensorpow_engine::{EndReason, Engine};

/// Three expected tries a window.
const LIGHT: i64 = 20_000_000;
/// Sixty million: no search of a test ends.
const ENDLESS: i64 = 1;

fn admitting(primary: &Collector) -> Engine {
    engine(primary, &[("POW_EGRESS_MODE", "broker"), ("POW_V3_ADMISSION_MODE", "always")])
}

fn job_of_version(version: u64, difficulty: i64) -> Value {
    let job = with(job(EASY), "proof_version", version);
    with(with(job, "difficulty", difficulty), "share_target", any_share())
}

fn outcome(engine: &Engine, outcome: &str) -> u64 {
    metric(engine, &format!("tensorpow_admission_windows_total{{outcome=\"{outcome}\"}}"))
}

#[test]
fn every_window_of_version_3_carries_a_nonce_of_its_own_that_solves_its_puzzle() {
    let collector = Collector::new();
    let engine = admitting(&collector);
    let mut sequence = begin(&engine, &job_of_version(3, LIGHT), &[5, 6, 7]);
    draw(&mut sequence, 512);
    sequence.end(EndReason::Finished);
    let mut nonces = Vec::new();
    for window in 0..2 {
        let message = collector.next();
        let proof = decode(&message).pow_blob.unwrap();
        assert_eq!(proof.prompt_tokens.len(), 3 + 256 * window);
        let nonce = extract(proof.extra_flags).expect("a nonce is claimed");
        let closing = replay::closing_digest(&proof, Some(&nonce));
        assert_eq!(closing.as_bytes()[..], *proof.hash, "the draws were made with it");
        let mut memory = Memory::new();
        let mut scratch = memory.scratch(message_len(&proof));
        assert_eq!(judge(&proof, &nonce, LIGHT, &mut scratch), Ok(true));
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
    wait_for(&engine, "tensorpow_admission_searches", 0);
    assert_eq!(outcome(&engine, "found"), 2);
    assert!(outcome(&engine, "cancelled") <= 1, "the third window's, which never began");
    assert!(metric(&engine, "tensorpow_admission_tries_total") >= 2);
}

#[test]
fn version_2_and_audits_never_get_a_nonce() {
    let collector = Collector::new();
    let engine = admitting(&collector);
    let audit = with(job_of_version(3, ENDLESS), "audit_emit", true);
    for job in [job_of_version(2, ENDLESS), audit] {
        let mut sequence = begin(&engine, &job, &[1]);
        assert!(sequence.ready(Duration::ZERO));
        draw(&mut sequence, 256);
        sequence.end(EndReason::Finished);
        let message = collector.next();
        let proof = decode(&message).pow_blob.unwrap();
        assert_eq!(extract(proof.extra_flags), None);
        assert_eq!(replay::closing_digest(&proof, None).as_bytes()[..], *proof.hash);
    }
    assert_eq!(metric(&engine, "tensorpow_admission_tries_total"), 0);
}

#[test]
fn without_the_mode_version_3_is_mined_without_a_nonce() {
    let collector = Collector::new();
    let engine = engine(&collector, &[("POW_EGRESS_MODE", "broker"), ("POW_PROOF_VERSION", "3")]);
    let mut sequence = begin(&engine, &job_of_version(3, ENDLESS), &[1]);
    draw(&mut sequence, 256);
    let message = collector.next();
    assert_eq!(extract(decode(&message).pow_blob.unwrap().extra_flags), None);
}

#[test]
fn a_sequence_that_waits_holds_up_nobody_and_ends_at_once() {
    let collector = Collector::new();
    let engine = admitting(&collector);
    let mut waiting = begin(&engine, &job_of_version(3, ENDLESS), &[1]);
    let began = Instant::now();
    assert!(!waiting.ready(Duration::ZERO));
    assert!(!waiting.ready(Duration::from_millis(50)));
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(metric(&engine, "tensorpow_admission_searches"), 1);

    let mut other = begin(&engine, &job_of_version(2, ENDLESS), &[2]);
    draw(&mut other, 256);
    collector.next();
    other.end(EndReason::Finished);

    let began = Instant::now();
    waiting.end(EndReason::Cancelled);
    drop(engine);
    assert!(began.elapsed() < Duration::from_secs(5), "sixty million tries were not made");
}

#[test]
fn a_search_that_is_given_up_leaves_its_window_without_a_nonce() {
    let collector = Collector::new();
    let engine = admitting(&collector);
    let mut sequence = begin(&engine, &job_of_version(3, ENDLESS), &[1]);
    assert!(!sequence.ready(Duration::ZERO));
    sequence.forgo_admission();
    assert!(sequence.ready(Duration::ZERO));
    assert_eq!(outcome(&engine, "given_up"), 1);
    draw(&mut sequence, 256);
    let message = collector.next();
    assert_eq!(extract(decode(&message).pow_blob.unwrap().extra_flags), None);
    assert!(!sequence.ready(Duration::ZERO), "the next window seeks its own");
}

#[test]
fn a_sequence_that_stopped_mining_is_ready_to_say_so() {
    let collector = Collector::new();
    let engine = admitting(&collector);
    let mut sequence = begin(&engine, &job_of_version(3, LIGHT), &[1]);
    assert!(sequence.sample(&[0.0; VOCAB - 1]).is_err());
    assert!(sequence.ready(Duration::ZERO));
    assert_eq!(metric(&engine, "tensorpow_admission_searches"), 0);
}

#[test]
fn a_difficulty_that_is_none_is_refused_before_any_search() {
    let collector = Collector::new();
    let engine = admitting(&collector);
    let job = with(job_of_version(3, LIGHT), "difficulty", json!(0));
    assert!(engine.begin(&request(job.to_string().as_bytes(), &[1])).is_err());
    assert_eq!(metric(&engine, "tensorpow_admission_searches"), 0);
}

#[test]
fn the_copy_for_the_proxy_beside_a_node_keeps_its_nonce() {
    let (node, proxy) = (Collector::new(), Collector::new());
    let port = proxy.port.to_string();
    let engine = engine(
        &node,
        &[
            ("POW_V3_ADMISSION_MODE", "always"),
            ("POW_PROXY_ENABLE", "1"),
            ("POW_PROXY_PUSH_HOST", "127.0.0.1"),
            ("POW_PROXY_PUSH_PORT", &port),
        ],
    );
    let hard = with(with(job(HARD), "proof_version", 3), "difficulty", LIGHT);
    let mut sequence = begin(&engine, &hard, &[1]);
    draw(&mut sequence, 256);
    let message = proxy.next();
    let message = decode(&message);
    assert!(message.is_audit());
    let proof = message.pow_blob.unwrap();
    let nonce = extract(proof.extra_flags).expect("its draws were made with one");
    assert_eq!(replay::closing_digest(&proof, Some(&nonce)).as_bytes()[..], *proof.hash);
}
