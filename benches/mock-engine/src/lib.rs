//! An inference engine without a model. It answers the OpenAI routes with fixed text, streams its
//! chunks as fast as they are taken or at a pace, keeps the requests it was asked for
//! `GET /debug/requests`, and counts the answers that were left before their end. Load runs start it
//! in their own process, everything else as the program `mock-engine`.

mod answers;
pub mod chunks;
mod records;

pub use chunks::Chunks;
pub use records::{Recorded, Records};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// What the engine does.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Chunks of a stream.
    pub chunks: usize,
    /// Pause before each chunk.
    pub pace: Duration,
    /// Before each chunk comes a comment with the time at which it left, by [`chunks::now`].
    pub stamps: bool,
    /// Requests kept for `/debug/requests`; 0 keeps none.
    pub keep: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { chunks: 64, pace: Duration::ZERO, stamps: false, keep: 1000 }
    }
}

/// A running engine.
#[derive(Debug, Clone)]
pub struct MockEngine {
    /// Where it is.
    pub address: SocketAddr,
    /// What it was asked, and what became of its answers.
    pub records: Arc<Records>,
}

type Answer = Response<Either<Full<Bytes>, Chunks>>;

impl MockEngine {
    /// Starts the engine on a listener. Needs a running tokio.
    ///
    /// # Errors
    /// When the socket has no address.
    pub fn start(listener: TcpListener, settings: Settings) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let records = Arc::new(Records::new(settings.keep));
        let engine = Self { address, records: records.clone() };
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        tokio::spawn(converse(stream, settings, records.clone()));
                    }
                    // Out of descriptors: others must finish first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(engine)
    }
}

async fn converse(stream: TcpStream, settings: Settings, records: Arc<Records>) {
    let _ = stream.set_nodelay(true);
    let _open = records.connection();
    let service = service_fn(|request| {
        let records = records.clone();
        async move { Ok::<_, Infallible>(answer(request, settings, records).await) }
    });
    // A client may end its connection in any way.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, settings: Settings, records: Arc<Records>) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return json(StatusCode::BAD_REQUEST, "{}".to_owned());
    };
    let body = body.to_bytes();
    let path = head.uri.path();
    match (&head.method, path) {
        (&Method::GET, "/health") => return json(StatusCode::OK, "{}".to_owned()),
        (&Method::GET, "/debug/requests") => {
            return json(StatusCode::OK, records.requests().to_string());
        }
        (&Method::POST | &Method::DELETE, "/debug/reset" | "/debug/requests") => {
            records.forget();
            return json(StatusCode::OK, "{}".to_owned());
        }
        (&Method::GET, "/debug/stats") => {
            return json(StatusCode::OK, records.stats().to_string());
        }
        _ => {}
    }
    records.keep(&head, &body);
    match (&head.method, path) {
        (&Method::GET, "/v1/models") => json(StatusCode::OK, answers::models().to_string()),
        (&Method::GET, "/props") => json(StatusCode::OK, answers::props().to_string()),
        (&Method::POST, "/v1/embeddings") => {
            json(StatusCode::OK, answers::embeddings(&parsed(&body)).to_string())
        }
        (&Method::POST, "/v1/chat/completions" | "/v1/completions" | "/v1/responses") => {
            generate(path, &head.headers, &body, settings, records)
        }
        (method, _) if path.starts_with("/v1/responses/") => {
            let id = path.trim_start_matches("/v1/responses/").trim_end_matches("/cancel");
            let cancelled = *method == Method::POST;
            json(StatusCode::OK, answers::stored(id, cancelled).to_string())
        }
        _ => json(StatusCode::NOT_FOUND, r#"{"error":{"message":"no such route"}}"#.to_owned()),
    }
}

fn parsed(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

fn generate(
    path: &str,
    headers: &hyper::HeaderMap,
    body: &Bytes,
    settings: Settings,
    records: Arc<Records>,
) -> Answer {
    let wants = |part: &[u8]| records::contains(body, part);
    let stream = wants(b"\"stream\":true") || wants(b"\"stream\": true");
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("0");
    if !stream {
        let whole = match (path, records::model(body)) {
            // What load runs ask for most is answered without a tree of values.
            ("/v1/chat/completions", Some(model)) if !id.contains(['"', '\\']) => {
                answers::chat(id, model, settings.chunks)
            }
            _ => answers::whole(path, id, &parsed(body), settings.chunks).to_string(),
        };
        return json(StatusCode::OK, whole);
    }
    let usage = wants(b"\"include_usage\":true") || wants(b"\"include_usage\": true");
    let marker = records::marker(body);
    let events = answers::events(path, id, settings.chunks, usage);
    let chunks = Chunks::new(events, settings.pace, settings.stamps);
    let mut response = Response::new(Either::Right(chunks.watched(records.begin(marker))));
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn json(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
