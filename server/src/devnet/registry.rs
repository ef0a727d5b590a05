//! A stand-in for the model registry service of a node: its routes, its records of 21 keys, its
//! authentication and its limit, and the failures a client must live with. spec: node §5

use crate::mining::model::ModelRecord;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests in a minute. spec: node §5
const LIMIT: (usize, Duration) = (60, Duration::from_secs(60));

/// How the next answer goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// This status, with `Retry-After` if there is one.
    Status(u16, Option<u64>),
    /// This body with status 200.
    Body(String),
    /// The right answer, but late.
    Slow(Duration),
}

#[derive(Debug, Default)]
struct Shelf {
    records: Vec<Value>,
    faults: VecDeque<Fault>,
    asked: Vec<Instant>,
    /// Answers that said that nothing had changed.
    unchanged: usize,
    tagged: bool,
}

/// A registry.
#[derive(Debug)]
pub struct DevRegistry {
    key: Option<String>,
    shelf: Mutex<Shelf>,
}

/// A record with all its keys, as a live node's service sends it. spec: node §5
#[must_use]
pub fn record(model: &ModelRecord, status: i64) -> Value {
    json!({
        "model_hash": model.id.display_hash(),
        "model_name": model.id.name(),
        "model_commit": model.id.commit(),
        "difficulty": model.difficulty.get(),
        "status": status,
        "cid": model.cid,
        "extra": "",
        "txid": null,
        "block_hash": null,
        "block_height": null,
        "deposit_txid": "00".repeat(32),
        "deposit_vout": 0,
        "deposit_amount": 0,
        "owner_key_hash": "00".repeat(20),
        "deposit_block_hash": "00".repeat(32),
        "deposit_block_height": 0,
        "commit_txid": "00".repeat(32),
        "commit_block_hash": "00".repeat(32),
        "commit_block_height": model.commit_block_height,
        "verification_code": 0,
        "verification_details": "",
    })
}

impl DevRegistry {
    /// A registry of these models; with a key it is asked for.
    #[must_use]
    pub fn new<'a>(models: impl IntoIterator<Item = &'a ModelRecord>, key: Option<String>) -> Self {
        let records = models.into_iter().map(|model| record(model, 2)).collect();
        Self { key, shelf: Mutex::new(Shelf { records, ..Shelf::default() }) }
    }

    /// Other records from now on.
    pub fn set(&self, records: Vec<Value>) {
        self.lock().records = records;
    }

    /// Lists carry an `ETag` from now on, and are not repeated to whoever has it.
    pub fn tag(&self) {
        self.lock().tagged = true;
    }

    /// The next answers, one after the other, go wrong like this.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// When lists were asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<Instant> {
        self.lock().asked.clone()
    }

    /// Answers without a list, because the asker had it.
    #[must_use]
    pub fn unchanged(&self) -> usize {
        self.lock().unchanged
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: tokio::net::TcpListener) {
        let router = Router::new()
            .route("/", get(about))
            .route("/health", get(health))
            .route("/api/v1/models", get(models))
            .route("/api/v1/models/{hash}", get(model))
            .with_state(self);
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the registry stopped");
        }
    }

    /// Nothing is ever left half-changed, so a poisoned lock guards a usable value.
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this question gets no answer: who asks, or how often. spec: node §5
    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        if let Some(key) = &self.key {
            let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let bearer = given.and_then(|text| {
                let (scheme, key) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(key)
            });
            match bearer {
                None => return Some(detail(403, "Missing API key")),
                Some(given) if given != key => return Some(detail(403, "Invalid API key")),
                Some(_) => {}
            }
        }
        let mut shelf = self.lock();
        shelf.asked.push(Instant::now());
        let (most, within) = LIMIT;
        let recent = shelf.asked.iter().filter(|at| at.elapsed() < within).count();
        (recent > most).then(|| detail(429, "Rate limit exceeded"))
    }
}

fn detail(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({ "detail": text }))).into_response()
}

async fn about(State(registry): State<Arc<DevRegistry>>) -> Json<Value> {
    Json(json!({
        "service": "tensorpow development registry",
        "version": env!("CARGO_PKG_VERSION"),
        "test_mode": true,
        "auth_required": registry.key.is_some(),
        "endpoints": ["/health", "/api/v1/models", "/api/v1/models/{model_hash}"],
    }))
}

async fn health(State(registry): State<Arc<DevRegistry>>) -> Json<Value> {
    let auth_required = registry.key.is_some();
    Json(json!({ "status": "healthy", "test_mode": true, "auth_required": auth_required }))
}

async fn models(State(registry): State<Arc<DevRegistry>>, headers: HeaderMap) -> Response {
    if let Some(refusal) = registry.refusal(&headers) {
        return refusal;
    }
    let fault = registry.lock().faults.pop_front();
    match fault {
        Some(Fault::Status(status, retry_after)) => {
            let mut response = detail(status, "as asked for");
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            return response;
        }
        Some(Fault::Body(body)) => {
            return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        }
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        None => {}
    }
    let mut shelf = registry.lock();
    let body = Value::from(shelf.records.clone()).to_string();
    if !shelf.tagged {
        return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    let tag = format!("\"{}\"", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&body)));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == tag.as_bytes()) {
        shelf.unchanged += 1;
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, tag)], body)
        .into_response()
}

/// An unknown model is 500 with the reference, and never 404. spec: node §5
async fn model(
    State(registry): State<Arc<DevRegistry>>,
    headers: HeaderMap,
    Path(hash): Path<String>,
) -> Response {
    if let Some(refusal) = registry.refusal(&headers) {
        return refusal;
    }
    if !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return detail(400, "Invalid model hash format");
    }
    if hash.len() != 64 {
        return detail(400, "Invalid model hash length");
    }
    let found =
        registry.lock().records.iter().find(|record| record["model_hash"] == *hash).cloned();
    found.map_or_else(|| detail(500, "Internal server error"), |found| Json(found).into_response())
}
