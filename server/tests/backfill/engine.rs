//! An inference engine for tests of backfill: both forms of backfill requests, a number of slots
//! that requests wait for, and a memory of what it was asked, what it ran at a time and what was
//! left or cancelled.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request the engine was asked.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Recorded {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The mining payload, whatever its key.
    pub(crate) fn pow(&self) -> Value {
        let body = self.json();
        let of = |key: &str| body.get(key).map(|inner| inner["pow"].clone());
        of("vllm_xargs").or_else(|| of("extra_sampling_params")).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Background {
    ends: Instant,
    cancelled: bool,
}

/// How the engine behaves. Everything can be changed while it runs.
#[derive(Debug)]
pub(crate) struct Behaviour {
    /// Duration of the n-th backfill request.
    pub(crate) takes: fn(usize) -> Duration,
    /// Time for a word of a backfill prompt, before the first piece of its stream; the head of the
    /// answer is sent at once.
    pub(crate) a_word: Duration,
    /// Status of generation requests.
    pub(crate) status: u16,
    /// Duration of a user's request.
    pub(crate) user_takes: Duration,
    /// What `/props` says.
    pub(crate) slots_shown: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) url: String,
    pub(crate) behaviour: Mutex<Behaviour>,
    healthy: AtomicBool,
    /// Connections of generation requests are cut without an answer.
    broken: AtomicBool,
    slots: Arc<Semaphore>,
    /// Prompts of backfill that are being read, and the most at a time.
    reading: AtomicUsize,
    most_reading: AtomicUsize,
    recorded: Mutex<Vec<Recorded>>,
    background: Mutex<HashMap<String, Background>>,
    started: AtomicUsize,
    running: AtomicUsize,
    at_most: AtomicUsize,
    completed: AtomicUsize,
    left: AtomicUsize,
}

impl Engine {
    /// An engine with so many slots.
    pub(crate) async fn start(slots: usize) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let engine = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            behaviour: Mutex::new(Behaviour {
                takes: |_| Duration::from_millis(300),
                a_word: Duration::ZERO,
                status: 200,
                user_takes: Duration::from_millis(50),
                slots_shown: None,
            }),
            healthy: AtomicBool::new(true),
            broken: AtomicBool::new(false),
            slots: Arc::new(Semaphore::new(slots)),
            reading: AtomicUsize::new(0),
            most_reading: AtomicUsize::new(0),
            recorded: Mutex::default(),
            background: Mutex::default(),
            started: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            at_most: AtomicUsize::new(0),
            completed: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(answer).with_state(engine.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        engine
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Backfill requests that run now.
    pub(crate) fn running(&self) -> usize {
        let background = self.background.lock().unwrap();
        let now = Instant::now();
        let alive = background.values().filter(|one| !one.cancelled && one.ends > now).count();
        self.running.load(Ordering::SeqCst) + alive
    }

    /// Most backfill requests that ran at a time; forgets it.
    pub(crate) fn take_most(&self) -> usize {
        self.at_most.swap(0, Ordering::SeqCst)
    }

    /// Most prompts of backfill that were read at a time.
    pub(crate) fn most_reading(&self) -> usize {
        self.most_reading.load(Ordering::SeqCst)
    }

    /// Backfill requests that were answered in full.
    pub(crate) fn completed(&self) -> usize {
        self.completed.load(Ordering::SeqCst)
    }

    /// Backfill requests whose connection was dropped.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// Background requests that were cancelled.
    pub(crate) fn cancelled(&self) -> usize {
        self.background.lock().unwrap().values().filter(|one| one.cancelled).count()
    }

    /// Backfill requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Everything that was asked under a path.
    pub(crate) fn recorded(&self, path: &str) -> Vec<Recorded> {
        let recorded = self.recorded.lock().unwrap();
        recorded.iter().filter(|one| one.path.starts_with(path)).cloned().collect()
    }
}

/// Counts a running backfill request, and how it ends.
struct Running {
    engine: Arc<Engine>,
    complete: bool,
}

impl Running {
    fn new(engine: &Arc<Engine>) -> Self {
        let now = engine.running.fetch_add(1, Ordering::SeqCst) + 1;
        engine.at_most.fetch_max(now, Ordering::SeqCst);
        Self { engine: engine.clone(), complete: false }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.running.fetch_sub(1, Ordering::SeqCst);
        let ended = if self.complete { &self.engine.completed } else { &self.engine.left };
        ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts a prompt that is being read.
struct Reading<'a>(&'a Engine);

impl<'a> Reading<'a> {
    fn new(engine: &'a Engine) -> Self {
        let now = engine.reading.fetch_add(1, Ordering::SeqCst) + 1;
        engine.most_reading.fetch_max(now, Ordering::SeqCst);
        Self(engine)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::SeqCst);
    }
}

fn json_answer(status: u16, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::from_u16(status).unwrap(), headers, body.to_string()).into_response()
}

