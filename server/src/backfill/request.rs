//! One backfill request from its prompt to its end: sent, sent again with a fresh context when it
//! fails, polled where it runs in the background, and cancelled at the engine when it is no longer
//! wanted. spec: proxy §14.2, §14.3

use super::body::{completion_id, request, route};
use super::engine::{MiningEngine, Reply};
use super::gate::{Gate, Hold, Order};
use super::prompt::Prompts;
use super::prompt::dice::Dice;
use super::turn::{Turn, Turns};
use super::{BackfillSettings, End};
use crate::breaker::{Attempt, Breaker};
use crate::http::answer::{event_id, response_id};
use crate::http::engine::EngineError;
use crate::http::usage::{Usage, UsageScan};
use crate::metrics::proof_latency::Origin;
use crate::metrics::{Metrics, names};
use crate::mining::payload::EngineKind;
use crate::priority::slots::{Cancel, Mines, Slot};
use axum::http::Method;
use bytes::Bytes;
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot::Receiver;
use tokio::time::Instant;

/// For a cancel, and for a request that must land before it can be cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);
/// A background response that is unknown for so long is lost.
const VANISHED: Duration = Duration::from_secs(10);
/// One look at a background response.
const POLL_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait between two tries.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Everything a request needs.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) settings: BackfillSettings,
    pub(super) engine: Arc<dyn MiningEngine>,
    pub(super) gate: Gate,
    pub(super) prompts: Arc<Prompts>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) turns: Turns,
}

/// How a try went.
enum Tried {
    /// The usage, and the engine's id where it is not ours.
    Completed(Option<Usage>, Option<String>),
    Cancelled(Cancel),
    Failed(String),
}

impl Worker {
    /// Tries until it succeeds, is cancelled, may not mine any more, or has failed too often.
    pub(super) async fn run(&self, slot: &Slot, mut cancelled: Receiver<Cancel>) -> End {
        let mut why = String::new();
        for tries in 0..self.settings.attempts.max(1) {
            if tries > 0 {
                self.metrics.busy().count_retry();
                let wait = self.settings.backoff.saturating_mul(1 << (tries - 1).min(16));
                tokio::select! {
                    biased;
                    told = &mut cancelled => return End::Cancelled(reason(told)),
                    () = tokio::time::sleep(wait.min(LONGEST_BACKOFF)) => {}
                }
            }
            let turn = tokio::select! {
                biased;
                told = &mut cancelled => return End::Cancelled(reason(told)),
                turn = self.turn() => turn,
            };
            let order = match self.order(slot) {
                Ok(order) => order,
                Err(hold) => return End::Held(hold),
            };
            let Ok(mut attempt) = self.breaker.begin() else {
                return End::Held(Hold::BreakerOpen);
            };
            match self.once(&order, turn, &mut attempt, &mut cancelled).await {
                Ok(Tried::Completed(usage, _)) => {
                    attempt.succeeded();
                    return End::Completed(usage);
                }
                Ok(Tried::Cancelled(why)) => return End::Cancelled(why),
                Ok(Tried::Failed(failure)) => {
                    attempt.failed();
                    tracing::debug!(failure, tries = tries + 1, "backfill request failed");
                    why = failure;
                }
                Err(hold) => return End::Held(hold),
            }
        }
        End::Failed(why)
    }

    /// llama.cpp reads a whole prompt between two tokens of everybody else; vLLM reads it in pieces.
    async fn turn(&self) -> Option<Turn> {
        match self.engine.dialect().kind {
            EngineKind::LlamaCpp => Some(self.turns.next().await),
            EngineKind::Vllm => None,
        }
    }

    /// What is mined now; a retry must not carry an old context. spec: proxy §14.3
    fn order(&self, slot: &Slot) -> Result<Order, Hold> {
        let order = self.gate.order(&*self.engine)?;
        if !self.engine.is_healthy() {
            return Err(Hold::EngineUnhealthy);
        }
        slot.now_mines(order.mines.clone());
        Ok(order)
    }

    async fn once(
        &self,
        order: &Order,
        turn: Option<Turn>,
        attempt: &mut Attempt,
        cancelled: &mut Receiver<Cancel>,
    ) -> Result<Tried, Hold> {
        let (id, prompt) = match self.prompt(&order.mines).await {
            Ok(made) => made,
            Err(failure) => return Ok(Tried::Failed(failure)),
        };
        let kind = order.dialect().kind;
        let words = prompt.split_whitespace().count();
        let plain = request(kind, &order.mines.model, &prompt, &id, self.settings.tokens);
        let body = order.inject(&plain)?;
        let path = route(kind).path();
        let tried = match kind {
            EngineKind::LlamaCpp => self.answered(path, body, words, turn, cancelled).await,
            EngineKind::Vllm => self.in_background(path, body, &id, attempt, cancelled).await,
        };
        if let Tried::Completed(_, engines_id) = &tried {
            let (model, engine) = (names::label(&order.mines.model), self.engine.label());
            let origin = Origin { model, class: "backfill", engine };
            let id = engines_id.as_deref().unwrap_or(&id);
            self.metrics.busy().proof_latency().ended(id, origin);
        }
        Ok(tried)
    }

