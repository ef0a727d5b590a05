//! One engine behind the proxy: a base URL, pooled connections (users, backfill and the proxy's own
//! questions never wait for each other), a health probe. Dropping a request or an answer drops the
//! connection, which is how an engine learns that its work is no longer wanted.

pub mod connect;
pub mod connections;
pub mod error;
pub mod presence;
pub mod url;

pub use connections::EngineBody;
pub use error::EngineError;
pub(crate) use error::chain;
pub use presence::{Health, Presence};
pub use url::{EngineUrl, EngineUrlError};

use super::headers::X_REQUEST_ID;
use crate::breaker::{Attempt, Breaker, BreakerOpen, BreakerSettings, BreakerState};
use crate::metrics::names;
use crate::mining::payload::Dialect;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use connect::TimedConnector;
use connections::{Connections, Unanswered};
use http_body_util::Full;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::time::Duration;

/// Longest connect for the proxy's own questions.
const CONTROL_CONNECT: Duration = Duration::from_secs(2);
/// How often the engine is asked for its health.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// While it is not up: its users wait for it to come back.
const PROBE_AGAIN: Duration = Duration::from_millis(250);

/// An engine that comes and goes is not waited for again and again by one request.
const RETURNS: u32 = 3;

/// Limits on one engine request.
#[derive(Debug, Clone, Copy)]
pub struct EngineTimeouts {
    /// For the TCP connection.
    pub connect: Duration,
    /// Until the answer's headers: the whole generation for a request that does not stream.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For the whole answer.
    pub total: Duration,
    /// How long an engine may be gone before requests that have not reached it fail.
    pub absence: Duration,
}

impl Default for EngineTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            total: Duration::from_secs(3600),
            absence: Duration::from_secs(5),
        }
    }
}

/// Whom a request is for: each has connections of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A client waits for it.
    User,
    /// It keeps the engine busy.
    Backfill,
}

/// One engine.
#[derive(Debug)]
pub struct Engine {
    url: EngineUrl,
    label: &'static str,
    dialect: Dialect,
    key: Option<HeaderValue>,
    timeouts: EngineTimeouts,
    users: Connections,
    backfill: Connections,
    control: Connections,
    presence: Presence,
    breaker: Arc<Breaker>,
}

impl Engine {
    /// An engine at `url`; `key` is the proxy's own `Authorization` towards it, `pool` how many idle
    /// connections are kept for users, `breaker` when users are no
    /// longer sent to it; `connects` takes the time of its connections.
    #[must_use]
    pub fn new(
        url: EngineUrl,
        dialect: Dialect,
        key: Option<HeaderValue>,
        timeouts: EngineTimeouts,
        pool: usize,
        breaker: BreakerSettings,
        connects: &Histogram,
    ) -> Self {
        let connections = |limit, idle| {
            let connector = TimedConnector::new(limit, connects.clone());
            Connections::new(connector, url.to_uri(), url.host(), idle)
        };
        Self {
            users: connections(timeouts.connect, pool),
            backfill: connections(timeouts.connect, pool),
            control: connections(timeouts.connect.min(CONTROL_CONNECT), 2),
            breaker: Breaker::new(url.to_string(), breaker),
            label: names::label(&url.to_string()),
            url,
            dialect,
            key,
            timeouts,
            presence: Presence::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn url(&self) -> &EngineUrl {
        &self.url
    }

    /// Its URL as a label of metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        self.label
    }

    /// How it wants to be told what to mine.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The proxy's own `Authorization` towards it.
    #[must_use]
    pub const fn key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }

    /// Limits on its answers.
    #[must_use]
    pub const fn timeouts(&self) -> &EngineTimeouts {
        &self.timeouts
    }

    /// The breaker of users' requests.
    #[must_use]
    pub const fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// What the last probe found.
    #[must_use]
    pub fn health(&self) -> Health {
        self.presence.health()
    }

    /// Whether it is there.
    #[must_use]
    pub const fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Lets a user's request ask the breaker. While the engine is gone for a moment, it waits.
    ///
    /// # Errors
    /// [`BreakerOpen`] when the engine does not come back, or has other troubles.
    pub async fn begin(&self) -> Result<Attempt, BreakerOpen> {
        match self.breaker.begin() {
            Err(_) if self.presence.comes_back(self.timeouts.absence).await => self.breaker.begin(),
            begun => begun,
        }
    }

    /// Sends a request and waits for the answer's headers. A user's request that has not reached the
    /// engine because it is gone for a moment is sent when it is back.
    ///
    /// # Errors
    /// [`EngineError`] when no answer comes.
    pub async fn send(
        &self,
        purpose: Purpose,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<EngineBody>, EngineError> {
        let (pool, mut returns) = match purpose {
            Purpose::User => (&self.users, RETURNS),
            Purpose::Backfill => (&self.backfill, 0),
        };
        let limit = self.timeouts.first_byte;
        let mut request = request(method, path, headers, body);
        loop {
            let Ok(sent) = tokio::time::timeout(limit, pool.send(request)).await else {
                return Err(EngineError::Timeout(limit));
            };
            let (error, unsent) = match sent {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Sent(error)) => {
                    self.presence.broke_off();
                    return Err(EngineError::Unreachable(error));
                }
                Err(Unanswered::NoConnection(error, unsent)) => (error, unsent),
            };
            self.presence.missed();
            if returns == 0 || !self.presence.comes_back(self.timeouts.absence).await {
                return Err(EngineError::Unreachable(error));
            }
            returns -= 1;
            request = *unsent;
        }
    }

    /// Sends a request of the proxy's own, with its own key, and waits for the answer's headers.
    ///
    /// # Errors
    /// [`EngineError`] when no answer comes within `limit`.
    pub async fn get(
        &self,
        path: &'static str,
        request_id: Option<&HeaderValue>,
        limit: Duration,
    ) -> Result<Response<EngineBody>, EngineError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.key {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        if let Some(id) = request_id {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        let request = request(Method::GET, &PathAndQuery::from_static(path), headers, Bytes::new());
        match tokio::time::timeout(limit, self.control.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Unanswered::NoConnection(error, _) | Unanswered::Sent(error))) => {
                Err(EngineError::Unreachable(error))
            }
            Err(_) => Err(EngineError::Timeout(limit)),
        }
    }

    /// Asks for `/health` for as long as the proxy runs.
    pub async fn probe_forever(&self) {
        loop {
            let found = match self.get("/health", None, PROBE_EVERY).await {
                Ok(answer) if answer.status() == StatusCode::OK => Health::Up,
                Ok(_) => Health::NotReady,
                Err(_) => Health::Down,
            };
            if self.health() != found {
                tracing::info!(engine = %self.url, "engine is {}", found.as_str());
            }
            let breaker_is_open = self.breaker.state() != BreakerState::Closed;
            if self.presence.is_return(found, breaker_is_open) {
                // It has come back by itself: nobody has to be refused to find that out.
                self.breaker.restarted();
            }
            self.presence.found(found);
            for pool in [&self.users, &self.backfill, &self.control] {
                pool.close_old();
            }
            match found {
                Health::Up => self.presence.until_doubted(PROBE_EVERY).await,
                _ => tokio::time::sleep(PROBE_AGAIN).await,
            }
        }
    }
}

fn request(
    method: Method,
    path: &PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path.clone());
    *request.headers_mut() = headers;
    request
}
