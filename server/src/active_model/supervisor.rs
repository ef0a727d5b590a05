//! The supervisor of an engine, asked to put another model into it. Loading takes a while and an
//! attempt is short, so the same question is asked until the answer is that nothing had to be done,
//! or the deadline passes; a refusal (4xx) ends it at once. spec: proxy §19

use crate::mining::model::ModelId;
use crate::service_client::{CallError, ServiceClient, ServiceUrl};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// For one attempt. spec: proxy §19
const ATTEMPT: Duration = Duration::from_secs(5);
/// Between two attempts. spec: proxy §19
const PAUSE: Duration = Duration::from_secs(1);

/// Where the supervisor is. spec: proxy §20.1
#[derive(Debug, Clone)]
pub struct SupervisorSettings {
    /// `BACKEND_CONTROL_URL`
    pub url: ServiceUrl,
    /// The value of `Authorization` made of `BACKEND_CONTROL_API_KEY`, or of `API_KEY`.
    pub key: Option<HeaderValue>,
    /// `BACKEND_SWITCH_TIMEOUT_SEC`: for the whole switch.
    pub deadline: Duration,
}

impl SupervisorSettings {
    /// A supervisor without a key, with the reference's deadline.
    #[must_use]
    pub const fn new(url: ServiceUrl) -> Self {
        Self { url, key: None, deadline: Duration::from_secs(90) }
    }
}

/// The engine does not hold the wanted model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// The supervisor will not do it, however often it is asked.
    #[error("the engine's supervisor refuses ({status}): {detail}")]
    Refused {
        /// Its status.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// The deadline has passed.
    #[error("the engine was not switched within {limit:?}: {detail}")]
    Deadline {
        /// The deadline.
        limit: Duration,
        /// How the last attempt ended.
        detail: String,
    },
}

/// Asks one supervisor.
#[derive(Debug)]
pub struct Supervisor {
    settings: SupervisorSettings,
    client: ServiceClient,
}

/// How one attempt ended.
enum Attempt {
    Done,
    Refused(StatusCode, String),
    Failed(String),
}

impl Supervisor {
    /// A supervisor.
    #[must_use]
    pub fn new(settings: SupervisorSettings) -> Self {
        Self { settings, client: ServiceClient::default() }
    }

    /// Puts `model` into the engine. spec: proxy §19
    ///
    /// # Errors
    /// [`SwitchError`]; the supervisor has put the old model back as far as it could.
    pub async fn switch(&self, model: &ModelId) -> Result<(), SwitchError> {
        let started = Instant::now();
        let limit = self.settings.deadline;
        let mut detail = "no attempt was made".to_owned();
        loop {
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(SwitchError::Deadline { limit, detail });
            }
            match self.attempt(model, left.min(ATTEMPT)).await {
                Attempt::Done => return Ok(()),
                Attempt::Refused(status, detail) => {
                    return Err(SwitchError::Refused { status: status.as_u16(), detail });
                }
                Attempt::Failed(error) => {
                    tracing::debug!(error, %model, "the engine is not switched yet");
                    detail = error;
                }
            }
            let left = limit.saturating_sub(started.elapsed());
            tokio::time::sleep(PAUSE.min(left)).await;
        }
    }

    async fn attempt(&self, model: &ModelId, limit: Duration) -> Attempt {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.settings.key {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        let body = json!({ "model_name": model.name(), "model_commit": model.commit() });
        let (url, body) = (&self.settings.url, Some(body.to_string()));
        let route = "/admin/switch-model";
        match self.client.call(Method::POST, url, route, headers, body, limit).await {
            Ok(answer) if answer.status.is_client_error() => {
                Attempt::Refused(answer.status, answer.excerpt())
            }
            Ok(answer) if !answer.status.is_success() => {
                Attempt::Failed(format!("{}: {}", answer.status, answer.excerpt()))
            }
            Ok(answer) => judge(&answer.body, model),
            Err(CallError::Timeout(limit)) => {
                Attempt::Failed(format!("still busy after {limit:?}"))
            }
            Err(error) => Attempt::Failed(error.to_string()),
        }
    }
}

/// `ok` must be true, and a supervisor that names the model must name ours.
fn judge(body: &[u8], model: &ModelId) -> Attempt {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Attempt::Failed("the answer is no JSON".to_owned());
    };
    if answer["ok"] != true {
        let error = answer["error"].as_str().unwrap_or("ok is not true");
        return Attempt::Failed(error.to_owned());
    }
    let active = &answer["active_model"];
    let part = |key: &str| active[key].as_str().unwrap_or_default().to_owned();
    let (name, commit) = (part("model_name"), part("model_commit"));
    let other = (!name.is_empty() && name != model.name())
        || (!commit.is_empty() && commit != model.commit());
    match other {
        true => Attempt::Failed(format!("the engine holds {name}@{commit}")),
        false => Attempt::Done,
    }
}