    /// An id and a prompt. A corpus is read from disk: not on a thread that serves sockets.
    async fn prompt(&self, mines: &Mines) -> Result<(String, String), String> {
        let (prompts, mines, most) = (self.prompts.clone(), mines.clone(), self.turns.most_words());
        let made = tokio::task::spawn_blocking(move || {
            let mut dice = Dice::from_system().map_err(|error| error.to_string())?;
            Ok((completion_id(&mines, &mut dice), prompts.next(&mut dice, most)))
        });
        made.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// llama.cpp: the answer of the POST is the end; dropping it drops the connection.
    async fn answered(
        &self,
        path: &str,
        body: Bytes,
        words: usize,
        turn: Option<Turn>,
        cancelled: &mut Receiver<Cancel>,
    ) -> Tried {
        let limit = self.settings.request_timeout;
        let (sent, began) = (Instant::now(), OnceLock::new());
        if let Some(turn) = &turn {
            turn.begins();
        }
        let begun = || {
            // The first piece counts.
            let took = sent.elapsed();
            let _ = began.set(took);
            if turn.as_ref().is_some_and(Turn::over) {
                self.turns.learn_reading(words, took);
            }
        };
        let tried = tokio::select! {
            biased;
            told = cancelled => Tried::Cancelled(reason(told)),
            reply = self.engine.call(Method::POST, path, body, limit, &begun) => match reply {
                Ok(reply) if reply.is_success() => streamed(&reply.body),
                Ok(reply) => Tried::Failed(refusal(&reply)),
                Err(error) => Tried::Failed(error.to_string()),
            },
        };
        if let Some(began) = began.get() {
            let whole = matches!(tried, Tried::Completed(..));
            self.turns.learn(*began, sent.elapsed(), whole);
        }
        tried
    }

    /// vLLM: the POST is answered at once; the end is polled for.
    async fn in_background(
        &self,
        path: &str,
        body: Bytes,
        id: &str,
        attempt: &mut Attempt,
        cancelled: &mut Receiver<Cancel>,
    ) -> Tried {
        let limit = self.settings.request_timeout;
        let deadline = Instant::now() + limit;
        let mut posting = self.engine.call(Method::POST, path, body, limit, &|| {});
        let posted = tokio::select! {
            biased;
            told = &mut *cancelled => {
                // A request on its way cannot be cancelled: it has to land first.
                let _ = tokio::time::timeout(CANCEL_LIMIT, posting).await;
                self.cancel(id).await;
                return Tried::Cancelled(reason(told));
            }
            posted = &mut posting => posted,
        };
        match posted {
            Ok(reply) if reply.is_success() => attempt.succeeded(),
            Ok(reply) => return Tried::Failed(refusal(&reply)),
            Err(error) => {
                // It may have landed all the same.
                self.cancel(id).await;
                return Tried::Failed(error.to_string());
            }
        }
        let ended = tokio::select! {
            biased;
            told = cancelled => Tried::Cancelled(reason(told)),
            ended = self.poll(id) => ended,
            () = tokio::time::sleep_until(deadline) => {
                Tried::Failed(format!("no end within {limit:?}"))
            }
        };
        if !matches!(ended, Tried::Completed(..)) {
            self.cancel(id).await;
        }
        ended
    }

    /// Looks at a background response until it has ended.
    async fn poll(&self, id: &str) -> Tried {
        let path = format!("/v1/responses/{id}");
        let mut last_seen = Instant::now();
        loop {
            tokio::time::sleep(self.settings.poll).await;
            let reply =
                self.engine.call(Method::GET, &path, Bytes::new(), POLL_LIMIT, &|| {}).await;
            match reply {
                Ok(reply) if reply.is_success() => {
                    last_seen = Instant::now();
                    if let Some(ended) = ended(&reply.body) {
                        return ended;
                    }
                }
                // Not stored yet, or no longer. spec: proxy §14.3
                Ok(reply) if reply.status == 404 => {}
                Ok(reply) => return Tried::Failed(refusal(&reply)),
                // A poll may meet a busy moment.
                Err(EngineError::Timeout(_)) => {}
                Err(error) => return Tried::Failed(error.to_string()),
            }
            if last_seen.elapsed() > VANISHED.max(self.settings.poll * 4) {
                return Tried::Failed("the response has vanished".to_owned());
            }
        }
    }

    /// Best effort: an unknown or ended response needs no cancelling.
    async fn cancel(&self, id: &str) {
        let path = format!("/v1/responses/{id}/cancel");
        match self.engine.call(Method::POST, &path, Bytes::new(), CANCEL_LIMIT, &|| {}).await {
            Ok(reply) if reply.is_success() || matches!(reply.status, 404 | 409) => {}
            Ok(reply) => tracing::debug!(id, status = reply.status, "cancel refused"),
            Err(error) => tracing::debug!(id, %error, "cancel not delivered"),
        }
    }
}

/// The end of a background response; `None` while it runs. One that was cut at its length has
/// ended as it should. spec: proxy §14.3
fn ended(body: &[u8]) -> Option<Tried> {
    let response: Value = serde_json::from_slice(body).ok()?;
    match response.get("status")?.as_str()? {
        "completed" | "incomplete" => Some(Tried::Completed(Usage::of_json(body), None)),
        status @ ("cancelled" | "failed") => Some(Tried::Failed(format!("the engine: {status}"))),
        _ => None,
    }
}

fn reason(told: Result<Cancel, tokio::sync::oneshot::error::RecvError>) -> Cancel {
    told.unwrap_or(Cancel::Stopping)
}

/// The engine's word for a refusal, short enough for a log line.
fn refusal(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let text: String = text.chars().take(200).collect();
    format!("status {}: {}", reply.status, text.trim())
}

/// What a whole stream says: its usage and id, or that it broke off. A buffered answer is read as well.
fn streamed(body: &[u8]) -> Tried {
    if body.trim_ascii_start().first() == Some(&b'{') {
        return Tried::Completed(Usage::of_json(body), response_id(body));
    }
    let mut scan = UsageScan::default();
    scan.feed(body);
    match body.trim_ascii().ends_with(b"[DONE]") {
        true => Tried::Completed(scan.found(), event_id(body)),
        false => Tried::Failed("the stream broke off".to_owned()),
    }
}
