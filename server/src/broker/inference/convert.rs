//! Bodies that change on their way: an `input` of the Responses route becomes chat messages, and
//! flat function tools become nested ones. spec: broker §5.1, §5.4

use serde_json::{Map, Value, json};

/// Keys that a converted body keeps. spec: §5.4
const COPIED: [&str; 11] = [
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "stream",
    "stop",
    "tools",
    "tool_choice",
    "n",
    "user",
    "response_format",
];
/// The first of these that is there becomes `max_tokens`. spec: §5.4
const MOST_TOKENS: [&str; 3] = ["max_tokens", "max_output_tokens", "max_completion_tokens"];
/// Where an object's text may be, in this order. spec: §5.4
const TEXT_KEYS: [&str; 5] = ["text", "content", "value", "output_text", "delta"];
/// Deeper texts are not looked for.
const DEPTH: u8 = 16;

/// The chat body of a payload with an `input`; `None` when there is no text in it. spec: §5.4
#[must_use]
pub fn chat_of_input(payload: &Map<String, Value>, input: &Value) -> Option<Map<String, Value>> {
    let messages = messages(input);
    if messages.is_empty() {
        return None;
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), payload.get("model").cloned().unwrap_or_default());
    body.insert("messages".to_owned(), messages.into());
    for key in COPIED {
        if let Some(value) = payload.get(key) {
            body.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(most) = MOST_TOKENS.iter().find_map(|key| payload.get(*key)) {
        body.insert("max_tokens".to_owned(), most.clone());
    }
    Some(body)
}

fn messages(input: &Value) -> Vec<Value> {
    let message = |role: &str, content: String| json!({ "role": role, "content": content });
    match input {
        Value::String(text) => vec![message("user", text.clone())],
        Value::Array(items) => items
            .iter()
            .filter_map(|item| match item {
                Value::String(text) => Some(message("user", text.clone())),
                Value::Object(object) => match object.get("role").and_then(Value::as_str) {
                    Some(role) => Some(message(role, text_of_message(item)?)),
                    None => object.get("text")?.as_str().map(|text| message("user", text.into())),
                },
                _ => None,
            })
            .collect(),
        Value::Object(object) => {
            let role = object.get("role").and_then(Value::as_str).unwrap_or("user");
            text_of(input, 0).map(|text| message(role, text)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A message's text is its content; what has none is looked through like anything else.
fn text_of_message(item: &Value) -> Option<String> {
    item.get("content").and_then(|content| text_of(content, 0)).or_else(|| text_of(item, 0))
}

fn text_of(value: &Value, depth: u8) -> Option<String> {
    if depth > DEPTH {
        return None;
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let texts: Vec<_> = items.iter().filter_map(|item| text_of(item, depth + 1)).collect();
            (!texts.is_empty()).then(|| texts.join("\n"))
        }
        Value::Object(object) => {
            TEXT_KEYS.iter().find_map(|key| text_of(object.get(*key)?, depth + 1))
        }
        _ => None,
    }
}

/// The payload with its function tools and its choice of one in the nested form. spec: §5.1
#[must_use]
pub fn nested_tools(payload: &Map<String, Value>) -> Map<String, Value> {
    let mut body = payload.clone();
    if let Some(Value::Array(tools)) = body.get_mut("tools") {
        for tool in tools {
            if let Some(nested) = nested(tool) {
                *tool = nested;
            }
        }
    }
    if let Some(nested) = body.get("tool_choice").and_then(nested) {
        body.insert("tool_choice".to_owned(), nested);
    }
    body
}

/// A flat function in the nested form; `None` for everything else.
fn nested(tool: &Value) -> Option<Value> {
    let flat = tool.as_object()?;
    let is_flat = flat.get("type")? == "function" && !flat.contains_key("function");
    flat.get("name").filter(|_| is_flat)?;
    let inner: Map<String, Value> = flat
        .iter()
        .filter(|(key, _)| *key != "type")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Some(json!({ "type": "function", "function": inner }))
}
