//! Tools that run on the worker: which are registered, and what a call of one is answered. Their
//! list is the operator's (`WORKER_TOOLS_JSON`) and that of an MCP server (`MCP_TOOL_ENDPOINT`,
//! [`super::mcp`]). spec: broker §9

use super::frames::text;
use super::outgoing::Outgoing;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Encryption of a tool that names none.
const ENCRYPTION: &str = "aes-256-gcm";
/// Who runs a tool that does not say.
const EXECUTOR: &str = "worker";

/// A tool as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolDefinition {
    /// Its name.
    pub tool_id: String,
    /// How its confidential calls would be encrypted.
    pub encryption: String,
    /// Its arguments' schema.
    pub schema_ref: String,
    /// Who runs it.
    pub executor: String,
}

/// A tool and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// What the broker is told of it.
    pub definition: ToolDefinition,
    /// The MCP server runs it.
    pub remote: bool,
}

/// What a call is answered. spec: §9
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolResult {
    /// The call.
    pub invoke_id: Value,
    /// The run it belongs to, null when absent; left out where there is no call to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Value>,
    /// The tool, as it was named.
    pub tool_id: Value,
    /// `success` or `error`.
    pub status: &'static str,
    /// What the tool has answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// Reads `WORKER_TOOLS_JSON`: entries without a name are skipped, of two with one name the last
/// definition stands at the first one's place. What is no list is no tools.
#[must_use]
pub fn read_list(json: &str) -> Vec<ToolDefinition> {
    match serde_json::from_str(json) {
        Ok(Value::Array(entries)) => of_entries(&entries),
        _ => Vec::new(),
    }
}

fn of_entries(entries: &[Value]) -> Vec<ToolDefinition> {
    let read = entries.iter().filter_map(Value::as_object).filter_map(definition);
    merge(read.collect(), Vec::new()).into_iter().map(|tool| tool.definition).collect()
}

/// A tool as it is registered; `None` without a name.
pub(super) fn definition(entry: &Map<String, Value>) -> Option<ToolDefinition> {
    let tool_id = text(entry, "tool_id").map(|id| id.trim().to_owned())?;
    if tool_id.is_empty() {
        return None;
    }
    let schema_ref = match entry.get("schema_ref") {
        Some(Value::String(reference)) => reference.clone(),
        Some(schema @ Value::Object(_)) => schema.to_string(),
        _ => String::new(),
    };
    Some(ToolDefinition {
        encryption: text(entry, "encryption").unwrap_or_else(|| ENCRYPTION.to_owned()),
        executor: text(entry, "executor").unwrap_or_else(|| EXECUTOR.to_owned()),
        tool_id,
        schema_ref,
    })
}

/// The operator's tools and the server's behind them, each name once: of two definitions the last
/// stands at the first one's place. spec: §9
#[must_use]
pub fn merge(configured: Vec<ToolDefinition>, found: Vec<ToolDefinition>) -> Vec<Tool> {
    let mut tools: Vec<Tool> = Vec::new();
    let configured = configured.into_iter().map(|definition| Tool { definition, remote: false });
    let found = found.into_iter().map(|definition| Tool { definition, remote: true });
    for tool in configured.chain(found) {
        let same = |known: &&mut Tool| known.definition.tool_id == tool.definition.tool_id;
        match tools.iter_mut().find(same) {
            Some(known) => *known = tool,
            None => tools.push(tool),
        }
    }
    tools
}

/// The name behind the prefix of an agent: `a__search` is `search`.
fn local_name(tool_id: &str) -> &str {
    tool_id.split_once("__").map_or(tool_id, |(_, name)| name)
}

/// Whom a result is for.
#[derive(Debug, Clone)]
struct Envelope {
    invoke_id: Value,
    run_id: Option<Value>,
    tool_id: Value,
}

impl Envelope {
    fn with(self, outcome: Result<Value, Failure>) -> Outgoing {
        let Self { invoke_id, run_id, tool_id } = self;
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err((result, error)) => (result, Some(error)),
        };
        let status = if error.is_none() { "success" } else { "error" };
        Outgoing::ToolInvokeResult(ToolResult { invoke_id, run_id, tool_id, status, result, error })
    }
}

