//! The engine that gets killed: a process that streams like one, mines a real window for the requests
//! it has time for, and pushes the proof to the collector, every seventh twice. What it is about to
//! push stands in its log before it leaves.

use crate::miner;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the engine is told by whoever starts it: its address, the collector's, the log.
pub(crate) const LISTEN: &str = "TENSORPOW_FAULTS_ENGINE";
pub(crate) const COLLECTOR: &str = "TENSORPOW_FAULTS_COLLECTOR";
pub(crate) const LOG: &str = "TENSORPOW_FAULTS_LOG";

/// Pieces of a stream, all of which a client must see.
pub(crate) const PIECES: usize = 12;
const PACE: Duration = Duration::from_millis(15);
/// Says that a proof of this completion will come.
pub(crate) const MINES: &str = "x-engine-mines";
/// Windows mined at a time; other requests are served only.
const AT_A_TIME: usize = 4;

struct Engine {
    room: Arc<Semaphore>,
    emitted: mpsc::Sender<(String, Vec<u8>)>,
}

/// Runs until it is killed.
pub(crate) fn run() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (sender, emitted) = mpsc::channel();
    let (collector, log) = (variable(COLLECTOR), PathBuf::from(variable(LOG)));
    std::thread::spawn(move || push(&collector, &log, &emitted));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(variable(LISTEN)).await.unwrap();
        let room = Arc::new(Semaphore::new(AT_A_TIME));
        let routes = Router::new().fallback(answer);
        let engine = Arc::new(Engine { room, emitted: sender });
        axum::serve(listener, routes.with_state(engine)).await.unwrap();
    });
}

fn push(collector: &str, log: &Path, emitted: &mpsc::Receiver<(String, Vec<u8>)>) {
    let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.connect(collector).unwrap();
    for (number, (id, message)) in emitted.iter().enumerate() {
        log.write_all(format!("{id} {}\n", hash(&message)).as_bytes()).unwrap();
        for _ in 0..if number % 7 == 6 { 2 } else { 1 } {
            socket.send(&message, 0).unwrap();
        }
    }
}

pub(crate) fn hash(message: &[u8]) -> String {
    hex::encode(Sha256::digest(message))
}

async fn answer(State(engine): State<Arc<Engine>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let prefix = match head.uri.path() {
        "/health" => return StatusCode::OK.into_response(),
        "/v1/chat/completions" => "chatcmpl",
        "/v1/completions" => "cmpl",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = format!("{prefix}-{}", request_id(&head.headers));
    let pow = &body["extra_sampling_params"]["pow"];
    let place = engine.room.clone().try_acquire_owned().ok().filter(|_| pow.is_object());
    let mines = [(MINES, if place.is_some() { "yes" } else { "no" })];
    let window = place.map(|place| Window { engine, place, id: id.clone(), pow: pow.clone() });
    if body["stream"] == true {
        let events = [(header::CONTENT_TYPE, "text/event-stream")];
        return (events, mines, stream_of(id, window)).into_response();
    }
    tokio::time::sleep(PACE * u32::try_from(PIECES).unwrap()).await;
    if let Some(window) = window {
        window.mine();
    }
    let usage = json!({ "prompt_tokens": 5, "completion_tokens": 256 });
    (mines, axum::Json(json!({ "id": id, "choices": [], "usage": usage }))).into_response()
}

/// A request id of the proxy's, or one of our own for whoever has none.
fn request_id(headers: &HeaderMap) -> String {
    static WITHOUT: AtomicU64 = AtomicU64::new(0);
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    given.map_or_else(
        || format!("{}-{}", std::process::id(), WITHOUT.fetch_add(1, Ordering::Relaxed)),
        str::to_owned,
    )
}

/// A window that will be mined once its tokens have been sent.
struct Window {
    engine: Arc<Engine>,
    place: OwnedSemaphorePermit,
    id: String,
    pow: Value,
}

impl Window {
    fn mine(self) {
        let Self { engine, place, id, pow } = self;
        tokio::task::spawn_blocking(move || {
            let seed = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let message = miner::mine(&pow, &id, seed).message();
            engine.emitted.send((id, message)).unwrap();
            drop(place);
        });
    }
}

fn stream_of(id: String, window: Option<Window>) -> Body {
    let pieces = (0..=PIECES).map(move |number| match number {
        PIECES => "data: [DONE]\n\n".to_owned(),
        number => format!("data: {{\"id\":\"{id}\",\"piece\":{number}}}\n\n"),
    });
    Body::from_stream(stream::unfold((pieces, window), |(mut pieces, mut window)| async move {
        tokio::time::sleep(PACE).await;
        let piece = pieces.next();
        if piece.is_none()
            && let Some(window) = window.take()
        {
            window.mine();
        }
        Some((Ok::<_, std::io::Error>(Bytes::from(piece?)), (pieces, window)))
    }))
}
