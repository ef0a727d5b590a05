//! An engine for the browser test: streams words at a pace that comes and goes, and pushes a mined
//! window for every payload it is given, now and then the same one twice.

use crate::miner;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Words of a reply: one window, and a little more.
const WORDS: u32 = 264;

struct Engine {
    /// Messages on their way to the collector: one thread has the socket.
    proofs: Mutex<mpsc::Sender<Vec<u8>>>,
    asked: AtomicU64,
    started: Instant,
}

/// Starts the engine; returns its URL.
pub(crate) async fn start(collector: String) -> String {
    let (sender, waiting) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(&collector).unwrap();
        for message in waiting {
            // A worker that is gone takes no proofs.
            let _ = socket.send(message, zmq::DONTWAIT);
        }
    });
    let engine =
        Engine { proofs: Mutex::new(sender), asked: AtomicU64::new(0), started: Instant::now() };
    let router = Router::new().fallback(answer).with_state(Arc::new(engine));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn answer(State(engine): State<Arc<Engine>>, uri: Uri, body: String) -> Response {
    if uri.path() == "/health" {
        return StatusCode::OK.into_response();
    }
    let Ok(body) = serde_json::from_str::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let number = engine.asked.fetch_add(1, Ordering::Relaxed);
    let id = format!("chatcmpl-{:016x}{number:08x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let pow = body["extra_sampling_params"]["pow"].clone();
    let words = stream::unfold((0, engine, id, pow), move |(word, engine, id, pow)| async move {
        if word > WORDS {
            return None;
        }
        if word == WORDS {
            let usage = format!(
                "data: {{\"id\":\"{id}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{WORDS}}}}}\n\ndata: [DONE]\n\n",
                20 + number % 90
            );
            return Some((
                Ok::<_, std::io::Error>(Bytes::from(usage)),
                (word + 1, engine, id, pow),
            ));
        }
        if word == 0 {
            // Reading the prompt.
            tokio::time::sleep(Duration::from_millis(30 + number * 37 % 190)).await;
        }
        if word == 256 && pow.is_object() && pow["audit_emit"] != true {
            mine(&engine, &pow, &id, number);
        }
        tokio::time::sleep(engine.pace()).await;
        let event = format!(
            "data: {{\"id\":\"{id}\",\"choices\":[{{\"delta\":{{\"content\":\"word \"}}}}]}}\n\n"
        );
        Some((Ok(Bytes::from(event)), (word + 1, engine, id, pow)))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(words)).into_response()
}

impl Engine {
    /// Time of one word: load comes in waves.
    fn pace(&self) -> Duration {
        let seconds = self.started.elapsed().as_secs_f64();
        let wave = (seconds / 23.0).sin() * 0.35 + (seconds / 7.0).sin() * 0.12;
        Duration::from_secs_f64(0.016 * (1.0 + wave))
    }
}

fn mine(engine: &Arc<Engine>, pow: &Value, id: &str, number: u64) {
    let (engine, pow, id) = (engine.clone(), pow.clone(), id.to_owned());
    tokio::task::spawn_blocking(move || {
        let message = miner::mine(&pow, &id, number).message();
        let copies = if number % 9 == 4 { 2 } else { 1 };
        for _ in 0..copies {
            // Without a reader there is no worker any more.
            let _ = engine.proofs.lock().unwrap().send(message.clone());
        }
    });
}
