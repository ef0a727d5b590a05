//! Where an engine is: `http://host[:port]`. spec: proxy §12.3

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, Uri};
use std::fmt;

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
    /// What requests name as their `Host`.
    pub(super) fn host(&self) -> HeaderValue {
        // An authority is made of visible ASCII.
        HeaderValue::from_str(self.0.as_str()).unwrap_or(HeaderValue::from_static("engine"))
    }

    /// Where to connect.
    pub(super) fn to_uri(&self) -> Uri {
        let root = PathAndQuery::from_static("/");
        let uri =
            Uri::builder().scheme(Scheme::HTTP).authority(self.0.clone()).path_and_query(root);
        // All parts are there, so it cannot fail.
        uri.build().unwrap_or_default()
    }
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
