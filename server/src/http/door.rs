//! The door: what stands on the listening socket from the first moment. Until the proxy is put
//! together it answers that it lives and that it is not ready; then the face takes over.
//! spec: proxy §3

use super::errors::ApiError;
use super::listen::Answers;
use super::router::Face;
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// A door that is opened once.
#[derive(Debug, Clone, Default)]
pub struct Door {
    face: Arc<OnceLock<Face>>,
}

impl Door {
    /// From here on `face` answers.
    pub fn open(&self, face: Face) {
        // A second face would be a mistake of ours; the first stays.
        let _ = self.face.set(face);
    }
}

impl Answers for Door {
    async fn answer(&self, request: Request, peer: IpAddr) -> Response<Body> {
        match self.face.get() {
            Some(face) => face.answer(request, Some(peer)).await,
            None => closed(request.uri().path()),
        }
    }
}

/// Before the proxy is put together.
fn closed(path: &str) -> Response<Body> {
    match path {
        "/health" => Json(json!({ "status": "healthy" })).into_response(),
        "/ready" | "/startup" => {
            let reason = json!({ "name": "starting", "detail": "the proxy is starting" });
            let body = json!({ "ready": false, "started": false, "reasons": [reason] });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
        _ => ApiError::busy("starting", "the proxy is starting").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_door_lives_and_is_not_ready() {
        for (path, status) in [("/health", 200), ("/ready", 503), ("/v1/models", 503)] {
            assert_eq!(closed(path).status(), status, "{path}");
        }
        assert_eq!(closed("/v1/models").headers()["retry-after"], "1");
    }
}
