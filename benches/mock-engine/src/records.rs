//! What the engine remembers: the last requests, and how its streams ended.

use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A request.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Body, lossy where it is not UTF-8.
    pub body: String,
}

/// The engine's memory.
#[derive(Debug)]
pub struct Records {
    keep: usize,
    last: Mutex<VecDeque<Recorded>>,
    served: AtomicU64,
    mined: AtomicU64,
    complete: AtomicU64,
    aborted: AtomicU64,
    connections: AtomicU64,
    /// When streams with a marker were left.
    left: Mutex<HashMap<u64, Instant>>,
}

impl Records {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            keep,
            last: Mutex::default(),
            served: AtomicU64::new(0),
            mined: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            left: Mutex::default(),
        }
    }

    pub(crate) fn keep(&self, head: &hyper::http::request::Parts, body: &[u8]) {
        self.served.fetch_add(1, Ordering::Relaxed);
        if contains(body, b"\"pow\":{") {
            self.mined.fetch_add(1, Ordering::Relaxed);
        }
        if self.keep == 0 {
            return;
        }
        let text = |value: &hyper::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        let recorded = Recorded {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        let mut last = lock(&self.last);
        last.push_back(recorded);
        if last.len() > self.keep {
            last.pop_front();
        }
    }

    pub(crate) fn forget(&self) {
        lock(&self.last).clear();
    }

    /// The kept requests, oldest first; bodies as JSON where they are JSON.
    #[must_use]
    pub fn requests(&self) -> Value {
        let requests: Vec<Value> = lock(&self.last)
            .iter()
            .map(|request| {
                let headers: serde_json::Map<String, Value> = request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into()))
                    .collect();
                let body: Value = serde_json::from_str(&request.body)
                    .unwrap_or_else(|_| request.body.clone().into());
                json!({
                    "method": request.method,
                    "path": request.path,
                    "headers": headers,
                    "body": body,
                })
            })
            .collect();
        json!({ "count": requests.len(), "requests": requests })
    }

    /// Requests of the API so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Those of them that carried a mining context.
    #[must_use]
    pub fn mined(&self) -> u64 {
        self.mined.load(Ordering::Relaxed)
    }

    /// Requests, complete and abandoned streams, open connections.
    #[must_use]
    pub fn stats(&self) -> Value {
        json!({
            "requests": self.served(),
            "mined": self.mined(),
            "complete": self.complete.load(Ordering::Relaxed),
            "aborted": self.aborted(),
            "connections": self.connections(),
        })
    }

    /// Streams that were left before their end.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Open connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// When the stream with this marker was left.
    #[must_use]
    pub fn left_at(&self, marker: u64) -> Option<Instant> {
        lock(&self.left).get(&marker).copied()
    }

    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    pub(crate) fn begin(self: &Arc<Self>, marker: Option<u64>) -> Answering {
        Answering { records: self.clone(), marker, complete: false }
    }
}

/// Whether a body says this somewhere. Load runs ask a lot, so nothing is parsed.
pub(crate) fn contains(body: &[u8], part: &[u8]) -> bool {
    after(body, part).is_some()
}

/// What stands behind the first `part`.
fn after<'a>(body: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let start = body.windows(part.len()).position(|window| window == part)? + part.len();
    body.get(start..)
}

/// The text after `"model":"`, as it stands there.
pub(crate) fn model(body: &[u8]) -> Option<&str> {
    let rest = after(body, b"\"model\":\"")?;
    let end = rest.iter().position(|byte| *byte == b'"' || *byte == b'\\')?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The number after `"marker":` in a body.
pub(crate) fn marker(body: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"marker\":";
    let start = body.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = body[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&body[start..start + digits]).ok()?.parse().ok()
}

/// Every change is one step, so whoever panicked left a usable value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection, for as long as it is open.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Records>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream, for as long as it is sent.
#[derive(Debug)]
pub struct Answering {
    records: Arc<Records>,
    marker: Option<u64>,
    complete: bool,
}

impl Answering {
    pub(crate) fn finish(&mut self) {
        self.complete = true;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.complete {
            self.records.complete.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.records.aborted.fetch_add(1, Ordering::Relaxed);
        if let Some(marker) = self.marker {
            lock(&self.records.left).insert(marker, Instant::now());
        }
    }
}
