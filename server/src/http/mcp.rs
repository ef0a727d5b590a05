//! The MCP server (streamable HTTP): what the proxy can do, as tools for programs that talk in
//! JSON-RPC. A loopback socket of its own, and a key in any case. Tools take the same path as HTTP
//! requests, with all their limits. spec: proxy §18

mod tools;

use super::auth::{Access, Scope, host};
use super::errors::ApiError;
use super::listen::Answers;
use super::router::Face;
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// Versions of the protocol that are spoken, newest first.
const VERSIONS: [&str; 3] = ["2025-06-18", "2025-03-26", "2024-11-05"];
/// Largest message.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Codes of JSON-RPC.
const PARSE_ERROR: i64 = -32_700;
const INVALID_REQUEST: i64 = -32_600;
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;

/// The server.
#[derive(Debug, Clone)]
pub struct Mcp {
    face: Face,
    access: Arc<Access>,
}

impl Mcp {
    /// A server over the proxy's own face. Keys are wanted whatever the face does.
    #[must_use]
    pub fn new(face: Face, access: &Access) -> Self {
        Self { face, access: Arc::new(access.closed()) }
    }

    async fn respond(&self, request: Request) -> Result<Response<Body>, ApiError> {
        if request.uri().path() != "/mcp" {
            return Err(ApiError::not_found("the path is /mcp"));
        }
        self.access.check(request.headers(), host(&request), Scope::Inference)?;
        refuse_web_pages(&request)?;
        if *request.method() != Method::POST {
            // There are no streams of the server's own, and no sessions to end.
            return Err(ApiError::method_not_allowed("only POST is understood")
                .with_header(header::ALLOW, HeaderValue::from_static("POST")));
        }
        let body = axum::body::to_bytes(request.into_body(), MAX_MESSAGE).await;
        let body = body.map_err(|_| ApiError::too_large(MAX_MESSAGE))?;
        let message: Value = match serde_json::from_slice(&body) {
            Ok(message) => message,
            Err(error) => return Ok(failure(Value::Null, PARSE_ERROR, &error.to_string())),
        };
        let Some(method) = message["method"].as_str() else {
            // An answer to a question that is never asked, or no message at all.
            return Ok(match message.get("result").or(message.get("error")) {
                Some(_) => StatusCode::ACCEPTED.into_response(),
                None => failure(Value::Null, INVALID_REQUEST, "no method"),
            });
        };
        let Some(id) = message.get("id").cloned() else {
            // A notification.
            return Ok(StatusCode::ACCEPTED.into_response());
        };
        Ok(match self.call(method, &message["params"]).await {
            Ok(result) => {
                Json(json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_response()
            }
            Err((code, why)) => failure(id, code, &why),
        })
    }

    async fn call(&self, method: &str, params: &Value) -> Result<Value, (i64, String)> {
        match method {
            "initialize" => Ok(initialize(params)),
            "ping" => Ok(json!({})),
            "tools/list" => Ok(json!({ "tools": tools::list() })),
            "tools/call" => {
                let name = params["name"].as_str().unwrap_or_default();
                let called = tools::call(&self.face, name, &params["arguments"]).await;
                let (text, is_error) = match called {
                    Ok(text) => (text, false),
                    Err(tools::Failed::Tool(text)) => (text, true),
                    Err(tools::Failed::Unknown) => {
                        return Err((INVALID_PARAMS, format!("there is no tool {name:?}")));
                    }
                };
                let content = json!([{ "type": "text", "text": text }]);
                Ok(json!({ "content": content, "isError": is_error }))
            }
            _ => Err((METHOD_NOT_FOUND, format!("there is no method {method:?}"))),
        }
    }
}

impl Answers for Mcp {
    async fn answer(&self, request: Request, _: IpAddr) -> Response<Body> {
        self.respond(request).await.unwrap_or_else(IntoResponse::into_response)
    }
}

/// A browser says where a page comes from; programs do not.
fn refuse_web_pages(request: &Request) -> Result<(), ApiError> {
    match request.headers().get(header::ORIGIN) {
        None => Ok(()),
        Some(_) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "web pages cannot use the MCP server",
        )),
    }
}

fn initialize(params: &Value) -> Value {
    let wanted = params["protocolVersion"].as_str();
    let version = VERSIONS.into_iter().find(|known| Some(*known) == wanted).unwrap_or(VERSIONS[0]);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "mining-proxy", "version": env!("CARGO_PKG_VERSION") },
    })
}

fn failure(id: Value, code: i64, message: &str) -> Response<Body> {
    let error = json!({ "code": code, "message": message });
    Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response()
}
