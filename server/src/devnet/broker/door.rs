//! The door: TCP connections come in, path and token are looked at before the upgrade, and whoever
//! passes gets a session. spec: broker §1, §12 item 1

use super::misbehave::Fault;
use super::{Books, session};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How long an upgrade may take. spec: broker §1
const UPGRADE: Duration = Duration::from_secs(10);
/// A result of a full window is a quarter of a megabyte; nothing sensible is larger than this.
const LARGEST: usize = 4 * 1024 * 1024;
/// Bytes the system takes from a worker that nobody reads. With the system's own choice a worker
/// would write megabytes into a connection that is dead.
const UNREAD: u32 = 64 * 1024;
/// Connections that wait for the door.
const WAITING: u32 = 64;

/// Opens the door.
///
/// # Errors
/// What the system says.
pub(super) fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A broker that was killed a moment ago comes back to the same port.
    socket.set_reuseaddr(true)?;
    socket.set_recv_buffer_size(UNREAD)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// Lets workers in until it is dropped, and their connections end with it.
pub(super) async fn keep(books: Arc<Books>, listener: TcpListener) {
    let mut sessions = JoinSet::new();
    loop {
        while sessions.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                sessions.spawn(let_in(books.clone(), stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn let_in(books: Arc<Books>, stream: TcpStream, peer: SocketAddr) {
    let peer = peer.to_string();
    let refused = |reason: String| {
        books
            .ledger
            .record("connection", json!({ "peer": peer, "verdict": "refused", "reason": reason }));
    };
    if books.faults.has(Fault::Drop) {
        return refused("dropped as told".to_owned());
    }
    // Frames are small and somebody waits for them.
    let _ = stream.set_nodelay(true);
    let mut unwelcome = None;
    let upgraded = {
        // The library's refusal is as large as it is.
        #[allow(clippy::result_large_err)]
        let look = |request: &Request, response: Response| match look(&books, request) {
            Ok(()) => Ok(response),
            Err((status, why)) => {
                let mut answer = ErrorResponse::new(Some(why.clone()));
                *answer.status_mut() = status;
                unwelcome = Some(format!("{}: {why}", status.as_u16()));
                Err(answer)
            }
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST));
        let upgrade = accept_hdr_async_with_config(stream, look, Some(config));
        tokio::time::timeout(UPGRADE, upgrade).await
    };
    let mut socket = match (unwelcome, upgraded) {
        (Some(why), _) => return refused(why),
        (None, Err(_)) => return refused("no upgrade in time".to_owned()),
        (None, Ok(Err(error))) => return refused(error.to_string()),
        (None, Ok(Ok(socket))) => socket,
    };
    books.ledger.record("connection", json!({ "peer": peer, "verdict": "accepted" }));
    if books.faults.has(Fault::CloseAfterAccept) {
        let why = session::close(&mut socket, CloseCode::Policy, "as told").await;
        return books.ledger.record("disconnected", json!({ "peer": peer, "why": why }));
    }
    session::serve(books, socket, peer).await;
}

/// Whether a request may become a connection.
fn look(books: &Books, request: &Request) -> Result<(), (StatusCode, String)> {
    let path = request.uri().path();
    if !path.ends_with("/v1/ws") {
        return Err((StatusCode::NOT_FOUND, format!("there is nothing at {path}")));
    }
    if books.faults.has(Fault::Unauthorized) {
        return Err((StatusCode::UNAUTHORIZED, "as told".to_owned()));
    }
    books
        .tokens
        .check(request.headers(), books.now())
        .map_err(|why| (StatusCode::UNAUTHORIZED, why.to_string()))
}
