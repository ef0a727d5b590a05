//! The development chain: what it accepts, what it refuses and under which name, and the whole way
//! from a request over the engine's proof to a new tip.

use crate::engine::Script;
use crate::miner::{self, Mined, mine_tier};
use crate::worker::{MODEL_NAME, VDF_TICKS, Worker, chain_settings, wait_for};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_core::proof::MiningResponseRef;
use tensorpow_core::target::{CompactTarget, Target};
use tensorpow_core::units::Digest;
use tensorpow_server::devnet::chain::DevChain;
use tensorpow_server::devnet::vdf::DevVdf;
use tensorpow_server::mining::job::Job;
use tensorpow_server::mining::payload::{EngineKind, PayloadSettings, PowForm, mining_payload};
use tensorpow_server::mining::sink::Verdict;
use tensorpow_server::mining::vdf::VdfState;
use tensorpow_server::report::{self, Against};

fn chain(flags: &[&str]) -> DevChain {
    let settings = chain_settings(flags);
    let vdf = Arc::new(DevVdf::new(settings.vdf_ticks));
    DevChain::new(settings, vdf)
}

/// The VDF proof of a job's parent, once the chain has made it.
fn vdf_proof(chain: &DevChain, job: &Job) -> VdfState {
    let started = Instant::now();
    loop {
        if let Some(state) = chain.vdf().latest(&job.parent()) {
            return state;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "no VDF proof");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn pow(chain: &DevChain, job: &Job) -> Value {
    let settings = chain.settings();
    let payload = mining_payload(
        job,
        &vdf_proof(chain, job),
        &settings.model,
        &PayloadSettings {
            engine: EngineKind::LlamaCpp,
            form: PowForm::Object,
            proof_version: settings.proof_version,
            normalizer: settings.normalizer,
            share_normalizer: settings.normalizer,
        },
    );
    serde_json::from_str(&payload.unwrap()).unwrap()
}

fn label(chain: &DevChain, mined: &Mined) -> &'static str {
    match chain.submit(&mined.message()) {
        Ok(verdict) => verdict.label(),
        Err(rejection) => rejection.label(),
    }
}

#[test]
fn shares_are_credited_once_and_a_solution_moves_the_tip() {
    let chain = chain(&[]);
    let genesis = chain.tip();
    let job = chain.new_job();
    assert_eq!((job.parent(), job.height), (genesis.hash, Some(1)));
    let share = mine_tier(&pow(&chain, &job), "a", false);
    assert_eq!(label(&chain, &share), "share");
    assert_eq!(label(&chain, &share), "duplicate_share");

    // A newer template on the same parent does not make older work worthless.
    let newer = chain.new_job();
    assert_ne!(newer.prefix, job.prefix);
    let solution = mine_tier(&pow(&chain, &job), "b", true);
    let verdict = chain.submit(&solution.message()).unwrap();
    let tip = chain.tip();
    assert_eq!(verdict, Verdict::Block { height: 1, hash: tip.hash });
    assert_eq!((tip.height, tip.cumulative_tick), (1, VDF_TICKS.into()));
    assert_ne!(tip.hash, genesis.hash);

    assert_eq!(label(&chain, &solution), "already_submitted");
    let late = mine_tier(&pow(&chain, &newer), "c", true);
    assert_eq!(label(&chain, &late), "stale");
    assert_eq!(chain.new_job().parent(), tip.hash);
    let credits = chain.credits();
    assert_eq!((credits.blocks, credits.shares, credits.rejected), (1, 1, 3));
}

#[test]
fn the_block_is_made_of_template_and_proof() {
    let chain = chain(&[]);
    let job = chain.new_job();
    let solution = mine_tier(&pow(&chain, &job), "a", true);
    chain.submit(&solution.message()).unwrap();
    let commitment = tensorpow_core::proof::commit(&solution.proof.as_ref()).unwrap();
    let header = tensorpow_core::header::BlockHeader {
        prefix: job.prefix,
        nonce: solution.nonce,
        bits: job.bits(),
        hash_pow: commitment.root,
        flags: 0,
    };
    assert_eq!(chain.tip().hash, header.long_hash());
    let target = job.bits().expand().target;
    assert!(target.is_met_by(&header.short_hash()));
}

#[test]
fn every_broken_rule_has_its_name() {
    type Break = fn(&mut Mined);
    let cases: [(&str, &str, Break); 24] = [
        ("request id 0", "invalid_payload", |m| m.req_id = 0),
        ("request id too large", "invalid_payload", |m| m.req_id = 10_000_000),
        ("unknown request id", "unknown_req_id", |m| m.req_id = 77),
        ("short pow_blob_hash", "invalid_payload", |m| m.pow_blob_hash.truncate(31)),
        ("another model", "unreg-model", |m| m.proof.model_identifier = b"x/y@z".to_vec()),
        ("no commit", "unreg-model", |m| m.proof.model_identifier = b"org/tiny".to_vec()),
        ("old version", "bad-proof-version", |m| m.proof.version = 1),
        ("another tick", "bad-vdf-proof", |m| m.proof.tick += 1),
        ("another VDF proof", "bad-vdf-proof", |m| m.proof.vdf[0] ^= 1),
        ("nonce field", "bad-nonce", |m| m.nonce ^= 1),
        ("bits field", "bad-adjbits", |m| m.adjusted_bits -= 1),
        ("an easier target", "bad-adjusted-bits", |m| {
            m.adjusted_bits = 0x207f_ffff;
            m.proof.header_prefix[72..].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
            m.proof.target = Target::POW_LIMIT_TENSOR.to_be_bytes().to_vec();
        }),
        ("target not of the bits", "Q44", |m| m.proof.target[5] ^= 1),
        ("short target", "Q41", |m| m.proof.target.truncate(31)),
        ("time changed", "S01", |m| m.proof.header_prefix[70] ^= 1),
        ("parent field", "S02", |m| m.proof.block_hash[0] ^= 1),
        ("digest", "Q31", |m| m.proof.hash[31] ^= 1),
        ("a token", "Q31", |m| m.proof.chosen_tokens[9] ^= 1),
        ("255 tokens", "Q16", |m| m.proof.chosen_tokens.truncate(255)),
        ("a draw", "Q60", |m| m.proof.sampling_u[3] = 0.25 + m.proof.sampling_u[3] / 2.0),
        ("evidence", "Q61", |m| {
            // A token that dominates takes the whole interval from the chosen one.
            let at = usize::from(m.proof.topk_indices[5][0] == m.proof.chosen_tokens[5]);
            m.proof.topk_logits[5][at] = 128.0;
        }),
        ("a NaN", "Q51", |m| m.proof.topk_logits[200][69] = f32::NAN),
        ("temperature", "Q21", |m| m.proof.temperature = 0.1),
        ("prompt", "Q60", |m| m.proof.prompt_tokens[0] ^= 1),
    ];
    let chain = chain(&[]);
    let job = chain.new_job();
    let good = mine_tier(&pow(&chain, &job), "a", false);
    for (name, expected, break_it) in cases {
        let mut broken = good.clone();
        break_it(&mut broken);
        assert_eq!(label(&chain, &broken), expected, "{name}");
    }
    for bytes in [&[][..], &[0, 1, 2], &[0xff; 64]] {
        assert_eq!(chain.submit(bytes).unwrap_err().label(), "invalid_payload");
    }
    assert_eq!(label(&chain, &good), "share", "and unbroken it is good");
}

#[test]
fn a_share_cannot_pass_as_a_solution_nor_below_its_threshold() {
    let easy = chain(&[]);
    let job = easy.new_job();
    let mut lying = mine_tier(&pow(&easy, &job), "a", false);
    lying.proof.is_solution = true;
    assert_eq!(label(&easy, &lying), "Q45");

    let hard = chain(&[
        "--share-target",
        "0000ffff00000000000000000000000000000000000000000000000000000000",
    ]);
    let job = hard.new_job();
    assert_eq!(label(&hard, &mine_tier(&pow(&hard, &job), "a", false)), "Q45");

    let none = chain(&["--share-target", "none"]);
    let job = none.new_job();
    assert_eq!(label(&none, &mine_tier(&pow(&none, &job), "a", false)), "shares_disabled");
}

#[test]
fn a_harder_target_than_the_models_is_legal() {
    let chain = chain(&["--block-bits", "0x207fffff"]);
    let mut job = chain.new_job();
    // Mine the same template as if nBits were half as easy.
    job.prefix = job.prefix.with_bits(CompactTarget::from_bits(0x203f_ffff));
    let solution = mine_tier(&pow(&chain, &job), "a", true);
    assert_eq!(label(&chain, &solution), "block");
}

#[test]
fn version_3_demands_its_profile() {
    let chain = chain(&["--proof-version", "3"]);
    let job = chain.new_job();
    let share = mine_tier(&pow(&chain, &job), "a", false);
    let mut version_2 = share.clone();
    version_2.proof.version = 2;
    assert_eq!(label(&chain, &version_2), "bad-proof-version");
    let mut warm = share.clone();
    warm.proof.temperature = 1.5;
    assert_eq!(label(&chain, &warm), "Q27");
    assert_eq!(label(&chain, &share), "share");
}

#[test]
fn a_seed_decides_every_header() {
    let (a, b) = (chain(&[]), chain(&[]));
    assert_eq!(a.tip(), b.tip());
    assert_eq!(a.new_job(), b.new_job());
    assert_eq!(a.new_job(), b.new_job());
    let other = DevChain::new(
        tensorpow_server::devnet::chain::ChainSettings { seed: Some(8), ..chain_settings(&[]) },
        Arc::new(DevVdf::new(VDF_TICKS)),
    );
    assert_ne!(a.tip().hash, other.tip().hash);
}

#[test]
fn a_report_says_what_holds_and_what_does_not() {
    let chain = chain(&[]);
    let job = chain.new_job();
    let against = Against { share_target: Some(Target::MAX), v3_active: false };
    let share = mine_tier(&pow(&chain, &job), "chatcmpl-r", false);
    let message = share.message();
    let good = report::of_proof(&MiningResponseRef::read(&message).unwrap(), &against);
    let text = good.to_string();
    assert!(good.passed(), "{text}");
    for part in
        ["chatcmpl-r", "256 tokens", "256 of 256 steps", "ok   VDF", "every check passed", "share"]
    {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let mut broken = share.clone();
    broken.proof.chosen_tokens[9] ^= 1;
    let message = broken.message();
    let bad = report::of_proof(&MiningResponseRef::read(&message).unwrap(), &against);
    assert!(!bad.passed());
    assert!(bad.to_string().contains("FAIL final digest"), "{bad}");
    let mut other_tick = share;
    other_tick.proof.tick += 1;
    let message = other_tick.message();
    let bad = report::of_proof(&MiningResponseRef::read(&message).unwrap(), &against).to_string();
    assert!(bad.contains("FAIL VDF"), "{bad}");
    let empty = MiningResponseRef::default();
    assert!(!report::of_proof(&empty, &against).passed());
}

#[tokio::test]
async fn from_a_request_to_a_new_tip() {
    let mut worker =
        Worker::devnet(Script::Json(200, r#"{"id":"chatcmpl-1"}"#), &[], &["--interval", "3600"])
            .await;
    let genesis = worker.chain.as_ref().unwrap().tip();
    let body = format!(r#"{{"model":"{MODEL_NAME}","messages":[]}}"#);
    assert_eq!(worker.post("/v1/chat/completions", &body).await.status, 200);
    let sent: Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    let payload = &sent["extra_sampling_params"]["pow"];

    // The engine's part: the windows it makes of this payload, pushed to the collector.
    let (share, solution) =
        (mine_tier(payload, "chatcmpl-1", false), mine_tier(payload, "chatcmpl-2", true));
    miner::push(&worker.collector, &[share.message(), solution.message()]);
    let judged = worker.judged().await;
    assert_eq!(
        (judged.verdict, judged.proof.completion_id.as_str()),
        (Verdict::Share, "chatcmpl-1")
    );
    let judged = worker.judged().await;
    assert_eq!(
        judged.proof.digest,
        Some(Digest::from_bytes(solution.proof.hash.try_into().unwrap()))
    );
    assert!(matches!(judged.verdict, Verdict::Block { height: 1, .. }), "{}", judged.verdict);

    // The tip has moved, and with it the job that the next request carries.
    let app = worker.app.clone();
    wait_for("a job on the new tip", || {
        let snapshot = app.context.load();
        snapshot.parent().is_some_and(|parent| parent != genesis.hash) && snapshot.vdf().is_some()
    })
    .await;
    worker.post("/v1/chat/completions", &body).await;
    let sent: Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    let next = &sent["extra_sampling_params"]["pow"];
    assert_ne!(next["block_hash"], payload["block_hash"]);
    assert_ne!(next["vdf"], payload["vdf"], "a VDF proof belongs to its parent");

    let status = worker.get("/status").await.json();
    assert_eq!((&status["chain"]["height"], &status["context"]["height"]), (&1.into(), &2.into()));
    let metrics = worker.metrics().await;
    assert!(metrics.contains("tensorpow_proofs_judged_total{verdict=\"block\"} 1"), "{metrics}");
    assert!(metrics.contains("tensorpow_proofs_received_total{tier=\"share\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_renewed_template_does_not_cost_a_running_window() {
    let mut worker = Worker::devnet(Script::Json(200, "{}"), &[], &["--interval", "0.05"]).await;
    let body = format!(r#"{{"model":"{MODEL_NAME}"}}"#);
    worker.post("/v1/completions", &body).await;
    let sent: Value = serde_json::from_slice(&worker.engine.last().body).unwrap();
    let payload = &sent["extra_sampling_params"]["pow"];
    let share = mine_tier(payload, "cmpl-old", false);
    let app = worker.app.clone();
    wait_for("a newer template", || {
        app.context.load().job().is_some_and(|job| {
            u64::from(job.request_id) > payload["request_id"].as_u64().unwrap() + 2
        })
    })
    .await;
    miner::push(&worker.collector, &[share.message()]);
    assert_eq!(worker.judged().await.verdict, Verdict::Share);
}
