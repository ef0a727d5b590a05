//! Which route is whose, and what is done for every request alike: ids, rates, keys, errors as JSON,
//! what web pages may see.

use super::auth::{Access, Caller, Scope, host};
use super::cors::{self, CorsOrigins};
use super::errors::{ApiError, ErrorCode};
use super::generate::generate;
use super::headers::{X_REQUEST_ID, X_TENSORPOW_REQUEST_ID};
use super::inject::Route;
use super::request_id::RequestId;
use super::{App, active_model, drain, pass, proofs, rollout, spool, status, transparency};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use std::net::IpAddr;
use std::sync::Arc;
use tower_service::Service as _;
use tracing::Instrument as _;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// A request that has been let in: its ids, who asks, and from where.
#[derive(Debug)]
pub struct Asked {
    /// Its ids.
    pub id: RequestId,
    /// Who asks.
    pub caller: Caller,
    /// From where; `None` for the proxy's own requests.
    pub peer: Option<Peer>,
}

/// All routes of the proxy, and what lies over them.
#[derive(Debug, Clone)]
pub struct Face {
    app: Arc<App>,
    access: Arc<Access>,
    cors: Arc<CorsOrigins>,
    routes: Router,
}

impl Face {
    /// The proxy's routes.
    #[must_use]
    pub fn new(app: Arc<App>, access: Access, cors: CorsOrigins) -> Self {
        let access = Arc::new(access);
        let routes = routes(&app, &access);
        Self { app, access, cors: Arc::new(cors), routes }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request, peer: Option<IpAddr>) -> Response<Body> {
        let theirs = request.headers().get(X_REQUEST_ID).cloned();
        let origin = self.cors.allowed(request.headers());
        let Some(id) = RequestId::fresh(request.headers()) else {
            return self.finish(no_randomness().into_response());
        };
        let span = tracing::info_span!(
            "request",
            id = %id.as_str(),
            client_id = theirs.as_ref().and_then(|id| id.to_str().ok()),
            trace_id = id.trace_id(),
            method = %request.method(),
            path = %request.uri().path(),
        );
        let fresh = id.header().clone();
        let preflight = if origin.is_some() { cors::preflight(&request) } else { None };
        let mut response = match preflight {
            Some(response) => response,
            None => {
                let peer = peer.map(Peer);
                let answer = async move {
                    match Straight::of(&request) {
                        Some(route) => self.straight(route, id, peer, request).await,
                        None => self.routed(id, peer, request).await,
                    }
                };
                self.finish(answer.instrument(span).await)
            }
        };
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, theirs.unwrap_or_else(|| fresh.clone()));
        headers.insert(X_TENSORPOW_REQUEST_ID, fresh);
        if let Some(origin) = origin {
            cors::allow(headers, origin);
        }
        response
    }

    /// Answers what has no need of a router.
    async fn straight(
        &self,
        route: Straight,
        id: RequestId,
        peer: Option<Peer>,
        request: Request,
    ) -> Response<Body> {
        let app = &self.app;
        let answered = match admit(app, &self.access, Scope::Inference, peer, &request) {
            Err(error) => Err(error),
            Ok(caller) => {
                let asked = Asked { id, caller, peer };
                match route {
                    Straight::Generation(route) => generate(app, route, &asked, request).await,
                    Straight::Embeddings => pass::embeddings(app, &asked, request).await,
                }
            }
        };
        answered.unwrap_or_else(IntoResponse::into_response)
    }

    async fn routed(
        &self,
        id: RequestId,
        peer: Option<Peer>,
        mut request: Request,
    ) -> Response<Body> {
        let extensions = request.extensions_mut();
        extensions.insert(id);
        if let Some(peer) = peer {
            extensions.insert(peer);
        }
        let mut routes = self.routes.clone();
        // The router never fails: its error type has no value.
        routes.call(request).await.into_response()
    }

    /// Counts the errors that the proxy answers by itself.
    fn finish(&self, response: Response<Body>) -> Response<Body> {
        if let Some(code) = response.extensions().get::<ErrorCode>() {
            self.app.metrics.count_rejected(code.0);
        }
        response
    }
}

/// The routes that carry the traffic. A router finds them too, but at the price of what the proxy
/// itself does for a request.
#[derive(Debug, Clone, Copy)]
enum Straight {
    Generation(Route),
    Embeddings,
}

