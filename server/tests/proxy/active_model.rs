//! The active model over HTTP: the network's answers, switches at a block boundary and at once, the
//! saved choice, and an engine's supervisor that is slow, unwilling or away.

use crate::engine::{MockEngine, Script};
use crate::worker::{Answer, MODEL, MODEL_NAME, Worker, chain_settings, config, wait_for};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tensorpow_server::active_model::ActiveModelSettings;
use tensorpow_server::active_model::supervisor::SupervisorSettings;
use tensorpow_server::devnet::registry::record;
use tensorpow_server::link::Link;
use tensorpow_server::mining::model::ModelRecord;

const PATH: &str = "/v1/mining/active-model";
const KEY: &str = "internal-secret";
const REPLY: Script = Script::Json(200, "{}");

fn other(commit: &str) -> ModelRecord {
    let mut record = chain_settings(&[]).model;
    record.id = format!("hard/model@{commit}").parse().unwrap();
    record
}

/// A proxy on a development chain with two models.
async fn worker(settings: ActiveModelSettings) -> Worker {
    let engine = MockEngine::start(REPLY).await;
    let config = config(&engine.url(), &["--engine-key", KEY]);
    let (mut link, chain) = Link::to_devnet(chain_settings(&["--interval", "0.1"]));
    link.active_model = settings;
    let worker = Worker::start_linked(engine, config, Some(link), Some(chain)).await;
    worker
        .app
        .registrar
        .apply("test", &[record(&chain_settings(&[]).model, 2), record(&other("aa"), 2)]);
    wait_for("a job and its VDF proof", || worker.app.context.load().vdf().is_some()).await;
    worker
}

/// What changes the worker needs a key on this machine too.
async fn ask(worker: &Worker, body: &str) -> Answer {
    let key = ("authorization", format!("Bearer {KEY}"));
    worker.send("POST", PATH, &[("content-type", "application/json"), (key.0, &key.1)], body).await
}

async fn change(worker: &Worker, body: &Value) -> (u16, Value) {
    let answer = ask(worker, &body.to_string()).await;
    (answer.status, answer.json())
}

