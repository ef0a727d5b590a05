//! The MCP server: keys, the protocol's few messages, the three tools.

use crate::engine::{MockEngine, Script};
use crate::worker::{Answer, MODEL_NAME, Worker, chain_settings, config, try_config, wait_for};
use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::net::SocketAddr;

struct Client {
    url: String,
    worker: Worker,
}

impl Client {
    async fn start(reply: Script) -> Self {
        let engine = MockEngine::start(reply).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let flags = ["--mcp", "--mcp-listen", &listen, "--set", "keys.inference=k"];
        let config = config(&engine.url(), &flags);
        let worker = Worker::start(engine, config, Some(chain_settings(&[]))).await;
        wait_for("a job and its VDF proof", || worker.app.context.load().vdf().is_some()).await;
        Self { url: format!("http://{listen}/mcp"), worker }
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let mut request = Request::builder().method(method).uri(&self.url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
        let answer = client.request(request.body(body).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let answer = self.send("POST", &[("authorization", "Bearer k")], &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["id"], 7);
        answer.json()
    }

    async fn tool(&self, name: &str, arguments: Value) -> (String, bool) {
        let answer = self.call("tools/call", json!({ "name": name, "arguments": arguments })).await;
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        (text, result["isError"].as_bool().unwrap())
    }
}

const REPLY: Script = Script::Json(200, r#"{"choices":[{"message":{"content":"hello"}}]}"#);

#[tokio::test]
async fn the_protocol() {
    let client = Client::start(REPLY).await;
    let begun = client.call("initialize", json!({ "protocolVersion": "2025-03-26" })).await;
    assert_eq!(begun["result"]["protocolVersion"], "2025-03-26");
    assert_eq!(begun["result"]["serverInfo"]["name"], "mining-proxy");
    let unknown = client.call("initialize", json!({ "protocolVersion": "1999-01-01" })).await;
    assert_eq!(unknown["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(client.call("ping", Value::Null).await["result"], json!({}));
    let tools = client.call("tools/list", Value::Null).await;
    let tools = tools["result"]["tools"].as_array().unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["proxy_status", "chat_completion", "verify_proof"]);
    assert_eq!(client.call("no/such", Value::Null).await["error"]["code"], -32601);
    let unknown = json!({ "name": "no_such", "arguments": {} });
    assert_eq!(client.call("tools/call", unknown).await["error"]["code"], -32602);

    let key = ("authorization", "Bearer k");
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let answer = client.send("POST", &[key], notification).await;
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    let broken = client.send("POST", &[key], "{").await;
    assert_eq!(broken.json()["error"]["code"], -32700);
    for method in ["GET", "DELETE"] {
        let answer = client.send(method, &[key], "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
    }
}

#[tokio::test]
async fn only_programs_with_a_key() {
    let client = Client::start(REPLY).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(client.send("POST", &[], ping).await.status, 401);
    let wrong = ("authorization", "Bearer x");
    assert_eq!(client.send("POST", &[wrong], ping).await.status, 401);
    let page = [("authorization", "Bearer k"), ("origin", "http://localhost")];
    assert_eq!(client.send("POST", &page, ping).await.status, 403);

    let engine = MockEngine::start(REPLY).await;
    let without = config(&engine.url(), &["--mcp", "--mcp-listen", "127.0.0.1:0"]);
    let error = tensorpow_server::service::Service::start(without, None).await.unwrap_err();
    assert!(error.to_string().contains("TENSORPOW_INFERENCE_KEY"), "{error}");
    let public: SocketAddr = "0.0.0.0:8090".parse().unwrap();
    let flags = ["--mcp", "--mcp-listen", &public.to_string()];
    assert!(try_config(&engine.url(), &flags, &[]).is_err());
}

#[tokio::test]
async fn the_tools() {
    let client = Client::start(REPLY).await;
    let (status, failed) = client.tool("proxy_status", json!({})).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(!failed && status["proxy"]["active_requests"] == 0);

    let messages = json!([{ "role": "user", "content": "hi" }]);
    let chat = json!({ "messages": messages, "model": MODEL_NAME });
    let answer = client.tool("chat_completion", chat).await;
    assert_eq!(answer, ("hello".to_owned(), false));
    let asked: Value = serde_json::from_slice(&client.worker.engine.last().body).unwrap();
    assert_eq!(asked["max_tokens"], 256);
    assert!(asked["extra_sampling_params"]["pow"]["block_hash"].is_string(), "mined: {asked}");
    let (why, failed) = client.tool("chat_completion", json!({})).await;
    assert!(failed && why.contains("messages"), "{why}");

    for (arguments, part) in [
        (json!({}), "give completion_id or proof"),
        (json!({ "completion_id": "cmpl-none" }), "there is no proof"),
        (json!({ "completion_id": "../status" }), "no id"),
        (json!({ "proof": "zz" }), "no hex"),
        (json!({ "proof": "00" }), "no proof message"),
    ] {
        let (why, failed) = client.tool("verify_proof", arguments.clone()).await;
        assert!(failed && why.contains(part), "{arguments}: {why}");
    }
}

#[tokio::test]
async fn an_engines_error_is_a_tools_error() {
    let client = Client::start(Script::Json(400, r#"{"error":"bad"}"#)).await;
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let (why, failed) = client.tool("chat_completion", json!({ "messages": messages })).await;
    assert!(failed, "{why}");
    assert_eq!(why, r#"Upstream /v1/chat/completions error 400: {"error":"bad"}"#);
}