impl Straight {
    fn of(request: &Request) -> Option<Self> {
        if request.method() != Method::POST {
            return None;
        }
        match request.uri().path() {
            "/v1/chat/completions" => Some(Self::Generation(Route::ChatCompletions)),
            "/v1/completions" => Some(Self::Generation(Route::Completions)),
            "/v1/responses" => Some(Self::Generation(Route::Responses)),
            "/v1/embeddings" => Some(Self::Embeddings),
            _ => None,
        }
    }
}

fn routes(app: &Arc<App>, access: &Arc<Access>) -> Router {
    let inference = Router::new()
        // A POST to these four has gone straight.
        .route("/v1/chat/completions", any(only_post))
        .route("/v1/completions", any(only_post))
        .route("/v1/responses", any(only_post))
        .route("/v1/embeddings", any(only_post))
        .route("/v1/responses/{id}", get(pass::response))
        .route("/v1/responses/{id}/cancel", post(pass::cancel))
        .route("/v1/models", get(pass::models))
        .route("/props", get(pass::props));
    let proofs = Router::new()
        .route("/v1/proof/keys", get(proofs::keys))
        .route("/v1/proof/stats", get(proofs::stats))
        .route("/v1/proof/status/{id}", get(proofs::status))
        .route("/v1/proof/{id}", get(proofs::proof))
        .route_layer(from_fn_with_state(app.clone(), when_enabled));
    let proof = Router::new()
        .merge(proofs)
        .route("/v1/spool", get(spool::list))
        .route("/status", get(status::status))
        .route("/metrics", get(status::metrics))
        .merge(active_model::reading())
        .merge(drain::reading())
        .merge(rollout::reading())
        .merge(crate::ui::api::views());
    let changing = active_model::changing()
        .merge(drain::changing())
        .merge(rollout::changing())
        .merge(crate::ui::api::changes())
        .route("/v1/spool/replay", post(spool::replay));
    let open = Router::new()
        .route("/health", get(status::health))
        .route("/startup", get(status::startup))
        .route("/ready", get(status::ready))
        .route("/transparency", get(transparency::transparency));
    let guard = |routes: Router<Arc<App>>, scope: Scope| {
        let gate = Gate { access: access.clone(), app: app.clone(), scope };
        routes.route_layer(from_fn_with_state(Arc::new(gate), pass_gate))
    };
    Router::new()
        .merge(guard(inference, Scope::Inference))
        .merge(guard(proof, Scope::Proof))
        .merge(guard(changing, Scope::Admin))
        .merge(open)
        .merge(crate::ui::assets::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app.clone())
}

/// What stands before the routes of one scope.
struct Gate {
    access: Arc<Access>,
    app: Arc<App>,
    scope: Scope,
}

async fn pass_gate(
    State(gate): State<Arc<Gate>>,
    peer: Option<Extension<Peer>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let peer = peer.map(|Extension(peer)| peer);
    match admit(&gate.app, &gate.access, gate.scope, peer, &request) {
        Ok(caller) => request.extensions_mut().insert(caller),
        Err(error) => return error.into_response(),
    };
    next.run(request).await
}

/// Who asks, if they may and do not ask too often.
fn admit(
    app: &App,
    access: &Access,
    scope: Scope,
    peer: Option<Peer>,
    request: &Request,
) -> Result<Caller, ApiError> {
    // The proxy's own requests, such as those of MCP clients, come with their caller.
    if let Some(caller) = request.extensions().get::<Caller>() {
        return Ok(caller.clone());
    }
    let caller = access.check(request.headers(), host(request), scope)?;
    app.limiter.count(caller.key.as_ref(), peer.map(|Peer(address)| address))?;
    Ok(caller)
}

/// spec: proxy §6
async fn when_enabled(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    match app.limits.proofs_enabled {
        true => next.run(request).await,
        false => ApiError::not_found("proof cache disabled").into_response(),
    }
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no such path: {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(format!("{method} is not allowed on {}", uri.path()))
}

async fn only_post(method: Method, uri: Uri) -> ApiError {
    wrong_method(method, uri).await.with_header(header::ALLOW, HeaderValue::from_static("POST"))
}

fn no_randomness() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "no_randomness",
        "the system gives no random numbers",
    )
}
