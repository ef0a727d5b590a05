//! The tokens of the development broker: a signed JWT for `PROVIDER_JWT_TOKEN` and a fixed text for
//! `X_WORKER_TOKEN`, both made from one secret, and the check of whoever knocks. A restarted broker
//! with the same secret takes the same tokens. spec: broker §1

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;

/// What the fixed token is derived from.
const WORKER_TOKEN_LABEL: &[u8] = b"tensorpow development broker: worker token";

/// The secret and what follows from it.
#[derive(Clone)]
pub struct Tokens {
    key: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwelcome {
    /// No header says who it is.
    #[error("neither Authorization nor X-Worker-Token")]
    NoToken,
    /// Both headers at once; a worker sends exactly one.
    #[error("both Authorization and X-Worker-Token")]
    TwoTokens,
    /// Not three base64url parts with JSON in the first two, or not `Bearer`.
    #[error("the bearer token is no JWT")]
    Malformed,
    /// Another key signed it.
    #[error("the token is not signed for this broker")]
    Signature,
    /// It was valid once.
    #[error("the token expired at {0}, in seconds since 1970")]
    Expired(u64),
    /// Another text than the broker's.
    #[error("the worker token is wrong")]
    WorkerToken,
}

impl Tokens {
    /// The tokens of a secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self { key: secret.as_bytes().to_vec() }
    }

    /// A JWT for this broker, signed with HMAC-SHA-256; `expires` in seconds since 1970.
    #[must_use]
    pub fn provider_token(&self, subject: &str, expires: u64) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({ "alg": "HS256", "typ": "JWT" }));
        let body = part(json!({ "sub": subject, "exp": expires }));
        let signed = format!("{head}.{body}");
        let signature = URL_SAFE_NO_PAD.encode(self.mac(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// The fixed token, 32 hex digits.
    #[must_use]
    pub fn worker_token(&self) -> String {
        hex::encode(&self.mac(WORKER_TOKEN_LABEL)[..16])
    }

    /// Who may open a connection; `now` in seconds since 1970.
    ///
    /// # Errors
    /// [`Unwelcome`].
    pub fn check(&self, headers: &HeaderMap, now: u64) -> Result<(), Unwelcome> {
        let bearer = headers.get(AUTHORIZATION);
        let worker = headers.get("x-worker-token");
        match (bearer, worker) {
            (None, None) => Err(Unwelcome::NoToken),
            (Some(_), Some(_)) => Err(Unwelcome::TwoTokens),
            (Some(bearer), None) => {
                let text = bearer.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
                self.check_provider_token(text.ok_or(Unwelcome::Malformed)?, now)
            }
            (None, Some(given)) if given.as_bytes() == self.worker_token().as_bytes() => Ok(()),
            (None, Some(_)) => Err(Unwelcome::WorkerToken),
        }
    }

    fn check_provider_token(&self, token: &str, now: u64) -> Result<(), Unwelcome> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Unwelcome::Malformed)?;
        let (head, body) = signed.split_once('.').ok_or(Unwelcome::Malformed)?;
        let read = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
            serde_json::from_slice::<Value>(&bytes).ok()
        };
        let head = read(head).ok_or(Unwelcome::Malformed)?;
        let body = read(body).ok_or(Unwelcome::Malformed)?;
        if head["alg"] != "HS256" {
            return Err(Unwelcome::Signature);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Unwelcome::Malformed)?;
        if signature != self.mac(signed.as_bytes()) {
            return Err(Unwelcome::Signature);
        }
        match body["exp"].as_u64() {
            Some(expired) if expired <= now => Err(Unwelcome::Expired(expired)),
            _ => Ok(()),
        }
    }

    fn mac(&self, message: &[u8]) -> Vec<u8> {
        hmac_sha256(&self.key, message)
    }
}

/// HMAC-SHA-256.
pub(super) fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    // A key of any length will do, so there is always one.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// A secret that nobody has had before.
#[must_use]
pub fn fresh_secret() -> String {
    hex::encode(random_bytes::<16>())
}

/// Random bytes; zeros from a system that has none, where nothing else works either.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::error!(%error, "the system has no random numbers");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_its_own_tokens_open_the_door() {
        let (ours, theirs) = (Tokens::new("ours"), Tokens::new("theirs"));
        let check = |name, value: &str| ours.check(&headers(name, value), 1000);
        let bearer = |token: &str| check("authorization", &format!("Bearer {token}"));
        assert_eq!(bearer(&ours.provider_token("w", 1001)), Ok(()));
        assert_eq!(bearer(&ours.provider_token("w", 1000)), Err(Unwelcome::Expired(1000)));
        assert_eq!(bearer(&theirs.provider_token("w", 1001)), Err(Unwelcome::Signature));
        assert_eq!(bearer("eyJ"), Err(Unwelcome::Malformed));
        assert_eq!(check("authorization", "Basic abc"), Err(Unwelcome::Malformed));
        assert_eq!(check("x-worker-token", &ours.worker_token()), Ok(()));
        assert_eq!(check("x-worker-token", &theirs.worker_token()), Err(Unwelcome::WorkerToken));
        assert_eq!(ours.check(&HeaderMap::new(), 0), Err(Unwelcome::NoToken));
        let mut both = headers("x-worker-token", &ours.worker_token());
        both.insert("authorization", "Bearer x".parse().unwrap());
        assert_eq!(ours.check(&both, 0), Err(Unwelcome::TwoTokens));
    }

    #[test]
    fn a_token_has_the_shape_of_a_jwt() {
        let token = Tokens::new("x").provider_token("w", 7);
        assert!(token.starts_with("eyJ"), "{token}");
        assert_eq!(token.split('.').count(), 3);
    }

    #[test]
    fn the_mac_is_the_published_one() {
        // spec: broker §3.3, vectors frames.json session `challenge`
        assert_eq!(
            hex::encode(hmac_sha256(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
