//! The node's registry service over HTTP: asked with a few retries, then at the intervals of
//! [`super::schedule`], and conditionally, so that an unchanged list costs nothing.
//! spec: proxy §13.1, node §5

use super::schedule::{Outcome, Schedule};
use super::source::{RegistrySource, RegistryUpdate};
use crate::service_client::{Answer, CallError, ServiceClient, ServiceUrl};
use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// The list with all its keys. spec: node §5
const ROUTE: &str = "/api/v1/models?extended=true";

/// How the registry service is asked. spec: proxy §20.1
#[derive(Debug, Clone)]
pub struct RestSettings {
    /// `MODEL_API_URL`
    pub url: ServiceUrl,
    /// The value of `Authorization`, when `MODEL_REQUIRE_AUTH` is set and `MODEL_API_KEY` is not
    /// empty.
    pub key: Option<HeaderValue>,
    /// `MODEL_RETRY_ATTEMPTS`: tries of one poll, at least one.
    pub attempts: u32,
    /// `MODEL_RETRY_BACKOFF`: the wait after the k-th try is k times this.
    pub backoff: Duration,
    /// `MODEL_POLL_INTERVAL`
    pub interval: Duration,
    /// For one answer.
    pub timeout: Duration,
}

impl RestSettings {
    /// The defaults for a service at `url`.
    #[must_use]
    pub const fn new(url: ServiceUrl) -> Self {
        Self {
            url,
            key: None,
            attempts: 3,
            backoff: Duration::from_secs(1),
            interval: Duration::from_secs(300),
            timeout: Duration::from_secs(10),
        }
    }
}

/// One answer that is no list.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the registry service does not answer: {0}")]
    Call(#[from] CallError),
    #[error(
        "the registry service refuses the key (403): {0}; see MODEL_API_KEY, MODEL_REQUIRE_AUTH"
    )]
    Forbidden(String),
    #[error("the registry service limits the rate (429)")]
    Limited(Option<Duration>),
    #[error("the registry service answers {0}: {1}")]
    Status(StatusCode, String),
    #[error("the registry service sends no JSON array: {0}")]
    NotAList(String),
}

impl FetchError {
    /// True when asking once more at once may help.
    const fn is_worth_a_retry(&self) -> bool {
        !matches!(self, Self::Forbidden(_) | Self::Limited(_))
    }

    const fn outcome(&self) -> Outcome {
        match self {
            Self::Forbidden(_) => Outcome::Forbidden,
            Self::Limited(asked) => Outcome::Limited(*asked),
            _ => Outcome::Failed,
        }
    }
}

/// The registry service of a node.
#[derive(Debug)]
pub struct RestRegistry {
    settings: RestSettings,
    client: ServiceClient,
    schedule: Schedule,
    wait: Duration,
    /// What the service gave to ask with: `ETag` and `Last-Modified` of the last list.
    conditions: HeaderMap,
    /// Of the last list, for services that give neither.
    digest: Option<[u8; 32]>,
}

impl RestRegistry {
    /// A service that is asked for the first time at once.
    #[must_use]
    pub fn new(settings: RestSettings) -> Self {
        Self {
            schedule: Schedule::new(settings.interval),
            client: ServiceClient::default(),
            wait: Duration::ZERO,
            conditions: HeaderMap::new(),
            digest: None,
            settings,
        }
    }

    /// Asks until there is an answer worth having, a few times. spec: proxy §13.1
    async fn poll(&mut self) -> Result<RegistryUpdate, FetchError> {
        let mut attempt = 1;
        loop {
            match self.fetch().await {
                Err(error) if error.is_worth_a_retry() && attempt < self.settings.attempts => {
                    tracing::debug!(%error, attempt, "registry poll");
                    tokio::time::sleep(self.settings.backoff.saturating_mul(attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn fetch(&mut self) -> Result<RegistryUpdate, FetchError> {
        let mut headers = self.conditions.clone();
        if let Some(key) = &self.settings.key {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        let RestSettings { url, timeout, .. } = &self.settings;
        let answer = self.client.call(Method::GET, url, ROUTE, headers, None, *timeout).await?;
        match answer.status {
            StatusCode::OK => self.read(&answer),
            StatusCode::NOT_MODIFIED if self.digest.is_some() => Ok(RegistryUpdate::Unchanged),
            StatusCode::FORBIDDEN => Err(FetchError::Forbidden(answer.excerpt())),
            StatusCode::TOO_MANY_REQUESTS => Err(FetchError::Limited(retry_after(&answer.headers))),
            status => Err(FetchError::Status(status, answer.excerpt())),
        }
    }

    fn read(&mut self, answer: &Answer) -> Result<RegistryUpdate, FetchError> {
        let digest = Sha256::digest(&answer.body).into();
        if self.digest == Some(digest) {
            return Ok(RegistryUpdate::Unchanged);
        }
        let list: Vec<Value> = serde_json::from_slice(&answer.body)
            .map_err(|error| FetchError::NotAList(error.to_string()))?;
        // An empty list is not remembered: the same list again is no sign of life either.
        self.conditions.clear();
        self.digest = None;
        if !list.is_empty() {
            self.digest = Some(digest);
            let given = [
                (header::ETAG, header::IF_NONE_MATCH),
                (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
            ];
            for (theirs, ours) in given {
                if let Some(value) = answer.headers.get(theirs) {
                    self.conditions.insert(ours, value.clone());
                }
            }
        }
        Ok(RegistryUpdate::Models(list))
    }
}

#[async_trait]
impl RegistrySource for RestRegistry {
    fn name(&self) -> &'static str {
        "fetch"
    }

    fn location(&self) -> String {
        self.settings.url.to_string()
    }

    async fn next(&mut self) -> Option<RegistryUpdate> {
        tokio::time::sleep(self.wait).await;
        let polled = self.poll().await;
        let outcome = match &polled {
            Ok(RegistryUpdate::Models(list)) if list.is_empty() => Outcome::Empty,
            Ok(_) => Outcome::Listed,
            Err(error) => error.outcome(),
        };
        self.wait = self.schedule.after(outcome, jitter());
        Some(polled.unwrap_or_else(|error| RegistryUpdate::Failed(error.to_string())))
    }
}

/// Seconds of `Retry-After`; a date is not understood.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Somewhere in 0 …= 1; the middle where the system gives no random numbers.
fn jitter() -> f64 {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
