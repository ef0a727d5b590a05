//! Group `ws_raw_frames`: a real socket, the upgrade request, and after registration one raw message
//! each. The connection stays, whatever comes, but for a message that is too large.

use super::rig::{Scripted, settings};
use crate::examples::{get, list, text, unhex};
use crate::report::{Group, same};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tensorpow_server::broker::connection::{End, Outcome, serve};
use tensorpow_server::broker::hello::hello;
use tensorpow_server::broker::inside::Inside;
use tensorpow_server::broker::shared::Shared;
use tensorpow_server::broker::socket::dial;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const LIMIT: Duration = Duration::from_secs(10);
/// Headers that the reference's library sends and no broker needs. spec: broker §1, extensions
const NOT_SENT: [&str; 2] = ["sec-websocket-extensions", "user-agent"];

pub fn run(_: &Value, cases: &Value, group: &mut Group) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    group.case("handshake", runtime.block_on(handshake(get(cases, "handshake"))));
    for case in list(get(cases, "cases")) {
        let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, one(case)).await });
        let outcome = outcome.unwrap_or_else(|_| Err("nothing happens any more".to_owned()));
        group.case(text(case, "name"), outcome);
    }
}

type Broker = WebSocketStream<TcpStream>;

/// A worker's connection, seen from the broker, and the upgrade request it came with.
async fn connected() -> (Broker, Value, JoinHandle<Outcome>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings();
    let place = listener.local_addr().unwrap();
    settings.url = format!("ws://{place}/v1/ws").parse().unwrap();
    settings.challenge_secret = Some("s3cret".to_owned());
    let worker = tokio::spawn(async move {
        let hello = hello(&settings, &[("m".to_owned(), Some(4096))], None).expect("a context");
        let socket = dial(&settings).await.expect("a socket");
        let shared = Arc::new(Shared::new(settings, None, None));
        let inside: Arc<dyn Inside> = Arc::new(Scripted::default());
        serve(socket, hello, &shared, &inside, std::future::pending()).await
    });
    let (stream, _) = listener.accept().await.unwrap();
    let seen = Arc::new(Mutex::new(Value::Null));
    let noting = seen.clone();
    #[allow(clippy::result_large_err)] // the library's own signature
    let note = move |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let mut names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        *noting.lock().unwrap() = json!({
            "path": request.uri().path(),
            "headers": names,
            "authorization": header("authorization"),
            "subprotocol": header("sec-websocket-protocol"),
        });
        Ok(response)
    };
    let broker = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
    let request = seen.lock().unwrap().clone();
    (broker, request, worker)
}

async fn next(broker: &mut Broker) -> Option<Value> {
    loop {
        match broker.next().await? {
            Ok(Message::Text(frame)) => return serde_json::from_str(frame.as_str()).ok(),
            Ok(Message::Close(frame)) => {
                return Some(json!({ "closed": frame.map(|frame| u16::from(frame.code)) }));
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

async fn say(broker: &mut Broker, frame: Value) -> Result<(), String> {
    broker.send(Message::text(frame.to_string())).await.map_err(|error| error.to_string())
}

async fn handshake(expected: &Value) -> Result<(), String> {
    let (mut broker, request, worker) = connected().await;
    same("path", &request["path"], &expected["path"])?;
    let theirs: Vec<Value> = list(&expected["headers"])
        .iter()
        .filter(|name| !NOT_SENT.iter().any(|other| *name == other))
        .cloned()
        .collect();
    same("headers", &request["headers"], &json!(theirs))?;
    same("authorization", &request["authorization"], &json!("Bearer eyJ0"))?;
    same("subprotocol", &request["subprotocol"], &expected["subprotocol"])?;
    let first = next(&mut broker).await.unwrap_or_default();
    same("first frame", &first["type"], &expected["first_frame_type"])?;
    worker.abort();
    Ok(())
}

async fn one(case: &Value) -> Result<(), String> {
    let (mut broker, _, worker) = connected().await;
    next(&mut broker).await.ok_or("no HELLO")?;
    say(&mut broker, json!({ "type": "ACK", "heartbeat_interval_sec": 300 })).await?;
    let heartbeat = next(&mut broker).await.ok_or("no HEARTBEAT")?;
    same("registered", &heartbeat["type"], &json!("HEARTBEAT"))?;
    // The worker may close before it has read all of a message that is too large.
    let _ = send_raw(&mut broker, case).await;
    if case["close_code_seen_by_broker"] == 1009 {
        let end = loop {
            match next(&mut broker).await {
                Some(frame) if frame.get("closed").is_none() => {}
                end => break end,
            }
        };
        same("close code", end, Some(json!({ "closed": 1009 })))?;
        let outcome = worker.await.map_err(|error| error.to_string())?;
        return same("ended", matches!(outcome.end, End::Ours(1009, _)), true);
    }
    say(&mut broker, json!({ "type": "CHALLENGE", "nonce": "probe", "timestamp": 1 })).await?;
    loop {
        let frame = next(&mut broker).await.ok_or("the connection is gone")?;
        match frame["type"].as_str() {
            Some("CHALLENGE_RESP") => break,
            // Each accepted ACK brings one.
            Some("HEARTBEAT") => {}
            _ => return Err(format!("unexpected {frame}")),
        }
    }
    worker.abort();
    Ok(())
}

async fn send_raw(broker: &mut Broker, case: &Value) -> Result<(), String> {
    let bytes = match case["data_hex"].as_str() {
        Some(digits) => unhex(digits),
        None => {
            let length = usize::try_from(case["data_len"].as_u64().expect("a length")).unwrap();
            let mut bytes = unhex(text(case, "data_head_hex"));
            bytes.resize(length - 2, b'x');
            bytes.extend(b"\"}");
            bytes
        }
    };
    let frames = match text(case, "opcode") {
        "binary" => vec![Message::Binary(bytes.into())],
        "fragments" => {
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            let part = |bytes: &[u8], code, last| {
                Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), last))
            };
            vec![part(first, Data::Text, false), part(rest, Data::Continue, true)]
        }
        _ => vec![Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))],
    };
    for frame in frames {
        broker.send(frame).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
