//! An inference engine for tests: answers by script, remembers what it was asked, and notices when
//! it is left.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How generation requests are answered.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    /// A status and a JSON body.
    Json(u16, &'static str),
    /// An SSE stream of these pieces, a pause before each.
    Stream(Vec<&'static [u8]>, Duration),
    /// The pieces, then the connection breaks.
    Break(Vec<&'static [u8]>),
    /// A stream without end, as fast as it is taken.
    Endless,
    /// The piece, then silence.
    Silent(&'static [u8]),
    /// No answer at all.
    Hang,
}

#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    recorded: Mutex<Vec<Recorded>>,
    aborted: AtomicUsize,
    sent: AtomicUsize,
}

/// A running engine.
#[derive(Debug, Clone)]
pub(crate) struct MockEngine {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl MockEngine {
    pub(crate) async fn start(script: Script) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            recorded: Mutex::default(),
            aborted: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers otherwise from now on.
    pub(crate) fn say(&self, script: Script) {
        *self.shared.script.lock().unwrap() = script;
    }

    /// The last generation request.
    pub(crate) fn last(&self) -> Recorded {
        self.shared.recorded.lock().unwrap().pop().expect("the engine was asked")
    }

    pub(crate) fn asked(&self) -> usize {
        self.shared.recorded.lock().unwrap().len()
    }

    /// Requests that were left before their answer was complete.
    pub(crate) fn aborted(&self) -> usize {
        self.shared.aborted.load(Ordering::SeqCst)
    }

    /// Bytes of [`Script::Endless`] that were taken.
    pub(crate) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

/// Counts an answer that is dropped before its end.
struct Answering {
    shared: Arc<Shared>,
    complete: bool,
}

impl Answering {
    fn finish(&mut self) {
        self.complete = true;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.complete {
            self.shared.aborted.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match request.uri().path() {
        "/health" => return StatusCode::OK.into_response(),
        "/v1/models" => {
            let authorization = request.headers().get(header::AUTHORIZATION).cloned();
            let models = r#"{"object":"list","data":[{"id":"m","max_model_len":8192}]}"#;
            let mut response = models.into_response();
            response
                .headers_mut()
                .insert("content-type", HeaderValue::from_static("application/json"));
            if let Some(value) = authorization {
                response.headers_mut().insert("x-seen-authorization", value);
            }
            return response;
        }
        _ => {}
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    shared.recorded.lock().unwrap().push(Recorded {
        path: head.uri.to_string(),
        headers: head.headers,
        body,
    });
    let script = shared.script.lock().unwrap().clone();
    let mut answering = Answering { shared: shared.clone(), complete: false };
    match script {
        Script::Json(status, body) => {
            answering.finish();
            let status = StatusCode::from_u16(status).unwrap();
            let headers = [("content-type", "application/json"), ("x-engine", "mock")];
            (status, headers, body).into_response()
        }
        Script::Hang => {
            let _left = answering;
            std::future::pending().await
        }
        Script::Stream(pieces, pause) => event_stream(stream::unfold(
            (pieces.into_iter(), answering),
            move |(mut pieces, mut answering)| async move {
                tokio::time::sleep(pause).await;
                match pieces.next() {
                    Some(piece) => Some((Ok(Bytes::from_static(piece)), (pieces, answering))),
                    None => {
                        answering.finish();
                        None
                    }
                }
            },
        )),
        Script::Break(pieces) => {
            let good = pieces.into_iter().map(|piece| Ok(Bytes::from_static(piece)));
            let broken = std::iter::once(Err(std::io::Error::other("the engine dies")));
            answering.finish();
            event_stream(stream::unfold(good.chain(broken), |mut pieces| async {
                // One write a piece: the break must not overtake them.
                tokio::time::sleep(Duration::from_millis(20)).await;
                pieces.next().map(|piece| (piece, pieces))
            }))
        }
        Script::Endless => event_stream(stream::unfold(answering, |answering| async {
            let piece = Bytes::from(vec![b'x'; 16 * 1024]);
            answering.shared.sent.fetch_add(piece.len(), Ordering::SeqCst);
            Some((Ok(piece), answering))
        })),
        Script::Silent(piece) => event_stream(stream::unfold(
            (Some(piece), answering),
            |(piece, answering)| async move {
                match piece {
                    Some(piece) => Some((Ok(Bytes::from_static(piece)), (None, answering))),
                    None => std::future::pending().await,
                }
            },
        )),
    }
}

fn event_stream(
    pieces: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Response {
    let headers = [
        ("content-type", "text/event-stream"),
        ("access-control-allow-origin", "*"),
        ("x-engine", "mock"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}
