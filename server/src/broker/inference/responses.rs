//! The answers of the Responses route: streamed, every event goes out whole, its delta beside it;
//! otherwise the whole answer stands in the end. spec: broker §5.2, §5.3

use super::sse::Events;
use super::{Failed, Voice, content_type, object, usage};
use crate::broker::inside::read;
use axum::body::Body;
use axum::http::Response;
use serde_json::{Map, Value};

/// Characters of a wrong answer that a broker is told.
const SHOWN: usize = 600;

/// A streamed answer. spec: §5.3
pub(super) async fn stream(voice: &Voice<'_>, answer: Response<Body>) -> Result<(), Failed> {
    let kind = content_type(&answer);
    if !kind.contains("text/event-stream") {
        let body = read(answer).await?;
        let shown: String = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
        return Err(Failed::Error(format!(
            "Responses API streaming expected text/event-stream but got {kind}: {shown}"
        )));
    }
    let mut events = Events::of(answer);
    let mut completion_id = None;
    let (mut response, mut counted) = (Value::Null, Map::new());
    while let Some(event) = events.next().await? {
        completion_id = completion_id.or_else(|| name_of(&event));
        if event.get("type").is_some_and(|kind| kind == "response.completed") {
            response = event.get("response").cloned().unwrap_or_default();
        }
        let of = event.pointer("/response/usage").or_else(|| event.get("usage"));
        if of.is_some_and(Value::is_object) {
            counted = usage(of);
        }
        let delta = event.get("delta").cloned().unwrap_or_else(|| "".into());
        let name = completion_id.as_deref().unwrap_or(voice.job_id);
        voice.chunk(name, delta, Some(event)).await?;
    }
    let completion_id = completion_id.unwrap_or_else(|| voice.job_id.to_owned());
    Ok(voice.end(completion_id, counted, Some(response)).await?)
}

/// The name an event gives the answer.
fn name_of(event: &Value) -> Option<String> {
    let places = ["/response_id", "/id", "/response/id"];
    let name = places.iter().find_map(|place| event.pointer(place)?.as_str());
    name.filter(|name| !name.is_empty()).map(ToOwned::to_owned)
}

/// A whole answer. spec: §5.2
pub(super) async fn whole(voice: &Voice<'_>, answer: Response<Body>) -> Result<(), Failed> {
    let body = object(answer).await?;
    let id = body.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let completion_id = id.unwrap_or(voice.job_id).to_owned();
    let counted = usage(body.get("usage"));
    Ok(voice.end(completion_id, counted, Some(Value::Object(body))).await?)
}
