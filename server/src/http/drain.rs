//! `/v1/drain`: whether the worker wants new work, and the way to change that. spec: proxy §25

use super::App;
use super::errors::ApiError;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The route.
const PATH: &str = "/v1/drain";
/// Largest body that is read: one word.
const MAX_BODY: usize = 4096;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    drain: bool,
}

/// What may be read.
pub fn reading() -> Router<Arc<App>> {
    Router::new().route(PATH, get(show))
}

/// What changes the worker: for an administrator.
pub fn changing() -> Router<Arc<App>> {
    Router::new().route(PATH, post(change))
}

/// GET `/v1/drain`: whether the worker is drained, why, and what still runs.
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    Json(view(&app))
}

/// POST `/v1/drain`: `{"drain": true}` drains the worker, `{"drain": false}` takes that back, and
/// `READY=0` with it. The answer is what [`show`] says then: a notice file goes on to hold.
///
/// # Errors
/// 400 for any other body.
pub async fn change(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    let body = body.map_err(|_| ApiError::too_large(MAX_BODY))?;
    let order: Order = serde_json::from_slice(&body).map_err(|_| {
        ApiError::bad_request(
            "invalid_body",
            "the body must be {\"drain\": true} or {\"drain\": false}",
        )
    })?;
    app.drain.order(order.drain);
    Ok(Json(view(&app)))
}

fn view(app: &App) -> Value {
    let causes = app.drain.causes();
    let reasons: Vec<Value> = causes
        .iter()
        .map(|cause| json!({ "name": cause.as_str(), "detail": cause.detail() }))
        .collect();
    json!({
        "draining": causes.any(),
        "reasons": reasons,
        "in_flight": app.limiter.in_flight(),
        "backfill": app.workload.priority.slots().active(),
    })
}
