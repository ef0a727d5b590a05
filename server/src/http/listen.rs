//! The listening socket: accepts connections within limits, and on shutdown stops accepting and
//! lets the requests in flight finish until a deadline. spec: proxy §3

use super::lanes::{self, Lanes};
pub use super::tls::TlsFiles;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

/// Limits on connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time to send a request's head; also how long an idle connection is kept.
    pub head_time: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Time the last requests get on shutdown.
    pub drain: Duration,
    /// Threads that serve connections; 0 leaves them to the threads that do everything else.
    pub lanes: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 8192,
            head_time: Duration::from_secs(30),
            head_bytes: 64 * 1024,
            drain: Duration::from_secs(20),
            lanes: lanes::usual(),
        }
    }
}

/// The HTTP address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub error: std::io::Error,
}

/// Binds the HTTP address.
///
/// # Errors
/// [`ListenError`] when it is taken or not ours.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError { address, error })
}

/// Whatever answers requests.
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers one request that came from `peer`.
    fn answer(&self, request: Request, peer: IpAddr)
    -> impl Future<Output = Response<Body>> + Send;
}

/// Serves on `lanes` until `stop` completes, then drains.
pub async fn serve(
    listener: TcpListener,
    face: impl Answers,
    tls: Option<TlsAcceptor>,
    limits: ConnectionLimits,
    lanes: &Lanes,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (face, watcher, tls) = (face.clone(), graceful.watcher(), tls.clone());
        let serve = move |stream| async move {
            match tls {
                None => converse(stream, peer, face, limits, watcher).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(limits.head_time, tls.accept(stream));
                    match handshake.await {
                        Ok(Ok(stream)) => converse(stream, peer, face, limits, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS connection"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake timed out"),
                    }
                }
            }
            drop(permit);
        };
        if let Err(error) = lanes.spawn(stream, serve) {
            tracing::warn!(%error, %peer, "a connection cannot be served");
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off after {:?}", limits.drain);
    }
}

/// Serves one connection to its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static, A: Answers>(
    stream: S,
    peer: IpAddr,
    face: A,
    limits: ConnectionLimits,
    watcher: Watcher,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes.max(8192));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let face = face.clone();
        async move { Ok::<_, Infallible>(face.answer(request.map(Body::new), peer).await) }
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Without it small events wait for the client's acknowledgement.
            let _ = stream.set_nodelay(true);
            Some((stream, peer.ip(), permit))
        }
        Err(error) => {
            // Out of file descriptors, most likely: others must finish first.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
