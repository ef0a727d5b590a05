//! The engine as backfill sees it: something that takes a request and gives an answer. Over HTTP it
//! is the engine that serves the mined model, asked over connections of backfill's own, so that
//! backfill and its polling never take one from a user.

use crate::breaker::BreakerState;
use crate::http::engine::{Engine, EngineError, Health, Purpose};
use crate::http::engines::{EngineIndex, Engines};
use crate::http::relay::buffer;
use crate::mining::payload::Dialect;
use crate::mining::snapshot::ContextCell;
use async_trait::async_trait;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// True for 2xx.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status / 100 == 2
    }
}

/// Called with every piece of a successful answer; the first says that the prompt is read.
pub type Begun<'a> = &'a (dyn Fn() + Send + Sync);

/// The engine that mines.
#[async_trait]
pub trait MiningEngine: std::fmt::Debug + Send + Sync {
    /// How it is told what to mine, which also decides the form of the requests.
    fn dialect(&self) -> Dialect;

    /// Its URL as a label of metrics.
    fn label(&self) -> &'static str;

    /// True while the probe of its health succeeds.
    fn is_healthy(&self) -> bool;

    /// What its breaker lets through of users' requests.
    fn users(&self) -> BreakerState;

    /// Sends a request with the proxy's own key and reads the whole answer; `begun` is called with
    /// each of its pieces. Dropping the future drops the connection.
    ///
    /// # Errors
    /// [`EngineError`] when no whole answer comes within `limit`.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
        begun: Begun<'_>,
    ) -> Result<Reply, EngineError>;
}

/// The engine of the mined model, whichever that is at the moment. spec: proxy §12.3
#[derive(Debug)]
pub struct HttpMiningEngine {
    engines: Arc<Engines>,
    context: Arc<ContextCell>,
}

impl HttpMiningEngine {
    /// One of these engines, as this context says.
    #[must_use]
    pub const fn new(engines: Arc<Engines>, context: Arc<ContextCell>) -> Self {
        Self { engines, context }
    }

    /// Its place among all.
    #[must_use]
    pub fn index(&self) -> EngineIndex {
        self.engines.for_model(self.context.load().mining_model().as_deref())
    }

    fn engine(&self) -> &Engine {
        self.engines.get(self.index())
    }
}

#[async_trait]
impl MiningEngine for HttpMiningEngine {
    fn dialect(&self) -> Dialect {
        self.engine().dialect()
    }

    fn label(&self) -> &'static str {
        self.engine().label()
    }

    fn is_healthy(&self) -> bool {
        self.engine().health() == Health::Up
    }

    fn users(&self) -> BreakerState {
        self.engine().breaker().state()
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
        begun: Begun<'_>,
    ) -> Result<Reply, EngineError> {
        let path: PathAndQuery = path
            .parse()
            .map_err(|_| EngineError::Unreachable(format!("no URL for path {path}")))?;
        let engine = self.engine();
        let mut headers = HeaderMap::new();
        if let Some(key) = engine.key() {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let exchange = async {
            let answer = engine.send(Purpose::Backfill, method, &path, headers, body).await?;
            let status = answer.status();
            // llama.cpp sends the head when it begins to read the prompt; one that refuses reads none.
            let body = answer.into_body().map_frame(|piece| {
                if status.is_success() {
                    begun();
                }
                piece
            });
            let status = status.as_u16();
            Ok(Reply { status, body: buffer(body, limit).await? })
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(EngineError::Timeout(limit)))
    }
}
