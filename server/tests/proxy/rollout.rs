//! Bringing in something new: an engine on trial gets its part of the requests and loses it when it does
//! worse; an engine is asked for a proof before its model is mined; one call takes things back.

use crate::engine::{MockEngine, Script};
use crate::miner::{Mined, mine, push};
use crate::worker::{Answer, MODEL, MODEL_NAME, Worker, chain_settings, config, wait_for};
use serde_json::{Value, json};
use std::time::Duration;
use tensorpow_core::proof::commit;
use tensorpow_server::config::Config;
use tensorpow_server::devnet::registry::record;
use tensorpow_server::http::engine::Health;
use tensorpow_server::link::Link;
use tensorpow_server::mining::model::ModelRecord;
use tensorpow_server::rollout::probe::ProbeMode;

const CHAT: &str = "/v1/chat/completions";
const KEY: &str = "engine-key";

async fn admin(worker: &Worker, path: &str, body: &Value) -> Answer {
    let key = format!("Bearer {KEY}");
    let headers = [("content-type", "application/json"), ("authorization", &*key)];
    worker.send("POST", path, &headers, &body.to_string()).await
}

async fn rollout(worker: &Worker) -> Value {
    worker.get("/v1/rollout").await.json()
}

async fn healthy(worker: &Worker) {
    let engines = &worker.app.engines;
    wait_for("both engines", || engines.iter().all(|(_, it)| it.health() == Health::Up)).await;
}

/// A proxy with an engine on trial.
async fn on_trial(serving: Script, trial: Script, flags: &[&str]) -> (Worker, MockEngine) {
    let (main, other) = (MockEngine::start(serving).await, MockEngine::start(trial).await);
    let url = other.url();
    let flags = [&["--canary", &*url, "--engine-key", KEY][..], flags].concat();
    let config = config(&main.url(), &flags);
    let worker = Worker::start(main, config, None).await;
    healthy(&worker).await;
    (worker, other)
}

