//! Tools that run on the worker: which are registered, and what a call of one is answered. Their
//! list is the operator's (`WORKER_TOOLS_JSON`). spec: broker §9

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
    let mut tools: Vec<ToolDefinition> = Vec::new();
    for entry in entries.iter().filter_map(Value::as_object) {
        let Some(tool_id) = text(entry, "tool_id").map(|id| id.trim().to_owned()) else { continue };
        if tool_id.is_empty() {
            continue;
        }
        let schema_ref = match entry.get("schema_ref") {
            Some(Value::String(reference)) => reference.clone(),
            Some(schema @ Value::Object(_)) => schema.to_string(),
            _ => String::new(),
        };
        let tool = ToolDefinition {
            encryption: text(entry, "encryption").unwrap_or_else(|| ENCRYPTION.to_owned()),
            executor: text(entry, "executor").unwrap_or_else(|| EXECUTOR.to_owned()),
            tool_id,
            schema_ref,
        };
        match tools.iter_mut().find(|known| known.tool_id == tool.tool_id) {
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

/// The answer to a call. The checks go before anything runs, in the protocol's order. spec: §9
#[must_use]
pub fn answer(frame: &Map<String, Value>, tools: &[ToolDefinition]) -> Outgoing {
    let given = |key: &str| frame.get(key).cloned().unwrap_or_default();
    let Some(invoke_id) = text(frame, "invoke_id") else {
        return Outgoing::ToolInvokeResult(ToolResult {
            invoke_id: Value::Null,
            run_id: None,
            tool_id: given("tool_id"),
            status: "error",
            result: None,
            error: Some(problem("INVALID_INVOKE", "invoke_id is required")),
        });
    };
    let (result, error) = match call(frame, tools) {
        Ok(result) => (Some(result), None),
        Err((result, error)) => (result, Some(error)),
    };
    Outgoing::ToolInvokeResult(ToolResult {
        invoke_id: invoke_id.into(),
        run_id: Some(given("run_id")),
        tool_id: given("tool_id"),
        status: if error.is_none() { "success" } else { "error" },
        result,
        error,
    })
}

fn problem(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

/// A failure, with what the tool itself has said.
type Failure = (Option<Value>, Value);

fn call(frame: &Map<String, Value>, tools: &[ToolDefinition]) -> Result<Value, Failure> {
    let refused = |code, message: &str| (None, problem(code, message));
    let Some(tool_id) = text(frame, "tool_id") else {
        return Err(refused("INVALID_TOOL", "tool_id is required"));
    };
    let mode = text(frame, "mode").unwrap_or_default();
    let confidential = match mode.trim().to_ascii_lowercase().as_str() {
        "" | "plaintext" | "open" => false,
        "confidential" => true,
        _ => return Err(refused("INVALID_MODE", &format!("unsupported mode: {mode}"))),
    };
    let Some(tool) = tools.iter().find(|tool| tool.tool_id == local_name(&tool_id)) else {
        let message = "tool is not configured for local worker execution";
        return Err(refused("TOOL_NOT_LOCAL", message));
    };
    if confidential {
        let message = "worker is not configured for confidential mode";
        return Err(refused("TOOL_INVOKE_FAILED", message));
    }
    if !frame.get("args").is_some_and(Value::is_object) {
        return Err(refused("TOOL_INVOKE_FAILED", "plaintext invoke requires args object"));
    }
    run(tool)
}

/// No executor is built in: a tool is answered with the reason why it cannot run here.
fn run(tool: &ToolDefinition) -> Result<Value, Failure> {
    let error = match tool.executor.as_str() {
        "file_search" => problem("RAG_CONTEXT_MISSING", "RAG_CONTEXT_PATH is not configured"),
        other => {
            let message = format!("this worker has no executor {other:?}");
            return Err((None, problem("TOOL_INVOKE_FAILED", &message)));
        }
    };
    Err((Some(json!({ "success": false, "error": error })), error))
}
