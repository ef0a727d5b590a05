//! One request to an engine and its answer's way back to the client: counted, limited in time, its
//! place given back when the last byte has left. spec: proxy §4, §5.1, §5.2

use super::App;
use super::engine::{EngineBody, EngineError, Purpose};
use super::engines::{EngineIndex, Engines};
use super::errors::ApiError;
use super::headers::{for_client, is_event_stream};
use super::inflate;
use super::limits::Place;
use super::relay::{Relay, buffer};
use super::usage::Usage;
use crate::metrics::{InFlight, Outcome};
use axum::body::Body;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use std::sync::Arc;
use tracing::Instrument as _;

/// What lives as long as an answer.
#[derive(Debug)]
pub struct Answered {
    /// Counts it.
    pub counted: InFlight,
    /// Its place among the running requests.
    pub place: Option<Place>,
    /// Set when the answer is a response that may be asked for by its id later.
    pub response_of: Option<EngineIndex>,
    /// The engine's work goes on although the client has gone: its proof is wanted.
    pub to_the_end: bool,
}

impl Answered {
    /// Somebody will ask by the answer's id.
    pub(super) const fn wants_id(&self) -> bool {
        self.response_of.is_some() || self.counted.wants_id()
    }

    /// Notes the answer's id.
    pub(super) fn named(&mut self, id: &str, engines: &Engines) {
        if let Some(engine) = self.response_of.take() {
            engines.remember_response(id, engine);
        }
        self.counted.named(id);
    }
}

/// Sends a request and relays the answer: a successful stream as it comes; everything else is
/// buffered and keeps the engine's status and content type. Dropping the future aborts the engine's
/// work, unless the answer is wanted to the end.
///
/// # Errors
/// [`ApiError`] when no whole answer comes.
pub async fn forward(
    app: &Arc<App>,
    engine: EngineIndex,
    method: Method,
    path: &PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
    answered: Answered,
) -> Result<Response<Body>, ApiError> {
    if !answered.to_the_end {
        return exchange(app, engine, method, path, headers, body, answered).await;
    }
    // A task of its own does not end with the client.
    let (app, path) = (app.clone(), path.clone());
    let task = async move { exchange(&app, engine, method, &path, headers, body, answered).await };
    tokio::spawn(task.in_current_span()).await.unwrap_or_else(|_| {
        Err(ApiError::busy("interrupted", "the request was interrupted by the proxy's end"))
    })
}

async fn exchange(
    app: &Arc<App>,
    engine: EngineIndex,
    method: Method,
    path: &PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
    mut answered: Answered,
) -> Result<Response<Body>, ApiError> {
    let sent = app.engines.get(engine).send(Purpose::User, method, path, headers, body).await;
    match sent {
        Ok(answer) => relay(app, engine, answer, answered).await,
        Err(error) => Err(broke(&mut answered.counted, error)),
    }
}

fn broke(counted: &mut InFlight, error: EngineError) -> ApiError {
    counted.finish(Outcome::EngineBroke, None);
    error.into()
}

async fn relay(
    app: &Arc<App>,
    engine: EngineIndex,
    answer: Response<EngineBody>,
    mut answered: Answered,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = answer.into_parts();
    let is_stream = head.status.is_success() && is_event_stream(&head.headers);
    let mut headers = for_client(head.headers);
    let timeouts = app.engines.get(engine).timeouts();
    let body = if is_stream {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        Body::new(Relay::new(body, *timeouts, app.engines.clone(), engine, answered))
    } else {
        let whole = buffer(body, timeouts.total).await;
        match whole.and_then(|body| inflate::plain(&mut headers, body)) {
            Ok(body) => {
                note_whole(&app.engines, head.status, &body, &mut answered);
                Body::from(body)
            }
            Err(error) => return Err(broke(&mut answered.counted, error)),
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn note_whole(engines: &Engines, status: StatusCode, body: &[u8], answered: &mut Answered) {
    let outcome = match status {
        status if status.is_success() => Outcome::Complete,
        status if status.is_server_error() => Outcome::EngineError,
        _ => Outcome::EngineRefused,
    };
    let usage = if status.is_success() { Usage::of_json(body) } else { None };
    if answered.wants_id()
        && let Some(id) = response_id(body)
    {
        answered.named(&id, engines);
    }
    answered.counted.finish(outcome, usage);
}

/// The id that a piece of a stream names first.
#[must_use]
pub fn event_id(piece: &[u8]) -> Option<String> {
    let mut lines = piece.split(|byte| *byte == b'\n');
    lines.find_map(|line| response_id(line.strip_prefix(b"data:")?.trim_ascii()))
}

/// The `id` of a response object, or of the one an event carries.
#[must_use]
pub fn response_id(json: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Object {
        id: Option<String>,
        response: Option<Nested>,
    }
    #[derive(serde::Deserialize)]
    struct Nested {
        id: Option<String>,
    }
    let object: Object = serde_json::from_slice(json).ok()?;
    object.response.and_then(|response| response.id).or(object.id)
}
