//! The dashboard's routes under `/ui/api`: the state, once and every second, the last proofs with
//! their pictures, and the wizard. They need the same key as the rest of the API; what changes
//! something is a router of its own, for holders of the admin scope.

use super::config::{self, Wizard, WizardError};
use super::readings::Readings;
use super::{recent, state};
use crate::http::App;
use crate::http::errors::ApiError;
use crate::http::status;
use crate::mining::sink::ReceivedProof;
use crate::proof_command::plot;
use crate::report::{self, Against, Line};
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::Stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use tensorpow_core::proof::MiningResponseRef;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Proofs listed.
const LISTED: usize = 40;

/// Routes that show.
pub fn views() -> Router<Arc<App>> {
    Router::new()
        .route("/ui/api/state", get(state_now))
        .route("/ui/api/events", get(events))
        .route("/ui/api/proofs", get(proofs))
        .route("/ui/api/proof/{id}", get(proof))
        .route("/ui/api/proof/{id}/plot.svg", get(picture))
}

/// Routes that change something, or show what only an administrator needs.
pub fn changes() -> Router<Arc<App>> {
    Router::new().route("/ui/api/config", get(read_config).post(write_config))
}

/// GET `/ui/api/state`: the state of this moment with the last ten minutes.
async fn state_now(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let text = status::metrics_text(&app)?;
    let mut state = state::document(&app, &Readings::parse(&text));
    state["history"] = app.ui.history().columns();
    Ok(Json(state))
}

/// What one dashboard listens to; its place is free again when it leaves.
struct Watch {
    now: watch::Receiver<Option<Arc<str>>>,
    _place: OwnedSemaphorePermit,
}

/// GET `/ui/api/events`: the state every second, until the proxy drains.
async fn events(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let place = app.ui.watchers.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_dashboards",
            "too many dashboards look on; close one",
        )
    })?;
    let watch = Watch { now: app.ui.now.subscribe(), _place: place };
    let mut response = Sse::new(told(watch)).keep_alive(KeepAlive::default()).into_response();
    // A proxy in front must not collect events before it passes them on.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn told(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    futures_util::stream::unfold(watch, |mut watch| async move {
        watch.now.changed().await.ok()?;
        let state = watch.now.borrow_and_update().clone()?;
        Some((Ok(Event::default().event("state").data(&*state)), watch))
    })
}

/// GET `/ui/api/proofs`: the last proofs, newest first.
async fn proofs(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let entries = app.ui.recent().newest(LISTED);
    let last = app.ui.newest_proof();
    let v3_active = is_v3_active(&app);
    let list =
        replay(&app, move || entries.iter().map(|entry| entry.line(v3_active)).collect::<Vec<_>>());
    Ok(Json(json!({ "last": last, "proofs": list.await? })))
}

/// GET `/ui/api/proof/{id}`: what a proof claims, and every check with its value. The id is one of
/// the list's or a completion id.
async fn proof(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id?;
    let received = find(&app, &id).await?;
    let against = Against { share_target: None, v3_active: is_v3_active(&app) };
    let (completion_id, tier) = (received.completion_id.clone(), received.tier.as_str());
    let report = replay(&app, move || {
        MiningResponseRef::read(&received.message)
            .map(|message| report::of_proof(&message, &against))
            .map_err(|error| unreadable(&error.to_string()))
    });
    let report = report.await??;
    let line = |line: &Line| json!({ "name": line.name, "value": line.value, "ok": line.passed });
    Ok(Json(json!({
        "completion_id": completion_id,
        "tier": tier,
        "valid": report.passed(),
        "claims": report.claims.iter().map(line).collect::<Vec<_>>(),
        "checks": report.checks.iter().map(line).collect::<Vec<_>>(),
    })))
}

/// GET `/ui/api/proof/{id}/plot.svg`: where each draw lies in the interval of its token.
async fn picture(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id?;
    let received = find(&app, &id).await?;
    let v3_active = is_v3_active(&app);
    let svg = replay(&app, move || {
        let steps = recent::steps_of(&received, v3_active).map_err(|why| unreadable(&why))?;
        Ok::<_, ApiError>(plot::svg(&steps, "u in its interval, step by step"))
    });
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, svg.await??).into_response())
}

fn is_v3_active(app: &App) -> bool {
    app.context.settings().proof_version >= 3
}

async fn find(app: &App, id: &str) -> Result<Arc<ReceivedProof>, ApiError> {
    let listed = app.ui.recent().find(id).map(|entry| entry.proof().clone());
    let found = match listed {
        Some(proof) => Some(proof),
        None => app.store.find(id, None).await.map(|found| found.proof),
    };
    found.ok_or_else(|| ApiError::not_found("this proof is no longer kept"))
}

fn unreadable(why: &str) -> ApiError {
    let message = format!("this proof cannot be replayed: {why}");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable_proof", message)
}

/// Does work on proofs off the threads that serve sockets, a few at a time.
async fn replay<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let failed = || {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the proof was not replayed")
    };
    let _turn = app.ui.replays.acquire().await.map_err(|_| failed())?;
    tokio::task::spawn_blocking(work).await.map_err(|_| failed())
}

/// GET `/ui/api/config`: what the wizard's file says; of secrets only whether they are set.
async fn read_config(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let file = app.ui.config_file()?;
    let known = config::read(file)?;
    Ok(Json(json!({ "path": file.display().to_string(), "values": known })))
}

/// POST `/ui/api/config`: checks the values and writes the file.
async fn write_config(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    values: Result<Json<Wizard>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    check_origin(&headers)?;
    let Json(values) = values.map_err(|rejection| {
        ApiError::new(rejection.status(), "invalid_body", rejection.body_text())
    })?;
    let writing = app.clone();
    let written = tokio::task::spawn_blocking(move || {
        let ui = &writing.ui;
        let _alone = ui.writing.lock().unwrap_or_else(PoisonError::into_inner);
        config::write_wizard(ui.config_file()?, &values)
    });
    let warnings = written.await.map_err(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the file was not written")
    })??;
    let path = app.ui.config_file()?.display().to_string();
    tracing::info!(path, "configuration written by the dashboard");
    Ok(Json(json!({
        "path": path,
        "warnings": warnings,
    })))
}

/// A page of another origin has no say here, whatever it sends: a browser names the page's origin
/// with every POST. Programs that are no browser send none.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let of = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if of.is_some() && of == host {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "only the dashboard's own pages may change the configuration",
    ))
}

impl From<WizardError> for ApiError {
    fn from(error: WizardError) -> Self {
        let (status, code) = match error {
            WizardError::Value { .. } => (StatusCode::BAD_REQUEST, "invalid_value"),
            WizardError::NoFile => (StatusCode::CONFLICT, "no_config_file"),
            WizardError::NotToml { .. } => (StatusCode::CONFLICT, "unreadable_config"),
            WizardError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "config_io"),
        };
        Self::new(status, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let headers = |origin: &'static str| {
            HeaderMap::from_iter([
                (header::HOST, HeaderValue::from_static("127.0.0.1:8080")),
                (header::ORIGIN, HeaderValue::from_static(origin)),
            ])
        };
        assert!(check_origin(&HeaderMap::new()).is_ok());
        assert!(check_origin(&headers("http://127.0.0.1:8080")).is_ok());
        for foreign in ["http://evil.example", "null", "http://127.0.0.1:8081", ""] {
            assert!(check_origin(&headers(foreign)).is_err(), "{foreign:?}");
        }
    }
}
