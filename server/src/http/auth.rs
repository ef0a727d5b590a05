//! Who may call what. Keys open routes by scope. Without a key for the OpenAI routes only a loopback
//! bind is allowed, and then only requests that were addressed to this machine by name or address
//! are answered, so that no web page can reach the API through a name of its own. What changes the
//! worker needs a key in any case. spec: proxy §24

use super::errors::ApiError;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
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

/// What a key opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The OpenAI routes.
    Inference,
    /// Proofs, status, metrics.
    Proof,
    /// What changes the worker.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inference, Self::Proof, Self::Admin];

    /// The scope's word in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Proof => "proof",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text.trim());
        found.ok_or_else(|| format!("{text:?} is no scope; write inference, proof or admin"))
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope.
    pub const NONE: Self = Self(0);
    /// Every scope.
    pub const ALL: Self = Self(0b111);

    /// The set with one more scope.
    #[must_use]
    pub const fn and(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// True when the scope is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.and(scope)
    }
}

/// A key with its name and what it opens.
#[derive(Debug, Clone)]
pub struct NamedKey {
    name: Arc<str>,
    key: ApiKey,
    scopes: Scopes,
}

impl NamedKey {
    /// A key.
    #[must_use]
    pub fn new(name: &str, key: ApiKey, scopes: impl Into<Scopes>) -> Self {
        Self { name: name.into(), key, scopes: scopes.into() }
    }

    /// True when the key opens routes of the scope.
    #[must_use]
    pub const fn opens(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct Access {
    keys: Vec<NamedKey>,
    /// Programs on this machine need no key but for what changes the worker.
    open: bool,
}

/// Who calls, as far as it is known. An extension of every request that was let through.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name of the key that was presented.
    pub key: Option<Arc<str>>,
}

impl Access {
    /// Access by keys; `open` lets programs on this machine in without one.
    #[must_use]
    pub const fn new(keys: Vec<NamedKey>, open: bool) -> Self {
        Self { keys, open }
    }

    /// True when programs on this machine need no key.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// True when some key opens the scope.
    #[must_use]
    pub fn has_key_for(&self, scope: Scope) -> bool {
        self.keys.iter().any(|key| key.opens(scope))
    }

    /// Adds keys.
    pub fn extend(&mut self, keys: Vec<NamedKey>) {
        self.keys.extend(keys);
    }

    /// The key that was presented. All are compared, so that time tells nothing about which. Two
    /// entries with one key open what either opens.
    fn find(&self, presented: &[u8]) -> Option<(Arc<str>, Scopes)> {
        let mut found: Option<(Arc<str>, Scopes)> = None;
        for known in &self.keys {
            if known.key.matches(presented) {
                let before = found.take().map_or(Scopes::NONE, |(_, scopes)| scopes);
                found = Some((known.name.clone(), Scopes(before.0 | known.scopes.0)));
            }
        }
        found
    }

    /// Whether a request with these headers may use routes of `scope`; `host` is the name it was
    /// addressed to.
    ///
    /// # Errors
    /// 401 for a missing or unknown key, 403 for a key without the scope and for a foreign name.
    pub fn check(
        &self,
        headers: &HeaderMap,
        host: Option<&str>,
        scope: Scope,
    ) -> Result<Caller, ApiError> {
        let presented = presented_key(headers);
        let found = presented.and_then(|presented| self.find(presented));
        match found {
            Some((name, scopes)) if scopes.contains(scope) => {
                return Ok(Caller { key: Some(name) });
            }
            Some((name, _)) if !self.open || scope == Scope::Admin => {
                return Err(ApiError::new(
                    StatusCode::FORBIDDEN,
                    "insufficient_scope",
                    format!("the API key {name:?} has no scope {}", scope.as_str()),
                ));
            }
            _ => {}
        }
        if self.open && host.is_none_or(is_local_name) {
            return match scope {
                Scope::Admin => Err(ApiError::unauthorized(
                    "this route needs an API key of scope admin: Authorization: Bearer <key>",
                )),
                _ => Ok(Caller { key: found.map(|(name, _)| name) }),
            };
        }
        Err(match (self.open, presented) {
            (true, _) => ApiError::new(
                StatusCode::FORBIDDEN,
                "foreign_host",
                "without an API key only requests to localhost or to an IP address are answered; set TENSORPOW_API_KEY",
            ),
            (false, None) => {
                ApiError::unauthorized("this API needs an API key: Authorization: Bearer <key>")
            }
            (false, Some(_)) => ApiError::unauthorized("the API key is not valid"),
        })
    }
}

/// The name a request was addressed to.
#[must_use]
pub fn host(request: &Request) -> Option<&str> {
    request.uri().host().or_else(|| request.headers().get(header::HOST)?.to_str().ok())
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
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
    }

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
        assert_eq!(presented_key(&headers("bEARER k")), Some(&b"k"[..]));
        assert_eq!(presented_key(&headers("Basic k")), None);
        assert_eq!(presented_key(&headers("Bearer")), None);
        assert_eq!(presented_key(&HeaderMap::new()), None);
    }

    fn access(open: bool) -> Access {
        let key = |name: &str, scope: Scope| NamedKey::new(name, name.parse().unwrap(), scope);
        Access::new(vec![key("i", Scope::Inference), key("a", Scope::Admin)], open)
    }

    fn status(access: &Access, value: &'static str, scope: Scope) -> u16 {
        match access.check(&headers(value), Some("localhost"), scope) {
            Ok(_) => 200,
            Err(error) => error.status().as_u16(),
        }
    }

    #[test]
    fn a_key_opens_its_scopes_and_no_other() {
        let closed = access(false);
        assert_eq!(status(&closed, "Bearer i", Scope::Inference), 200);
        assert_eq!(status(&closed, "Bearer i", Scope::Proof), 403);
        assert_eq!(status(&closed, "Bearer i", Scope::Admin), 403);
        assert_eq!(status(&closed, "Bearer a", Scope::Admin), 200);
        assert_eq!(status(&closed, "Bearer x", Scope::Inference), 401);
        assert_eq!(status(&closed, "", Scope::Inference), 401);
    }

    #[test]
    fn this_machine_needs_no_key_but_for_what_changes_the_worker() {
        let open = access(true);
        assert_eq!(status(&open, "Bearer theirs", Scope::Inference), 200);
        assert_eq!(status(&open, "Bearer a", Scope::Proof), 200);
        assert_eq!(status(&open, "Bearer theirs", Scope::Admin), 401);
        assert_eq!(status(&open, "Bearer i", Scope::Admin), 403);
        assert_eq!(status(&open, "Bearer a", Scope::Admin), 200);
        let foreign = open.check(&HeaderMap::new(), Some("evil.example"), Scope::Inference);
        assert_eq!(foreign.unwrap_err().status(), StatusCode::FORBIDDEN);
    }
}
