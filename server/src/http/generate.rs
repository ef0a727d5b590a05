//! Generation requests: the client's body is checked and prepared, sent to the engine, and the
//! answer is relayed. Nothing here can fail for a mining reason. spec: proxy §5.1, §8.6

use super::App;
use super::engine::EngineError;
use super::errors::ApiError;
use super::headers::{
    X_TENSORPOW_MINE, X_TENSORPOW_MINING, for_client, for_engine, is_event_stream, media_type,
};
use super::inject::{Class, Prepared, Route, prepare};
use super::relay::{Relay, buffer};
use super::router::{KeepAuthorization, RequestId};
use super::usage::Usage;
use crate::metrics::{InFlight, Outcome, names};
use crate::priority::Permit;
use crate::priority::queue::ClientClass;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;

/// Everything a generation handler is given.
type Parts = (State<Arc<App>>, Extension<RequestId>, Extension<KeepAuthorization>);

/// POST `/v1/chat/completions`
///
/// # Errors
/// [`ApiError`] for a bad request or a failing engine.
pub async fn chat_completions(parts: Parts, request: Request) -> Result<Response<Body>, ApiError> {
    generate(parts, Route::ChatCompletions, request).await
}

/// POST `/v1/completions`
///
/// # Errors
/// [`ApiError`] for a bad request or a failing engine.
pub async fn completions(parts: Parts, request: Request) -> Result<Response<Body>, ApiError> {
    generate(parts, Route::Completions, request).await
}

/// POST `/v1/responses`
///
/// # Errors
/// [`ApiError`] for a bad request or a failing engine.
pub async fn responses(parts: Parts, request: Request) -> Result<Response<Body>, ApiError> {
    generate(parts, Route::Responses, request).await
}

async fn generate(
    (State(app), Extension(id), Extension(KeepAuthorization(keep_authorization))): Parts,
    route: Route,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    if !media_type(&head.headers).is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
    {
        return Err(ApiError::bad_request(
            "invalid_content_type",
            "Content-Type must be application/json",
        ));
    }
    let body = read_body(&app, body).await?;
    let mut prepared = prepare_body(&app, route, &head.headers, &body)?;
    let client = head.extensions.get::<ClientClass>().copied().unwrap_or_default();
    let permit = admit(&app, client).await?;
    if !permit.waited().is_zero() {
        // The mining context may have moved on meanwhile.
        prepared = prepare_body(&app, route, &head.headers, &body)?;
    }
    let attempt = app.workload.breaker.begin().map_err(|open| {
        app.metrics.busy().count_refused(client.as_str(), "breaker_open");
        // What it would be told by trying, only sooner.
        ApiError::from(EngineError::Unreachable(open.to_string())).retry_after(open.retry_after)
    })?;
    let class = prepared.class;
    let headers = for_engine(&head.headers, &id.fresh, app.engine.key(), keep_authorization);
    // From here on a client that goes away drops this future, and with it the engine request.
    let model = model_label(&app, class);
    let mut in_flight = app.metrics.begin(route, class, model).holding(permit, attempt);
    if prepared.stream {
        in_flight.stream_sent();
    }
    let path = PathAndQuery::from_static(route.path());
    let answer = match app.engine.send(Method::POST, &path, headers, prepared.body).await {
        Ok(answer) => answer,
        Err(error) => return Err(broke(&mut in_flight, error)),
    };
    let mut response = relay(&app, answer, in_flight).await?;
    if let Ok(value) = HeaderValue::from_str(&class.to_string()) {
        response.headers_mut().insert(X_TENSORPOW_MINING, value);
    }
    Ok(response)
}

/// Lets the request in, at once or when there is room. spec: proxy §14.4
async fn admit(app: &App, client: ClientClass) -> Result<Permit, ApiError> {
    let busy = app.metrics.busy();
    match app.workload.priority.admit(client).await {
        Ok(permit) => {
            busy.observe_wait(client.as_str(), "admitted", permit.waited());
            Ok(permit)
        }
        Err(refused) => {
            busy.count_refused(client.as_str(), refused.reason.as_str());
            let message = "Service at capacity, please retry";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, refused.reason.as_str(), message)
                .retry_after(refused.retry_after))
        }
    }
}

