//! Which route is whose, and the layers over all of them: request ids, errors as JSON, and
//! authentication on everything but the probes.

use super::auth::{Access, require};
use super::errors::ApiError;
use super::headers::{X_REQUEST_ID, X_TENSORPOW_REQUEST_ID};
use super::{App, active_model, generate, proofs, spool, status};
use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use tracing::Instrument;

/// The ids of a request.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// Ours: fresh and unique, it becomes the engine's completion id. spec: proxy §4
    pub fresh: HeaderValue,
}

/// Whether a client's `Authorization` is the engine's business: not when it holds our key.
#[derive(Debug, Clone, Copy)]
pub struct KeepAuthorization(pub bool);

/// All routes of the proxy.
pub fn router(app: Arc<App>, access: Access) -> Router {
    let keep = KeepAuthorization(matches!(access, Access::Local));
    let guarded = Router::new()
        .route("/v1/chat/completions", post(generate::chat_completions))
        .route("/v1/completions", post(generate::completions))
        .route("/v1/responses", post(generate::responses))
        .route("/v1/models", get(generate::models))
        .route("/v1/proof/keys", get(proofs::keys))
        .route("/v1/proof/stats", get(proofs::stats))
        .route("/v1/proof/status/{id}", get(proofs::status))
        .route("/v1/proof/{id}", get(proofs::proof))
        .route("/v1/spool", get(spool::list))
        .route("/v1/spool/replay", post(spool::replay))
        .route("/status", get(status::status))
        .route("/metrics", get(status::metrics))
        .merge(crate::ui::api::views())
        .merge(crate::ui::api::changes())
        .merge(active_model::routes())
        .layer(from_fn_with_state(Arc::new(access), require));
    let open =
        Router::new().route("/health", get(status::health)).route("/ready", get(status::ready));
    Router::new()
        .merge(guarded)
        .merge(open)
        .merge(crate::ui::assets::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(keep))
        .layer(from_fn_with_state(app.clone(), count_errors))
        .layer(from_fn(identify))
        .with_state(app)
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such path: {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} is not allowed on {}", uri.path()),
    )
}

/// Gives every request a fresh id. A client's own is echoed and logged, never passed on.
async fn identify(mut request: Request, next: Next) -> Response {
    let theirs = request.headers().get(X_REQUEST_ID).cloned();
    let Some(fresh) = fresh_id() else {
        return ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no_randomness",
            "the system gives no random numbers",
        )
        .into_response();
    };
    let span = tracing::info_span!(
        "request",
        id = fresh.to_str().unwrap_or_default(),
        client_id = theirs.as_ref().and_then(|id| id.to_str().ok()),
        method = %request.method(),
        path = request.uri().path(),
    );
    request.extensions_mut().insert(RequestId { fresh: fresh.clone() });
    let mut response = next.run(request).instrument(span).await;
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, theirs.unwrap_or_else(|| fresh.clone()));
    headers.insert(X_TENSORPOW_REQUEST_ID, fresh);
    response
}

/// 128 random bits in hex.
fn fresh_id() -> Option<HeaderValue> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).ok()?;
    HeaderValue::from_str(&hex::encode(bits)).ok()
}

/// Counts the errors that the proxy answers by itself.
async fn count_errors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(code) = response.extensions().get::<super::errors::ErrorCode>() {
        app.metrics.count_rejected(code.0);
    }
    response
}
