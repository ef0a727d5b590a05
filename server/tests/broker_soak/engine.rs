//! An engine that mines one window with every answer, and keeps the book of what it made.

use crate::miner::mine;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

/// A window.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// Its final digest, in hex.
    pub(crate) hash: String,
    pub(crate) is_solution: bool,
    pub(crate) at: Instant,
}

/// Windows on their way to the worker.
#[derive(Debug, Default)]
struct Pushes {
    sender: Option<mpsc::Sender<Vec<u8>>>,
    /// Kept back while nobody would take them.
    held: Option<Vec<Vec<u8>>>,
    handed: u64,
}

impl Pushes {
    fn push(&mut self, message: Vec<u8>) {
        match &mut self.held {
            Some(held) => held.push(message),
            None => {
                self.handed += 1;
                self.sender.as_ref().expect("the collector is known").send(message).unwrap();
            }
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    made: Mutex<Vec<Made>>,
    number: AtomicU64,
    pushes: Mutex<Pushes>,
}

#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) url: String,
    book: Arc<Book>,
}

impl Engine {
    pub(crate) async fn start() -> Self {
        let book = Arc::new(Book::default());
        let router = Router::new().fallback(answer).with_state(book.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, book }
    }

    /// Where windows go.
    pub(crate) fn push_to(&self, collector: &str) {
        let (sender, messages) = mpsc::channel::<Vec<u8>>();
        let collector = collector.to_owned();
        std::thread::spawn(move || {
            let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
            socket.set_linger(1000).unwrap();
            socket.connect(&collector).unwrap();
            for message in messages {
                socket.send(message, 0).unwrap();
            }
        });
        self.book.pushes.lock().unwrap().sender = Some(sender);
    }

    /// Keeps windows back from now on; how many have left before. What a socket holds when its reader
    /// is killed is gone, as no spool has seen it.
    pub(crate) fn hold(&self) -> u64 {
        let mut pushes = self.book.pushes.lock().unwrap();
        pushes.held.get_or_insert_default();
        pushes.handed
    }

    /// Lets go of what was kept back.
    pub(crate) fn release(&self) {
        let mut pushes = self.book.pushes.lock().unwrap();
        for message in pushes.held.take().unwrap_or_default() {
            pushes.push(message);
        }
    }

    /// Every window so far.
    pub(crate) fn made(&self) -> Vec<Made> {
        self.book.made.lock().unwrap().clone()
    }
}

async fn answer(State(book): State<Arc<Book>>, request: Request) -> Response {
    match request.uri().path() {
        "/health" => return "ok".into_response(),
        "/v1/models" => {
            let models = json!({"object":"list","data":[{"id":"org/tiny","max_model_len":8192}]});
            return axum::Json(models).into_response();
        }
        path if !path.ends_with("/completions") => {
            return (axum::http::StatusCode::NOT_FOUND, "{}").into_response();
        }
        _ => {}
    }
    let chat = request.uri().path().contains("chat");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = book.number.fetch_add(1, Ordering::Relaxed);
    let id = format!("cmpl-{number}");
    let pow = body["extra_sampling_params"]["pow"].clone();
    if pow.is_object() {
        let (book, id) = (book.clone(), id.clone());
        let mined = tokio::task::spawn_blocking(move || mine(&pow, &id, number)).await.unwrap();
        let made = Made {
            hash: hex::encode(&mined.proof.hash),
            is_solution: mined.proof.is_solution,
            at: Instant::now(),
        };
        book.made.lock().unwrap().push(made);
        book.pushes.lock().unwrap().push(mined.message());
    }
    if body["stream"] == true && chat {
        let piece = |text: &str| {
            let event = json!({"id":id,"choices":[{"index":0,"delta":{"content":text}}]});
            format!("data: {event}\n\n")
        };
        let events = format!("{}{}data: [DONE]\n\n", piece("A window"), piece(" was made."));
        return ([(header::CONTENT_TYPE, "text/event-stream")], events).into_response();
    }
    axum::Json(json!({"id":id,"choices":[{"index":0,"text":"made"}],
        "usage":{"prompt_tokens":5,"completion_tokens":256}}))
    .into_response()
}
