//! One forwarded request while it runs.

use super::Metrics;
use super::busy::RequestLabels;
use super::outcome::Outcome;
use super::proof_latency::Origin;
use crate::breaker::Attempt;
use crate::http::token_limits::Charge;
use crate::http::usage::Usage;
use crate::priority::Permit;
use crate::rollout::arm::Ended;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tensorpow_core::units::WINDOW;

/// Counts one forwarded request from its start to its end; dropped without an outcome, the client
/// has gone. It carries what the request holds as long: its place at the engine and the breaker's
/// question whether the engine works.
#[derive(Debug)]
pub struct InFlight {
    metrics: Arc<Metrics>,
    labels: RequestLabels,
    kind: &'static str,
    /// Counts among the active requests.
    generation: bool,
    started: Instant,
    first_byte: Option<Instant>,
    /// The completion id, where its proof is waited for and the engine has said it.
    completion: Option<String>,
    /// Tokens counted while they streamed.
    streamed: u64,
    finished: bool,
    permit: Option<Permit>,
    attempt: Option<Attempt>,
    charge: Option<Charge>,
}

impl InFlight {
    /// Counts from now on; `kind` says how far a generation request is mined.
    pub(super) fn begin(
        metrics: Arc<Metrics>,
        labels: RequestLabels,
        kind: Option<&'static str>,
    ) -> Self {
        Self {
            metrics,
            labels,
            kind: kind.unwrap_or("none"),
            generation: kind.is_some(),
            started: Instant::now(),
            first_byte: None,
            completion: None,
            streamed: 0,
            finished: false,
            permit: None,
            attempt: None,
            charge: None,
        }
    }

    /// The answer's tokens are charged to somebody.
    pub fn charge(&mut self, to: Option<Charge>) {
        self.charge = to;
    }

    /// The request holds these until it ends.
    #[must_use]
    pub fn holding(mut self, permit: Permit, attempt: Attempt) -> Self {
        self.permit = Some(permit);
        self.attempt = Some(attempt);
        self
    }

    /// Notes that a stream was asked for and sent to the engine.
    pub fn stream_sent(&mut self) {
        if let Some(permit) = &mut self.permit {
            permit.stream_sent();
        }
    }

    /// Notes that a piece of a stream has arrived.
    pub fn piece(&mut self) {
        self.metrics.busy.token_sign();
        if self.first_byte.is_some() {
            return;
        }
        self.first_byte = Some(Instant::now());
        self.metrics.busy.stream_began(self.labels, self.started.elapsed());
        if let Some(permit) = &mut self.permit {
            permit.stream_began();
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.succeeded();
        }
    }

    /// The proof of this answer will come under an id that is not known yet.
    #[must_use]
    pub const fn wants_id(&self) -> bool {
        self.completion.is_none() && matches!(self.kind.as_bytes(), b"mining" | b"audit")
    }

    /// Notes the completion id.
    pub fn named(&mut self, id: &str) {
        if self.wants_id() {
            self.completion = Some(id.to_owned());
        }
    }

    /// Counts the events of a piece of a stream as tokens.
    pub fn streamed(&mut self, events: u64) {
        self.streamed += events;
        self.metrics.busy.count_generated(events);
    }

    /// Ends the count.
    pub fn finish(&mut self, outcome: Outcome, usage: Option<Usage>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        match (outcome, &mut self.attempt) {
            // An engine that answers works, whatever it answers.
            (Outcome::Complete | Outcome::EngineRefused | Outcome::EngineError, Some(attempt)) => {
                attempt.succeeded();
            }
            (Outcome::EngineBroke, Some(attempt)) => attempt.failed(),
            (Outcome::ClientGone, _) | (_, None) => {}
        }
        let metrics = &self.metrics;
        if self.generation {
            metrics.active.dec();
        }
        let RequestLabels { route, model, class, engine } = self.labels;
        let labels = [
            ("route", route),
            ("mining", self.kind),
            ("outcome", outcome.label()),
            ("engine", engine),
        ];
        metrics.requests.get_or_create(&labels).inc();
        let generating = self.first_byte.map(|began| began.elapsed());
        let took = self.started.elapsed();
        metrics.busy.end(self.labels, outcome.label(), took, generating, usage);
        metrics.busy.judge(outcome);
        if let (Some(trial), true) = (&metrics.trial, self.generation)
            && let Some(ended) = self.compared(outcome, took, usage)
        {
            trial.ended(engine, ended);
        }
        if let (Outcome::Complete, Some(id)) = (outcome, &self.completion) {
            metrics.busy.proof_latency().ended(id, Origin { model, class, engine });
        }
        if let Some(usage) = usage {
            for (direction, tokens) in [("input", usage.input), ("output", usage.output)] {
                let labels = [("direction", direction), ("engine", engine), ("model", model)];
                metrics.tokens.get_or_create(&labels).inc_by(tokens);
            }
            metrics.busy.count_generated(usage.output.saturating_sub(self.streamed));
            if self.kind == "mining" {
                metrics.busy.count_mined_tokens(usage.output);
            }
        }
        if let Some(charge) = self.charge.take() {
            // Of an answer that was left the tokens that came are known.
            charge
                .pay(usage.map_or(self.streamed, |usage| usage.input.saturating_add(usage.output)));
        }
        self.permit = None;
    }

    /// What a comparison of engines wants to know; nothing of a request whose client has gone.
    fn compared(&self, outcome: Outcome, took: Duration, usage: Option<Usage>) -> Option<Ended> {
        let failed = match outcome {
            Outcome::Complete | Outcome::EngineRefused => false,
            Outcome::EngineError | Outcome::EngineBroke => true,
            Outcome::ClientGone => return None,
        };
        let first_token =
            self.first_byte.map(|began| began.saturating_duration_since(self.started));
        let tokens = usage.filter(|_| outcome == Outcome::Complete).map_or(0, |usage| usage.output);
        // Of a stream the first token is there when it begins.
        let timed = tokens.saturating_sub(u64::from(first_token.is_some()));
        let generating = took.saturating_sub(first_token.unwrap_or_default());
        let timed = u32::try_from(timed).ok().filter(|timed| *timed > 0);
        let windows = if self.kind == "mining" { tokens / WINDOW as u64 } else { 0 };
        Some(Ended {
            failed,
            first_token,
            per_token: timed.map(|timed| generating / timed),
            windows,
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.finish(Outcome::ClientGone, None);
    }
}
