//! Which web pages may call from a browser. None by default; an allow-list of origins otherwise,
//! applied to every answer alike, streams and errors included. spec: proxy §4

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

/// What a page may send and use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
/// What a page may read beside the usual.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, x-tensorpow-request-id, x-tensorpow-mining, retry-after",
);

/// Origins that may call.
#[derive(Debug, Clone, Default)]
pub struct CorsOrigins {
    origins: Vec<HeaderValue>,
    any: bool,
}

impl CorsOrigins {
    /// An allow-list; `*` allows every page.
    ///
    /// # Errors
    /// A sentence about an entry that is no origin.
    pub fn new(origins: &[String]) -> Result<Self, String> {
        let mut list = Self::default();
        for origin in origins {
            let scheme_and_host =
                origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            let usable =
                scheme_and_host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
            match HeaderValue::from_str(origin) {
                _ if origin == "*" => list.any = true,
                Ok(value) if usable => list.origins.push(value),
                _ => {
                    return Err(format!(
                        "http.cors_origins: {origin:?} is no origin; write https://host[:port] without a path"
                    ));
                }
            }
        }
        Ok(list)
    }

    /// True when no page may call.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.origins.is_empty() && !self.any
    }

    /// The request's origin, if it may call.
    #[must_use]
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.is_empty() {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        (self.any || self.origins.contains(origin)).then(|| origin.clone())
    }
}

/// The answer to a browser's question whether a request may be sent.
#[must_use]
pub fn preflight(request: &Request) -> Option<Response<Body>> {
    let asks = *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(wanted) = wanted {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some(response)
}

/// Marks an answer as meant for `origin`.
pub fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_origins_may_call() {
        let list = CorsOrigins::new(&["https://a.example".to_owned()]).unwrap();
        let from = |origin: &'static str| {
            list.allowed(&HeaderMap::from_iter([(
                header::ORIGIN,
                HeaderValue::from_static(origin),
            )]))
        };
        assert_eq!(from("https://a.example").unwrap(), "https://a.example");
        assert_eq!(from("https://a.example.evil"), None);
        assert_eq!(list.allowed(&HeaderMap::new()), None);
        for bad in ["a.example", "https://", "https://a/b", "https://a\n"] {
            assert!(CorsOrigins::new(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}