/// The mined model's name; everything else is one label, whatever a client writes into `model`.
fn model_label(app: &App, class: Class) -> &'static str {
    match class {
        Class::Mined => {
            app.context.load().mining_model().map_or(names::OTHER, |name| names::label(&name))
        }
        _ => names::OTHER,
    }
}

fn broke(in_flight: &mut InFlight, error: EngineError) -> ApiError {
    in_flight.finish(Outcome::EngineBroke, None);
    error.into()
}

/// Reads the body within the limits on size and time.
async fn read_body(app: &App, body: Body) -> Result<Bytes, ApiError> {
    let reading = collect(body, app.limits.body);
    tokio::time::timeout(app.limits.body_time, reading).await.unwrap_or_else(|_| {
        Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the request body did not arrive within {:?}", app.limits.body_time),
        ))
    })
}

/// All pieces of a body. One that is too large is read on for a while and thrown away: closing the
/// connection under a client that is still sending would cost it the answer.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let declared = body.size_hint().lower();
    let mut pieces = Vec::new();
    let mut read = 0;
    let mut fits = usize::try_from(declared).is_ok_and(|declared| declared <= limit);
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| ApiError::bad_request("unreadable_body", "the request body broke off"))?;
        let Ok(piece) = frame.into_data() else { continue };
        read += piece.len();
        fits &= read <= limit;
        if fits {
            pieces.extend_from_slice(&piece);
        } else {
            pieces = Vec::new();
            if read > limit.saturating_mul(2) {
                break;
            }
        }
    }
    if fits { Ok(pieces.into()) } else { Err(ApiError::too_large(limit)) }
}

fn prepare_body(
    app: &App,
    route: Route,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Prepared, ApiError> {
    let snapshot = app.context.load();
    let offer = |model: Option<&str>| snapshot.offer(model, app.limits.job_stale_after);
    prepare(body, route, opted_out(headers), app.context.settings(), offer)
        .map_err(|error| ApiError::bad_request("invalid_body", error.to_string()))
}

/// `X-Tensorpow-Mine: off` (or `false`, `no`, `0`). spec: proxy §11.3
fn opted_out(headers: &HeaderMap) -> bool {
    headers.get(X_TENSORPOW_MINE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        ["off", "false", "no", "0"].iter().any(|off| value.trim().eq_ignore_ascii_case(off))
    })
}

/// A successful stream is relayed as it comes; everything else is buffered and keeps the engine's
/// status and content type. spec: proxy §4
async fn relay(
    app: &App,
    answer: Response<Incoming>,
    mut in_flight: InFlight,
) -> Result<Response<Body>, ApiError> {
    let (head, engine) = answer.into_parts();
    let mut headers = for_client(&head.headers);
    let timeouts = app.engine.timeouts();
    let body = if head.status.is_success() && is_event_stream(&head.headers) {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
        Body::new(Relay::new(engine, timeouts.idle, in_flight))
    } else {
        let body = match buffer(engine, timeouts.headers).await {
            Ok(body) => body,
            Err(error) => return Err(broke(&mut in_flight, error)),
        };
        let outcome = match head.status {
            status if status.is_success() => Outcome::Complete,
            status if status.is_server_error() => Outcome::EngineError,
            _ => Outcome::EngineRefused,
        };
        in_flight.finish(outcome, Usage::of_json(&body));
        Body::from(body)
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// GET `/v1/models`: the engine's own answer, asked for with the proxy's key. spec: proxy §5.3
///
/// # Errors
/// [`ApiError`] when the engine does not answer.
pub async fn models(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
) -> Result<Response<Body>, ApiError> {
    let limit = app.engine.timeouts().connect * 2;
    let answer = app.engine.get("/v1/models", Some(&id.fresh), limit).await?;
    let (head, engine) = answer.into_parts();
    let body = buffer(engine, limit).await?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = head.status;
    *response.headers_mut() = for_client(&head.headers);
    Ok(response)
}
