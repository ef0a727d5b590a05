//! Inference jobs: which local route a payload takes ([`route`]), what the route's answer becomes
//! ([`chat`], [`responses`]; their streams are read by [`sse`]), and the one end every job has.
//! spec: broker §5

pub mod chat;
pub mod convert;
pub mod responses;
pub mod route;
pub mod sse;

use super::frames::Start;
use super::inside::{Inside, read};
use super::outgoing::Outgoing;
use super::uplink::{Gone, Wire};
use axum::body::Body;
use axum::http::{Method, Response, header};
use bytes::Bytes;
use route::{Endpoint, Routed};
use serde_json::{Map, Value};
use std::time::Duration;

/// Characters of an engine's error that a broker is told. spec: §5.1 step 7
const SHOWN_ERROR: usize = 600;
/// What a confidential job is told; never a byte of it is looked at. spec: §10
const NOT_CONFIDENTIAL: &str = "Worker not configured for confidential mode";

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With `END`.
    Well,
    /// With `ERROR`.
    InError,
    /// The connection went first.
    Unheard,
}

/// Why a job produces no `END`.
#[derive(Debug)]
pub(super) enum Failed {
    /// In words for the broker.
    Error(String),
    /// There is nobody to tell.
    Gone,
}

impl From<Gone> for Failed {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self::Error(error)
    }
}

/// A job's way out: everything it says carries its name.
#[derive(Debug)]
pub(super) struct Voice<'a> {
    pub(super) job_id: &'a str,
    pub(super) wire: &'a Wire,
}

impl Voice<'_> {
    pub(super) async fn chunk(
        &self,
        completion_id: &str,
        delta: Value,
        data: Option<Value>,
    ) -> Result<(), Gone> {
        let (job_id, completion_id) = (self.job_id.to_owned(), completion_id.to_owned());
        self.wire.send(&Outgoing::Chunk { job_id, completion_id, delta, data }).await
    }

    pub(super) async fn end(
        &self,
        completion_id: String,
        usage: Map<String, Value>,
        response: Option<Value>,
    ) -> Result<(), Gone> {
        let job_id = self.job_id.to_owned();
        self.wire.send(&Outgoing::End { job_id, completion_id, usage, response }).await
    }
}

/// Runs an acknowledged job to its one end. Dropping the future aborts the engine's work.
/// spec: §5.1
pub async fn run(inside: &dyn Inside, wire: &Wire, start: Start, limit: Duration) -> Ended {
    let voice = Voice { job_id: &start.job_id, wire };
    let answered = tokio::time::timeout(limit, perform(inside, &voice, &start));
    let error = match answered.await {
        Ok(Ok(())) => return Ended::Well,
        Ok(Err(Failed::Gone)) => return Ended::Unheard,
        Ok(Err(Failed::Error(error))) => error,
        Err(_) => format!("Local inference request exceeded {} s", limit.as_secs()),
    };
    tracing::warn!(job = start.job_id, "inference job failed: {error:.200}");
    match wire.send(&Outgoing::JobError { job_id: start.job_id.clone(), error }).await {
        Ok(()) => Ended::InError,
        Err(Gone) => Ended::Unheard,
    }
}

async fn perform(inside: &dyn Inside, voice: &Voice<'_>, start: &Start) -> Result<(), Failed> {
    let payload = start.payload.as_ref().ok_or_else(|| "invalid payload".to_owned())?;
    // Before anything of the payload is read.
    if payload.get("confidential").is_some_and(is_truthy) {
        return Err(NOT_CONFIDENTIAL.to_owned().into());
    }
    let Routed { endpoint, body } = route::choose(payload, start.wants_responses)?;
    let streams = body.get("stream").is_some_and(is_truthy);
    let hint = payload.get("completion_id").and_then(Value::as_str);
    let text = Bytes::from(Value::Object(body.into_owned()).to_string());
    let answer = inside.call(Method::POST, endpoint.path(), text).await;
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return Err(refusal(answer).await.into());
    }
    match (endpoint, streams) {
        (Endpoint::Chat, true) => chat::stream(voice, answer).await,
        (Endpoint::Chat, false) => chat::whole(voice, answer, hint).await,
        (Endpoint::Responses, true) => responses::stream(voice, answer).await,
        (Endpoint::Responses, false) => responses::whole(voice, answer).await,
    }
}

/// What counts as "yes" in a payload: everything but null, false, zero and what is empty.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

pub(super) fn content_type(answer: &Response<Body>) -> String {
    let found = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    found.unwrap_or("(none)").to_owned()
}

async fn refusal(answer: Response<Body>) -> String {
    let (status, kind) = (answer.status().as_u16(), content_type(&answer));
    let body = read(answer).await.unwrap_or_default();
    let shown: String = String::from_utf8_lossy(&body).chars().take(SHOWN_ERROR).collect();
    format!("Local inference request failed: HTTP {status} (content-type={kind}): {shown}")
}

/// The JSON object of a whole answer.
pub(super) async fn object(answer: Response<Body>) -> Result<Map<String, Value>, String> {
    let body = read(answer).await?;
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("the engine's answer is no JSON object".to_owned()),
        Err(error) => Err(format!("the engine's answer is no JSON: {error}")),
    }
}

/// Token counts, as far as they are there.
pub(super) fn usage(of: Option<&Value>) -> Map<String, Value> {
    of.and_then(Value::as_object).cloned().unwrap_or_default()
}
