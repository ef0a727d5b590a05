//! Connections to one engine. Each is driven by the request that uses it: whoever waits for an answer
//! reads the socket itself, so that no piece passes through another task, and dropping the answer
//! closes the connection at once. One that is done is kept for a while for the next request.

use super::connect::TimedConnector;
use super::error::chain;
use crate::http::lanes;
use axum::http::{HeaderValue, Request, Response, Uri, header};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Idle connections are closed before the engines close them (llama-server and uvicorn: 5 s), so
/// that no request is written into a dying connection.
const KEPT_FOR: Duration = Duration::from_secs(4);

/// Connections to one address.
#[derive(Debug)]
pub struct Connections {
    connector: TimedConnector,
    address: Uri,
    host: HeaderValue,
    idle: Arc<Idle>,
}

/// Why no answer came.
#[derive(Debug)]
pub enum Unanswered {
    /// The request has not left: nobody is there.
    NoConnection(String, Box<Request<Full<Bytes>>>),
    /// It may have arrived.
    Sent(String),
}

impl Connections {
    /// Connections to `address`, a URL, where requests name `host`; at most `idle` are kept while
    /// nobody uses them.
    #[must_use]
    pub fn new(connector: TimedConnector, address: Uri, host: HeaderValue, idle: usize) -> Self {
        let threads = 1 + lanes::usual();
        let kept = (0..threads).map(|_| Mutex::default()).collect();
        let idle = Arc::new(Idle { most: idle.div_ceil(threads), kept });
        Self { connector, address, host, idle }
    }

    /// Sends a request, whose URI is a path, and waits for the answer's headers. An idle connection
    /// that was closed before the request left is passed over. Dropping the future or the answer
    /// closes the connection.
    ///
    /// # Errors
    /// [`Unanswered`], with the system's words.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<EngineBody>, Unanswered> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        while let Some(line) = self.idle.take() {
            match self.send_on(line, request).await {
                Ok(answer) => return Ok(answer),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Unanswered::Sent(chain(failed.error()))),
                },
            }
        }
        let line = match self.connect().await {
            Ok(line) => line,
            Err(error) => return Err(Unanswered::NoConnection(error, Box::new(request))),
        };
        let failed = |failed: Failed| Unanswered::Sent(chain(failed.error()));
        self.send_on(line, request).await.map_err(failed)
    }

    /// Closes what nobody has used for too long.
    pub fn close_old(&self) {
        self.idle.close_old();
    }

    async fn connect(&self) -> Result<Line, String> {
        let stream = self.connector.connect(&self.address).await?;
        let (sender, connection) = http1::handshake(stream).await.map_err(|error| chain(&error))?;
        Ok(Line { sender, connection: Some(Box::pin(connection)), lane: lanes::current() })
    }

    async fn send_on(
        &self,
        mut line: Line,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<EngineBody>, Failed> {
        let answer = line.sender.try_send_request(request);
        let mut answer = std::pin::pin!(answer);
        let answer = std::future::poll_fn(|cx| {
            line.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await?;
        let idle = self.idle.clone();
        Ok(answer.map(|body| EngineBody { body, line: Some(line), idle }))
    }
}

type Failed = TrySendError<Request<Full<Bytes>>>;

type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// One connection.
#[derive(Debug)]
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once it is closed.
    connection: Option<Pin<Box<Connection>>>,
    /// Where its socket is watched.
    lane: usize,
}

impl Line {
    /// Reads and writes what can be read and written. What fails is told to the request.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether another request can be sent.
    fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }
}

type Kept = Vec<(Instant, Line)>;

/// Connections that nobody uses, the newest last, for each lane its own: a socket is watched by the
/// thread that has opened it, and another one would have to be woken by it for every piece.
#[derive(Debug)]
struct Idle {
    /// Of each lane.
    most: usize,
    kept: Box<[Mutex<Kept>]>,
}

impl Idle {
    fn of(&self, lane: usize) -> MutexGuard<'_, Kept> {
        self.kept[lane % self.kept.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, line: Line) {
        let mut kept = self.of(line.lane);
        if kept.len() < self.most {
            kept.push((Instant::now(), line));
        }
    }

    /// One that is still open.
    fn take(&self) -> Option<Line> {
        loop {
            let last = self.of(lanes::current()).pop();
            let (since, mut line) = last?;
            if since.elapsed() < KEPT_FOR && line.is_free() {
                return Some(line);
            }
        }
    }

    fn close_old(&self) {
        for lane in 0..self.kept.len() {
            self.of(lane).retain(|(since, _)| since.elapsed() < KEPT_FOR);
        }
    }
}

/// An answer's body, with the connection it comes over.
#[derive(Debug)]
pub struct EngineBody {
    body: Incoming,
    /// None once the body has ended.
    line: Option<Line>,
    idle: Arc<Idle>,
}

impl EngineBody {
    fn ended(&mut self) {
        if let Some(mut line) = self.line.take()
            && line.is_free()
        {
            self.idle.keep(line);
        }
    }
}

impl Body for EngineBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(cx);
        if let (Poll::Pending, Some(line)) = (&frame, &mut this.line) {
            line.drive(cx);
            frame = Pin::new(&mut this.body).poll_frame(cx);
        }
        if let Poll::Ready(None) = frame {
            this.ended();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for EngineBody {
    /// One that was read to its end without being asked for more is kept all the same.
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::histogram::Histogram;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// An engine that answers `answers` requests on each connection and then closes it; how many it
    /// has had.
    async fn engine(answers: usize) -> (Connections, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    for _ in 0..answers {
                        if stream.read(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        let connector = TimedConnector::new(KEPT_FOR, Histogram::new([1.0]));
        let address = format!("http://{host}/").parse().unwrap();
        (Connections::new(connector, address, host.parse().unwrap(), 4), accepted)
    }

    async fn ask(connections: &Connections) -> Bytes {
        let answer = connections.send(Request::new(Full::default())).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_connection_that_is_done_serves_the_next_request() {
        let (connections, accepted) = engine(usize::MAX).await;
        for _ in 0..5 {
            assert_eq!(ask(&connections).await, "hi");
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
        // One whose answer nobody has read is closed.
        drop(connections.send(Request::new(Full::default())).await.unwrap());
        assert_eq!(ask(&connections).await, "hi");
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_connection_that_the_engine_has_closed_is_passed_over() {
        let (connections, accepted) = engine(1).await;
        for n in 1..=5 {
            assert_eq!(ask(&connections).await, "hi");
            assert_eq!(accepted.load(Ordering::SeqCst), n);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
