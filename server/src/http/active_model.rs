//! `/v1/mining/active-model`: which model is mined, and the way to change it. Whoever may change it
//! decides what this worker mines, so these routes belong to the administrator. spec: proxy §7

use super::App;
use super::errors::ApiError;
use crate::active_model::{Accepted, Change, Refused, text_of};
use crate::mining::model::ModelId;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The route.
pub const PATH: &str = "/v1/mining/active-model";
/// Largest body that is read: two names.
const MAX_BODY: usize = 64 * 1024;

/// The routes, for an administrator.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(PATH, get(show).post(change))
        .route("/v1/mining/active-model/switches/{id}", get(switch))
}

/// GET `/v1/mining/active-model`
pub async fn show(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.active_model.view())
}

/// GET `/v1/mining/active-model/switches/{id}`: how far a switch is. spec: proxy §19
///
/// # Errors
/// 404 for a number that is not one of the last switches.
pub async fn switch(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let report = id.parse().ok().and_then(|number| app.active_model.switch(number));
    report.map(Json).ok_or_else(|| ApiError::not_found("no such switch"))
}

/// POST `/v1/mining/active-model`. 202 with a place to look when a forced switch takes long.
///
/// # Errors
/// [`ApiError`] with the reason why nothing changes.
pub async fn change(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let body = axum::body::to_bytes(body, MAX_BODY).await;
    let body = body.map_err(|_| ApiError::too_large(MAX_BODY))?;
    let change = parse(&body)?;
    let accepted = app.active_model.change(change).await?;
    let mut view = app.active_model.view();
    Ok(match accepted {
        Accepted::Done => Json(json!({ "ok": true, "active_model": view })).into_response(),
        Accepted::Scheduled => {
            view["switch_scheduled"] = true.into();
            Json(json!({ "ok": true, "active_model": view })).into_response()
        }
        Accepted::Running(number) => {
            let place = format!("{PATH}/switches/{number}");
            let body = json!({ "ok": true, "active_model": view, "switch": place });
            let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
            if let Ok(place) = HeaderValue::from_str(&place) {
                response.headers_mut().insert(header::LOCATION, place);
            }
            response
        }
        Accepted::Failed(error) => {
            return Err(ApiError::new(StatusCode::BAD_GATEWAY, "switch_failed", error));
        }
    })
}

fn parse(body: &[u8]) -> Result<Change, ApiError> {
    let invalid = |message| ApiError::bad_request("invalid_body", message);
    let value: Value = serde_json::from_slice(body).map_err(|_| invalid("Invalid JSON body"))?;
    let Value::Object(fields) = value else { return Err(invalid("JSON object expected")) };
    let (name, commit) = (text_of(fields.get("model_name")), text_of(fields.get("model_commit")));
    let model = match (name.is_empty(), commit.is_empty()) {
        (true, true) => None,
        _ => Some(ModelId::new(&name, &commit).ok_or(Refused::HalfPin)?),
    };
    Ok(Change { model, force: is_truthy(&fields, "force_switch") })
}

/// What counts as true in the reference: everything but null, false, zero and emptiness; so also
/// the text `"false"`. spec: proxy §7
fn is_truthy(fields: &Map<String, Value>, key: &str) -> bool {
    match fields.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (status, code) = match refused {
            Refused::NoRegistry => (StatusCode::INTERNAL_SERVER_ERROR, "no_registry"),
            Refused::Busy => (StatusCode::CONFLICT, "switch_in_progress"),
            Refused::HalfPin => (StatusCode::BAD_REQUEST, "half_pin"),
            _ => (StatusCode::BAD_REQUEST, "unknown_model"),
        };
        Self::new(status, code, refused.to_string())
    }
}
