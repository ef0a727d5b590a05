//! One worker's connection: the upgrade, the registration, then frames in both directions until one
//! side has had enough. Everything a worker sends is dealt with before the next message is read, so
//! a Pong means that whatever came before its Ping is in the ledger. spec: broker §1, §3, §4, §12

use super::misbehave::{self, Fault};
use super::workers::{WAITING, Worker};
use super::{Books, audits, frames, hello, jobs, judge, token, workers};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// How long a worker may take no bytes.
const WRITE: Duration = Duration::from_secs(10);
/// Heartbeats that may be missed. spec: broker §12 item 5
const MISSED: u32 = 3;

type Socket = WebSocketStream<TcpStream>;

/// Why a connection ends, for the ledger.
type End = String;

/// Serves an upgraded connection to its end.
pub(super) async fn serve(books: Arc<Books>, mut socket: Socket, peer: String) {
    let why = match registered(&books, &mut socket).await {
        Err(why) => why,
        Ok(worker) => {
            let (worker, outbox) = worker;
            let guard = Registration { books: books.clone(), worker };
            let session = Session {
                faults: books.faults.watch(),
                worker: guard.worker.clone(),
                silent_since: Instant::now(),
                read_at: Instant::now(),
                books: &books,
                socket,
                outbox,
            };
            session.run().await
        }
    };
    books.ledger.record("disconnected", json!({ "peer": peer, "why": why }));
}

/// Takes the worker off the list however its connection ends.
struct Registration {
    books: Arc<Books>,
    worker: Worker,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.books.workers.leave(&self.worker) {
            jobs::worker_left(&self.books, &self.worker);
        }
    }
}

/// From the upgrade to the registration.
async fn registered(
    books: &Books,
    socket: &mut Socket,
) -> Result<(Worker, mpsc::Receiver<Value>), End> {
    let within = books.settings.timing.hello;
    let first = next_frame(socket, within).await?;
    let hello = match hello::read(&first, &books.settings.network) {
        Ok(hello) => hello,
        Err(why) => return Err(close(socket, CloseCode::Policy, &why).await),
    };
    if books.faults.has(Fault::CloseAfterHello) {
        return Err(close(socket, CloseCode::Policy, "as told, after HELLO").await);
    }
    if books.faults.has(Fault::Silent) {
        let mut faults = books.faults.watch();
        let spoken = faults.wait_for(|faults| !faults.contains(&Fault::Silent));
        // The sender lives as long as the books.
        drop(spoken.await);
        return Err("silent as told".to_owned());
    }
    for what in &hello.oddities {
        books.ledger.violation(&hello.worker_id, format!("HELLO: {what}"));
    }
    challenged(books, socket, &hello.worker_id).await?;
    let (outgoing, outbox) = mpsc::channel(WAITING);
    let worker = Worker {
        id: hello.worker_id,
        models: hello.models,
        leases: *hello.mining.as_ref().unwrap_or(&0),
        connection: books.workers.next_connection(),
        outbox: outgoing,
        leave: Arc::new(Notify::new()),
        busy: Arc::new(AtomicU64::new(0)),
    };
    let mut entry =
        json!({ "worker": worker.id, "models": worker.models, "leases": worker.leases });
    if let Err(why) = &hello.mining {
        entry["no_leases"] = why.clone().into();
    }
    books.ledger.record("hello", entry);
    let heartbeat = books.settings.heartbeat_sec;
    worker.send(frames::registration_ack(&worker.id, heartbeat));
    worker.send(frames::registry_sync(books.chain.settings()));
    for frame in workers::catch_up(books, &worker.id) {
        worker.send(frame);
    }
    books.workers.register(worker.clone());
    Ok((worker, outbox))
}

/// The challenge, if this broker has a secret. spec: broker §3.3
async fn challenged(books: &Books, socket: &mut Socket, worker: &str) -> Result<(), End> {
    let Some(secret) = &books.settings.challenge_secret else { return Ok(()) };
    let (nonce, now) = (hex::encode(token::random_bytes::<16>()), books.now());
    let frame = frames::challenge(&nonce, now);
    send(socket, Message::text(frame.to_string())).await?;
    let answer = next_frame(socket, books.settings.timing.hello).await?;
    if hello::proves(&answer, secret, &nonce, worker, now) {
        books.ledger.record("challenge", json!({ "worker": worker, "verdict": "accepted" }));
        return Ok(());
    }
    books.ledger.record("challenge", json!({ "worker": worker, "verdict": "refused" }));
    Err(close(socket, CloseCode::Policy, "challenge failed").await)
}

