//! `/v1/rollout`: what was brought in last, how an engine on trial does, and the calls that change or
//! take back. spec: proxy §25

use super::App;
use super::errors::ApiError;
use crate::active_model::Accepted;
use crate::rollout::rollback::{NotRolledBack, Of};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest body that is read.
const MAX_BODY: usize = 4096;

/// What may be read.
pub fn reading() -> Router<Arc<App>> {
    Router::new().route("/v1/rollout", get(show))
}

/// What changes the worker: for an administrator.
pub fn changing() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/rollout/canary", post(canary))
        .route("/v1/rollout/rollback", post(rollback))
}

/// GET `/v1/rollout`
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.rollout.view())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    percent: f64,
}

/// POST `/v1/rollout/canary` `{"percent": 10}`: begins, changes or (0) ends the trial.
///
/// # Errors
/// 404 without an engine on trial, 400 for what is no percentage.
pub async fn canary(State(app): State<Arc<App>>, body: Body) -> Result<Json<Value>, ApiError> {
    let missing = "no engine is on trial: set TENSORPOW_CANARY (canary.url)";
    let trial = app.trial.clone().ok_or_else(|| ApiError::not_found(missing))?;
    let Share { percent } = read(body).await?;
    // It is written down.
    let set = tokio::task::spawn_blocking(move || trial.set_percent(percent)).await;
    set.unwrap_or_else(|error| Err(error.to_string()))
        .map_err(|error| ApiError::bad_request("invalid_body", error))?;
    Ok(Json(json!({ "ok": true, "rollout": app.rollout.view() })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    of: Option<String>,
}

/// POST `/v1/rollout/rollback`, with `{"of": "canary"|"model"|"image"}` or nothing for what came last.
///
/// # Errors
/// 409 when there is nothing to take back, 502 when it failed.
pub async fn rollback(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let What { of } = read(body).await?;
    let of = of
        .map(|word| {
            Of::read(&word).ok_or_else(|| {
                let error = format!("of: {word:?} is not canary, model or image");
                ApiError::bad_request("invalid_body", error)
            })
        })
        .transpose()?;
    let done = app.rollout.back(of).await?;
    let mut answer = json!({
        "ok": true,
        "of": done.of.as_str(),
        "to": done.to,
        "rollout": app.rollout.view(),
    });
    let status = match done.accepted {
        None | Some(Accepted::Done | Accepted::Scheduled) => StatusCode::OK,
        Some(Accepted::Running(number)) => {
            answer["switch"] = format!("{}/switches/{number}", super::active_model::PATH).into();
            StatusCode::ACCEPTED
        }
        Some(Accepted::Failed(error)) => {
            return Err(ApiError::new(StatusCode::BAD_GATEWAY, "switch_failed", error));
        }
    };
    Ok((status, Json(answer)).into_response())
}

/// A small JSON object; no body counts as an empty one.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    let body = body.map_err(|_| ApiError::too_large(MAX_BODY))?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text)
        .map_err(|error| ApiError::bad_request("invalid_body", error.to_string()))
}

impl From<NotRolledBack> for ApiError {
    fn from(error: NotRolledBack) -> Self {
        match error {
            NotRolledBack::Nothing(why) => {
                Self::new(StatusCode::CONFLICT, "nothing_to_roll_back", why)
            }
            NotRolledBack::Refused(refused) => refused.into(),
            NotRolledBack::Command(why) => {
                Self::new(StatusCode::BAD_GATEWAY, "rollback_failed", why)
            }
        }
    }
}
