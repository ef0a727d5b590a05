//! What leaves the engine: which windows, to which sockets, with which contents.

use tensorpow_core::classify::node_header_test;
use tensorpow_core::proof::{ProofRef, commit};
use tensorpow_core::selfcheck::{Expected, Passed, Purpose, Unsent, selfcheck};
use tensorpow_core::target::Target;
use tensorpow_core::units::{Digest, HeaderPrefix};
use tensorpow_core::verify::{Chain, Registry, Vdf, Workspace};

use crate::world::*;

/// Version 3 is active for the proofs of that version.
fn judge(proof: &ProofRef<'_>, purpose: Purpose<'_>) -> Result<Passed, Unsent> {
    let chain = Chain::assumed(proof.version >= 3, 1_000_000);
    let (registry, vdf) = (Registry::Absent, Vdf::Skip);
    let expected = Expected { header_prefix: None, chain, registry, vdf };
    let mut workspace = Workspace::new();
    selfcheck(proof, &expected, purpose, &mut workspace.scratch(proof, Some(&chain)))
}

fn node_takes(proof: &ProofRef<'_>) {
    judge(proof, Purpose::Solution).unwrap();
    let prefix = HeaderPrefix::from_bytes(proof.header_prefix.try_into().unwrap());
    let digest = Digest::from_bytes(proof.hash.try_into().unwrap());
    let target = Target::from_be_bytes(proof.target.try_into().unwrap());
    node_header_test(&prefix, &digest, &target).unwrap();
}

#[test]
fn six_hundred_tokens_make_two_proofs_that_the_node_takes() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let prompt: Vec<u32> = (1..40).collect();
    let mut sequence = begin(&engine, &job(EASY), &prompt);
    let text = draw(&mut sequence, 600);
    sequence.end(tensorpow_engine::EndReason::Finished);

    for window in 0..2 {
        let message = collector.next();
        let response = decode(&message);
        let proof = response.pow_blob.unwrap();
        node_takes(&proof);
        let digest = Digest::from_bytes(proof.hash.try_into().unwrap());
        assert_eq!(response.req_id, 4242);
        assert_eq!(response.nonce, digest.nonce());
        assert_eq!(response.adjusted_bits, EASY);
        assert_eq!(response.difficulty, 1_000_000);
        assert_eq!(response.completion_id, b"cmpl-test");
        assert_eq!(response.pow_blob_hash, commit(&proof).unwrap().root.as_bytes());
        assert!(proof.is_solution);
        assert_eq!(proof.version, 2);
        assert_eq!(proof.extra_flags, b"{}");
        assert_eq!(proof.model_identifier, MODEL.as_bytes());
        assert_eq!(proof.compute_precision, b"bf16");
        assert_eq!(proof.ipfs_cid, b"QmSynthetic");
        assert!(proof.timestamp > 1_600_000_000 && proof.timestamp < 100_000_000_000);
        let before = [&prompt[..], &text[..window * 256]].concat();
        assert_eq!(proof.prompt_tokens.iter().collect::<Vec<_>>(), before);
        assert!(proof.pad_mask.iter().all(|byte| byte == 0));
        let chosen: Vec<u32> = proof.chosen_tokens.iter().collect();
        assert_eq!(chosen, text[window * 256..(window + 1) * 256]);
    }
    wait_for(&engine, "tensorpow_proofs_sent_total{socket=\"primary\"}", 2);
    assert_eq!(metric(&engine, "tensorpow_windows_total{outcome=\"solution\"}"), 2);
    assert_eq!(metric(&engine, "tensorpow_windows_partial_total"), 1);
    assert_eq!(metric(&engine, "tensorpow_tokens_total"), 600);
    assert_eq!(metric(&engine, "tensorpow_sequences_started_total"), 1);
    assert_eq!(metric(&engine, "tensorpow_sequences_active"), 0);
    drop(engine);
    assert!(collector.rest().is_empty());
}

