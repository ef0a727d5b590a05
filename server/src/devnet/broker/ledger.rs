//! The broker's ledger: one JSON object for everything that was taken, refused, sent or wondered
//! about, in order. It is kept in memory, written to a file if somebody wants one, and shown at
//! `GET /ledger`.
//!
//! Every entry has `n` (its number from 1), `at` (milliseconds since 1970), `kind` and mostly
//! `worker`. Shares and solutions have a `verdict`, `accepted` or `refused`, and `hash`, the digest
//! that tells one window from every other.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Entries kept in memory; a file keeps all.
const KEPT: usize = 65_536;
/// Entries a listener may be behind.
const BEHIND: usize = 4_096;

#[derive(Debug, Default)]
struct Pages {
    entries: VecDeque<Value>,
    written: u64,
    counts: BTreeMap<String, u64>,
    file: Option<File>,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    pages: Mutex<Pages>,
    listeners: broadcast::Sender<Value>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { pages: Mutex::default(), listeners: broadcast::Sender::new(BEHIND) }
    }
}

impl Ledger {
    /// A ledger that also appends to this file.
    ///
    /// # Errors
    /// What the system says when it cannot be opened.
    pub fn in_file(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let ledger = Self::default();
        ledger.lock().file = Some(file);
        Ok(ledger)
    }

    /// Writes an entry; `fields` is an object.
    pub(super) fn record(&self, kind: &str, fields: Value) {
        let mut pages = self.lock();
        pages.written += 1;
        let mut entry = Map::new();
        entry.insert("n".to_owned(), pages.written.into());
        entry.insert("at".to_owned(), now_ms().into());
        entry.insert("kind".to_owned(), kind.into());
        if let Value::Object(fields) = fields {
            entry.extend(fields);
        }
        let verdict = entry.get("verdict").and_then(Value::as_str);
        let count = verdict.map_or_else(|| kind.to_owned(), |verdict| format!("{kind}.{verdict}"));
        *pages.counts.entry(count).or_default() += 1;
        let entry = Value::Object(entry);
        if let Some(file) = &mut pages.file
            && let Err(error) = writeln!(file, "{entry}")
        {
            tracing::error!(%error, "the ledger's file takes no more");
            pages.file = None;
        }
        if pages.entries.len() == KEPT {
            pages.entries.pop_front();
        }
        tracing::info!(target: "broker", "{entry}");
        // Nobody may be listening.
        let _ = self.listeners.send(entry.clone());
        pages.entries.push_back(entry);
    }

    /// What a worker did against the protocol.
    pub(super) fn violation(&self, worker: &str, what: impl std::fmt::Display) {
        self.record("violation", json!({ "worker": worker, "what": what.to_string() }));
    }

    /// The entries kept, oldest first, of one kind or all, behind number `after`.
    #[must_use]
    pub fn entries(&self, kind: Option<&str>, after: u64) -> Vec<Value> {
        let wanted = |entry: &&Value| {
            kind.is_none_or(|kind| entry["kind"] == kind)
                && entry["n"].as_u64().is_some_and(|n| n > after)
        };
        self.lock().entries.iter().filter(wanted).cloned().collect()
    }

    /// How many entries there have been, by kind and verdict: `share.accepted`, `hello`, …
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// One of [`Self::counts`].
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.lock().counts.get(name).copied().unwrap_or_default()
    }

    /// Entries as they are written.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Value> {
        self.listeners.subscribe()
    }

    /// A poisoned lock guards whole entries nevertheless.
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_numbered_counted_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let ledger = Ledger::in_file(&path).unwrap();
        ledger.record("share", json!({ "verdict": "accepted", "hash": "aa" }));
        ledger.record("share", json!({ "verdict": "refused" }));
        ledger.violation("w", "says nothing");
        assert_eq!((ledger.count("share.accepted"), ledger.count("violation")), (1, 1));
        assert_eq!(ledger.entries(Some("share"), 0).len(), 2);
        assert_eq!(ledger.entries(None, 2)[0]["what"], "says nothing");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, ledger.entries(None, 0));
    }
}
