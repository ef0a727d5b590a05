//! What the engine gets: the mining payload, complete and consistent, or the client's own body.

use crate::engine::Script;
use crate::worker::{MODEL, MODEL_NAME, Worker};
use serde_json::{Value, json};
use tensorpow_core::target::{
    CompactTarget, Difficulty, Normalizer, Target, adjust_for_model, share_target,
};

const CHAT: &str = "/v1/chat/completions";
const REPLY: Script = Script::Json(200, "{}");

async fn asked(worker: &Worker, path: &str, body: &Value) -> (Value, String) {
    let answer = worker.post(path, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = serde_json::from_slice(&worker.engine.last().body).unwrap();
    (sent, answer.header("x-tensorpow-mining").to_owned())
}

#[tokio::test]
async fn a_request_for_the_mining_model_carries_the_whole_payload() {
    let chain = ["--difficulty", "3000000", "--block-bits", "0x1d00ffff", "--share-target", "00ff"];
    for (kind, key) in [("llama.cpp", "extra_sampling_params"), ("vllm", "vllm_xargs")] {
        let worker = Worker::devnet(REPLY, &["--engine-kind", kind], &chain).await;
        let body = json!({"model": MODEL_NAME, "messages": [], "stream": false});
        let (sent, class) = asked(&worker, CHAT, &body).await;
        assert_eq!(class, "mined");
        let snapshot = worker.app.context.load();
        let (job, vdf) = (snapshot.job().unwrap(), snapshot.vdf().unwrap());
        let difficulty = Difficulty::new(3_000_000).unwrap();
        let adjusted = adjust_for_model(
            CompactTarget::from_bits(0x1d00_ffff),
            difficulty,
            Normalizer::DEFAULT,
            &Target::POW_LIMIT_TENSOR,
        )
        .unwrap();
        let base = Target::from_hex_padded("00ff").unwrap();
        let share = share_target(&base, difficulty, Normalizer::DEFAULT).unwrap();
        let mut expected = json!({
            "block_hash": format!("{:x}", job.parent()),
            "vdf": hex::encode(vdf.blob.as_bytes()),
            "tick": 64,
            "target": format!("{:x}", adjusted.target),
            "header_prefix": format!("{:x}", job.prefix.with_bits(adjusted.bits)),
            "ipfs_cid": "QmDefault",
            "request_id": job.request_id,
            "difficulty": 3_000_000,
            "proof_version": 2,
            "share_target": format!("{share:x}"),
        });
        if kind == "llama.cpp" {
            expected["model_identifier"] = MODEL.into();
            expected["compute_precision"] = "bf16".into();
        }
        assert_eq!(sent[key]["pow"], expected, "{kind}");
        // A harder model has a smaller target: base · N / D. spec: proxy §10.2
        assert!(expected["target"].as_str().unwrap().starts_with("000000005555"));
        assert_eq!(sent["temperature"], 1.0);
        assert_eq!(sent["top_k"], 50);
    }
}

#[tokio::test]
async fn the_string_form_holds_the_same_json() {
    let worker =
        Worker::devnet(REPLY, &["--engine-kind", "vllm", "--pow-form", "string"], &[]).await;
    let (sent, _) = asked(&worker, "/v1/completions", &json!({"model": MODEL_NAME})).await;
    let text = sent["vllm_xargs"]["pow"].as_str().expect("a string");
    let pow: Value = serde_json::from_str(text).unwrap();
    assert_eq!(pow["request_id"], 1);
}

#[tokio::test]
async fn a_chain_without_shares_leaves_the_key_out() {
    let worker = Worker::devnet(REPLY, &[], &["--share-target", "none"]).await;
    let (sent, _) = asked(&worker, CHAT, &json!({"model": MODEL_NAME})).await;
    assert!(sent["extra_sampling_params"]["pow"].get("share_target").is_none());
}

#[tokio::test]
async fn shares_can_be_switched_off_without_touching_the_block_target() {
    let chain = ["--difficulty", "3000000", "--block-bits", "0x1d00ffff"];
    let worker = Worker::devnet(REPLY, &["--share-normalizer", "0"], &chain).await;
    let (sent, _) = asked(&worker, CHAT, &json!({"model": MODEL_NAME})).await;
    let pow = &sent["extra_sampling_params"]["pow"];
    assert!(pow.get("share_target").is_none());
    assert!(pow["target"].as_str().unwrap().starts_with("000000005555"));
}

#[tokio::test]
async fn another_model_takes_the_audit_path() {
    let worker = Worker::devnet(REPLY, &[], &[]).await;
    for model in [
        json!("org/tiny@0123456789abcdef0123456789abcdef01234567"),
        json!("other"),
        Value::Null,
        json!(5),
    ] {
        let body = json!({"model": model, "temperature": 0.1, "prompt": "p"});
        let (sent, class) = asked(&worker, "/v1/completions", &body).await;
        assert_eq!(class, "audit");
        let snapshot = worker.app.context.load();
        let job = snapshot.job().unwrap();
        let pow = &sent["extra_sampling_params"]["pow"];
        assert_eq!(pow["audit_emit"], true);
        assert_eq!(pow["header_prefix"], format!("{:x}", job.prefix), "the prefix is unadjusted");
        assert_eq!(pow["target"], format!("{:x}", job.bits().expand().target));
        assert_eq!(pow["difficulty"], 1_000_000);
        for absent in ["proof_version", "share_target", "model_identifier"] {
            assert!(pow.get(absent).is_none(), "{absent}");
        }
        assert_eq!(sent["temperature"], 0.1);
        assert_eq!(sent["model"], model);
    }
}

#[tokio::test]
async fn versions_bound_or_force_the_sampling_parameters() {
    let body = json!({"model": MODEL_NAME, "temperature": 3.5, "top_k": 500, "top_p": 0.01});
    let worker = Worker::devnet(REPLY, &[], &["--proof-version", "2"]).await;
    let (sent, _) = asked(&worker, CHAT, &body).await;
    assert_eq!(
        (&sent["temperature"], &sent["top_k"], &sent["top_p"]),
        (&json!(2), &json!(50), &json!(0.1))
    );
    assert!(sent.get("repetition_penalty").is_none());

    let worker = Worker::devnet(REPLY, &[], &["--proof-version", "3"]).await;
    let (sent, _) = asked(&worker, CHAT, &body).await;
    assert_eq!(
        (&sent["temperature"], &sent["top_k"], &sent["top_p"]),
        (&json!(1.0), &json!(50), &json!(1.0))
    );
    assert_eq!(sent["repetition_penalty"], 1.0);
    assert_eq!(sent["extra_sampling_params"]["pow"]["proof_version"], 3);
}

#[tokio::test]
async fn what_cannot_or_must_not_be_mined_is_served_and_counted() {
    let worker = Worker::devnet(REPLY, &[], &[]).await;
    let given = json!({"model": MODEL_NAME, "seed": 42, "temperature": 3.5, "n": 2});
    let (sent, class) = asked(&worker, CHAT, &given).await;
    assert_eq!((sent, class.as_str()), (given, "off; reason=off_profile; parameter=seed"));

    let headers = [("content-type", "application/json"), ("x-tensorpow-mine", "off")];
    let body = json!({"model": MODEL_NAME, "extra_sampling_params": {"pow": {"evil": 1}}});
    let answer = worker.send("POST", CHAT, &headers, &body.to_string()).await;
    assert_eq!(answer.header("x-tensorpow-mining"), "off; reason=opt_out");
    let sent = worker.engine.last();
    assert_eq!(sent.body, format!(r#"{{"extra_sampling_params":{{}},"model":"{MODEL_NAME}"}}"#));
    assert!(!sent.headers.contains_key("x-tensorpow-mine"));

    let metrics = worker.metrics().await;
    for line in [
        "tensorpow_inference_uninjected_total{reason=\"off_profile\",parameter=\"seed\"} 1",
        "tensorpow_inference_uninjected_total{reason=\"opt_out\",parameter=\"\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_stale_job_is_not_mined_on() {
    let worker = Worker::devnet(REPLY, &["--job-stale", "0"], &["--interval", "3600"]).await;
    let (_, class) = asked(&worker, CHAT, &json!({"model": MODEL_NAME})).await;
    assert_eq!(class, "off; reason=job_stale");
}

#[tokio::test]
async fn a_bad_sampling_type_is_the_clients_error_only_when_it_is_mined() {
    let worker = Worker::devnet(REPLY, &[], &[]).await;
    let answer = worker.post(CHAT, r#"{"model":"org/tiny","temperature":"hot"}"#).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_body"));
    assert!(answer.text().contains("temperature must be a number"), "{}", answer.text());
    let answer = worker.post(CHAT, r#"{"model":"other","temperature":"hot"}"#).await;
    assert_eq!(answer.status, 200, "the engine judges what is not mined");
}
