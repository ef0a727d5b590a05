//! Generation requests: the client's body is checked and prepared, sent to the engine, and the
//! answer is relayed. Nothing here can fail for a mining reason. spec: proxy §5.1, §8.6

use super::App;
use super::answer::{Answered, forward};
use super::auth::Caller;
use super::engine::{EngineError, Health};
use super::engines::EngineIndex;
use super::errors::ApiError;
use super::headers::{X_TENSORPOW_MINE, X_TENSORPOW_MINING, for_engine, media_type};
use super::inject::{Class, Prepared, Route, prepare};
use super::limits::Client;
use super::router::{Asked, Peer};
use super::token_limits::hold_to;
use crate::breaker::BreakerState;
use crate::metrics::names;
use crate::mining::payload::Dialect;
use crate::priority::Permit;
use crate::priority::queue::ClientClass;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

/// Answers one generation request.
///
/// # Errors
/// [`ApiError`] for a bad request or a failing engine.
pub async fn generate(
    app: &Arc<App>,
    route: Route,
    asked: &Asked,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let Asked { id, caller, peer } = asked;
    let mut place = app.limiter.admit(client(caller, *peer))?;
    let (head, body) = request.into_parts();
    if !media_type(&head.headers).is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
    {
        return Err(ApiError::bad_request(
            "invalid_content_type",
            "Content-Type must be application/json",
        ));
    }
    let body = read_body(app, body).await?;
    let body = hold_to(app.limits.max_tokens, route, body)?;
    let choose = |model: Option<&str>, of: Option<&str>| choose(app, caller, model, of);
    let (mut prepared, engine) = prepare_body(app, route, &head.headers, &body, choose)?;
    let importance = head.extensions.get::<ClientClass>().copied().unwrap_or_default();
    let permit = let_in(app, engine, importance).await?;
    if !permit.waited().is_zero() {
        // The mining context may have moved on meanwhile.
        (prepared, _) = prepare_body(app, route, &head.headers, &body, |_, _| engine)?;
    }
    let attempt = app.engines.get(engine).begin().await.map_err(|open| {
        app.metrics.busy().count_refused(importance.as_str(), "breaker_open");
        // What it would be told by trying, only sooner.
        ApiError::from(EngineError::Unreachable(open.to_string())).retry_after(open.retry_after)
    })?;
    let class = prepared.class;
    let model = model_label(class, prepared.model.as_deref());
    let label = app.engines.get(engine).label();
    let mut counted = app.metrics.begin(route, class, model, label).holding(permit, attempt);
    counted.charge(place.take_charge());
    if prepared.stream {
        counted.stream_sent();
    }
    let shows_our_key = caller.key.is_some();
    let key = app.engines.get(engine).key();
    let headers = for_engine(head.headers, id, key, shows_our_key);
    let answered = Answered {
        counted,
        place: Some(place),
        to_the_end: class == Class::Mined && app.limits.finish_for_proof,
        response_of: (route == Route::Responses && app.engines.are_several()).then_some(engine),
    };
    // From here on a client that goes away drops this future, and with it the engine request.
    let path = PathAndQuery::from_static(route.path());
    let mut response =
        forward(app, engine, Method::POST, &path, headers, prepared.body, answered).await?;
    if let Ok(value) = HeaderValue::from_str(&class.to_string()) {
        response.headers_mut().insert(X_TENSORPOW_MINING, value);
    }
    Ok(response)
}

/// The engine of a request: that of its model, or the one on trial beside it. A response is gone on
/// from where it is stored. Nobody is sent to a trial that is down. spec: proxy §12.3, §25
fn choose(app: &App, caller: &Caller, model: Option<&str>, of: Option<&str>) -> EngineIndex {
    let serving = app.engines.for_model(model);
    let (Some(trial), Some((on_trial, beside))) = (&app.trial, app.engines.on_trial()) else {
        return serving;
    };
    if let Some(owner) = of.and_then(|id| app.engines.of_response(id)) {
        return owner;
    }
    let engine = app.engines.get(on_trial);
    let is_fit =
        || engine.health() == Health::Up && engine.breaker().state() == BreakerState::Closed;
    if serving == beside && is_fit() && trial.takes(caller.key.as_deref()) {
        return on_trial;
    }
    serving
}

/// Lets the request in, at once or when there is room. spec: proxy §14.4
async fn let_in(
    app: &App,
    engine: EngineIndex,
    importance: ClientClass,
) -> Result<Permit, ApiError> {
    let busy = app.metrics.busy();
    let began = Instant::now();
    match app.workload.admit(importance, engine).await {
        Ok(permit) => {
            busy.observe_wait(importance.as_str(), "admitted", permit.waited());
            Ok(permit)
        }
        Err(refused) => {
            let reason = refused.reason.as_str();
            busy.count_refused(importance.as_str(), reason);
            busy.observe_wait(importance.as_str(), reason, began.elapsed());
            let message = "Service at capacity, please retry";
            Err(ApiError::busy(reason, message).retry_after(refused.retry_after))
        }
    }
}

/// The mined model's name; everything else is one label, whatever a client writes into `model`.
fn model_label(class: Class, model: Option<&str>) -> &'static str {
    match (class, model) {
        (Class::Mined, Some(model)) => names::label(model),
        _ => names::OTHER,
    }
}

/// Whose share of the running requests it is.
fn client(caller: &Caller, peer: Option<Peer>) -> Client {
    match (&caller.key, peer) {
        (Some(key), _) => Client::Key(key.clone()),
        (None, Some(Peer(address))) => Client::Address(address),
        (None, None) => Client::Address(Ipv4Addr::LOCALHOST.into()),
    }
}

/// Reads the body within the limits on size and time.
pub(super) async fn read_body(app: &App, body: Body) -> Result<Bytes, ApiError> {
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
    choose: impl FnOnce(Option<&str>, Option<&str>) -> EngineIndex,
) -> Result<(Prepared, EngineIndex), ApiError> {
    let snapshot = app.context.load();
    let version = app.context.settings().proof_version;
    let mut engine = EngineIndex::DEFAULT;
    let dialect = |model: Option<&str>, of: Option<&str>| {
        engine = choose(model, of);
        app.engines.get(engine).dialect()
    };
    let offer = |dialect: Dialect, model: Option<&str>| {
        snapshot.offer_to(dialect.kind, dialect.form, model, app.limits.job_stale_after)
    };
    let prepared = prepare(body, route, opted_out(headers), version, dialect, offer)
        .map_err(|error| ApiError::bad_request("invalid_body", error.to_string()))?;
    if let (true, Class::Plain(reason)) = (app.limits.strict_mining, prepared.class) {
        let wanted =
            prepared.model.as_deref().is_some_and(|model| snapshot.models().is_mining_model(model));
        if wanted && !reason.is_the_clients_choice() {
            return Err(ApiError::busy(
                "not_mining",
                format!("strict mining: the request cannot be mined now ({})", reason.reason()),
            ));
        }
    }
    Ok((prepared, engine))
}

/// `X-Tensorpow-Mine: off` (or `false`, `no`, `0`). spec: proxy §11.3
fn opted_out(headers: &HeaderMap) -> bool {
    headers.get(X_TENSORPOW_MINE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        ["off", "false", "no", "0"].iter().any(|off| value.trim().eq_ignore_ascii_case(off))
    })
}
