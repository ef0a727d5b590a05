//! Why an engine gave no answer, and what its client is told then. spec: proxy §5.1

use crate::http::errors::ApiError;
use axum::http::StatusCode;
use std::time::Duration;

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