#[test]
fn the_same_job_and_prompt_give_the_same_text_and_evidence() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let run = || {
        let mut sequence = begin(&engine, &job(EASY), &[5, 6, 7]);
        (draw(&mut sequence, 256), collector.next())
    };
    let ((first, a), (second, b)) = (run(), run());
    assert_eq!(first, second);
    let (a, b) = (decode(&a).pow_blob.unwrap(), decode(&b).pow_blob.unwrap());
    assert_eq!(a.hash, b.hash);
    assert_eq!(a.topk_logits, b.topk_logits);
    assert_eq!(a.sampling_u, b.sampling_u);
    let mut other = begin(&engine, &with(job(EASY), "tick", 1001), &[5, 6, 7]);
    assert_ne!(draw(&mut other, 256), first);
}

#[test]
fn a_share_goes_to_a_broker_and_is_no_solution() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let pow = with(job(HARD), "share_target", any_share());
    draw(&mut begin(&engine, &pow, &[1]), 256);
    let message = collector.next();
    let response = decode(&message);
    let proof = response.pow_blob.unwrap();
    assert!(!proof.is_solution);
    assert_eq!(response.adjusted_bits, HARD);
    assert_eq!(proof.extra_flags, b"{}");
    let share = Target::MAX;
    judge(&proof, Purpose::Share(&share)).unwrap();
    assert!(judge(&proof, Purpose::Solution).is_err());
    wait_for(&engine, "tensorpow_windows_total{outcome=\"share\"}", 1);
}

#[test]
fn a_window_below_no_target_is_nothing_and_an_unreadable_share_target_is_counted() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let pow = with(job(HARD), "share_target", "f");
    draw(&mut begin(&engine, &pow, &[1]), 256);
    wait_for(&engine, "tensorpow_windows_total{outcome=\"nothing\"}", 1);
    assert_eq!(metric(&engine, "tensorpow_share_target_invalid_total"), 1);
    drop(engine);
    assert!(collector.rest().is_empty());
}

#[test]
fn version_three_without_nonce_carries_its_version() {
    let collector = Collector::new();
    let engine = engine(&collector, &[("POW_EGRESS_MODE", "broker"), ("POW_PROOF_VERSION", "3")]);
    draw(&mut begin(&engine, &with(job(EASY), "proof_version", 3), &[1]), 256);
    let message = collector.next();
    let proof = decode(&message).pow_blob.unwrap();
    assert_eq!(proof.version, 3);
    judge(&proof, Purpose::Solution).unwrap();
}

#[test]
fn an_audit_job_yields_records_and_nothing_else() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let pow = with(with(job(EASY), "audit_emit", true), "target", EASY);
    let text = pow.to_string();
    let mut request = request(text.as_bytes(), &[1, 2]);
    request.sampling.temperature = 0.1;
    request.sampling.top_k = 3;
    let mut sequence = engine.begin(&request).unwrap();
    draw(&mut sequence, 256);
    let message = collector.next();
    let response = decode(&message);
    audit_envelope(&response);
    let proof = response.pow_blob.unwrap();
    assert_eq!(proof.version, 1);
    assert_eq!((proof.temperature, proof.top_k), (0.1, 3));
    judge(&proof, Purpose::Audit).unwrap();
    wait_for(&engine, "tensorpow_windows_total{outcome=\"audit\"}", 1);
}

