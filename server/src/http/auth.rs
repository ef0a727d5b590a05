//! Who may call. With an API key every route but the probes wants it; without one only a loopback
//! bind is allowed, and then only requests that were addressed to this machine by name or address
//! are answered, so that no web page can reach the API through a name of its own. spec: proxy §24

use super::errors::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// An API key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// An API key is empty or cannot stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key is 1 to 512 printable ASCII characters without spaces")]
pub struct ApiKeyError;

impl std::str::FromStr for ApiKey {
    type Err = ApiKeyError;

    fn from_str(text: &str) -> Result<Self, ApiKeyError> {
        let text = text.trim();
        let usable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > 512 || !usable {
            return Err(ApiKeyError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl ApiKey {
    /// The `Authorization` value that carries the key.
    #[must_use]
    pub fn bearer(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Compares in time that depends on the lengths only.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Who may call.
#[derive(Debug, Clone)]
pub enum Access {
    /// Holders of the key.
    Key(ApiKey),
    /// Programs on this machine.
    Local,
}

/// Layer over every route that is not a probe.
pub async fn require(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match check(&access, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(access: &Access, request: &Request) -> Result<(), ApiError> {
    match access {
        Access::Key(key) => match presented_key(request.headers()) {
            None => Err(ApiError::unauthorized(
                "this API needs an API key: Authorization: Bearer <key>",
            )),
            Some(presented) if key.matches(presented) => Ok(()),
            Some(_) => Err(ApiError::unauthorized("the API key is not valid")),
        },
        Access::Local => {
            let host =
                request.uri().host().or_else(|| request.headers().get(header::HOST)?.to_str().ok());
            if host.is_none_or(is_local_name) {
                Ok(())
            } else {
                Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "foreign_host",
                    "without an API key only requests to localhost or to an IP address are answered; set TENSORPOW_API_KEY",
                ))
            }
        }
    }
}

/// The Bearer credential, its scheme in any case.
fn presented_key(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// `localhost`, a name under it, or an IP address, each with or without a port: names that no
/// foreign DNS answer can point here.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        },
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_this_machine_can_have() {
        for name in [
            "localhost",
            "LOCALHOST:80",
            "a.localhost",
            "127.0.0.1:8080",
            "[::1]:80",
            "[::1]",
            "10.0.0.2",
        ] {
            assert!(is_local_name(name), "{name}");
        }
        for name in ["example.com", "localhost.example.com:80", "evil", "127.0.0.1.nip.io", ""] {
            assert!(!is_local_name(name), "{name}");
        }
    }

    #[test]
    fn keys_compare_whole() {
        let key: ApiKey = " secret ".parse().unwrap();
        assert!(key.matches(b"secret"));
        for wrong in [&b"secre"[..], b"secret ", b"Secret", b""] {
            assert!(!key.matches(wrong));
        }
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
        for bad in ["", "  ", "a b", "a\nb", "ü"] {
            assert!(bad.parse::<ApiKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_bearer_scheme_is_read_in_any_case() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        assert_eq!(presented_key(&headers("bEARER k")), Some(&b"k"[..]));
        assert_eq!(presented_key(&headers("Basic k")), None);
        assert_eq!(presented_key(&headers("Bearer")), None);
        assert_eq!(presented_key(&HeaderMap::new()), None);
    }
}
