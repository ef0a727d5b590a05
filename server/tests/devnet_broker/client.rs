//! A worker written for the test: a WebSocket and frames as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// Anything that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client(pub(crate) WebSocketStream<TcpStream>);

/// A connection with this header; the status of a refusal.
pub(crate) async fn connect(
    address: SocketAddr,
    path: &str,
    header: Option<(&'static str, String)>,
) -> Result<Client, u16> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match timeout(PATIENCE, client_async(request, stream)).await.expect("an answer") {
        Ok((socket, _)) => Ok(Client(socket)),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        // A connection that is dropped in the middle.
        Err(_) => Err(0),
    }
}

/// The frame of frames.json's `hello` with mining.
pub(crate) fn hello(worker: &str) -> Value {
    json!({"type":"HELLO","worker_id":worker,"models":["org/tiny"],"capacity":4,
        "capabilities":{"compute_type":"nvidia-8.9","gpu_model":"RTX-4090","memory_gb":24,
        "region":"us-west-2","max_context_window":8192,"max_context_tokens":8192,
        "max_output_tokens":8192,"features":["streaming","pow_injection","responses"],
        "quantization":["fp16","int8"],"modes":["plaintext"],
        "mining":{"enabled":true,"schema_version":2,"networks":["tensor"],
        "supported_modes":["dummy_only","request_attached"],"supports_broker_registry":true,
        "supports_solution_return":true,"max_parallel":1}}})
}

impl Client {
    pub(crate) async fn send(&mut self, frame: &Value) {
        self.text(&frame.to_string()).await;
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        match timeout(PATIENCE, self.0.next()).await.expect("a message in time") {
            Some(Ok(message)) => Some(message),
            Some(Err(_)) | None => None,
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        loop {
            match self.message().await.expect("the connection stands") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next frame of this type; others are skipped.
    pub(crate) async fn wait_for(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Registers; returns the ACK.
    pub(crate) async fn register(&mut self, worker: &str) -> Value {
        self.send(&hello(worker)).await;
        let ack = self.frame().await;
        assert_eq!(ack["type"], "ACK");
        self.heartbeat().await;
        ack
    }

    pub(crate) async fn heartbeat(&mut self) {
        self.send(&json!({"type":"HEARTBEAT","busy":0,"input_tokens_per_sec":0.0,
            "output_tokens_per_sec":1.5,"error_rate":0.0,"queue_depth":0}))
            .await;
    }

    /// Everything sent so far has been dealt with.
    pub(crate) async fn settle(&mut self) {
        self.0.send(Message::Ping(b"settle"[..].into())).await.unwrap();
        loop {
            if let Message::Pong(payload) = self.message().await.expect("a Pong") {
                assert_eq!(&payload[..], b"settle");
                return;
            }
        }
    }

    /// Code and reason with which the broker closes, whatever comes before.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.message().await {
                Some(Message::Close(Some(frame))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Message::Close(None)) => return (1005, String::new()),
                None => return (0, String::new()),
                Some(_) => {}
            }
        }
    }
}

/// The frame of a share, echoing its lease. spec: broker §7.5
pub(crate) fn share(
    worker: &str,
    lease: &Value,
    hash: &[u8],
    target: &str,
    message: &[u8],
) -> Value {
    let mut frame = echo("MINE_SHARE", worker, lease);
    frame["nonce"] = u32::from_le_bytes(hash[..4].try_into().unwrap()).into();
    frame["achieved_hash"] = hex::encode(hash).into();
    frame["share_target"] = target.into();
    frame["proof_b64"] = STANDARD.encode(message).into();
    frame
}

/// The frame of a solution. spec: broker §7.6
pub(crate) fn solution(worker: &str, lease: &Value, message: &[u8]) -> Value {
    let mut frame = echo("MINE_RESULT", worker, lease);
    frame["solution_b64"] = STANDARD.encode(message).into();
    frame
}

fn echo(kind: &str, worker: &str, lease: &Value) -> Value {
    json!({
        "type": kind,
        "job_id": lease["job_id"],
        "work_unit_id": lease["work_unit_id"],
        "wallet_id": lease["wallet_id"],
        "network": lease["network"],
        "template_id": lease["template"]["template_id"],
        "request_id": lease["template"]["request_id"],
        "worker_id": worker,
    })
}
