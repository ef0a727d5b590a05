//! The spool for whoever runs the proxy: what it holds, with the deliveries and their reasons, and
//! a second chance for dead letters. The command line reads the same when no proxy runs.

use super::App;
use super::errors::ApiError;
use crate::spool::{DeliveryState, Listed, Selection, SpoolError, SpoolHealth};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Entries listed at most.
const MAX_LISTED: usize = 1000;

/// What to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// `pending`, `sent`, `confirmed` or `dead`.
    state: Option<String>,
    /// Only of this completion id.
    completion_id: Option<String>,
    /// Only with this reason.
    reason: Option<String>,
    /// How many, newest first; 100 if absent.
    limit: Option<usize>,
}

/// What to hand over once more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Numbers of proofs; all dead letters when empty.
    #[serde(default)]
    seqs: Vec<u64>,
    /// Only those with this reason.
    reason: Option<String>,
}

/// A state by name.
pub(crate) fn state_named(name: &str) -> Option<DeliveryState> {
    use DeliveryState::{Confirmed, Dead, Pending, Sent};
    [Pending, Sent, Confirmed, Dead].into_iter().find(|state| state.as_str() == name)
}

fn unavailable(error: &SpoolError) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "spool_unavailable", error.to_string())
}

/// GET `/v1/spool`: the newest entries of a selection.
///
/// # Errors
/// 400 for a malformed query, 503 while the disk fails.
pub async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(query) = query?;
    let state = match query.state.as_deref() {
        None => None,
        Some(name) => Some(state_named(name).ok_or_else(|| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                format!("state {name:?} is not pending, sent, confirmed or dead"),
            )
        })?),
    };
    let selection = Selection {
        seqs: Vec::new(),
        completion_id: query.completion_id,
        state,
        reason: query.reason,
    };
    let limit = query.limit.unwrap_or(100).min(MAX_LISTED);
    let listed = app.store.spool().read(move |view| view.list(&selection, limit)).await;
    let listed = listed.map_err(|error| unavailable(&error))?;
    let entries: Vec<Value> = listed.iter().map(entry_json).collect();
    Ok(Json(json!({ "spool": summary(&app), "entries": entries })))
}

/// POST `/v1/spool/replay`: dead letters are delivered again, if their parent is still the tip.
///
/// # Errors
/// 400 for a malformed body, 503 while the disk fails.
pub async fn replay(
    State(app): State<Arc<App>>,
    body: Result<Json<ReplayRequest>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(request) = body.map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", error.body_text())
    })?;
    let selection =
        Selection { seqs: request.seqs, reason: request.reason, ..Selection::default() };
    let replayed =
        app.store.spool().replay(selection).await.map_err(|error| unavailable(&error))?;
    let seqs: Vec<u64> = replayed.iter().map(|(seq, _)| *seq).collect();
    if let (Some(outbox), false) = (&app.outbox, seqs.is_empty()) {
        outbox.queue_open(Some(seqs.clone())).await.map_err(|error| unavailable(&error))?;
    }
    Ok(Json(json!({ "replayed": seqs })))
}

/// The spool in a few numbers, for `/status` and the like.
#[must_use]
pub fn summary(app: &App) -> Value {
    let (health, stats) = (app.store.spool().health(), app.store.spool().stats());
    let name = match &health {
        SpoolHealth::Durable => "durable",
        SpoolHealth::MemoryOnly => "memory_only",
        SpoolHealth::Degraded { .. } => "degraded",
    };
    json!({
        "health": name,
        "detail": health.to_string(),
        "entries": stats.entries,
        "bytes": stats.bytes,
        "open": stats.open,
        "dead": stats.dead,
        "commits": stats.commits,
        "evicted": stats.evicted,
        "evicted_undelivered": stats.evicted_open,
        "failures": stats.failures,
        "outbox_waiting": app.outbox.as_ref().map(|outbox| outbox.waiting()),
    })
}

/// An entry with its deliveries, as the routes and the command line print it.
#[must_use]
pub fn entry_json(listed: &Listed) -> Value {
    let entry = &listed.entry;
    let deliveries: serde_json::Map<String, Value> = listed
        .deliveries
        .iter()
        .map(|(sink, delivery)| {
            let value = json!({
                "state": delivery.state.as_str(),
                "attempts": delivery.attempts,
                "changed": delivery.changed_us / 1_000_000,
                "reason": delivery.reason,
                "detail": delivery.detail,
            });
            (sink.clone(), value)
        })
        .collect();
    json!({
        "seq": listed.seq,
        "arrived": entry.arrived_us / 1_000_000,
        "tier": entry.tier_name(),
        "completion_id": entry.completion_id,
        "also": entry.also,
        "request_id": entry.request_id,
        "nonce": entry.nonce,
        "parent": entry.parent.map(hex::encode),
        "digest": entry.digest.map(hex::encode),
        "commitment": hex::encode(entry.identity),
        "model": entry.model_identifier,
        "bytes": entry.message_len,
        "stored_bytes": entry.stored_len,
        "form": entry.form.as_str(),
        "deliveries": deliveries,
    })
}
