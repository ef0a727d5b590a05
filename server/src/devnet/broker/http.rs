//! The broker's controls on a small HTTP port: look at the ledger, give out a job and read its
//! answer as text, ask for a proof, move the tip, misbehave. For loopback: whoever reaches it may do
//! all of it.

use super::jobs::{self, JobEvent, Order};
use super::misbehave::Fault;
use super::{Books, audit};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Tokens of an answer unless the caller says otherwise.
pub(super) const MAX_TOKENS: u32 = 320;

type Shared = State<Arc<Books>>;

/// Serves until it is dropped.
pub(super) async fn serve(books: Arc<Books>, listener: TcpListener) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/ledger", get(ledger))
        .route("/dispatch", post(dispatch))
        .route("/proof", post(proof))
        .route("/tip", post(tip))
        .route("/misbehave", get(faults).post(misbehave))
        .with_state(books);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the broker's controls stopped");
    }
}

async fn status(State(books): Shared) -> Json<Value> {
    let workers: Vec<_> = books
        .workers
        .all()
        .into_iter()
        .map(|worker| {
            json!({ "worker": worker.id, "models": worker.models, "leases": worker.leases,
                    "busy": worker.busy.load(Ordering::Relaxed) })
        })
        .collect();
    let tip = books.chain.tip();
    Json(json!({
        "workers": workers,
        "open_leases": books.leases.count(),
        "open_jobs": books.jobs.count(),
        "tip": { "height": tip.height, "hash": tip.hash.display().to_string() },
        "credits": books.chain.credits(),
        "faults": books.faults.now().iter().map(|fault| fault.name()).collect::<Vec<_>>(),
        "counts": books.ledger.counts(),
    }))
}

#[derive(Debug, Deserialize)]
struct Which {
    kind: Option<String>,
    #[serde(default)]
    after: u64,
}

/// The ledger as JSON lines.
async fn ledger(State(books): Shared, Query(which): Query<Which>) -> Response {
    let entries = books.ledger.entries(which.kind.as_deref(), which.after);
    let lines: String = entries.into_iter().map(|entry| format!("{entry}\n")).collect();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
}

/// A job: a prompt, or a whole payload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    prompt: Option<String>,
    payload: Option<Value>,
    api: Option<String>,
    worker: Option<String>,
    max_tokens: Option<u32>,
}

/// The answer as text while it comes. One that fails before its first text is a 502; one that fails
/// later breaks off, the reason on a line of its own.
async fn dispatch(State(books): Shared, Json(wanted): Json<Wanted>) -> Response {
    let model = books.chain.settings().model.id.name().to_owned();
    let max_tokens = wanted.max_tokens.unwrap_or(MAX_TOKENS);
    let order = match (wanted.prompt, wanted.payload) {
        (Some(prompt), None) => Order::chat(&model, &prompt, max_tokens),
        (None, Some(payload)) => {
            let api = wanted.api.unwrap_or_else(|| "chat_completions".to_owned());
            Order { api, payload, worker: None }
        }
        _ => return (StatusCode::BAD_REQUEST, "either prompt or payload\n").into_response(),
    };
    let job = match jobs::dispatch(&books, Order { worker: wanted.worker, ..order }) {
        Ok(job) => job,
        Err(error) => {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
        }
    };
    let mut events = job.events;
    let first = match events.recv().await {
        Some(JobEvent::Text(text)) => text,
        Some(JobEvent::End(_)) => String::new(),
        Some(JobEvent::Failed(why)) => {
            return (StatusCode::BAD_GATEWAY, format!("{why}\n")).into_response();
        }
        None => return (StatusCode::BAD_GATEWAY, "the job is gone\n").into_response(),
    };
    let job_id = [("x-job-id", job.job_id)];
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (job_id, text, Body::from_stream(pieces(first, events))).into_response()
}

fn pieces(
    first: String,
    events: mpsc::UnboundedReceiver<JobEvent>,
) -> impl futures_util::Stream<Item = Result<String, std::convert::Infallible>> {
    let state = (Some(first), events);
    futures_util::stream::unfold(state, |(first, mut events)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, events)));
        }
        let piece = match events.recv().await? {
            JobEvent::Text(text) => text,
            JobEvent::End(_) => "\n".to_owned(),
            JobEvent::Failed(why) => format!("\n[failed: {why}]\n"),
        };
        Some((Ok(piece), (None, events)))
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    completion_id: String,
    worker: Option<String>,
}

async fn proof(State(books): Shared, Json(question): Json<Question>) -> Json<Value> {
    Json(audit(&books, question.worker.as_deref(), &question.completion_id).await)
}

/// Somebody else finds a block.
async fn tip(State(books): Shared) -> Json<Value> {
    let tip = books.chain.advance();
    Json(json!({ "height": tip.height, "hash": tip.hash.display().to_string() }))
}

async fn faults() -> Json<Value> {
    Json(Fault::ALL.iter().map(|fault| fault.name()).collect())
}

/// The faults in this list and no others, from now on.
async fn misbehave(State(books): Shared, Json(names): Json<Vec<String>>) -> Response {
    let faults: Result<Vec<Fault>, _> = names.iter().map(|name| name.parse()).collect();
    match faults {
        Ok(faults) => {
            books.ledger.record("misbehave", json!({ "faults": names }));
            books.faults.set(faults);
            Json(names).into_response()
        }
        Err(unknown) => (StatusCode::BAD_REQUEST, format!("{unknown}\n")).into_response(),
    }
}
