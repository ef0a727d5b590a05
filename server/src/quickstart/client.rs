//! A small OpenAI client: one streamed chat, one plain completion.

use crate::http::engine::chain;
use crate::http::headers::X_TENSORPOW_MINING;
use axum::http::{Method, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::net::SocketAddr;

/// A request through the proxy failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No answer, or one that broke off.
    #[error("the proxy gave no whole answer: {0}")]
    Connection(String),
    /// An error status.
    #[error("the proxy answered {status}: {body}")]
    Status {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// An error event in a stream.
    #[error("the stream ended with an error: {0}")]
    Stream(String),
}

/// What a chat left behind.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) completion_id: String,
    /// Tokens of the reply; 0 when the engine does not say.
    pub(super) tokens: u64,
    /// Value of the `X-Tensorpow-Mining` header.
    pub(super) mining: String,
}

/// The client.
#[derive(Debug)]
pub(super) struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    proxy: SocketAddr,
}

impl Client {
    pub(super) fn new(proxy: SocketAddr) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { http, proxy }
    }

    /// A streamed chat; `show` gets every piece of text.
    pub(super) async fn stream_chat(
        &self,
        body: &Value,
        mut show: impl FnMut(&str),
    ) -> Result<Answer, ClientError> {
        let mut response = self.post("/v1/chat/completions", body).await?;
        let mining = response.headers().get(X_TENSORPOW_MINING);
        let mining = mining.and_then(|value| value.to_str().ok()).unwrap_or("off").to_owned();
        let mut answer = Answer { completion_id: String::new(), tokens: 0, mining };
        let mut pending = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| ClientError::Connection(chain(&error)))?;
            pending.extend_from_slice(frame.data_ref().map_or(&[][..], |piece| &piece[..]));
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                read_event(&line, &mut answer, &mut show)?;
            }
        }
        Ok(answer)
    }

    /// A completion whose text nobody reads.
    pub(super) async fn complete(&self, body: &Value) -> Result<(), ClientError> {
        let response = self.post("/v1/completions", body).await?;
        response
            .into_body()
            .collect()
            .await
            .map(drop)
            .map_err(|e| ClientError::Connection(chain(&e)))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Response<Incoming>, ClientError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.proxy))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .map_err(|error| ClientError::Connection(error.to_string()))?;
        let response =
            self.http.request(request).await.map_err(|e| ClientError::Connection(chain(&e)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(|body| body.to_bytes());
        let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        Err(ClientError::Status { status, body })
    }
}

/// One line of a stream.
fn read_event(
    line: &[u8],
    answer: &mut Answer,
    show: &mut impl FnMut(&str),
) -> Result<(), ClientError> {
    let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
    // `[DONE]` and whatever else is no JSON says nothing.
    let Ok(event) = serde_json::from_slice::<Value>(data) else { return Ok(()) };
    if let Some(error) = event.get("error") {
        return Err(ClientError::Stream(error.to_string()));
    }
    if let Some(id) = event.get("id").and_then(Value::as_str) {
        id.clone_into(&mut answer.completion_id);
    }
    if let Some(tokens) = event.pointer("/usage/completion_tokens").and_then(Value::as_u64) {
        answer.tokens = tokens;
    }
    if let Some(text) = event.pointer("/choices/0/delta/content").and_then(Value::as_str) {
        show(text);
    }
    Ok(())
}
