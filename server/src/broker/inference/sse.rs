//! An engine's stream, event by event: lines that begin with `data: ` count, `[DONE]` ends it, what
//! is no JSON is skipped, bytes that are no UTF-8 are left out. spec: broker §5.3

use axum::body::Body;
use axum::http::Response;
use http_body_util::BodyExt;
use serde_json::Value;

/// Longest line that is read.
const LONGEST: usize = 16 * 1024 * 1024;
/// How an event's line begins.
const PREFIX: &str = "data: ";
/// The event after which nothing counts.
const DONE: &str = "[DONE]";

/// Reads the events of an answer.
#[derive(Debug)]
pub struct Events {
    body: Body,
    pending: Vec<u8>,
    ended: bool,
}

impl Events {
    /// Of this answer.
    #[must_use]
    pub fn of(answer: Response<Body>) -> Self {
        Self { body: answer.into_body(), pending: Vec::new(), ended: false }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// Why the stream broke off.
    pub async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            while let Some(line) = self.line() {
                let line = line.trim();
                let Some(data) = line.strip_prefix(PREFIX) else { continue };
                if data.trim() == DONE {
                    self.ended = true;
                    return Ok(None);
                }
                if let Ok(event) = serde_json::from_str(data) {
                    return Ok(Some(event));
                }
            }
            if self.ended {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    /// A whole line; at the end also one that was not closed.
    fn line(&mut self) -> Option<String> {
        let end = match self.pending.iter().position(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            None if self.ended && !self.pending.is_empty() => self.pending.len(),
            None => return None,
        };
        let line: Vec<u8> = self.pending.drain(..end).collect();
        Some(line.utf8_chunks().map(|chunk| chunk.valid()).collect())
    }

    async fn read(&mut self) -> Result<(), String> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(Err(error)) => return Err(format!("the engine broke off its answer: {error}")),
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    self.pending.extend_from_slice(&piece);
                }
                if self.pending.len() > LONGEST {
                    return Err(format!("an event is longer than {LONGEST} bytes"));
                }
            }
        }
        Ok(())
    }
}
