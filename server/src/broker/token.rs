//! The two tokens a worker may have, trimmed once, looked at before they are used, never logged. A
//! token that looks wrong or old is named in a log line and sent all the same: a clock that runs
//! wrong must not stop mining. spec: broker §1

use axum::http::{HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// How every JWT begins: the base64 of `{"`.
const JWT_PREFIX: &str = "eyJ";

/// How a worker says who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// `PROVIDER_JWT_TOKEN`.
    Provider(String),
    /// `X_WORKER_TOKEN`.
    Worker(String),
    /// Nothing: the broker will probably refuse.
    None,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Provider(token) => write!(f, "Provider({} characters)", token.len()),
            Self::Worker(token) => write!(f, "Worker({} characters)", token.len()),
            Self::None => f.write_str("None"),
        }
    }
}

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenProblem {
    /// There is none.
    #[error(
        "neither PROVIDER_JWT_TOKEN nor X_WORKER_TOKEN is set: the broker will probably refuse this worker; both values are on the provider's dashboard"
    )]
    Missing,
    /// It is no JWT.
    #[error(
        "PROVIDER_JWT_TOKEN ({length} characters) does not begin with eyJ, as every JWT does; was something else pasted?"
    )]
    Shape {
        /// Its length.
        length: usize,
    },
    /// It has expired, unless this machine's clock is wrong.
    #[error(
        "PROVIDER_JWT_TOKEN expired {seconds_ago} s ago (exp {exp}): get a new one from the provider's dashboard, or set this machine's clock"
    )]
    Expired {
        /// Its `exp`, in seconds since 1970.
        exp: i64,
        /// Age of the expiry.
        seconds_ago: i64,
    },
    /// It cannot stand in a header.
    #[error("the token ({length} characters) has characters that no header may have")]
    NoHeader {
        /// Its length.
        length: usize,
    },
}

impl Credential {
    /// The provider's token goes before the worker's; both are trimmed. spec: §1
    #[must_use]
    pub fn new(provider: &str, worker: &str) -> Self {
        match (provider.trim(), worker.trim()) {
            ("", "") => Self::None,
            ("", worker) => Self::Worker(worker.to_owned()),
            (provider, _) => Self::Provider(provider.to_owned()),
        }
    }

    /// The header of the upgrade request.
    #[must_use]
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match self {
            Self::Provider(token) => (header::AUTHORIZATION, format!("Bearer {token}")),
            Self::Worker(token) => (HeaderName::from_static("x-worker-token"), token.clone()),
            Self::None => return None,
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// What is wrong with it, if anything is. spec: §1
    #[must_use]
    pub fn problem(&self, now: SystemTime) -> Option<TokenProblem> {
        let (Self::Provider(token) | Self::Worker(token)) = self else {
            return Some(TokenProblem::Missing);
        };
        let length = token.len();
        if self.header().is_none() {
            return Some(TokenProblem::NoHeader { length });
        }
        if matches!(self, Self::Worker(_)) {
            return None;
        }
        if !token.starts_with(JWT_PREFIX) {
            return Some(TokenProblem::Shape { length });
        }
        let exp = expiry(token)?;
        let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let seconds_ago = i64::try_from(now).ok()?.checked_sub(exp)?;
        (seconds_ago > 0).then_some(TokenProblem::Expired { exp, seconds_ago })
    }
}

/// `exp` of a JWT's claims, where they can be read.
fn expiry(token: &str) -> Option<i64> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?;
    // A date with a fraction is one all the same.
    exp.as_i64().or_else(|| exp.as_f64().map(|exp| exp as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn jwt(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.x", URL_SAFE_NO_PAD.encode(claims))
    }

    fn problem(token: &str) -> Option<TokenProblem> {
        Credential::new(token, "").problem(UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn a_token_is_trimmed_and_the_providers_goes_first() {
        assert_eq!(Credential::new(" eyJa \n", "w"), Credential::Provider("eyJa".to_owned()));
        assert_eq!(Credential::new("  ", " w "), Credential::Worker("w".to_owned()));
        assert_eq!(Credential::new("", " "), Credential::None);
        let (name, value) = Credential::new("eyJa", "").header().unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer eyJa"));
        let (name, value) = Credential::new("", "w").header().unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-worker-token", "w"));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said() {
        assert_eq!(problem(""), Some(TokenProblem::Missing));
        assert_eq!(problem("secret"), Some(TokenProblem::Shape { length: 6 }));
        assert_eq!(problem("eyJ\u{7}"), Some(TokenProblem::NoHeader { length: 4 }));
        let expired = TokenProblem::Expired { exp: 999_990, seconds_ago: 10 };
        assert_eq!(problem(&jwt("{\"exp\":999990}")), Some(expired));
        for fine in ["{\"exp\":1000010}", "{\"exp\":\"soon\"}", "{}", "no JSON", "{\"exp\":1e300}"]
        {
            assert_eq!(problem(&jwt(fine)), None, "{fine}");
        }
        assert_eq!(problem("eyJhbGciOiJub25lIn0"), None, "no claims to read");
    }

    #[test]
    fn no_token_shows() {
        let shown = format!("{:?}", Credential::new("eyJsecret", ""));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
