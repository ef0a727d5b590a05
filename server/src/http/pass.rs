//! Routes that are forwarded without a mining context: embeddings, stored responses, the engines'
//! models and properties. They follow the same table of engines as generation.
//! spec: proxy §4, §5, §5.3

use super::App;
use super::answer::{Answered, forward};
use super::auth::Caller;
use super::body::JsonObject;
use super::engine::EngineError;
use super::engines::EngineIndex;
use super::errors::ApiError;
use super::generate::read_body;
use super::headers::{for_client, for_engine};
use super::relay::buffer;
use super::request_id::RequestId;
use super::router::Asked;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Everything a handler is given.
type Parts = (State<Arc<App>>, Extension<RequestId>, Extension<Caller>);

/// POST `/v1/embeddings`: the body as it is, to the engine of its model.
///
/// # Errors
/// [`ApiError`] for a body over the limit or a failing engine.
pub async fn embeddings(
    app: &Arc<App>,
    asked: &Asked,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let body = read_body(app, body).await?;
    // What is no object names no model; the engine judges it. One engine gets everything.
    let model = match app.engines.are_several() {
        true => JsonObject::parse(&body).ok().and_then(|object| object.string("model")),
        false => None,
    };
    let engine = app.engines.for_model(model.as_deref());
    let path = PathAndQuery::from_static("/v1/embeddings");
    let headers = engine_headers(app, engine, head.headers, &asked.id, &asked.caller);
    pass(app, engine, "/v1/embeddings", Method::POST, &path, headers, body).await
}

/// GET `/props`: of the engine that the query's `model` is routed to.
///
/// # Errors
/// [`ApiError`] for a failing engine.
pub async fn props(parts: Parts, request: Request) -> Result<Response<Body>, ApiError> {
    let (State(app), Extension(id), Extension(caller)) = parts;
    let query = request.uri().query().unwrap_or_default();
    let model = query.split('&').find_map(|pair| pair.strip_prefix("model="));
    let engine = app.engines.for_model(model);
    let path = path_and_query("/props", request.uri().query())?;
    let headers = engine_headers(&app, engine, request.headers().clone(), &id, &caller);
    pass(&app, engine, "/props", Method::GET, &path, headers, Bytes::new()).await
}

/// GET `/v1/responses/{id}`, the query with it.
///
/// # Errors
/// [`ApiError`] for an id that is no plain segment or a failing engine.
pub async fn response(parts: Parts, request: Request) -> Result<Response<Body>, ApiError> {
    let (State(app), Extension(request_id), Extension(caller)) = parts;
    let id = segment(request.uri(), 3)?;
    let path = path_and_query(&format!("/v1/responses/{id}"), request.uri().query())?;
    let send = Stored { app: &app, id, method: Method::GET, path, body: Bytes::new() };
    send.ask_owner("/v1/responses/{id}", request.headers(), &request_id, &caller).await
}

/// POST `/v1/responses/{id}/cancel`, without the query.
///
/// # Errors
/// [`ApiError`] for an id that is no plain segment, a body over the limit or a failing engine.
pub async fn cancel(parts: Parts, request: Request) -> Result<Response<Body>, ApiError> {
    let (State(app), Extension(request_id), Extension(caller)) = parts;
    let (head, body) = request.into_parts();
    let body = read_body(&app, body).await?;
    let id = segment(&head.uri, 3)?;
    let path = path_and_query(&format!("/v1/responses/{id}/cancel"), None)?;
    let send = Stored { app: &app, id, method: Method::POST, path, body };
    send.ask_owner("/v1/responses/{id}/cancel", &head.headers, &request_id, &caller).await
}

/// A request about a stored response.
struct Stored<'a> {
    app: &'a Arc<App>,
    id: &'a str,
    method: Method,
    path: PathAndQuery,
    body: Bytes,
}

impl Stored<'_> {
    /// Asks the engine that made the response. Where that is not known (the proxy was started
    /// since), the engines are asked in turn until one knows it.
    async fn ask_owner(
        &self,
        route: &'static str,
        headers: &HeaderMap,
        id: &RequestId,
        caller: &Caller,
    ) -> Result<Response<Body>, ApiError> {
        let Self { app, method, path, body, .. } = self;
        let ask = |engine| {
            let headers = engine_headers(app, engine, headers.clone(), id, caller);
            pass(app, engine, route, method.clone(), path, headers, body.clone())
        };
        if let Some(engine) = app.engines.of_response(self.id) {
            return ask(engine).await;
        }
        let mut first = ask(EngineIndex::DEFAULT).await;
        for (engine, _) in app.engines.iter().skip(1) {
            if first.as_ref().is_ok_and(|answer| answer.status() != StatusCode::NOT_FOUND) {
                break;
            }
            match ask(engine).await {
                Ok(answer) if answer.status() != StatusCode::NOT_FOUND => {
                    app.engines.remember_response(self.id, engine);
                    first = Ok(answer);
                }
                Ok(_) | Err(_) => {}
            }
        }
        first
    }
}

fn engine_headers(
    app: &App,
    engine: EngineIndex,
    client: HeaderMap,
    id: &RequestId,
    caller: &Caller,
) -> HeaderMap {
    for_engine(client, id, app.engines.get(engine).key(), caller.key.is_some())
}

