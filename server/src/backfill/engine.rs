//! The engine as backfill sees it: something that takes a request and gives an answer. The HTTP
//! client behind it has connections of its own, so that backfill and its polling never take one from
//! a user.

use crate::http::engine::{Engine, EngineError, Health, client};
use crate::http::relay::buffer;
use crate::mining::payload::{EngineKind, PowForm};
use async_trait::async_trait;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
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

/// The engine that mines.
#[async_trait]
pub trait MiningEngine: std::fmt::Debug + Send + Sync {
    /// Which engine it is: it decides the form of the requests.
    fn kind(&self) -> EngineKind;

    /// The form of `pow` it takes.
    fn form(&self) -> PowForm;

    /// What the last probe of its health found.
    fn is_healthy(&self) -> bool;

    /// Sends a request with the proxy's own key and reads the whole answer. Dropping the future
    /// drops the connection.
    ///
    /// # Errors
    /// [`EngineError`] when no whole answer comes within `limit`.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Reply, EngineError>;
}

/// The engine over HTTP.
#[derive(Debug)]
pub struct HttpMiningEngine {
    engine: Arc<Engine>,
    kind: EngineKind,
    form: PowForm,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HttpMiningEngine {
    /// `engine` with up to `idle` connections kept for backfill.
    #[must_use]
    pub fn new(engine: Arc<Engine>, kind: EngineKind, form: PowForm, idle: usize) -> Self {
        let client = client(engine.timeouts().connect, idle);
        Self { engine, kind, form, client }
    }
}

#[async_trait]
impl MiningEngine for HttpMiningEngine {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn form(&self) -> PowForm {
        self.form
    }

    fn is_healthy(&self) -> bool {
        self.engine.health() == Health::Up
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Reply, EngineError> {
        let path: PathAndQuery = path
            .parse()
            .map_err(|_| EngineError::Unreachable(format!("no URL for path {path}")))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = self.engine.key() {
            headers.insert(header::AUTHORIZATION, key.clone());
        }
        if !body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let exchange = async {
            let answer =
                self.engine.send_by(&self.client, method, &path, headers, body, limit).await?;
            let status = answer.status().as_u16();
            Ok(Reply { status, body: buffer(answer.into_body(), limit).await? })
        };
        tokio::time::timeout(limit, exchange).await.unwrap_or(Err(EngineError::Timeout(limit)))
    }
}
