//! The worker's tools of both kinds together: those the operator lists, and those an MCP server has.
//! The server is asked anew at each registration, beside everything else, so that one that is slow
//! or away keeps neither jobs nor mining waiting. spec: broker §9

use super::mcp::{McpError, McpServer};
use super::outgoing::Outgoing;
use super::tools::{Answer, Failure, RemoteCall, Tool, ToolDefinition, answer, failed, merge};
use super::uplink::{Gone, Wire};
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Calls of the MCP server at a time; a broker that wants more is told so.
const AT_A_TIME: usize = 16;

/// The tools.
#[derive(Debug)]
pub struct Toolbox {
    configured: Vec<Tool>,
    server: Option<McpServer>,
    /// What is registered now.
    all: Mutex<Arc<Vec<Tool>>>,
    places: Semaphore,
    /// The server's absence has been told.
    warned: AtomicBool,
}

impl Toolbox {
    /// The operator's tools, and a server that may have more.
    #[must_use]
    pub fn new(configured: Vec<ToolDefinition>, server: Option<McpServer>) -> Self {
        let configured = merge(configured, Vec::new());
        Self {
            all: Mutex::new(Arc::new(configured.clone())),
            configured,
            server,
            places: Semaphore::new(AT_A_TIME),
            warned: AtomicBool::new(false),
        }
    }

    /// True when a server has to be asked what there is.
    #[must_use]
    pub const fn asks_a_server(&self) -> bool {
        self.server.is_some()
    }

    fn tools(&self) -> Arc<Vec<Tool>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers every tool. A server's absence is told once, and its tools are those of the
    /// operator alone until the next registration.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn register(&self, wire: &Wire) -> Result<(), Gone> {
        if let Some(server) = &self.server {
            let found = self.ask(server).await;
            let operators = self.configured.iter().map(|tool| tool.definition.clone()).collect();
            let all = Arc::new(merge(operators, found));
            *self.all.lock().unwrap_or_else(PoisonError::into_inner) = all;
        }
        for tool in self.tools().iter() {
            wire.send(&Outgoing::ToolRegister(tool.definition.clone())).await?;
        }
        Ok(())
    }

    async fn ask(&self, server: &McpServer) -> Vec<ToolDefinition> {
        match server.discover().await {
            Ok(tools) => {
                self.warned.store(false, Ordering::Relaxed);
                tracing::info!("{} tools of the MCP server at {server}", tools.len());
                tools
            }
            Err(error) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "no tools of the MCP server at {server} until the next registration: {error}"
                    );
                }
                Vec::new()
            }
        }
    }

    /// The answer to a call, or what the server has to be asked for it.
    #[must_use]
    pub fn answer(&self, frame: &Map<String, Value>) -> Answer {
        answer(frame, &self.tools())
    }

    /// Has the server run a tool.
    pub async fn run(&self, call: RemoteCall) -> Outgoing {
        let result = self.call(&call).await;
        call.answered(result)
    }

    async fn call(&self, call: &RemoteCall) -> Result<Value, Failure> {
        let plain = |message: &str| Err((None, failed(message)));
        let (Some(server), Ok(_place)) = (&self.server, self.places.try_acquire()) else {
            return plain("too many tool calls at a time");
        };
        match server.call(&call.tool, &call.arguments).await {
            Ok(result) if result.get("isError") == Some(&Value::Bool(true)) => {
                let said = failed(&text_of(&result));
                Err((Some(result), said))
            }
            Ok(result) => Ok(result),
            Err(error @ McpError::Refused { .. }) => plain(&error.to_string()),
            Err(error) => {
                tracing::warn!("the MCP server at {server} did not run {:?}: {error}", call.tool);
                plain(&format!("the tool's server gave no result: {error}"))
            }
        }
    }
}

/// What a result says in words.
fn text_of(result: &Value) -> String {
    let pieces = result.get("content").and_then(Value::as_array).map(Vec::as_slice);
    let texts: Vec<&str> =
        pieces.unwrap_or_default().iter().filter_map(|piece| piece.get("text")?.as_str()).collect();
    match texts.is_empty() {
        true => "the tool reports a failure".to_owned(),
        false => texts.join("\n"),
    }
}
