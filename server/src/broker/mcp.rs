//! An MCP server as the worker's source of tools, over streamable HTTP: which tools it has, and the
//! call of one. Every exchange has a limit in time and size; answers come as JSON or as the events
//! of a stream. spec: broker §9

use super::tools::{ToolDefinition, definition};
use crate::service_client::{CallError, ServiceClient, ServiceUrl};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The version that is offered, and those that are understood.
const VERSION: &str = "2025-06-18";
const VERSIONS: [&str; 4] = [VERSION, "2025-11-25", "2025-03-26", "2024-11-05"];
/// For finding out which tools there are, all pages together.
const DISCOVERY: Duration = Duration::from_secs(10);
/// For one call.
const CALL: Duration = Duration::from_secs(60);
/// Largest answer.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// Tools that are taken; a list without an end is one as well.
const MOST_TOOLS: usize = 256;
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The server gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An answer of HTTP that is no good.
    #[error("HTTP {status}: {said}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// The beginning of what it says.
        said: String,
    },
    /// The server refuses.
    #[error("{message} (code {code})")]
    Refused {
        /// Its code.
        code: i64,
        /// Its reason.
        message: String,
    },
    /// The answer is not the protocol's.
    #[error("{0}")]
    Odd(String),
    /// It took too long.
    #[error("not done within {0:?}")]
    Timeout(Duration),
}

/// A session with the server, as it has named it.
#[derive(Debug, Clone)]
struct Open {
    id: Option<HeaderValue>,
    version: HeaderValue,
}

/// The server.
#[derive(Debug)]
pub struct McpServer {
    url: ServiceUrl,
    client: ServiceClient,
    session: Mutex<Option<Open>>,
    number: AtomicU64,
}

impl fmt::Display for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl McpServer {
    /// The server at this endpoint.
    #[must_use]
    pub fn new(url: ServiceUrl) -> Self {
        Self {
            url,
            client: ServiceClient::with_limit(MAX_ANSWER),
            session: Mutex::new(None),
            number: AtomicU64::new(1),
        }
    }

    /// Opens a session and reads the list of tools, page by page.
    ///
    /// # Errors
    /// [`McpError`].
    pub async fn discover(&self) -> Result<Vec<ToolDefinition>, McpError> {
        let discovery = async {
            self.open().await?;
            let (mut tools, mut cursor) = (Vec::new(), None::<String>);
            loop {
                let parameters = cursor.as_ref().map_or(json!({}), |it| json!({ "cursor": it }));
                let page = self.request("tools/list", &parameters, DISCOVERY).await?;
                let listed = page.get("tools").and_then(Value::as_array);
                let listed = listed.ok_or_else(|| McpError::Odd("a list without tools".into()))?;
                tools.extend(listed.iter().filter_map(tool));
                let next = page.get("nextCursor").and_then(Value::as_str).map(ToOwned::to_owned);
                if tools.len() >= MOST_TOOLS {
                    tracing::warn!(
                        "{self} lists more than {MOST_TOOLS} tools; the rest is left out"
                    );
                    tools.truncate(MOST_TOOLS);
                    return Ok(tools);
                }
                // A cursor that repeats leads nowhere.
                if next.is_none() || next == cursor {
                    return Ok(tools);
                }
                cursor = next;
            }
        };
        within(DISCOVERY, discovery).await
    }

    /// Runs a tool; what it has said, be it a failure of its own.
    ///
    /// # Errors
    /// [`McpError`].
    pub async fn call(&self, tool: &str, arguments: &Value) -> Result<Value, McpError> {
        let parameters = json!({ "name": tool, "arguments": arguments });
        let call = async {
            if self.current().is_none() {
                self.open().await?;
            }
            match self.request("tools/call", &parameters, CALL).await {
                // The server has forgotten the session: nothing has run yet.
                Err(McpError::Status { status: StatusCode::NOT_FOUND, .. })
                    if self.current().is_some_and(|open| open.id.is_some()) =>
                {
                    self.open().await?;
                    self.request("tools/call", &parameters, CALL).await
                }
                answered => answered,
            }
        };
        within(CALL, call).await.map(Value::Object)
    }

