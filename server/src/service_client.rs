//! HTTP calls of the proxy's own to services that are no engines: the model registry, an engine's
//! supervisor. Short answers, read as a whole and within limits; a pool of their own.

use crate::http::engine::chain;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// For the TCP connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Idle connections are closed before the usual servers close them.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// A text is no service URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("service URL {url:?} must be http://host[:port][/path]")]
pub struct ServiceUrlError {
    url: String,
}

/// Where a service is: authority and the path its routes hang under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl {
    authority: Authority,
    /// Without a slash at the end.
    path: String,
}

impl FromStr for ServiceUrl {
    type Err = ServiceUrlError;

    fn from_str(url: &str) -> Result<Self, ServiceUrlError> {
        let error = || ServiceUrlError { url: url.to_owned() };
        let uri: Uri = url.trim().parse().map_err(|_| error())?;
        if uri.scheme() != Some(&Scheme::HTTP) || uri.query().is_some() {
            return Err(error());
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let authority = uri.into_parts().authority.ok_or_else(error)?;
        // User and password in a URL end up in logs.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(error());
        }
        Ok(Self { authority, path })
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl ServiceUrl {
    fn join(&self, route: &str) -> Option<Uri> {
        let path = PathAndQuery::try_from(format!("{}{route}", self.path)).ok()?;
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        uri.path_and_query(path).build().ok()
    }
}

/// A service gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection, or one that broke.
    #[error("{0}")]
    Unreachable(String),
    /// No whole answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is too large or broke off.
    #[error("the answer is unreadable: {0}")]
    Unreadable(String),
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The beginning of the body in one line, for error messages.
    #[must_use]
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(self.body.get(..200).unwrap_or(&self.body));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Calls services.
#[derive(Debug, Clone)]
pub struct ServiceClient {
    client: Client<HttpConnector, Full<Bytes>>,
    max_answer: usize,
}

impl Default for ServiceClient {
    fn default() -> Self {
        Self::with_limit(MAX_ANSWER)
    }
}

impl ServiceClient {
    /// A client that reads answers of at most so many bytes.
    #[must_use]
    pub fn with_limit(max_answer: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { client, max_answer }
    }

    /// Calls a route and reads the whole answer within `limit`. A body is sent as JSON.
    ///
    /// # Errors
    /// [`CallError`] when there is no whole answer; an error status is an answer.
    pub async fn call(
        &self,
        method: Method,
        service: &ServiceUrl,
        route: &str,
        mut headers: HeaderMap,
        body: Option<String>,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let unreachable = || CallError::Unreachable(format!("no URL for {service}{route}"));
        if body.is_some() {
            let json = header::HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        let mut request = Request::new(Full::from(body.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = service.join(route).ok_or_else(unreachable)?;
        *request.headers_mut() = headers;
        let answer = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| CallError::Unreachable(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, self.max_answer).collect().await;
            let body = body.map_err(|error| CallError::Unreadable(error.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(limit, answer).await.unwrap_or(Err(CallError::Timeout(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_url_keeps_its_path() {
        let url: ServiceUrl = " http://node:8050/ ".parse().unwrap();
        assert_eq!(url.to_string(), "http://node:8050");
        assert_eq!(url.join("/api/v1/models?x=1").unwrap(), "http://node:8050/api/v1/models?x=1");
        let url: ServiceUrl = "http://gateway/registry/".parse().unwrap();
        assert_eq!(url.join("/api").unwrap(), "http://gateway/registry/api");
        for bad in ["node:8050", "", "http://", "ftp://x", "http://u:p@host", "http://h/?a=b"] {
            assert!(bad.parse::<ServiceUrl>().is_err(), "{bad:?}");
        }
    }
}
