//! Tools of an MCP server on a broker link: they are found page by page and registered beside the
//! operator's, calls reach the server, and a server that is away is asked again at the next
//! registration.

use crate::broker::{Broker, Connection, ENGINE, next, register, say};
use crate::engine::{MockEngine, Script};
use crate::worker::{Worker, try_config};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Method, session and version of a message.
type Message = (String, Option<String>, Option<String>);

/// What the server was asked, and how it behaves.
#[derive(Debug, Default)]
struct Seen {
    messages: Mutex<Vec<Message>>,
    /// Forgets its sessions once.
    forgetful: Mutex<bool>,
}

/// A server with three tools on two pages; it answers calls with a stream of events.
async fn server(listener: TcpListener) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let router = Router::new().route("/mcp", axum::routing::post(answer)).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    seen
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let headers = request.headers().clone();
    let accepted = text(&headers, "accept").unwrap_or_default();
    assert!(accepted.contains("application/json") && accepted.contains("text/event-stream"));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let method = message["method"].as_str().unwrap().to_owned();
    let session = text(&headers, "mcp-session-id");
    let version = text(&headers, "mcp-protocol-version");
    seen.messages.lock().unwrap().push((method.clone(), session.clone(), version));
    if method != "initialize" && session.as_deref() != Some("s-1") {
        return (StatusCode::BAD_REQUEST, "no session").into_response();
    }
    if method == "tools/call" && std::mem::take(&mut *seen.forgetful.lock().unwrap()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let parameters = &message["params"];
    let result = match method.as_str() {
        "initialize" => {
            assert_eq!(parameters["clientInfo"]["name"], "tensorpow");
            let result = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                "serverInfo": { "name": "stand-in", "version": "1" } });
            let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
            return ([("mcp-session-id", "s-1")], axum::Json(answer)).into_response();
        }
        "tools/list" if parameters["cursor"] == "two" => {
            json!({ "tools": [{ "name": "both", "inputSchema": { "type": "object" } }] })
        }
        "tools/list" => json!({ "nextCursor": "two", "tools": [
            { "name": "echo", "inputSchema": { "type": "object", "required": ["text"] } },
            { "name": "broken" },
        ] }),
        "tools/call" => match parameters["name"].as_str().unwrap() {
            "echo" => {
                json!({ "content": [{ "type": "text", "text": parameters["arguments"]["text"] }] })
            }
            "both" => {
                json!({ "isError": true, "content": [{ "type": "text", "text": "no luck" }] })
            }
            _ => {
                let error = json!({ "code": -32602, "message": "it is broken" });
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "error": error });
                return axum::Json(answer).into_response();
            }
        },
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    if method == "tools/call" {
        let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress" });
        let events = format!("data: {progress}\n\nevent: message\ndata: {answer}\n\n");
        return ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response();
    }
    axum::Json(answer).into_response()
}

async fn worker(broker: &Broker, endpoint: &str) -> Worker {
    let engine = MockEngine::start(Script::Json(200, ENGINE)).await;
    let tools = r#"[{"tool_id":"own"},{"tool_id":"both","executor":"file_search"}]"#;
    let environment = [
        ("WORKER_MODE", "broker"),
        ("BROKER_WS_URL", &*broker.url()),
        ("PROVIDER_JWT_TOKEN", "eyJ0"),
        ("MAX_CONTEXT_WINDOW", "2048"),
        ("WORKER_TOOLS_JSON", tools),
        ("MCP_TOOL_ENDPOINT", endpoint),
    ];
    let config = try_config(&engine.url(), &[], &environment).expect("a configuration");
    let link = config.broker.clone().expect("a broker link").open();
    Worker::start_linked(engine, config, Some(link), None).await
}

async fn registered<const N: usize>(connection: &mut Connection) -> [Value; N] {
    let mut tools = [const { Value::Null }; N];
    for tool in &mut tools {
        *tool = next(connection, "TOOL_REGISTER").await;
    }
    tools
}

