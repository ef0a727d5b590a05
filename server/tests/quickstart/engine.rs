//! The fake llama-server: the command line of the real one, an OpenAI route that streams a reply,
//! and a mined window pushed to the proxy for every payload it is given.

use crate::{BEHAVIOUR, PID_FILE, miner};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
struct Engine {
    behaviour: String,
    collector: String,
    started: Instant,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag).expect(flag);
        arguments[at + 1].clone()
    };
    let variable = |name: &str| std::env::var(name).expect(name);
    std::fs::write(variable(PID_FILE), std::process::id().to_string()).unwrap();
    let behaviour = variable(BEHAVIOUR);
    if behaviour == "die" {
        eprintln!("cannot load the model: out of luck");
        return ExitCode::from(3);
    }
    assert_eq!(variable("POW_EGRESS_MODE"), "broker");
    assert_eq!(
        (value("--parallel"), value("-t"), value("--cache-ram")),
        ("2".into(), "1".into(), "0".into())
    );
    assert_eq!(value("--alias"), "org/tiny");
    let collector = format!("tcp://{}:{}", variable("ZMQ_PUSH_HOST"), variable("ZMQ_PUSH_PORT"));
    let address = format!("{}:{}", value("--host"), value("--port"));
    let engine = Engine { behaviour, collector, started: Instant::now() };
    let router = Router::new().fallback(answer).with_state(engine);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    ExitCode::SUCCESS
}

async fn answer(State(engine): State<Engine>, uri: Uri, body: String) -> Response {
    if uri.path() == "/health" {
        let loading = engine.started.elapsed() < Duration::from_millis(300)
            || engine.behaviour == "load for ever";
        let status = if loading { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        return status.into_response();
    }
    if uri.path() == "/v1/models" {
        return r#"{"data":[{"id":"org/tiny","max_model_len":4096}]}"#.into_response();
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let chat = uri.path() == "/v1/chat/completions";
    let mines = match engine.behaviour.as_str() {
        "mine" | "alternate" => true,
        // The reply is short: only what ignores its end fills a window.
        "short" => body["ignore_eos"] == true,
        _ => false,
    };
    if mines {
        let pow = body["extra_sampling_params"]["pow"].clone();
        let id = if chat { "chatcmpl-fake" } else { "cmpl-fake" };
        let collector = engine.collector.clone();
        // What only fills a window is a block.
        let block = engine.behaviour == "alternate" && body["ignore_eos"] == true;
        tokio::task::spawn_blocking(move || {
            miner::push(&collector, &[miner::mine_tier(&pow, id, block).message()]);
        });
    }
    if !chat {
        return r#"{"id":"cmpl-fake"}"#.into_response();
    }
    let words = ["It ", "is ", "a ", "window."].map(|word| {
        let delta = serde_json::json!({
            "id": "chatcmpl-fake",
            "choices": [{ "delta": { "content": word } }],
        });
        format!("data: {delta}\n\n")
    });
    let tokens = if engine.behaviour == "mine" { 256 } else { 4 };
    let usage = format!(
        "data: {{\"choices\":[],\"usage\":{{\"completion_tokens\":{tokens}}}}}\n\ndata: [DONE]\n\n"
    );
    ([("content-type", "text/event-stream")], words.concat() + &usage).into_response()
}