fn audit_envelope(response: &tensorpow_core::proof::MiningResponseRef<'_>) {
    assert_eq!(response.req_id, 4242);
    assert_eq!((response.nonce, response.adjusted_bits, response.difficulty), (0, 0, 0));
    assert!(response.pow_blob_hash.is_empty());
    assert_eq!(response.completion_id, b"cmpl-test");
    let proof = response.pow_blob.unwrap();
    assert!(!proof.is_solution);
    assert_eq!(proof.extra_flags, br#"{"proof_purpose":"audit"}"#);
    assert!(response.is_audit());
}

#[test]
fn beside_a_node_the_proxy_gets_the_solution_byte_for_byte_and_the_rest_as_audits() {
    let (node, proxy) = (Collector::new(), Collector::new());
    let port = proxy.port.to_string();
    let engine = engine(
        &node,
        &[
            ("POW_PROXY_ENABLE", "1"),
            ("POW_PROXY_PUSH_HOST", "127.0.0.1"),
            ("POW_PROXY_PUSH_PORT", &port),
        ],
    );
    draw(&mut begin(&engine, &job(EASY), &[1]), 256);
    let solution = node.next();
    assert_eq!(solution, proxy.next());
    assert!(decode(&solution).pow_blob.unwrap().is_solution);

    let share = with(job(HARD), "share_target", any_share());
    for pow in [job(HARD), share] {
        draw(&mut begin(&engine, &pow, &[1]), 256);
        let copy = proxy.next();
        audit_envelope(&decode(&copy));
        assert_eq!(decode(&copy).pow_blob.unwrap().version, 2, "its own version");
    }
    drop(engine);
    assert!(node.rest().is_empty() && proxy.rest().is_empty());
}

#[test]
fn a_node_alone_gets_solutions_only() {
    let node = Collector::new();
    let engine = engine(&node, &[]);
    draw(&mut begin(&engine, &with(job(HARD), "share_target", any_share()), &[1]), 256);
    draw(&mut begin(&engine, &with(job(EASY), "audit_emit", true), &[1]), 256);
    draw(&mut begin(&engine, &job(EASY), &[1]), 256);
    assert!(decode(&node.next()).pow_blob.unwrap().is_solution);
    let dropped =
        |reason| metric(&engine, &format!("tensorpow_proofs_dropped_total{{reason=\"{reason}\"}}"));
    assert_eq!(dropped("share_local_miner"), 1);
    assert_eq!(dropped("audit_without_proxy"), 1);
    assert_eq!(metric(&engine, "tensorpow_windows_total{outcome=\"share\"}"), 1);
    drop(engine);
    assert!(node.rest().is_empty());
}

#[test]
fn a_window_that_fails_its_self_check_is_counted_by_check_and_sent_nowhere() {
    let collector = Collector::new();
    let engine = broker(&collector);
    let wrong_parent = with(job(EASY), "block_hash", "33".repeat(32));
    let wrong_target = with(job(EASY), "target", "7f".to_owned() + &"ff".repeat(31));
    for (pow, check) in [(wrong_parent, "S02"), (wrong_target, "Q44")] {
        // A share too, so that the window has a destination whatever its header hash.
        draw(&mut begin(&engine, &with(pow, "share_target", any_share()), &[1]), 256);
        let name = format!("tensorpow_self_check_failures_total{{check=\"{check}\"}}");
        wait_for(&engine, &name, 1);
    }
    wait_for(&engine, "tensorpow_windows_total{outcome=\"self_check_failed\"}", 2);
    drop(engine);
    assert!(collector.rest().is_empty());
}

#[test]
fn a_draw_of_one_kills_its_window_and_only_that() {
    let collector = Collector::new();
    let engine = broker(&collector);
    // The first digest after this prompt begins with ff ff ff ff to within 2^-25: u rounds to 1.
    let mut sequence = begin(&engine, &job(EASY), &[7, 95_577_393]);
    let text = draw(&mut sequence, 512);
    let message = collector.next();
    let proof = decode(&message).pow_blob.unwrap();
    let chosen: Vec<u32> = proof.chosen_tokens.iter().collect();
    assert_eq!(chosen, text[256..], "the second window");
    assert_eq!(metric(&engine, "tensorpow_windows_total{outcome=\"dead\"}"), 1);
    wait_for(&engine, "tensorpow_windows_total{outcome=\"solution\"}", 1);
    drop(engine);
    assert!(collector.rest().is_empty());
}

#[test]
fn proofs_are_saved_where_the_operator_says() {
    let collector = Collector::new();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let engine = engine(&collector, &[("POW_EGRESS_MODE", "broker"), ("PROOF_SAVE_DIR", dir)]);
    draw(&mut begin(&engine, &job(EASY), &[1]), 256);
    wait_for(&engine, "tensorpow_proofs_saved_total", 1);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    assert!(file.file_name().to_str().unwrap().starts_with("4242_"));
    assert_eq!(std::fs::read(file.path()).unwrap(), collector.next());
}
