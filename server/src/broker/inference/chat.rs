//! The answers of the chat route: streamed, each delta goes out as the engine's own object; whole,
//! the text goes out as one string. spec: broker §5.2, §5.3

use super::sse::Events;
use super::{Failed, Voice, object, usage};
use axum::body::Body;
use axum::http::Response;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// A streamed answer. spec: §5.3
pub(super) async fn stream(voice: &Voice<'_>, answer: Response<Body>) -> Result<(), Failed> {
    let mut events = Events::of(answer);
    let mut completion_id = String::new();
    let mut begun = HashSet::new();
    while let Some(event) = events.next().await? {
        if completion_id.is_empty()
            && let Some(id) = event.get("id").and_then(Value::as_str)
        {
            id.clone_into(&mut completion_id);
        }
        let Some(Value::Object(delta)) = event.pointer("/choices/0/delta") else { continue };
        let Some(delta) = forwarded(delta, &mut begun) else { continue };
        // Nobody could tell which answer it is a piece of; the end says so.
        if !completion_id.is_empty() {
            voice.chunk(&completion_id, delta, None).await?;
        }
    }
    if completion_id.is_empty() {
        return Err(Failed::Error(format!(
            "No completion_id received from vLLM for streaming job {}",
            voice.job_id
        )));
    }
    Ok(voice.end(completion_id, Map::new(), None).await?)
}

/// What is forwarded of a delta: one with text, or with tool calls that say something.
fn forwarded(delta: &Map<String, Value>, begun: &mut HashSet<u64>) -> Option<Value> {
    let mut delta = delta.clone();
    let calls = delta.get("tool_calls").and_then(Value::as_array).cloned();
    if let Some(calls) = calls {
        let kept: Vec<Value> =
            calls.into_iter().filter_map(|call| tool_call(call, begun)).collect();
        if kept.is_empty() {
            delta.remove("tool_calls");
        } else {
            delta.insert("tool_calls".to_owned(), kept.into());
            return Some(delta.into());
        }
    }
    let text = delta.get("content").and_then(Value::as_str);
    text.is_some_and(|text| !text.is_empty()).then(|| delta.into())
}

/// The first entry of an index goes out as it is, later ones are their further arguments alone.
fn tool_call(call: Value, begun: &mut HashSet<u64>) -> Option<Value> {
    let index = call.get("index").and_then(Value::as_u64).unwrap_or_default();
    if begun.insert(index) {
        return Some(call);
    }
    let arguments =
        call.pointer("/function/arguments")?.as_str().filter(|text| !text.is_empty())?;
    Some(json!({ "index": index, "function": { "arguments": arguments } }))
}

/// A whole answer. spec: §5.2
pub(super) async fn whole(
    voice: &Voice<'_>,
    answer: Response<Body>,
    hint: Option<&str>,
) -> Result<(), Failed> {
    let body = object(answer).await?;
    let id = body.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let completion_id = id.or(hint.filter(|id| !id.is_empty())).unwrap_or(voice.job_id).to_owned();
    let message = body.get("choices").and_then(|choices| choices.pointer("/0/message/content"));
    if let Some(text) = message.and_then(Value::as_str).filter(|text| !text.is_empty()) {
        voice.chunk(&completion_id, text.into(), None).await?;
    }
    Ok(voice.end(completion_id, usage(body.get("usage")), None).await?)
}
