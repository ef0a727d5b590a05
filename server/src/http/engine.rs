//! One engine behind the proxy: a base URL, pooled connections (users, backfill and the proxy's own
//! questions never wait for each other), a health probe. Dropping a request or an answer drops the
//! connection, which is how an engine learns that its work is no longer wanted.

use super::connect::TimedConnector;
use super::errors::ApiError;
use super::headers::X_REQUEST_ID;
use super::presence::Presence;
use crate::breaker::{Attempt, Breaker, BreakerOpen, BreakerSettings, BreakerState};
use crate::mining::payload::Dialect;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::histogram::Histogram;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Idle connections are closed before the engines close them (llama-server and uvicorn: 5 s), so
/// that no request is written into a dying connection.
const POOL_IDLE: Duration = Duration::from_secs(4);
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

/// An engine URL is not `http://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("engine URL {url:?} must be http://host[:port]")]
pub struct EngineUrlError {
    /// The text.
    pub url: String,
}

/// Scheme and authority of an engine; a path in the URL is dropped. spec: proxy §12.3
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineUrl(Authority);

impl std::str::FromStr for EngineUrl {
    type Err = EngineUrlError;

    fn from_str(url: &str) -> Result<Self, EngineUrlError> {
        let error = || EngineUrlError { url: url.to_owned() };
        let uri: Uri = url.trim().parse().map_err(|_| error())?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(error());
        }
        uri.into_parts().authority.map(Self).ok_or_else(error)
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl EngineUrl {
    fn with_path(&self, path: &PathAndQuery) -> Option<Uri> {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.0.clone())
            .path_and_query(path.clone())
            .build()
            .ok()
    }
}

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No connection, or one that broke before the answer's headers.
    #[error("engine unreachable: {0}")]
    Unreachable(String),
    /// No headers, or no further byte, within the limit.
    #[error("engine silent for {0:?}")]
    Timeout(Duration),
    /// The answer broke off.
    #[error("engine answer broke off: {0}")]
    Broken(String),
    /// The answer exceeds what the proxy holds in memory.
    #[error("engine answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl From<EngineError> for ApiError {
    /// One mapping for every route: 502 for an engine that fails, 504 for one that is silent. The
    /// client learns no internal address. spec: proxy §5.1
    fn from(error: EngineError) -> Self {
        tracing::warn!(%error, "engine request failed");
        match error {
            EngineError::Timeout(_) => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "engine_timeout",
                "the inference engine did not answer in time",
            ),
            EngineError::Unreachable(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "engine_unreachable",
                "the inference engine cannot be reached",
            ),
            EngineError::Broken(_) | EngineError::TooLarge(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "engine_failed",
                "the inference engine broke off its answer",
            ),
        }
    }
}

/// What the last probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not probed yet.
    Unknown = 0,
    /// `/health` answered 200.
    Up = 1,
    /// `/health` answered something else, as an engine does that loads its model.
    NotReady = 2,
    /// No answer.
    Down = 3,
}

impl Health {
    pub(super) const fn of(number: u8) -> Self {
        match number {
            1 => Self::Up,
            2 => Self::NotReady,
            3 => Self::Down,
            _ => Self::Unknown,
        }
    }

    /// In words, for `/ready` and `/status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "not probed yet",
            Self::Up => "up",
            Self::NotReady => "answers, but is not ready",
            Self::Down => "unreachable",
        }
    }
}

type Pool = Client<TimedConnector, Full<Bytes>>;

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
    dialect: Dialect,
    key: Option<HeaderValue>,
    timeouts: EngineTimeouts,
    users: Pool,
    backfill: Pool,
    control: Pool,
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
        Self {
            breaker: Breaker::new(url.to_string(), breaker),
            url,
            dialect,
            key,
            timeouts,
            users: client(timeouts.connect, connects, pool),
            backfill: client(timeouts.connect, connects, pool),
            control: client(timeouts.connect.min(CONTROL_CONNECT), connects, 2),
            presence: Presence::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn url(&self) -> &EngineUrl {
        &self.url
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
    ) -> Result<Response<Incoming>, EngineError> {
        let (pool, mut returns) = match purpose {
            Purpose::User => (&self.users, RETURNS),
            Purpose::Backfill => (&self.backfill, 0),
        };
        loop {
            let (method, headers, body) = (method.clone(), headers.clone(), body.clone());
            let request = self.request(method, path, headers, body)?;
            let sent = within(self.timeouts.first_byte, pool.request(request)).await;
            let error = match sent {
                Ok(answer) => return Ok(answer),
                Err(Failed::Sent(error)) => {
                    if matches!(error, EngineError::Unreachable(_)) {
                        self.presence.broke_off();
                    }
                    return Err(error);
                }
                Err(Failed::NoConnection(error)) => error,
            };
            self.presence.missed();
            if returns == 0 || !self.presence.comes_back(self.timeouts.absence).await {
                return Err(EngineError::Unreachable(error));
            }
            returns -= 1;
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
    ) -> Result<Response<Incoming>, EngineError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.key {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        if let Some(id) = request_id {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        let path = PathAndQuery::from_static(path);
        let request = self.request(Method::GET, &path, headers, Bytes::new())?;
        Ok(within(limit, self.control.request(request)).await?)
    }

    fn request(
        &self,
        method: Method,
        path: &PathAndQuery,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, EngineError> {
        let unreachable = || EngineError::Unreachable(format!("no URL for path {path}"));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.url.with_path(path).ok_or_else(unreachable)?;
        *request.headers_mut() = headers;
        Ok(request)
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
            match found {
                Health::Up => self.presence.until_doubted(PROBE_EVERY).await,
                _ => tokio::time::sleep(PROBE_AGAIN).await,
            }
        }
    }
}

fn client(connect: Duration, connects: &Histogram, idle_connections: usize) -> Pool {
    let connector = TimedConnector::new(connect, connects.clone());
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(idle_connections)
        .build(connector)
}

/// Why no answer came.
enum Failed {
    /// The request has not left: nobody is there.
    NoConnection(String),
    /// It may have arrived.
    Sent(EngineError),
}

impl From<Failed> for EngineError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoConnection(error) => Self::Unreachable(error),
            Failed::Sent(error) => error,
        }
    }
}

async fn within(
    limit: Duration,
    answer: impl Future<Output = Result<Response<Incoming>, hyper_util::client::legacy::Error>>,
) -> Result<Response<Incoming>, Failed> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_connect() => Err(Failed::NoConnection(chain(&error))),
        Ok(Err(error)) => Err(Failed::Sent(EngineError::Unreachable(chain(&error)))),
        Err(_) => Err(Failed::Sent(EngineError::Timeout(limit))),
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_url_keeps_scheme_and_authority() {
        let url = |text: &str| text.parse::<EngineUrl>().map(|url| url.to_string());
        assert_eq!(url("http://127.0.0.1:8000/v1/"), Ok("http://127.0.0.1:8000".into()));
        assert_eq!(url(" http://host "), Ok("http://host".into()));
        for bad in ["https://host", "host:80", "", "http://", "ftp://x"] {
            assert!(url(bad).is_err(), "{bad:?}");
        }
    }
}