#[tokio::test]
async fn an_engine_on_trial_gets_its_part() {
    let reply = |text| Script::Json(200, text);
    let flags = ["--canary-percent", "25", "--set", "canary.keys=beta"];
    let (worker, other) = on_trial(reply(r#"{"e":1}"#), reply(r#"{"e":2}"#), &flags).await;
    for _ in 0..80 {
        assert_eq!(worker.post(CHAT, "{}").await.status, 200);
    }
    let asked = (worker.engine.asked(), other.asked());
    assert!(asked.1.abs_diff(20) <= 1 && asked.0 + asked.1 == 80, "{asked:?}");
    let view = rollout(&worker).await;
    let canary = &view["canary"];
    assert_eq!((&canary["percent"], &canary["running"]), (&json!(25.0), &json!(true)));
    assert_eq!(canary["canary"]["requests"], json!(other.asked()));
    assert_eq!(canary["base"]["requests"], json!(worker.engine.asked()));
    assert_eq!(view["newest"], "canary");
    // Routes that are not generation stay where they are.
    for _ in 0..8 {
        assert_eq!(worker.post("/v1/embeddings", "{}").await.json()["e"], 1);
    }
    let line = format!("outcome=\"complete\",engine=\"{}\"}} {}", other.url(), other.asked());
    let metrics = worker.metrics().await;
    assert!(metrics.contains(&line), "{line} in\n{metrics}");
    assert!(metrics.contains("tensorpow_canary_percent 25"), "{metrics}");
}

#[tokio::test]
async fn a_response_is_gone_on_from_where_it_is_stored() {
    let flags = ["--canary-percent", "50"];
    let made = Script::Json(200, r#"{"id":"resp_trial","e":2}"#);
    let (worker, _) = on_trial(Script::Json(200, r#"{"id":"resp_old","e":1}"#), made, &flags).await;
    for _ in 0..4 {
        worker.post("/v1/responses", "{}").await;
    }
    for (id, engine) in [("resp_trial", 2), ("resp_old", 1)] {
        let body = json!({ "previous_response_id": id }).to_string();
        for _ in 0..6 {
            assert_eq!(worker.post("/v1/responses", &body).await.json()["e"], engine, "{id}");
        }
    }
}

#[tokio::test]
async fn an_engine_on_trial_that_fails_gets_nothing_more_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let flags = ["--canary-percent", "50", "--data-dir", folder];
    let broken = Script::Json(500, r#"{"error":"no"}"#);
    let (worker, other) = on_trial(Script::Json(200, "{}"), broken, &flags).await;
    for _ in 0..20 {
        worker.post(CHAT, "{}").await;
    }
    wait_for("the end of the trial", || !worker.app.trial.as_ref().unwrap().runs()).await;
    let view = rollout(&worker).await;
    let ended = view["canary"]["ended"].as_str().unwrap();
    assert_eq!(ended, "it fails in 100.0 % of its requests, the other in 0.0 %");
    assert_eq!(view["newest"], Value::Null, "nothing is left to take back");
    let before = other.asked();
    for _ in 0..10 {
        assert_eq!(worker.post(CHAT, "{}").await.status, 200);
    }
    assert_eq!(other.asked(), before);
    let metrics = worker.metrics().await;
    assert!(metrics.contains("tensorpow_canary_rollbacks_total 1"), "{metrics}");

    let main = MockEngine::start(Script::Json(200, "{}")).await;
    let url = other.url();
    let flags = [&["--canary", &*url, "--engine-key", KEY][..], &flags].concat();
    worker.stop().await;
    let worker = Worker::start(main.clone(), config(&main.url(), &flags), None).await;
    healthy(&worker).await;
    worker.post(CHAT, "{}").await;
    worker.post(CHAT, "{}").await;
    assert_eq!(other.asked(), before, "it stays ended");
    let canary = "/v1/rollout/canary";
    for (body, status) in [
        (json!({ "percent": 101 }), 400),
        (json!({ "percent": "all" }), 400),
        (json!({ "share": 1 }), 400),
        (json!({ "percent": 100 }), 200),
    ] {
        assert_eq!(admin(&worker, canary, &body).await.status, status, "{body}");
    }
    assert_eq!(worker.post(CHAT, "{}").await.status, 500, "begun anew by hand");
    assert_eq!(admin(&worker, "/v1/rollout/rollback", &json!({})).await.json()["of"], "canary");
    assert_eq!(worker.post(CHAT, "{}").await.status, 200);
    assert_eq!(worker.send("POST", canary, &[], "{}").await.status, 401, "for administrators");
}

fn hard_model() -> ModelRecord {
    let mut record = chain_settings(&[]).model;
    record.id = "hard/model@aa".parse().unwrap();
    record
}

/// A proxy on a development chain, the second model on an engine of its own.
async fn two_models(second: Script, change: impl FnOnce(&mut Config)) -> (Worker, MockEngine) {
    let main = MockEngine::start(Script::Json(200, r#"{"id":"cmpl-main"}"#)).await;
    let other = MockEngine::start(second).await;
    let route = format!("hard/model={}", other.url());
    let mut config = config(&main.url(), &["--route", &route, "--engine-key", KEY]);
    change(&mut config);
    let (mut link, chain) = Link::to_devnet(chain_settings(&["--interval", "0.1"]));
    link.active_model.force_suppress = Duration::ZERO;
    link.active_model.answer_within = Duration::from_secs(20);
    let worker = Worker::start_linked(main, config, Some(link), Some(chain)).await;
    let models = [record(&chain_settings(&[]).model, 2), record(&hard_model(), 2)];
    worker.app.registrar.apply("test", &models);
    wait_for("a job and its VDF proof", || worker.app.context.load().vdf().is_some()).await;
    healthy(&worker).await;
    (worker, other)
}

const SWITCH: &str = "/v1/mining/active-model";

fn to_hard_model() -> Value {
    json!({ "model_name": "hard/model", "model_commit": "aa", "force_switch": true })
}

async fn mined(worker: &Worker) -> String {
    worker.get(SWITCH).await.json()["model_name"].as_str().unwrap().to_owned()
}

/// What is done to a proof before it is sent.
type Spoil = fn(&mut Mined);

/// Makes the proof of the next probe, of `seed`'s window, and spoils it with `spoil`.
async fn prove(worker: &Worker, other: &MockEngine, id: &str, spoil: Spoil) {
    wait_for("the probe", || other.asked() > 0).await;
    let body: Value = serde_json::from_slice(&other.last().body).unwrap();
    let pow = &body["extra_sampling_params"]["pow"];
    assert_eq!((&pow["audit_emit"], &body["max_tokens"]), (&json!(true), &json!(256)));
    let mut mined = mine(pow, id, 1);
    mined.proof.extra_flags = br#"{"proof_purpose":"audit"}"#.to_vec();
    mined.pow_blob_hash = commit(&mined.proof.as_ref()).unwrap().root.as_bytes().to_vec();
    spoil(&mut mined);
    push(&worker.collector, &[mined.message()]);
}

#[tokio::test]
async fn a_model_is_mined_when_its_engine_has_left_a_proof() {
    let (worker, other) = two_models(Script::Hang, |config| {
        config.rollout.probe = ProbeMode::Proof;
        config.rollout.probe_limit = Duration::from_secs(20);
    })
    .await;
    let change = to_hard_model();
    let wrong: [(&str, Spoil, &str); 2] = [
        (r#"{"id":"cmpl-1"}"#, |it| it.proof.chosen_tokens[9] ^= 1, "its proof fails at"),
        (
            r#"{"id":"cmpl-2"}"#,
            |it| it.proof.model_identifier = b"another/model@cc".to_vec(),
            "its proof is of",
        ),
    ];
    for (n, (reply, spoil, expected)) in wrong.into_iter().enumerate() {
        other.say(Script::Json(200, reply));
        let id = format!("cmpl-{}", n + 1);
        let asking = admin(&worker, SWITCH, &change);
        let (answer, ()) = tokio::join!(asking, prove(&worker, &other, &id, spoil));
        let text = answer.text();
        assert!(answer.status == 502 && text.contains(expected), "{text}");
        assert!(text.contains("the model that was mined stays"), "{text}");
        assert_eq!(mined(&worker).await, MODEL_NAME);
        assert!(!worker.app.context.load().is_switching());
    }
    other.say(Script::Json(200, r#"{"id":"cmpl-3"}"#));
    let asking = admin(&worker, SWITCH, &change);
    let (answer, ()) = tokio::join!(asking, prove(&worker, &other, "cmpl-3", |_| {}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mined(&worker).await, "hard/model");
    assert_eq!(rollout(&worker).await["model"]["previous"]["model"], MODEL);
}

#[tokio::test]
async fn an_engine_that_answers_nothing_is_not_mined_with() {
    let (worker, other) = two_models(Script::Json(503, r#"{"error":"loading"}"#), |config| {
        config.rollout.probe = ProbeMode::Completion;
    })
    .await;
    let answer = admin(&worker, SWITCH, &to_hard_model()).await;
    let text = answer.text();
    assert!(answer.status == 502 && text.contains("status 503"), "{text}");
    assert_eq!((mined(&worker).await.as_str(), other.asked()), (MODEL_NAME, 1));
}

#[tokio::test]
async fn a_worker_without_proofs_asks_for_none_and_goes_back_with_one_call() {
    let (worker, other) = two_models(Script::Json(500, "{}"), |_| {}).await;
    let rollback = "/v1/rollout/rollback";
    let nothing = admin(&worker, rollback, &json!({})).await;
    assert_eq!((nothing.status, nothing.error_code().as_str()), (409, "nothing_to_roll_back"));
    assert_eq!(admin(&worker, SWITCH, &to_hard_model()).await.status, 200);
    assert_eq!(other.asked(), 0, "nobody was asked");
    let back = admin(&worker, rollback, &json!({})).await;
    assert_eq!((back.status, &back.json()["to"]), (200, &json!(MODEL)), "{}", back.text());
    assert_eq!(mined(&worker).await, MODEL_NAME);
    let forth = admin(&worker, rollback, &json!({ "of": "model" })).await;
    assert_eq!(forth.json()["to"], "hard/model@aa", "and there again");
    assert_eq!(admin(&worker, rollback, &json!({ "of": "luck" })).await.status, 400);
    assert_eq!(admin(&worker, rollback, &json!({ "of": "canary" })).await.status, 409);
}

#[tokio::test]
async fn the_image_before_comes_back_by_the_operators_command() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let command =
        format!("rollout.rollback_command=printenv TENSORPOW_PREVIOUS_IMAGE > {}", mark.display());
    let data = folder.path().to_str().unwrap();
    for (image, previous) in
        [("r/w@sha256:1", Value::Null), ("r/w@sha256:2", json!("r/w@sha256:1"))]
    {
        let set = format!("rollout.image={image}");
        let flags = ["--data-dir", data, "--set", &set, "--set", &command, "--engine-key", KEY];
        let worker = Worker::plain(Script::Json(200, "{}"), &flags).await;
        let view = rollout(&worker).await;
        assert_eq!(
            (&view["image"]["active"], &view["image"]["previous"]),
            (&json!(image), &previous)
        );
        let back = admin(&worker, "/v1/rollout/rollback", &json!({ "of": "image" })).await;
        assert_eq!(back.status, if previous.is_null() { 409 } else { 200 }, "{}", back.text());
        worker.stop().await;
    }
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "r/w@sha256:1\n");
}
