//! The tools of the MCP server: what the proxy is doing, a chat completion, the check of a proof.

use crate::http::auth::Caller;
use crate::http::router::Face;
use crate::report::{Against, Line, of_proof};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tensorpow_core::proof::MiningResponseRef;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why a tool gave nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no such tool.
    Unknown,
    /// The tool says why.
    Tool(String),
}

/// The tools with their arguments.
pub(super) fn list() -> Value {
    json!([
        {
            "name": "proxy_status",
            "description": "What the mining proxy is doing: job, VDF, engines, throughput, proofs.",
            "inputSchema": { "type": "object", "properties": {} },
        },
        {
            "name": "chat_completion",
            "description": "A chat completion by the engine behind the proxy; mined like any other request.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "messages": { "type": "array", "items": { "type": "object" } },
                    "model": { "type": "string", "default": "Qwen/Qwen3-8B" },
                    "max_tokens": { "type": "integer", "default": 256 },
                    "temperature": { "type": "number", "default": 0.7 },
                },
                "required": ["messages"],
            },
        },
        {
            "name": "verify_proof",
            "description": "Checks a proof: of a completion this proxy has served, or given as hex.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "completion_id": { "type": "string" },
                    "proof": { "type": "string", "description": "a MiningResponse message in hex" },
                },
            },
        },
    ])
}

/// Calls a tool.
pub(super) async fn call(face: &Face, name: &str, arguments: &Value) -> Result<String, Failed> {
    match name {
        "proxy_status" => proxy_status(face).await,
        "chat_completion" => chat_completion(face, arguments).await,
        "verify_proof" => verify_proof(face, arguments).await,
        _ => Err(Failed::Unknown),
    }
}

async fn proxy_status(face: &Face) -> Result<String, Failed> {
    let (_, body) = ask(face, Method::GET, "/status", Vec::new()).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn chat_completion(face: &Face, arguments: &Value) -> Result<String, Failed> {
    if !arguments["messages"].is_array() {
        return Err(Failed::Tool("messages must be an array".to_owned()));
    }
    let or = |name: &str, default: Value| arguments.get(name).cloned().unwrap_or(default);
    let body = json!({
        "model": or("model", "Qwen/Qwen3-8B".into()),
        "messages": arguments["messages"],
        "max_tokens": or("max_tokens", 256.into()),
        "temperature": or("temperature", 0.7.into()),
    });
    let path = "/v1/chat/completions";
    let (status, body) = ask(face, Method::POST, path, body.to_string().into_bytes()).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        let status = status.as_u16();
        return Err(Failed::Tool(format!("Upstream {path} error {status}: {text}")));
    }
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let content = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
    Ok(content.map_or(text, ToOwned::to_owned))
}

async fn verify_proof(face: &Face, arguments: &Value) -> Result<String, Failed> {
    let problem = |text: String| Failed::Tool(text);
    let message = match (arguments["completion_id"].as_str(), arguments["proof"].as_str()) {
        (_, Some(hex)) => Bytes::from(
            hex::decode(hex.trim())
                .map_err(|error| problem(format!("proof is no hex: {error}")))?,
        ),
        (Some(id), None) => {
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
                return Err(problem("completion_id is no id".to_owned()));
            }
            let path = format!("/v1/proof/{}", id.replace('%', "%25").replace('?', "%3F"));
            let (status, body) = ask(face, Method::GET, &path, Vec::new()).await?;
            if status != StatusCode::OK {
                return Err(problem(format!("there is no proof of {id:?}")));
            }
            body
        }
        (None, None) => return Err(problem("give completion_id or proof".to_owned())),
    };
    // Replaying a window takes milliseconds: not on a thread that serves sockets.
    let judged = tokio::task::spawn_blocking(move || judge(&message)).await;
    judged.unwrap_or_else(|_| Err("the check was interrupted".to_owned())).map_err(Failed::Tool)
}

fn judge(message: &[u8]) -> Result<String, String> {
    let response = MiningResponseRef::read(message)
        .map_err(|error| format!("this is no proof message: {error}"))?;
    // Whether version 3 is active decides only what a version-3 proof needs beside.
    let v3_active = response.pow_blob.is_some_and(|proof| proof.version >= 3);
    let report = of_proof(&response, &Against { share_target: None, v3_active });
    let lines = |lines: &[Line]| {
        let line =
            |line: &Line| json!({ "name": line.name, "value": line.value, "passed": line.passed });
        lines.iter().map(line).collect::<Value>()
    };
    let verdict = json!({
        "valid": report.passed(),
        "claims": lines(&report.claims),
        "checks": lines(&report.checks),
    });
    Ok(serde_json::to_string_pretty(&verdict).unwrap_or_default())
}

/// A request to the proxy's own face, as a client that has shown a key.
async fn ask(
    face: &Face,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Failed> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .extension(Caller { key: Some("mcp".into()) })
        .body(Body::from(body))
        .map_err(|error| Failed::Tool(error.to_string()))?;
    let answer = face.answer(request, None).await;
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await;
    body.map(|body| (status, body)).map_err(|error| Failed::Tool(error.to_string()))
}