/// A call that an MCP server has to answer.
#[derive(Debug, Clone)]
pub struct RemoteCall {
    envelope: Envelope,
    /// The tool's name on the server.
    pub tool: String,
    /// An object.
    pub arguments: Value,
}

impl RemoteCall {
    /// The frame for what came of it.
    #[must_use]
    pub fn answered(self, outcome: Result<Value, Failure>) -> Outgoing {
        self.envelope.with(outcome)
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Answer {
    /// It is answered.
    Now(Box<Outgoing>),
    /// It is answered once the server has run it.
    Later(RemoteCall),
}

/// The answer to a call. The checks go before anything runs, in the protocol's order. spec: §9
#[must_use]
pub fn answer(frame: &Map<String, Value>, tools: &[Tool]) -> Answer {
    let given = |key: &str| frame.get(key).cloned().unwrap_or_default();
    let Some(invoke_id) = text(frame, "invoke_id") else {
        let nobody = Envelope { invoke_id: Value::Null, run_id: None, tool_id: given("tool_id") };
        let refused = (None, problem("INVALID_INVOKE", "invoke_id is required"));
        return Answer::Now(Box::new(nobody.with(Err(refused))));
    };
    let run_id = Some(given("run_id"));
    let envelope = Envelope { invoke_id: invoke_id.into(), run_id, tool_id: given("tool_id") };
    match check(frame, tools) {
        Ok((tool, arguments)) if tool.remote => {
            let tool = tool.definition.tool_id.clone();
            Answer::Later(RemoteCall { envelope, tool, arguments: arguments.clone() })
        }
        Ok((tool, _)) => Answer::Now(Box::new(envelope.with(Err(run(&tool.definition))))),
        Err(error) => Answer::Now(Box::new(envelope.with(Err((None, error))))),
    }
}

fn problem(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

/// A call that went wrong after its checks. spec: §9
pub(super) fn failed(message: &str) -> Value {
    problem("TOOL_INVOKE_FAILED", message)
}

/// A failure, with what the tool itself has said.
pub type Failure = (Option<Value>, Value);

/// The tool that is called and its arguments, or why not.
fn check<'a>(
    frame: &'a Map<String, Value>,
    tools: &'a [Tool],
) -> Result<(&'a Tool, &'a Value), Value> {
    let Some(tool_id) = text(frame, "tool_id") else {
        return Err(problem("INVALID_TOOL", "tool_id is required"));
    };
    let mode = text(frame, "mode").unwrap_or_default();
    let confidential = match mode.trim().to_ascii_lowercase().as_str() {
        "" | "plaintext" | "open" => false,
        "confidential" => true,
        _ => return Err(problem("INVALID_MODE", &format!("unsupported mode: {mode}"))),
    };
    let named = |name: &str| tools.iter().find(|tool| tool.definition.tool_id == name);
    // A server may have a tool whose own name looks like an agent's.
    let Some(tool) = named(local_name(&tool_id)).or_else(|| named(&tool_id)) else {
        let message = "tool is not configured for local worker execution";
        return Err(problem("TOOL_NOT_LOCAL", message));
    };
    if confidential {
        return Err(failed("worker is not configured for confidential mode"));
    }
    match frame.get("args") {
        Some(arguments @ Value::Object(_)) => Ok((tool, arguments)),
        _ => Err(failed("plaintext invoke requires args object")),
    }
}

/// No executor is built in: a tool of the operator's list is answered with the reason why it cannot
/// run here.
fn run(tool: &ToolDefinition) -> Failure {
    match tool.executor.as_str() {
        "file_search" => {
            let error = problem("RAG_CONTEXT_MISSING", "RAG_CONTEXT_PATH is not configured");
            (Some(json!({ "success": false, "error": error })), error)
        }
        other => (None, failed(&format!("this worker has no executor {other:?}"))),
    }
}