    fn current(&self) -> Option<Open> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, open: Option<Open>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    async fn open(&self) -> Result<(), McpError> {
        self.set(None);
        let parameters = json!({
            "protocolVersion": VERSION,
            "capabilities": {},
            "clientInfo": { "name": "tensorpow", "version": env!("CARGO_PKG_VERSION") },
        });
        let (headers, result) = self.exchange("initialize", &parameters, DISCOVERY).await?;
        let spoken = result.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let Some(version) = VERSIONS.iter().find(|version| **version == spoken) else {
            return Err(McpError::Odd(format!("the server speaks version {spoken:?} of MCP")));
        };
        let id = headers.get(SESSION).cloned();
        self.set(Some(Open { id, version: HeaderValue::from_static(version) }));
        let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.post(told.to_string(), DISCOVERY).await.map(drop)
    }

    async fn request(
        &self,
        method: &str,
        parameters: &Value,
        limit: Duration,
    ) -> Result<Map<String, Value>, McpError> {
        let (_, result) = self.exchange(method, parameters, limit).await?;
        Ok(result)
    }

    /// A question and its answer.
    async fn exchange(
        &self,
        method: &str,
        parameters: &Value,
        limit: Duration,
    ) -> Result<(HeaderMap, Map<String, Value>), McpError> {
        let id = self.number.fetch_add(1, Ordering::Relaxed);
        let question =
            json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters });
        let answer = self.post(question.to_string(), limit).await?;
        let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let text = String::from_utf8_lossy(&answer.body);
        let messages = match kind {
            Some(kind) if kind.starts_with("text/event-stream") => events(&text),
            _ => serde_json::from_str(&text).into_iter().collect(),
        };
        let own = messages.into_iter().find(|message: &Value| message["id"] == id);
        let Some(Value::Object(mut message)) = own else {
            return Err(McpError::Odd(format!("no answer to {method}: {}", answer.excerpt())));
        };
        if let Some(error) = message.get("error") {
            let said = error["message"].as_str().unwrap_or("no reason").chars().take(500);
            let code = error["code"].as_i64().unwrap_or_default();
            return Err(McpError::Refused { code, message: said.collect() });
        }
        match message.remove("result") {
            Some(Value::Object(result)) => Ok((answer.headers, result)),
            _ => Err(McpError::Odd(format!("{method} was answered without a result"))),
        }
    }

    async fn post(
        &self,
        body: String,
        limit: Duration,
    ) -> Result<crate::service_client::Answer, McpError> {
        let mut headers = HeaderMap::new();
        let both = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, both);
        if let Some(Open { id, version }) = self.current() {
            headers.insert(PROTOCOL, version);
            if let Some(id) = id {
                headers.insert(SESSION, id);
            }
        }
        let answer =
            self.client.call(Method::POST, &self.url, "", headers, Some(body), limit).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(McpError::Status { status: answer.status, said: answer.excerpt() }),
        }
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, McpError>>,
) -> Result<T, McpError> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(McpError::Timeout(limit)))
}

/// A tool of the list as brokers know tools.
fn tool(listed: &Value) -> Option<ToolDefinition> {
    let name = listed.get("name")?.as_str()?;
    let mut entry = Map::new();
    entry.insert("tool_id".to_owned(), name.into());
    if let Some(schema) = listed.get("inputSchema") {
        entry.insert("schema_ref".to_owned(), schema.clone());
    }
    definition(&entry)
}

/// The messages of a stream of events.
fn events(text: &str) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut data = String::new();
    for line in text.lines().chain([""]) {
        if let Some(piece) = line.strip_prefix("data:") {
            data.push_str(piece.strip_prefix(' ').unwrap_or(piece));
            data.push('\n');
        } else if line.is_empty() {
            messages.extend(serde_json::from_str::<Value>(&data));
            data.clear();
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_event_by_event() {
        let text = ": hello\r\n\r\nevent: message\r\ndata: {\"id\":\r\ndata: 1}\r\n\r\ndata: no\n\ndata:{\"id\":2}";
        assert_eq!(events(text), [json!({ "id": 1 }), json!({ "id": 2 })]);
        assert_eq!(events(""), Vec::<Value>::new());
    }

    #[test]
    fn a_listed_tool_becomes_a_definition() {
        let found =
            tool(&json!({ "name": " search ", "inputSchema": { "type": "object" } })).unwrap();
        assert_eq!((&*found.tool_id, &*found.schema_ref), ("search", r#"{"type":"object"}"#));
        assert_eq!((&*found.executor, &*found.encryption), ("worker", "aes-256-gcm"));
        for nothing in [json!({}), json!({ "name": 5 }), json!({ "name": " " }), json!("x")] {
            assert_eq!(tool(&nothing), None, "{nothing}");
        }
    }
}
