//! Inference jobs: given to a worker, its frames put back together into an answer, and everything
//! that a broker would not put up with noted. A caller gets the answer as it comes; one who stops
//! listening stops nothing, since there is no frame for that. spec: broker §5, §12 item 9

use super::workers::Worker;
use super::{Books, frames};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// A job to be done.
#[derive(Debug, Clone)]
pub struct Order {
    /// `chat_completions` or `responses`.
    pub api: String,
    /// The OpenAI request.
    pub payload: Value,
    /// Who is to do it; anybody otherwise.
    pub worker: Option<String>,
}

impl Order {
    /// A streamed chat of one message.
    #[must_use]
    pub fn chat(model: &str, prompt: &str, max_tokens: u32) -> Self {
        let payload = json!({
            "model": model,
            "messages": [{ "role": "user", "content": prompt }],
            "max_tokens": max_tokens,
            "stream": true,
        });
        Self { api: "chat_completions".to_owned(), payload, worker: None }
    }
}

/// What comes of a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum JobEvent {
    /// A piece of the answer's text.
    Text(String),
    /// Done; the `END` frame.
    End(Value),
    /// Failed, in words.
    Failed(String),
}

/// A job that was given out.
#[derive(Debug)]
pub struct Dispatched {
    /// Its id.
    pub job_id: String,
    /// What comes of it; the last event is an end or a failure.
    pub events: mpsc::UnboundedReceiver<JobEvent>,
}

/// Nobody can do a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no worker is registered that could do this")]
pub struct NoWorker;

#[derive(Debug)]
struct OpenJob {
    worker: String,
    events: mpsc::UnboundedSender<JobEvent>,
    acked: watch::Sender<bool>,
    completion_id: Option<Value>,
    chunks: u64,
    said_text: bool,
}

/// The jobs in progress.
#[derive(Debug, Default)]
pub struct Jobs {
    open: Mutex<HashMap<String, OpenJob>>,
    /// Those whose `START` was sent twice, as told.
    doubled: Mutex<HashSet<String>>,
}

/// Gives a job to a worker.
///
/// # Errors
/// [`NoWorker`].
pub fn dispatch(books: &Arc<Books>, order: Order) -> Result<Dispatched, NoWorker> {
    let worker = books.workers.choose(order.worker.as_deref()).ok_or(NoWorker)?;
    let job_id = format!("start-{}", hex::encode(super::token::random_bytes::<8>()));
    let (events, receiver) = mpsc::unbounded_channel();
    let (acked, mut ack) = watch::channel(false);
    let job = OpenJob {
        worker: worker.id.clone(),
        events,
        acked,
        completion_id: None,
        chunks: 0,
        said_text: false,
    };
    books.jobs.lock().insert(job_id.clone(), job);
    books.ledger.record("start", json!({ "worker": worker.id, "job_id": job_id }));
    if !worker.send(frames::start(&job_id, &order.api, order.payload)) {
        fail(books, &job_id, "the worker takes no more frames");
    }
    let (books, job) = (books.clone(), job_id.clone());
    tokio::spawn(async move {
        let timing = books.settings.timing;
        // The sender goes with the job, so an error means that the job is over.
        let acked = async { ack.wait_for(|acked| *acked).await.is_ok() };
        match tokio::time::timeout(timing.job_ack, acked).await {
            Err(_) => return fail(&books, &job, "no ACK in time"),
            Ok(false) => return,
            Ok(true) => {}
        }
        let over = async { while ack.changed().await.is_ok() {} };
        if tokio::time::timeout(timing.job_end, over).await.is_err() {
            fail(&books, &job, "neither END nor ERROR in time");
        }
    });
    Ok(Dispatched { job_id, events: receiver })
}

/// Ends a job without its worker.
fn fail(books: &Books, job_id: &str, why: &str) {
    let Some(job) = books.jobs.lock().remove(job_id) else { return };
    let entry =
        json!({ "worker": job.worker, "job_id": job_id, "outcome": "failed", "error": why });
    books.ledger.record("job", entry);
    let _ = job.events.send(JobEvent::Failed(why.to_owned()));
}

/// A worker has gone: it sends nothing more for its jobs. spec: broker §1.1
pub(super) fn worker_left(books: &Books, worker: &Worker) {
    let theirs: Vec<String> = {
        let jobs = books.jobs.lock();
        let theirs = jobs.iter().filter(|(_, job)| job.worker == worker.id);
        theirs.map(|(id, _)| id.clone()).collect()
    };
    for job_id in theirs {
        fail(books, &job_id, "the worker left");
    }
}

impl Jobs {
    /// Jobs in progress.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, OpenJob>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubled(&self) -> MutexGuard<'_, HashSet<String>> {
        self.doubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame goes out twice. A worker for which the job is over when the second `START` arrives
    /// runs it again, which is this broker's fault and not the worker's. spec: broker §5.1
    pub(super) fn told_twice(&self, frame: &Value) {
        if let (Some("START"), Some(job_id)) = (frame["type"].as_str(), frame["job_id"].as_str()) {
            self.doubled().insert(job_id.to_owned());
        }
    }
}

