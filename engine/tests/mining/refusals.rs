//! Requests that are served without mining: every reason is counted under its own label, and the
//! message says what is wrong.

use serde_json::{Value, json};
use tensorpow_engine::{BeginRequest, Engine, Exclusion, NotMined};

use crate::world::*;

/// Refuses the request, checks label, counter and words.
fn refused(engine: &Engine, request: &BeginRequest<'_>, label: &str, words: &str) {
    let name = format!("tensorpow_not_mined_total{{reason=\"{label}\"}}");
    let before = metric(engine, &name);
    let why = engine.begin(request).expect_err(label);
    assert_eq!(why.label(), label, "{why}");
    assert!(why.to_string().contains(words), "{label}: {why}");
    assert_eq!(metric(engine, &name), before + 1, "{label}");
}

#[test]
fn a_payload_that_cannot_be_read_is_named_by_its_key() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let cases: &[(&str, Value, &str, &str)] = &[
        ("block_hash", json!("zz".repeat(32)), "payload_block_hash", "not a hex digit"),
        ("block_hash", json!("11".repeat(31)), "payload_block_hash", "64 hex digits, has 62"),
        ("vdf", json!(""), "payload_vdf", "vdf"),
        ("target", json!("ff"), "payload_target", "64 hex digits, has 2"),
        ("tick", json!(4_294_967_296_u64), "payload_tick", "4294967296 does not fit u32"),
        ("request_id", json!(-1), "payload_request_id", "-1 does not fit u32"),
        ("difficulty", json!(0), "payload_difficulty", "0 is not a positive"),
        ("header_prefix", json!(""), "payload_header_prefix", "152 hex digits, has 0"),
        ("proof_version", json!("2"), "payload_proof_version", "an integer"),
        ("audit_emit", json!(1), "payload_audit_emit", "a boolean"),
        ("ipfs_cid", json!([]), "payload_ipfs_cid", "a string"),
    ];
    for (key, value, label, words) in cases {
        let pow = with(job(EASY), key, value.clone()).to_string();
        refused(&engine, &request(pow.as_bytes(), &[1]), label, words);
    }
    for (text, label, words) in [
        ("[1]", "payload_not_an_object", "an array"),
        ("\"{\"", "payload_not_json", "not JSON"),
        ("", "payload_not_json", "not JSON"),
        ("\u{1}", "payload_not_json", "not JSON"),
    ] {
        refused(&engine, &request(text.as_bytes(), &[1]), label, words);
    }
    refused(&engine, &request(&[0xff, 0xfe], &[1]), "payload_not_json", "not JSON");
}

#[test]
fn a_request_outside_the_profile_is_named() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let pow = job(EASY).to_string();
    let good = request(pow.as_bytes(), &[1]);
    let sampling = |change: fn(&mut tensorpow_engine::Requested)| {
        let mut request = good;
        change(&mut request.sampling);
        request
    };
    refused(&engine, &sampling(|s| s.temperature = 0.0), "temperature", "temperature 0");
    refused(&engine, &sampling(|s| s.temperature = f32::NAN), "temperature", "NaN");
    refused(&engine, &sampling(|s| s.top_k = 0), "top_k", "top_k 0");
    refused(&engine, &sampling(|s| s.top_p = 0.05), "top_p", "top_p 0.05");
    refused(&engine, &sampling(|s| s.repetition_penalty = 1.1), "repetition_penalty", "1.1");
    refused(&engine, &BeginRequest { vocab: 127, ..good }, "vocabulary", "127");
    refused(&engine, &BeginRequest { prompt: &[], ..good }, "empty_prompt", "empty");
    let minus_one = u32::MAX;
    let placeholder = BeginRequest { prompt: &[1, minus_one], ..good };
    refused(&engine, &placeholder, "prompt_token", "entry 1 is -1");
    let exclusions = [Exclusion::Seed, Exclusion::Penalty].into_iter().collect();
    refused(&engine, &BeginRequest { exclusions, ..good }, "penalty", "penalty");
}

#[test]
fn identities_and_versions_must_agree() {
    let collector = Collector::new();
    let plain = broker(&collector);
    let stamped = |version: u64| with(job(EASY), "proof_version", version).to_string();
    let three = engine(&collector, &[("POW_EGRESS_MODE", "broker"), ("POW_PROOF_VERSION", "3")]);
    refused(&three, &request(stamped(2).as_bytes(), &[1]), "version_mismatch", "2");
    refused(&plain, &request(stamped(7).as_bytes(), &[1]), "version_unknown", "7");
    let other_model = with(job(EASY), "model_identifier", "other@1").to_string();
    refused(&plain, &request(other_model.as_bytes(), &[1]), "identity_mismatch", "models");
    let fp32 = with(job(EASY), "compute_precision", "fp16").to_string();
    refused(&plain, &request(fp32.as_bytes(), &[1]), "precision_mismatch", "precision");
    // The operator's word goes before the engine's.
    let told = engine(
        &collector,
        &[("POW_EGRESS_MODE", "broker"), ("TENSORPOW_COMPUTE_PRECISION", "int8")],
    );
    refused(
        &told,
        &request(job(EASY).to_string().as_bytes(), &[1]),
        "precision_unsupported",
        "bf16",
    );
}

#[test]
fn a_full_house_refuses_the_newcomer_and_disturbs_nobody() {
    let collector = Collector::new();
    let engine =
        engine(&collector, &[("POW_EGRESS_MODE", "broker"), ("TENSORPOW_MAX_SEQUENCES", "2")]);
    let pow = job(EASY);
    let text = pow.to_string();
    let mut first = begin(&engine, &pow, &[1]);
    let second = begin(&engine, &pow, &[2]);
    draw(&mut first, 100);
    refused(&engine, &request(text.as_bytes(), &[3]), "row_limit", "all 2 rows");
    draw(&mut first, 156);
    assert_eq!(decode(&collector.next()).pow_blob.unwrap().prompt_tokens.len(), 1);
    drop(second);
    let third = engine.begin(&request(text.as_bytes(), &[3]));
    assert!(third.is_ok());
    assert_eq!(metric(&engine, "tensorpow_sequences_active"), 2);
    assert!(!matches!(third, Err(NotMined::RowLimit { .. })));
}

#[test]
fn a_json_string_that_holds_the_object_mines_like_the_object() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let quoted = Value::String(job(EASY).to_string()).to_string();
    let mut sequence = engine.begin(&request(quoted.as_bytes(), &[1])).unwrap();
    draw(&mut sequence, 256);
    assert!(decode(&collector.next()).pow_blob.unwrap().is_solution);
}
