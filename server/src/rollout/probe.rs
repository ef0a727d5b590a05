//! Whether an engine is fit to be mined with: it answers a short completion, and leaves a proof of it
//! that verifies. Asked before a change of the model leaves the engine that has worked so far. The proof
//! is an audit's: it needs no luck, and no chain hears of it. spec: proxy §9, §25

use crate::http::answer::response_id;
use crate::http::engine::Purpose;
use crate::http::engines::Engines;
use crate::http::inject::{Route, prepare};
use crate::http::relay::buffer;
use crate::metrics::Metrics;
use crate::mining::model::{ModelId, normalize_model_identifier};
use crate::mining::snapshot::{ContextCell, Offer};
use crate::report::{Against, of_proof};
use crate::store::ProofStore;
use async_trait::async_trait;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tensorpow_core::proof::MiningResponseRef;
use tensorpow_core::units::WINDOW;
use tokio::time::{Instant, sleep};

/// Tokens of a completion that is to show only that the engine answers.
const SHORT: usize = 8;
/// How often the proof is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the engine is asked.
const PROMPT: &str = "Explain in a few sentences how the tides of the sea come about.";

/// How much an engine has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProbeMode {
    /// A completion and a proof, where this worker's completions have had proofs; else nothing.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// A completion.
    Completion,
    /// A completion and a proof.
    Proof,
}

/// An engine is not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the engine of {model} failed its probe: {why}")]
pub struct ProbeFailed {
    /// The model.
    pub model: ModelId,
    /// What went wrong.
    pub why: String,
}

/// Asks engines before their models are mined.
#[async_trait]
pub trait ModelProbe: std::fmt::Debug + Send + Sync {
    /// True when the two models are served by different engines.
    fn is_elsewhere(&self, from: Option<&ModelId>, to: &ModelId) -> bool;

    /// Asks the engine of a model.
    ///
    /// # Errors
    /// [`ProbeFailed`] when it is not fit.
    async fn probe(&self, model: &ModelId) -> Result<(), ProbeFailed>;
}

/// Asks the engines behind the proxy.
#[derive(Debug)]
pub struct EngineProbe {
    /// How much they have to show, and in what time.
    pub mode: ProbeMode,
    /// Limit on all of it.
    pub limit: Duration,
    /// A job older than this makes no proof.
    pub stale_after: Duration,
    /// The engines.
    pub engines: Arc<Engines>,
    /// The mining context.
    pub context: Arc<ContextCell>,
    /// Where the proof arrives.
    pub store: Arc<ProofStore>,
    /// How many proofs there have been.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl ModelProbe for EngineProbe {
    fn is_elsewhere(&self, from: Option<&ModelId>, to: &ModelId) -> bool {
        let engine = |model: &ModelId| self.engines.for_model(Some(model.name()));
        // Without a pin every registered model was mined at its own engine, this one too.
        from.is_some_and(|from| engine(from) != engine(to))
    }

    async fn probe(&self, model: &ModelId) -> Result<(), ProbeFailed> {
        let had_proofs = self.metrics.busy().proof_latency().met() > 0;
        let wants_proof = match self.mode {
            ProbeMode::Off => return Ok(()),
            ProbeMode::Auto if !had_proofs => return Ok(()),
            ProbeMode::Completion => false,
            ProbeMode::Auto | ProbeMode::Proof => true,
        };
        let asked = tokio::time::timeout(self.limit, self.ask(model, wants_proof)).await;
        let limit = self.limit;
        let told = asked.unwrap_or_else(|_| Err(format!("not done within {limit:?}")));
        match told {
            Ok(shown) => {
                tracing::info!("the engine of {model} has passed its probe: {shown}");
                Ok(())
            }
            Err(why) => Err(ProbeFailed { model: model.clone(), why }),
        }
    }
}

impl EngineProbe {
    /// What the engine has shown.
    async fn ask(&self, model: &ModelId, wants_proof: bool) -> Result<&'static str, String> {
        let engine = self.engines.get(self.engines.for_model(Some(model.name())));
        let dialect = engine.dialect();
        let pow = match wants_proof {
            true => self.context.load().audit(model, dialect.kind, dialect.form, self.stale_after),
            false => None,
        };
        let tokens = if pow.is_some() { WINDOW } else { SHORT };
        let body = json!({
            "model": model.name(),
            "prompt": PROMPT,
            "max_tokens": tokens,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
            "ignore_eos": true,
        });
        let asks_for_proof = pow.is_some();
        let offer =
            pow.map_or(Offer::Nothing(crate::mining::snapshot::NotMined::NoJob), Offer::Audit);
        let version = self.context.settings().proof_version;
        let plain = Bytes::from(body.to_string());
        let route = Route::Completions;
        let prepared = prepare(&plain, route, false, version, |_, _| dialect, |_, _| offer)
            .map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = engine.key() {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        let path = PathAndQuery::from_static(route.path());
        let sent =
            engine.send(Purpose::Backfill, Method::POST, &path, headers, prepared.body).await;
        let answer = sent.map_err(|error| error.to_string())?;
        let status = answer.status();
        let whole =
            buffer(answer.into_body(), self.limit).await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&whole).chars().take(200).collect();
            return Err(format!("status {}: {}", status.as_u16(), text.trim()));
        }
        if !asks_for_proof {
            return Ok(match wants_proof {
                true => "a completion; there is no job that a proof could be made for",
                false => "a completion",
            });
        }
        let id = response_id(&whole).ok_or("the completion has no id to find its proof by")?;
        self.judge(&id, model).await?;
        Ok("a completion and its proof")
    }

    /// Waits for the proof of a completion and verifies it. The limit is the whole probe's.
    async fn judge(&self, id: &str, model: &ModelId) -> Result<(), String> {
        let began = Instant::now();
        let proof = loop {
            match self.store.find(id, Some(0)).await {
                Some(found) => break found.proof,
                None if began.elapsed() > self.limit / 2 => {
                    return Err(format!("the completion {id} left no proof"));
                }
                None => sleep(LOOK_EVERY).await,
            }
        };
        let found = normalize_model_identifier(&proof.model_identifier);
        if found != normalize_model_identifier(&model.to_string()) {
            return Err(format!("its proof is of {found:?}"));
        }
        let message = proof.message.clone();
        let judged = tokio::task::spawn_blocking(move || verified(&message)).await;
        judged.unwrap_or_else(|_| Err("the check was interrupted".to_owned()))
    }
}

/// Replaying a window takes milliseconds: not on a thread that serves sockets.
fn verified(message: &[u8]) -> Result<(), String> {
    let response = MiningResponseRef::read(message).map_err(|error| error.to_string())?;
    let v3_active = response.pow_blob.is_some_and(|proof| proof.version >= 3);
    let report = of_proof(&response, &Against { share_target: None, v3_active });
    match report.checks.iter().find(|line| line.passed == Some(false)) {
        None => Ok(()),
        Some(line) => Err(format!("its proof fails at {}: {}", line.name, line.value)),
    }
}