/// A frame of a job: `ACK`, `CHUNK`, `END` or `ERROR`. spec: broker §5.2
pub(super) fn take(books: &Books, worker: &str, frame: &Value) {
    let job_id = frame["job_id"].as_str().unwrap_or_default();
    let kind = frame["type"].as_str().unwrap_or_default();
    let mut jobs = books.jobs.lock();
    let Some(job) = jobs.get_mut(job_id).filter(|job| job.worker == worker) else {
        drop(jobs);
        if books.jobs.doubled().contains(job_id) {
            return;
        }
        let what = format!("{kind} for job {job_id:?}, which is not its own or is over");
        return books.ledger.violation(worker, what);
    };
    let mut violations = Vec::new();
    if kind == "ACK" {
        // A START that comes twice is acknowledged twice. spec: broker §5.1
        job.acked.send_replace(true);
    } else {
        if !*job.acked.borrow() {
            violations.push(format!("{kind} before the ACK"));
        }
        same_completion(job, frame, kind, &mut violations);
    }
    let mut last = None;
    match kind {
        "CHUNK" => {
            job.chunks += 1;
            if let Some(text) = chunk_text(frame) {
                job.said_text = true;
                // The caller may have left.
                let _ = job.events.send(JobEvent::Text(text));
            }
        }
        "END" => {
            if !frame["usage"].is_object() {
                violations.push("END without usage".to_owned());
            }
            let text = response_text(&frame["response"]);
            if !job.said_text && !text.is_empty() {
                let _ = job.events.send(JobEvent::Text(text));
            }
            last = Some(JobEvent::End(frame.clone()));
        }
        "ERROR" => {
            let text = frame["error"].as_str().unwrap_or("ERROR without a text").to_owned();
            last = Some(JobEvent::Failed(text));
        }
        _ => {}
    }
    let over = last.and_then(|last| Some((jobs.remove(job_id)?, last)));
    drop(jobs);
    for what in violations {
        books.ledger.violation(worker, format!("job {job_id}: {what}"));
    }
    let Some((job, last)) = over else { return };
    let mut entry = json!({ "worker": worker, "job_id": job_id, "chunks": job.chunks });
    entry["outcome"] = if kind == "END" { "ended" } else { "failed" }.into();
    for field in ["completion_id", "usage", "error"] {
        if let Some(value) = frame.get(field) {
            entry[field] = value.clone();
        }
    }
    books.ledger.record("job", entry);
    // Whoever hears of the end finds it in the ledger.
    let _ = job.events.send(last);
}

/// All frames of a job name one completion; an `ERROR` names none.
fn same_completion(job: &mut OpenJob, frame: &Value, kind: &str, violations: &mut Vec<String>) {
    match (frame.get("completion_id"), &job.completion_id) {
        (None, _) if kind == "ERROR" => {}
        (Some(id @ Value::String(_)), None) => job.completion_id = Some(id.clone()),
        (Some(id), Some(known)) if id == known => {}
        (id, known) => violations.push(format!("{kind} with completion_id {id:?}, not {known:?}")),
    }
}

/// The text in a delta of any of its shapes; events of the Responses API have text only where they
/// say so. spec: broker §5.2
fn chunk_text(frame: &Value) -> Option<String> {
    let text = match (&frame["delta"], frame.get("data")) {
        (Value::String(text), None) => text,
        (Value::String(text), Some(event)) if event["type"] == "response.output_text.delta" => text,
        (Value::Object(delta), None) => delta.get("content")?.as_str()?,
        _ => return None,
    };
    (!text.is_empty()).then(|| text.to_owned())
}

/// The text of a whole Responses object.
fn response_text(response: &Value) -> String {
    let items = response["output"].as_array().into_iter().flatten();
    let parts = items.flat_map(|item| item["content"].as_array().into_iter().flatten());
    parts.filter(|part| part["type"] == "output_text").filter_map(|p| p["text"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_every_shape_of_a_delta() {
        let text = |frame: Value| chunk_text(&frame);
        assert_eq!(text(json!({"delta":{"content":"a"}})).as_deref(), Some("a"));
        assert_eq!(text(json!({"delta":{"tool_calls":[]}})), None);
        assert_eq!(text(json!({"delta":"whole"})).as_deref(), Some("whole"));
        let event = |kind: &str| json!({"delta":"x","data":{"type":kind,"delta":"x"}});
        assert_eq!(text(event("response.output_text.delta")).as_deref(), Some("x"));
        assert_eq!(text(event("response.function_call_arguments.delta")), None);
        let secret = json!({"type":"encrypted_chunk","payload_b64":"AA"});
        assert_eq!(text(json!({"delta":secret,"data":secret})), None);
        let whole = json!({"output":[{"type":"message","content":[
            {"type":"output_text","text":"all"},{"type":"refusal","refusal":"no"}]}]});
        assert_eq!(response_text(&whole), "all");
    }
}