struct Session<'a> {
    books: &'a Arc<Books>,
    worker: Worker,
    socket: Socket,
    outbox: mpsc::Receiver<Value>,
    faults: watch::Receiver<BTreeSet<Fault>>,
    /// Last heartbeat.
    silent_since: Instant,
    /// A slow reader looks no earlier.
    read_at: Instant,
}

impl Session<'_> {
    async fn run(mut self) -> End {
        // Faults that were on before are felt by this connection as well.
        self.faults.mark_changed();
        loop {
            if let Err(why) = self.step().await {
                return why;
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        let patience = Duration::from_secs(self.books.settings.heartbeat_sec) * MISSED;
        let dead_at = self.silent_since + patience + self.books.settings.timing.late;
        let leave = self.worker.leave.clone();
        tokio::select! {
            biased;
            _ = self.faults.changed() => self.misbehave().await,
            () = leave.notified() => {
                Err(close(&mut self.socket, CloseCode::Policy, "replaced or too slow").await)
            }
            () = sleep_until(dead_at) => {
                self.books.ledger.record("dead", json!({ "worker": self.worker.id }));
                Err(close(&mut self.socket, CloseCode::Policy, "no heartbeat").await)
            }
            Some(frame) = self.outbox.recv() => self.write(frame).await,
            message = next_message(&mut self.socket, self.read_at) => {
                let message = message?;
                if self.faults.borrow().contains(&Fault::SlowReader) {
                    self.read_at = Instant::now() + self.books.settings.timing.slow_reader;
                }
                self.take(message).await
            }
        }
    }

    async fn write(&mut self, frame: Value) -> Result<(), End> {
        let message = Message::text(frame.to_string());
        if self.faults.borrow().contains(&Fault::Duplicates) {
            self.books.jobs.told_twice(&frame);
            send(&mut self.socket, message.clone()).await?;
        }
        send(&mut self.socket, message).await
    }

    /// What the faults that are on do to a connection that stands.
    async fn misbehave(&mut self) -> Result<(), End> {
        let faults = self.faults.borrow_and_update().clone();
        if faults.contains(&Fault::Drop) {
            return Err("dropped as told".to_owned());
        }
        if faults.contains(&Fault::HalfOpen) {
            let over = self.faults.wait_for(|faults| !faults.contains(&Fault::HalfOpen)).await;
            drop(over);
            return Err("half-open as told".to_owned());
        }
        let mut burst = Vec::new();
        if faults.contains(&Fault::Garbage) {
            burst.extend(misbehave::garbage());
        }
        if faults.contains(&Fault::Cancels) {
            burst.extend(misbehave::cancels().map(|frame| Message::text(frame.to_string())));
        }
        if faults.contains(&Fault::ForeignCancels) {
            for lease in self.books.leases.of(&self.worker.id) {
                let network = &self.books.settings.network;
                let frame =
                    frames::mine_cancel("job-of-another", lease.request_id, "superseded", network);
                burst.push(Message::text(frame.to_string()));
            }
        }
        if faults.contains(&Fault::Oversize) {
            burst.push(misbehave::oversize());
        }
        if !burst.is_empty() {
            let named: Vec<_> = faults.iter().map(|fault| fault.name()).collect();
            let entry = json!({ "worker": self.worker.id, "faults": named, "frames": burst.len() });
            self.books.ledger.record("burst", entry);
        }
        for message in burst {
            send(&mut self.socket, message).await?;
        }
        Ok(())
    }

    async fn take(&mut self, message: Message) -> Result<(), End> {
        let frame: Value = match &message {
            Message::Text(text) => serde_json::from_str(text).unwrap_or_default(),
            Message::Binary(bytes) => serde_json::from_slice(bytes).unwrap_or_default(),
            Message::Close(reason) => {
                // The library has answered; flushing it out is all that is left.
                let _ = timeout(WRITE, self.socket.flush()).await;
                return Err(format!("the worker closed: {}", closing(reason.as_ref())));
            }
            // Pings are answered by the library.
            _ => return Ok(()),
        };
        let (books, worker) = (self.books, &self.worker.id);
        match frame["type"].as_str() {
            Some("HEARTBEAT") => self.heartbeat(&frame),
            Some("MINE_SHARE" | "MINE_RESULT") => {
                let (books, worker) = (books.clone(), worker.clone());
                let judged = tokio::task::spawn_blocking(move || match frame["type"].as_str() {
                    Some("MINE_SHARE") => judge::share(&books, &worker, &frame),
                    _ => {
                        judge::result(&books, &worker, &frame);
                        books.workers.wake.notify_one();
                    }
                });
                judged.await.map_err(|error| error.to_string())?;
            }
            Some("ACK" | "CHUNK" | "END" | "ERROR") => jobs::take(books, worker, &frame),
            Some("PROOF_RESULT") => audits::take(books, worker, &frame),
            Some("TOOL_REGISTER") => {
                let tool = frame["tool_id"].clone();
                books.ledger.record("tool", json!({ "worker": worker, "tool_id": tool }));
                let ack =
                    json!({ "type": "TOOL_REGISTER_ACK", "tool_id": tool, "status": "registered" });
                self.worker.send(ack);
            }
            Some("TOOL_UNREGISTER") => {
                let tool = frame["tool_id"].clone();
                self.worker.send(json!({ "type": "TOOL_UNREGISTER_ACK", "tool_id": tool }));
            }
            Some("CHALLENGE_RESP" | "TOOL_INVOKE_RESULT") => {}
            _ => {
                let text = message.to_text().unwrap_or("bytes").chars().take(200);
                let what = format!("an unknown frame: {}", text.collect::<String>());
                books.ledger.violation(worker, what);
            }
        }
        Ok(())
    }

    /// spec: broker §4
    fn heartbeat(&mut self, frame: &Value) {
        self.silent_since = Instant::now();
        let (books, worker) = (self.books, &self.worker.id);
        for count in ["busy", "queue_depth"] {
            if !frame[count].is_u64() {
                books.ledger.violation(worker, format!("HEARTBEAT: {count} is no number"));
            }
        }
        for rate in ["input_tokens_per_sec", "output_tokens_per_sec", "error_rate"] {
            if !frame[rate].as_f64().is_some_and(|rate| rate >= 0.0) {
                books.ledger.violation(worker, format!("HEARTBEAT: {rate} is no rate"));
            }
        }
        self.worker.busy.store(frame["busy"].as_u64().unwrap_or_default(), Ordering::Relaxed);
        let mut entry = frame.clone();
        entry["worker"] = worker.clone().into();
        if let Some(entry) = entry.as_object_mut() {
            entry.remove("type");
        }
        books.ledger.record("heartbeat", entry);
    }
}

/// The next message, looked for no earlier than `at`. Nothing is lost if this is dropped.
async fn next_message(socket: &mut Socket, at: Instant) -> Result<Message, End> {
    sleep_until(at).await;
    match socket.next().await {
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the connection ended".to_owned()),
    }
}

/// The next message that is neither Ping nor Pong, as JSON.
async fn next_frame(socket: &mut Socket, within: Duration) -> Result<Value, End> {
    let deadline = Instant::now() + within;
    loop {
        let message = timeout(deadline - Instant::now(), next_message(socket, Instant::now()));
        match message.await {
            Err(_) => return Err(close(socket, CloseCode::Policy, "too late").await),
            Ok(Err(why)) => return Err(why),
            Ok(Ok(Message::Text(text))) => {
                return Ok(serde_json::from_str(&text).unwrap_or_default());
            }
            Ok(Ok(Message::Close(reason))) => {
                return Err(format!("the worker closed: {}", closing(reason.as_ref())));
            }
            Ok(Ok(Message::Binary(bytes))) => {
                return Ok(serde_json::from_slice(&bytes).unwrap_or_default());
            }
            Ok(Ok(_)) => {}
        }
    }
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), End> {
    match timeout(WRITE, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the worker takes no bytes".to_owned()),
    }
}

/// Closes and says why.
pub(super) async fn close(socket: &mut Socket, code: CloseCode, why: &str) -> End {
    let frame = CloseFrame { code, reason: why.to_owned().into() };
    // It may be gone already.
    let _ = timeout(WRITE, socket.close(Some(frame))).await;
    format!("closed with {}: {why}", u16::from(code))
}

fn closing(frame: Option<&CloseFrame>) -> String {
    frame.map_or_else(|| "no code".to_owned(), |f| format!("{} {}", u16::from(f.code), f.reason))
}