async fn answer(State(engine): State<Arc<Engine>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if path == "/health" {
        let healthy = engine.healthy.load(Ordering::SeqCst);
        return if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
            .into_response();
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = head.headers;
    let one = Recorded { path: path.clone(), headers, body: body.clone() };
    engine.recorded.lock().unwrap().push(one);
    if path == "/props" {
        let shown = engine.behaviour.lock().unwrap().slots_shown;
        return shown.map_or(StatusCode::NOT_FOUND.into_response(), |slots| {
            json_answer(200, &json!({ "total_slots": slots }))
        });
    }
    if let Some(id) = path.strip_prefix("/v1/responses/") {
        return background(&engine, id);
    }
    if head.method != Method::POST {
        return StatusCode::NOT_FOUND.into_response();
    }
    if engine.broken.load(Ordering::SeqCst) {
        // A task that panics takes its connection with it.
        std::panic::resume_unwind(Box::new(()));
    }
    generate(engine, &path, &body).await
}

/// GET and cancel of a stored response.
fn background(engine: &Engine, id: &str) -> Response {
    let mut stored = engine.background.lock().unwrap();
    let (id, cancel) = match id.strip_suffix("/cancel") {
        Some(id) => (id, true),
        None => (id, false),
    };
    let Some(one) = stored.get_mut(id) else {
        return json_answer(404, &json!({ "error": "unknown" }));
    };
    if cancel {
        one.cancelled = true;
    }
    let usage = json!({ "input_tokens": 3, "output_tokens": 256 });
    let (status, usage) = match () {
        () if one.cancelled => ("cancelled", Value::Null),
        () if one.ends <= Instant::now() => ("incomplete", usage),
        () => ("in_progress", Value::Null),
    };
    json_answer(200, &json!({ "id": id, "status": status, "usage": usage }))
}

async fn generate(engine: Arc<Engine>, path: &str, body: &Bytes) -> Response {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let id = asked["request_id"].as_str().unwrap_or_default().to_owned();
    let is_backfill = id.starts_with("resp_dummy_");
    let number = if is_backfill { engine.started.fetch_add(1, Ordering::SeqCst) } else { 0 };
    let (status, a_word, takes) = {
        let behaviour = engine.behaviour.lock().unwrap();
        let takes = if is_backfill { (behaviour.takes)(number) } else { behaviour.user_takes };
        (behaviour.status, behaviour.a_word, takes)
    };
    if status != 200 {
        return json_answer(status, &json!({ "error": "as told" }));
    }
    if asked["background"] == true {
        let one = Background { ends: Instant::now() + takes, cancelled: false };
        engine.background.lock().unwrap().insert(id.clone(), one);
        return json_answer(200, &json!({ "id": id, "status": "queued" }));
    }
    // The slot is waited for as in an engine: whoever leaves gives it up.
    let slots = engine.slots.clone();
    let Ok(slot) = slots.acquire_owned().await else { return StatusCode::GONE.into_response() };
    if is_backfill {
        let words = asked["prompt"].as_str().unwrap_or_default().split_whitespace().count();
        return backfill_stream(&engine, id, slot, a_word * words.try_into().unwrap(), takes);
    }
    if asked["stream"] == true {
        return user_stream(takes);
    }
    tokio::time::sleep(takes).await;
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 2 });
    json_answer(200, &json!({ "path": path, "usage": usage }))
}

/// The head at once, a piece when the prompt is read, the rest in the end; whoever leaves gives up the
/// slot.
fn backfill_stream(
    engine: &Arc<Engine>,
    id: String,
    slot: OwnedSemaphorePermit,
    reads: Duration,
    takes: Duration,
) -> Response {
    let start = (Running::new(engine), slot, id, 0);
    let pieces = stream::unfold(start, move |(mut running, slot, id, piece)| async move {
        let text = match piece {
            0 => {
                let reading = Reading::new(&running.engine);
                tokio::time::sleep(reads).await;
                drop(reading);
                format!("data: {}\n\n", json!({ "id": id, "choices": [] }))
            }
            1 => {
                tokio::time::sleep(takes).await;
                running.complete = true;
                let usage = json!({ "prompt_tokens": 3, "completion_tokens": 256 });
                let last = json!({ "id": id, "choices": [], "usage": usage });
                format!("data: {last}\n\ndata: [DONE]\n\n")
            }
            _ => return None,
        };
        Some((Ok::<_, std::io::Error>(Bytes::from(text)), (running, slot, id, piece + 1)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}

fn user_stream(takes: Duration) -> Response {
    let pieces = stream::unfold(0, move |piece| async move {
        match piece {
            0 => Some((Bytes::from_static(b"data: {\"choices\":[]}\n\n"), 1)),
            1 => {
                tokio::time::sleep(takes).await;
                Some((Bytes::from_static(b"data: [DONE]\n\n"), 2))
            }
            _ => None,
        }
    });
    let pieces = futures_util::StreamExt::map(pieces, Ok::<_, std::io::Error>);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}