async fn call(connection: &mut Connection, tool: &str, more: Value) -> Value {
    let mut frame =
        json!({ "type": "TOOL_INVOKE", "invoke_id": "i", "run_id": "r", "tool_id": tool });
    frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    say(connection, frame).await;
    let result = next(connection, "TOOL_INVOKE_RESULT").await;
    assert_eq!((&result["invoke_id"], &result["tool_id"]), (&json!("i"), &json!(tool)));
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_of_an_mcp_server_are_registered_and_called() {
    let broker = Broker::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/mcp", listener.local_addr().unwrap());
    let seen = server(listener).await;
    let worker = worker(&broker, &endpoint).await;
    let mut connection = broker.accept().await;
    register(&mut connection).await;
    let tools: [Value; 4] = registered(&mut connection).await;
    // Of two definitions the last counts, at the first one's place.
    assert_eq!(tools.each_ref().map(|tool| &tool["tool_id"]), ["own", "both", "echo", "broken"]);
    assert_eq!(tools[1]["executor"], "worker");
    assert_eq!(tools[2]["schema_ref"], r#"{"required":["text"],"type":"object"}"#);
    let asked: Vec<_> = seen.messages.lock().unwrap().clone();
    let methods: Vec<&str> = asked.iter().map(|(method, ..)| method.as_str()).collect();
    assert_eq!(methods, ["initialize", "notifications/initialized", "tools/list", "tools/list"]);
    assert_eq!((&asked[0].1, &asked[0].2), (&None, &None));
    assert_eq!(asked[3].2.as_deref(), Some("2025-06-18"));

    let arguments = json!({ "args": { "text": "hi" } });
    let result = call(&mut connection, "agent__echo", arguments.clone()).await;
    assert_eq!((&result["status"], &result["run_id"]), (&json!("success"), &json!("r")));
    assert_eq!(result["result"]["content"][0]["text"], "hi");
    assert!(result.get("error").is_none(), "{result}");

    // A tool that ran and reports a failure.
    let result = call(&mut connection, "both", arguments.clone()).await;
    assert_eq!(result["error"], json!({ "code": "TOOL_INVOKE_FAILED", "message": "no luck" }));
    assert_eq!((&result["status"], &result["result"]["isError"]), (&json!("error"), &json!(true)));
    let result = call(&mut connection, "broken", arguments.clone()).await;
    assert_eq!(result["error"]["code"], "TOOL_INVOKE_FAILED");
    assert!(result["error"]["message"].as_str().unwrap().contains("it is broken"), "{result}");
    assert!(result.get("result").is_none(), "{result}");

    // What the checks refuse never reaches the server.
    let before = seen.messages.lock().unwrap().len();
    for (tool, more, code) in [
        ("nobody", arguments.clone(), "TOOL_NOT_LOCAL"),
        ("echo", json!({}), "TOOL_INVOKE_FAILED"),
        ("echo", json!({ "mode": "confidential", "payload_b64": "AA" }), "TOOL_INVOKE_FAILED"),
        ("own", arguments.clone(), "TOOL_INVOKE_FAILED"),
    ] {
        assert_eq!(call(&mut connection, tool, more).await["error"]["code"], code, "{tool}");
    }
    assert_eq!(seen.messages.lock().unwrap().len(), before);

    // A session the server has forgotten is opened anew.
    *seen.forgetful.lock().unwrap() = true;
    assert_eq!(call(&mut connection, "echo", arguments).await["status"], "success");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_asked_again_at_the_next_registration() {
    let broker = Broker::new().await;
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let worker = worker(&broker, &format!("http://{place}/mcp")).await;
    let mut first = broker.accept().await;
    register(&mut first).await;
    let tools: [Value; 2] = registered(&mut first).await;
    assert_eq!(tools.map(|tool| tool["tool_id"].clone()), ["own", "both"]);
    let args = json!({ "args": {} });
    assert_eq!(call(&mut first, "echo", args).await["error"]["code"], "TOOL_NOT_LOCAL");
    server(TcpListener::bind(place).await.unwrap()).await;
    drop(first);
    let mut second = broker.accept().await;
    register(&mut second).await;
    let tools: [Value; 4] = registered(&mut second).await;
    assert_eq!(tools[3]["tool_id"], "broken");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_given_up() {
    let broker = Broker::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let large = axum::routing::post(|| async { "x".repeat(3 * 1024 * 1024) });
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", large)).await });
    let worker = worker(&broker, &endpoint).await;
    let mut connection = broker.accept().await;
    register(&mut connection).await;
    let tools: [Value; 2] = registered(&mut connection).await;
    assert_eq!(tools[1]["tool_id"], "both");
    worker.stop().await;
}
