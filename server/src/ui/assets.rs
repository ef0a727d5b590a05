//! The dashboard's files, embedded in the binary, and the headers that fence them in: nothing is
//! loaded from elsewhere, no script or style stands in a page, no page may frame this one. They
//! hold no data, so they are served without a key: the page is where the key is entered.

use crate::http::App;
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, LazyLock};

/// What a page of the dashboard may do. Trusted types make every way from text to markup an error.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every file.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Checked by its tag each time, so that a new binary shows its own pages.
    (header::CACHE_CONTROL, "no-cache"),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// A file with its type.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../ui/", $name)) }
    };
}

static ASSETS: [Asset; 13] = [
    asset!("index.html", HTML),
    asset!("style.css", STYLE),
    asset!("panels.css", STYLE),
    asset!("icon.svg", PICTURE),
    asset!("theme.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("format.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("live.js", SCRIPT),
    asset!("proofs.js", SCRIPT),
    asset!("setup.js", SCRIPT),
];

/// One tag for all files: they change together, with the binary.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut all = Sha256::new();
    for asset in &ASSETS {
        all.update(asset.bytes);
    }
    let tag = format!("\"{}\"", hex::encode(&all.finalize()[..8]));
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"0\""))
});

/// `/ui` and everything under it that is a file.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/ui", get(to_folder))
        .route("/ui/", get(|headers: HeaderMap| async move { answer("index.html", &headers) }))
        .route(
            "/ui/{name}",
            get(|Path(name): Path<String>, headers: HeaderMap| async move {
                answer(&name, &headers)
            }),
        )
}

/// The page's own links are relative, also behind a proxy that adds a path in front.
async fn to_folder() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "ui/")]).into_response()
}

fn answer(name: &str, asked: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return crate::http::errors::ApiError::not_found(format!("no such path: /ui/{name}"))
            .into_response();
    };
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == *TAG);
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.bytes.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::ETAG, TAG.clone());
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_embedded_files_alone() {
        let page = std::str::from_utf8(ASSETS[0].bytes).unwrap();
        let mut linked = 0;
        for attribute in ["src=\"", "href=\""] {
            for rest in page.split(attribute).skip(1) {
                let target = rest.split('"').next().unwrap();
                if target.starts_with('#') || ["../status", "../metrics"].contains(&target) {
                    continue;
                }
                linked += 1;
                assert!(ASSETS.iter().any(|asset| asset.name == target), "{target:?}");
            }
        }
        assert!(linked >= 4, "style, icon and scripts");
        assert!(!page.contains("<style") && !page.contains("style="));
        for rest in page.split(" on").skip(1) {
            let name: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            assert!(!rest[name.len()..].starts_with('='), "a listener in the page: on{name}");
        }
        for asset in &ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("//cdn") && !foreign.contains("@import"), "{}", asset.name);
        }
    }

    #[test]
    fn scripts_import_embedded_files_alone() {
        for asset in ASSETS.iter().filter(|asset| asset.kind == SCRIPT) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for rest in text.split(" from \"./").skip(1) {
                let target = rest.split('"').next().unwrap();
                assert!(ASSETS.iter().any(|asset| asset.name == target), "{target:?}");
            }
        }
    }

    #[test]
    fn a_known_file_is_not_sent_again() {
        let first = answer("app.js", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], SCRIPT);
        assert_eq!(first.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        let tag = first.headers()[header::ETAG].clone();
        let again = answer("app.js", &HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer("../Cargo.toml", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }
}