async fn active(worker: &Worker) -> Value {
    worker.get(PATH).await.json()
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn what_cannot_be_pinned_is_refused_in_the_networks_words() {
    let worker = worker(ActiveModelSettings::default()).await;
    let commit = MODEL.split_once('@').unwrap().1;
    assert_eq!(
        active(&worker).await,
        json!({
            "model_name": MODEL_NAME, "model_commit": commit, "pinned": true,
            "auto_select": false, "source": "env", "switch_in_progress": false,
            "pending_switch": null,
        })
    );
    let half = "model_name and model_commit must be provided together, or both empty";
    for (body, expected) in [
        ("{", "Invalid JSON body"),
        ("[]", "JSON object expected"),
        (r#"{"model_name": "x"}"#, half),
        (r#"{"model_commit": " c ", "model_name": "  "}"#, half),
        (r#"{"model_name": "q/q", "model_commit": 1}"#, "model 'q/q@1' not found in registry"),
        (
            r#"{"model_name": "hard/model", "model_commit": "1"}"#,
            "registry commit mismatch for 'hard/model': expected '1', got 'aa'",
        ),
    ] {
        let answer = ask(&worker, body).await;
        assert_eq!((answer.status, message(&answer.json())), (400, expected), "{body}");
    }
    worker
        .app
        .registrar
        .apply("test", &[record(&other("bbbbbbbbbbbbbb"), 2), record(&other("aa"), 2)]);
    let body = json!({"model_name": "hard/model", "model_commit": "1"});
    let (status, answer) = change(&worker, &body).await;
    assert_eq!(status, 400);
    assert!(message(&answer).starts_with(
        "model name 'hard/model' is ambiguous on chain (2 commits: ['aa', 'bbbbbbbbbbbb'])"
    ));
    assert_eq!(worker.get(&format!("{PATH}/switches/1")).await.status, 404);

    let plain = Worker::plain(REPLY, &["--engine-key", KEY]).await;
    assert_eq!(active(&plain).await["auto_select"], true);
    let (status, answer) = change(&plain, &body).await;
    assert_eq!((status, message(&answer)), (500, "Model client not initialized"));
    assert_eq!(change(&plain, &json!({})).await.0, 200, "nothing to clear");
}

#[tokio::test]
async fn a_graceful_switch_waits_for_the_next_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let settings =
        ActiveModelSettings { state_path: Some(path.clone()), ..ActiveModelSettings::default() };
    let worker = worker(settings).await;
    let (status, answer) =
        change(&worker, &json!({"model_name": "hard/model", "model_commit": "aa"})).await;
    let view = &answer["active_model"];
    assert_eq!(
        (status, &answer["ok"], &view["switch_scheduled"]),
        (200, &json!(true), &json!(true))
    );
    assert_eq!((&view["model_name"], &view["source"]), (&json!(MODEL_NAME), &json!("env")));
    let pending = &view["pending_switch"];
    assert_eq!(
        (&pending["model_name"], &pending["mode"]),
        (&json!("hard/model"), &json!("graceful"))
    );
    let begun = pending["start_request_id"].as_u64().unwrap();
    wait_for("further templates", || {
        worker.app.context.load().job().is_some_and(|job| u64::from(job.request_id) > begun + 2)
    })
    .await;
    assert!(!active(&worker).await["pending_switch"].is_null(), "a template is no block");
    assert!(!path.exists(), "not saved before it is made");

    worker.chain.as_ref().unwrap().advance();
    let pinned = || worker.app.context.load().expected_model_identifier();
    wait_for("the switch", || pinned().as_deref() == Some("hard/model@aa")).await;
    wait_for("its traces", || path.exists()).await;
    let view = active(&worker).await;
    assert_eq!((&view["source"], &view["pending_switch"]), (&json!("runtime"), &Value::Null));
    wait_for("a proof of the new block", || worker.app.context.load().vdf().is_some()).await;
    let mining = async |model: &str| {
        let body = json!({"model": model, "prompt": "p"}).to_string();
        worker.post("/v1/completions", &body).await.header("x-tensorpow-mining").to_owned()
    };
    assert_eq!(
        (mining("hard/model").await, mining(MODEL_NAME).await),
        ("mined".into(), "audit".into())
    );
    saved(&path, "hard/model", "aa");

    let (status, answer) = change(&worker, &json!({"model_name": "", "model_commit": null})).await;
    let view = &answer["active_model"];
    assert_eq!(
        (status, &view["auto_select"], &view["source"]),
        (200, &json!(true), &json!("runtime"))
    );
    saved(&path, "", "");
    assert_eq!(mining(MODEL_NAME).await, "mined", "every registered model is");
}

fn saved(path: &Path, name: &str, commit: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    let saved: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&saved["model_name"], &saved["model_commit"]), (&json!(name), &json!(commit)));
}

#[tokio::test]
async fn a_forced_switch_is_made_at_once_with_a_pause() {
    let settings = ActiveModelSettings {
        force_suppress: Duration::from_millis(600),
        ..ActiveModelSettings::default()
    };
    let worker = worker(settings).await;
    let body = json!({"model_name": " hard/model ", "model_commit": "aa", "force_switch": "false"});
    let (status, answer) = change(&worker, &body).await;
    let view = &answer["active_model"];
    assert_eq!((status, &view["model_name"]), (200, &json!("hard/model")), "any text forces");
    assert_eq!((&view["switch_in_progress"], &view["source"]), (&json!(false), &json!("runtime")));
    let mining = async || {
        let answer = worker.post("/v1/completions", r#"{"model":"hard/model"}"#).await;
        assert_eq!(answer.status, 200);
        answer.header("x-tensorpow-mining").to_owned()
    };
    assert_eq!(mining().await, "off; reason=paused");
    let status = worker.get("/status").await.json();
    assert_eq!(status["context"]["mining_paused"], true);
    assert_eq!(status["context"]["expected_model_identifier"], "hard/model@aa");
    wait_for("the end of the pause", || !worker.app.context.pause().is_paused()).await;
    assert_eq!(mining().await, "mined");
    let report = worker.get(&format!("{PATH}/switches/1")).await.json();
    assert_eq!((&report["state"], &report["mode"]), (&json!("applied"), &json!("forced")));
}

#[tokio::test]
async fn a_forced_switch_takes_the_place_of_one_that_waits() {
    let settings =
        ActiveModelSettings { force_suppress: Duration::ZERO, ..ActiveModelSettings::default() };
    let worker = worker(settings).await;
    let waiting = json!({"model_name": "hard/model", "model_commit": "aa"});
    assert_eq!(change(&worker, &waiting).await.1["active_model"]["switch_scheduled"], true);
    let commit = MODEL.split_once('@').unwrap().1;
    let forced = json!({"model_name": MODEL_NAME, "model_commit": commit, "force_switch": true});
    let (status, answer) = change(&worker, &forced).await;
    let view = &answer["active_model"];
    assert_eq!((status, &view["model_name"]), (200, &json!(MODEL_NAME)));
    assert_eq!(view["pending_switch"], Value::Null);
    assert_eq!(active(&worker).await["pending_switch"], Value::Null);
}

#[tokio::test]
async fn the_saved_choice_beats_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let start = async |text: &str| {
        std::fs::write(&path, text).unwrap();
        let settings = ActiveModelSettings {
            state_path: Some(path.clone()),
            ..ActiveModelSettings::default()
        };
        let view = active(&worker(settings).await).await;
        (view["model_name"].as_str().unwrap().to_owned(), view["source"].clone())
    };
    let pin = r#"{"model_name":"hard/model","model_commit":"aa","source":"runtime"}"#;
    assert_eq!(start(pin).await, ("hard/model".to_owned(), json!("persisted")));
    let cleared = r#"{"model_name":"","model_commit":""}"#;
    assert_eq!(start(cleared).await, (String::new(), json!("persisted")));
    assert_eq!(start(r#"{"model_name":"x"}"#).await, (MODEL_NAME.to_owned(), json!("env")));
    assert_eq!(start("nonsense").await, (MODEL_NAME.to_owned(), json!("env")));
}

/// A supervisor that answers by script and then always agrees.
#[derive(Clone, Default)]
struct FakeSupervisor {
    script: Arc<Mutex<Vec<(u16, Value, u64)>>>,
    asked: Arc<Mutex<Vec<(Value, String)>>>,
}

impl FakeSupervisor {
    async fn start(script: &[(u16, Value, u64)]) -> (Self, SupervisorSettings) {
        let this = Self::default();
        *this.script.lock().unwrap() = script.iter().rev().cloned().collect();
        let router =
            Router::new().route("/admin/switch-model", post(switch)).with_state(this.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let settings = SupervisorSettings {
            key: Some("Bearer admin".parse().unwrap()),
            ..SupervisorSettings::new(url.parse().unwrap())
        };
        (this, settings)
    }

    fn asked(&self) -> Vec<(Value, String)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn switch(
    State(this): State<FakeSupervisor>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let key = headers["authorization"].to_str().unwrap().to_owned();
    this.asked.lock().unwrap().push((body.clone(), key));
    let next = this.script.lock().unwrap().pop();
    let (status, answer, millis) = next
        .unwrap_or_else(|| (200, json!({"ok": true, "switched": false, "active_model": body}), 0));
    tokio::time::sleep(Duration::from_millis(millis)).await;
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

#[tokio::test]
async fn the_engine_is_aligned_at_the_start_and_nothing_is_mined_before() {
    let (supervisor, settings) =
        FakeSupervisor::start(&[(500, json!({"ok": false, "error": "no such file"}), 300)]).await;
    let settings =
        ActiveModelSettings { supervisor: Some(settings), ..ActiveModelSettings::default() };
    let worker = worker(settings).await;
    let body = json!({"model": MODEL_NAME, "prompt": "p"}).to_string();
    let answer = worker.post("/v1/completions", &body).await;
    assert_eq!(
        (answer.status, answer.header("x-tensorpow-mining")),
        (200, "off; reason=model_switch")
    );
    assert_eq!(active(&worker).await["switch_in_progress"], true);
    wait_for("the engine", || !worker.app.context.load().is_switching()).await;
    let asked = supervisor.asked();
    assert_eq!((asked.len(), asked[0].1.as_str()), (2, "Bearer admin"));
    assert_eq!(asked[1].0["model_name"], MODEL_NAME);
    assert_eq!(worker.post("/v1/completions", &body).await.header("x-tensorpow-mining"), "mined");
}

#[tokio::test]
async fn a_slow_switch_is_followed_elsewhere_and_a_refusal_ends_it() {
    let agree = json!({"ok": true});
    let (supervisor, settings) = FakeSupervisor::start(&[
        (200, agree.clone(), 0),
        (200, agree.clone(), 700),
        (401, json!({"error": "unauthorized"}), 0),
    ])
    .await;
    let settings = ActiveModelSettings {
        supervisor: Some(settings),
        answer_within: Duration::from_millis(200),
        force_suppress: Duration::ZERO,
        ..ActiveModelSettings::default()
    };
    let worker = worker(settings).await;
    wait_for("the engine", || !worker.app.context.load().is_switching()).await;
    let forced = json!({"model_name": "hard/model", "model_commit": "aa", "force_switch": true});
    let answer = ask(&worker, &forced.to_string()).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (202, format!("{PATH}/switches/1").as_str())
    );
    assert_eq!(answer.json()["active_model"]["switch_in_progress"], true);
    assert_eq!(worker.get(&format!("{PATH}/switches/1")).await.json()["state"], "running");
    let (status, busy) = change(&worker, &forced).await;
    assert_eq!((status, busy["error"]["code"].as_str().unwrap()), (409, "switch_in_progress"));
    assert_eq!(change(&worker, &json!({})).await.0, 409, "nor is the pin taken away meanwhile");
    wait_for("the switch", || !worker.app.context.load().is_switching()).await;
    assert_eq!(worker.get(&format!("{PATH}/switches/1")).await.json()["state"], "applied");
    assert_eq!(active(&worker).await["model_name"], "hard/model");

    let commit = MODEL.split_once('@').unwrap().1;
    let back = json!({"model_name": MODEL_NAME, "model_commit": commit, "force_switch": true});
    let (status, answer) = change(&worker, &back).await;
    assert_eq!(status, 502);
    assert!(message(&answer).contains("401"), "{answer}");
    let report = worker.get(&format!("{PATH}/switches/2")).await.json();
    assert_eq!(report["state"], "failed");
    assert_eq!(active(&worker).await["model_name"], "hard/model", "the old model stays");
    assert!(!worker.app.context.load().is_switching(), "and is mined");
    assert_eq!(supervisor.asked().len(), 3, "no second try after a refusal");
}
