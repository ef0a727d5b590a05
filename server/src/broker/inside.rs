//! The proxy as the broker link sees it from inside: requests go to its own face, with the way
//! through queue, breaker and injection that a user's take, and no socket or key between.
//! spec: broker §1, §5, §6

use crate::http::App;
use crate::http::auth::Caller;
use crate::http::engine::Health;
use crate::http::router::Face;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use std::sync::Arc;

/// Name of the broker among the callers of the proxy.
const CALLER: &str = "broker";

/// What a link asks of the proxy around it.
#[async_trait]
pub trait Inside: Send + Sync {
    /// A request to the proxy's own face. Dropping the answer aborts the engine's work.
    async fn call(&self, method: Method, path: &str, body: Bytes) -> Response<Body>;

    /// Prompt and generated tokens a second over the last minute.
    fn rates(&self) -> (f64, f64);

    /// Requests that wait for the engine.
    fn waiting(&self) -> usize;

    /// False while the engine is known not to answer.
    fn engine_is_up(&self) -> bool;

    /// True while no new work is wanted.
    fn is_drained(&self) -> bool;

    /// The requests that mine for this lease are of no use any more. spec: §7.3
    fn withdraw(&self, request_id: u32);

    /// The id belongs to a new lease. spec: §7.2
    fn reinstate(&self, request_id: u32);
}

/// The running proxy.
#[derive(Debug)]
pub struct Proxy {
    app: Arc<App>,
    face: Face,
}

impl Proxy {
    /// This one.
    #[must_use]
    pub const fn new(app: Arc<App>, face: Face) -> Self {
        Self { app, face }
    }
}

#[async_trait]
impl Inside for Proxy {
    async fn call(&self, method: Method, path: &str, body: Bytes) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .extension(Caller { key: Some(CALLER.into()) })
            .body(Body::from(body));
        match request {
            Ok(request) => self.face.answer(request, None).await,
            Err(error) => {
                let mut answer = Response::new(Body::from(error.to_string()));
                *answer.status_mut() = StatusCode::BAD_REQUEST;
                answer
            }
        }
    }

    fn rates(&self) -> (f64, f64) {
        let (rates, _) = self.app.metrics.busy().throughput();
        (rates.prompt_tokens_per_sec, rates.completion_tokens_per_sec)
    }

    fn waiting(&self) -> usize {
        self.app.workload.priority.occupancy().queued
    }

    fn engine_is_up(&self) -> bool {
        !matches!(self.app.engines.default().health(), Health::Down | Health::NotReady)
    }

    fn is_drained(&self) -> bool {
        self.app.drain.is_drained()
    }

    fn withdraw(&self, request_id: u32) {
        if let Some(backfill) = &self.app.workload.backfill {
            backfill.withdraw(request_id);
        }
    }

    fn reinstate(&self, request_id: u32) {
        if let Some(backfill) = &self.app.workload.backfill {
            backfill.reinstate(request_id);
        }
    }
}

/// A buffered answer of the proxy's own may be this large.
pub(super) const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// All of an answer's body.
///
/// # Errors
/// Why it broke off, in words.
pub(super) async fn read(answer: Response<Body>) -> Result<Bytes, String> {
    axum::body::to_bytes(answer.into_body(), MAX_ANSWER).await.map_err(|error| error.to_string())
}