async fn pass(
    app: &Arc<App>,
    engine: EngineIndex,
    route: &'static str,
    method: Method,
    path: &PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let answered = Answered {
        counted: app.metrics.begin_pass(route, app.engines.get(engine).label()),
        place: None,
        response_of: None,
        to_the_end: false,
    };
    forward(app, engine, method, path, headers, body, answered).await
}

fn path_and_query(path: &str, query: Option<&str>) -> Result<PathAndQuery, ApiError> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse().map_err(|_| ApiError::bad_request("invalid_path", "the path is malformed"))
}

/// One segment of a path, as the client encoded it. It must not be able to leave its place.
/// spec: proxy §4
fn segment(uri: &Uri, index: usize) -> Result<&str, ApiError> {
    let raw = uri.path().split('/').nth(index).unwrap_or_default();
    let plain = decoded(raw).is_some_and(|text| {
        let bad = |byte: u8| byte == b'/' || byte == b'\\' || byte.is_ascii_control();
        !text.is_empty() && text != b"." && text != b".." && !text.iter().copied().any(bad)
    });
    if plain {
        Ok(raw)
    } else {
        Err(ApiError::bad_request("invalid_path", "the id must be one plain path segment"))
    }
}

/// Percent-decoded; `None` when an escape is malformed.
fn decoded(raw: &str) -> Option<Vec<u8>> {
    let mut bytes = raw.bytes();
    let mut out = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        out.push(high << 4 | low);
    }
    Some(out)
}

/// GET `/v1/models`, asked for with the proxy's own key. One engine: its answer. Several: what they
/// list, each id once. spec: proxy §5.3
///
/// # Errors
/// [`ApiError`] when no engine answers.
pub async fn models(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
) -> Result<Response<Body>, ApiError> {
    let ask = |engine| ask_models(&app, engine, &id);
    if !app.engines.are_several() {
        let (status, headers, body) = ask(EngineIndex::DEFAULT).await?;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        return Ok(response);
    }
    let answers = join_all(app.engines.iter().map(|(engine, _)| ask(engine))).await;
    let lists: Vec<Bytes> = answers
        .into_iter()
        .filter_map(Result::ok)
        .filter(|(status, ..)| *status == StatusCode::OK)
        .map(|(_, _, body)| body)
        .collect();
    if lists.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_GATEWAY,
            "engine_unreachable",
            "no upstream backend reachable",
        ));
    }
    let mut response = Response::new(Body::from(merged(&lists)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

async fn ask_models(
    app: &App,
    engine: EngineIndex,
    id: &RequestId,
) -> Result<(StatusCode, HeaderMap, Bytes), EngineError> {
    let engine = app.engines.get(engine);
    let limit = engine.timeouts().connect.saturating_mul(2).max(Duration::from_secs(1));
    let answer = engine.get("/v1/models", Some(id.header()), limit).await?;
    let (head, body) = answer.into_parts();
    let mut headers = for_client(head.headers);
    let body = buffer(body, limit).await?;
    let body = super::inflate::plain(&mut headers, body)?;
    Ok((head.status, headers, body))
}

/// The entries of all lists, letter by letter, the first of each id; entries without an id are
/// dropped.
fn merged(lists: &[Bytes]) -> String {
    #[derive(serde::Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        id: String,
    }
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for list in lists {
        let Ok(List { data }) = serde_json::from_slice(list) else { continue };
        for entry in data {
            let Ok(Entry { id }) = serde_json::from_str(entry.get()) else { continue };
            if !id.is_empty() && seen.insert(id) {
                entries.push(entry.get());
            }
        }
    }
    format!("{{\"object\":\"list\",\"data\":[{}]}}", entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_segment() {
        let id = |path: &str| {
            let uri: Uri = path.parse().unwrap();
            segment(&uri, 3).map(ToOwned::to_owned).ok()
        };
        assert_eq!(id("/v1/responses/resp_1").as_deref(), Some("resp_1"));
        assert_eq!(id("/v1/responses/a%20b%C3%BC").as_deref(), Some("a%20b%C3%BC"));
        for bad in [
            "/v1/responses/..%2F..%2Fmetrics",
            "/v1/responses/..",
            "/v1/responses/%2e%2E",
            "/v1/responses/.",
            "/v1/responses/a%2Fb",
            "/v1/responses/a%5Cb",
            "/v1/responses/a%00",
            "/v1/responses/a%0d%0ab",
            "/v1/responses/a%2",
            "/v1/responses/a%zz",
            "/v1/responses/",
        ] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }

    #[test]
    fn models_are_merged_letter_by_letter() {
        let lists = [
            r#"{"data":[{"id":"a","max_model_len":8192},{"id":""},{"x":1}]}"#,
            "no json",
            r#"{"object":"list","data":[{"id":"a"},{"id":"b","n":1e400}]}"#,
        ];
        let lists = lists.map(|text| Bytes::from_static(text.as_bytes()));
        assert_eq!(
            merged(&lists),
            r#"{"object":"list","data":[{"id":"a","max_model_len":8192},{"id":"b","n":1e400}]}"#
        );
    }
}
