//! What the proxy knows about itself: liveness, readiness with its reasons, status, metrics.
//! Readiness is about serving users; what keeps mining from starting is said beside it and never
//! takes the proxy out of service. spec: proxy §3, §21.1

use super::engine::Health;
use super::errors::ApiError;
use super::{App, spool};
use crate::drain::Cause;
use crate::metrics::Gauges;
use crate::mining::snapshot::{NotMined, Offer};
use crate::spool::SpoolHealth;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// GET `/health`: the process lives.
pub async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy" }))
}

/// GET `/startup`: the proxy is put together. Before that the door answers 503.
pub async fn startup() -> Json<Value> {
    Json(json!({ "started": true }))
}

/// GET `/ready`: 200 when users can be served, else 503, with every reason by name. An engine of
/// single models that is not up is named too, but takes nobody else's service away.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let (body, ready) = readiness(&app);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// What `/ready` says, and whether users can be served.
#[must_use]
pub fn readiness(app: &App) -> (Value, bool) {
    let mut reasons: Vec<Value> = Vec::new();
    let drained = app.drain.causes();
    reasons.extend(drained.iter().map(|why| json!({ "name": "draining", "detail": why.detail() })));
    let default = app.engines.default();
    if default.health() != Health::Up {
        reasons.push(json!({ "name": "engine", "detail": default.health().as_str() }));
    }
    let mut degraded: Vec<Value> = app
        .engines
        .not_up()
        .filter(|(engine, _)| engine.url() != default.url())
        .map(|(engine, health)| json!({ "name": "engine", "url": engine.url().to_string(), "detail": health.as_str() }))
        .collect();
    degraded.extend(spool_degraded(app));
    let snapshot = app.context.load();
    let fresh = snapshot.job_age().is_some_and(|age| age <= app.limits.job_stale_after);
    let mining = mining_reason(app);
    let ready = reasons.is_empty();
    let body = json!({
        "ready": ready,
        "reasons": reasons,
        "degraded": degraded,
        "mining": {
            "ready": mining.is_none(),
            "reason": mining.map(NotMined::reason),
            "source": app.source,
            "collector": app.collector_endpoint,
            "checks": {
                "job_fresh": fresh,
                "vdf_proof": snapshot.vdf().is_some(),
                "registry_loaded": snapshot.models().loaded,
                "collector_bound": true,
            },
        },
    });
    (body, ready)
}

/// What the spool has lost of its durability.
fn spool_degraded(app: &App) -> Vec<Value> {
    match app.store.spool().health() {
        SpoolHealth::Durable => Vec::new(),
        health => vec![json!({ "name": "spool", "detail": health.to_string() })],
    }
}

/// Why the mining model would not be mined at this moment.
fn mining_reason(app: &App) -> Option<NotMined> {
    let snapshot = app.context.load();
    let model = snapshot.mining_model();
    match snapshot.offer(model.as_deref(), app.limits.job_stale_after) {
        Offer::Mine(_) => None,
        Offer::Nothing(reason) => Some(reason),
        Offer::Audit(_) => Some(NotMined::ModelNotRegistered),
    }
}

/// GET `/status`: the reference's keys where they have a meaning here, and ours. spec: proxy §21.1
pub async fn status(State(app): State<Arc<App>>) -> Response {
    let text = serde_json::to_string_pretty(&document(&app)).unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text).into_response()
}

/// What `/status` says.
#[must_use]
pub fn document(app: &App) -> Value {
    let chain = app.chain_report.as_ref().map(|report| report());
    let of_chain = |name: &str| chain.as_ref().and_then(|chain| chain.get(name)).cloned();
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.started.elapsed().as_secs(),
        "context": context(app),
        "vdf": vdf(app, of_chain("vdf")),
        "zmq": of_chain("zmq").unwrap_or_else(|| json!({ "running": false })),
        "proxy": proxy(app),
        "proofs": proofs(app),
        "chain": chain,
    });
    if let (Some(proxy), Value::Object(workload)) =
        (body["proxy"].as_object_mut(), app.workload.status())
    {
        proxy.extend(workload);
    }
    body
}

fn context(app: &App) -> Value {
    let snapshot = app.context.load();
    let (job, vdf) = (snapshot.job(), snapshot.vdf());
    let block_hash = job.map(|job| format!("{:x}", job.parent()));
    let tenths = |seconds: f64| (seconds * 10.0).round() / 10.0;
    json!({
        "block_hash": block_hash.map(|hash| format!("{}...", &hash[..16])),
        "request_id": job.map(|job| job.request_id),
        "height": job.and_then(|job| job.height),
        "vdf_tick": vdf.map_or(0, |vdf| vdf.tick.0),
        "has_vdf_proof": vdf.is_some(),
        "age_seconds": snapshot.job_age().map(|age| tenths(age.as_secs_f64())),
        "mining_paused": app.context.pause().is_paused(),
        "cooldown_remaining_seconds":
            app.context.pause().remaining().map_or(0.0, |left| left.as_secs_f64()),
        "expected_model_identifier": snapshot.expected_model_identifier(),
        "source": app.source,
        "not_mining": mining_reason(app).map(NotMined::reason),
    })
}

/// What the prover says about itself, and the proof in use.
fn vdf(app: &App, prover: Option<Value>) -> Value {
    let snapshot = app.context.load();
    let vdf = snapshot.vdf();
    let mut report = prover.unwrap_or_else(|| json!({ "available": vdf.is_some() }));
    report["current_block"] = vdf.map(|vdf| format!("{:x}", vdf.challenge)).into();
    report
}

fn proxy(app: &App) -> Value {
    let on_trial = app.engines.on_trial().map(|(engine, _)| engine);
    let engines: Vec<Value> = app
        .engines
        .iter()
        .map(|(index, engine)| {
            let mut view =
                json!({ "url": engine.url().to_string(), "health": engine.health().as_str() });
            if Some(index) == on_trial {
                view["role"] = "on trial".into();
            }
            view
        })
        .collect();
    let mut view = json!({
        "in_flight": app.limiter.in_flight(),
        "target_url": app.engines.default().url().to_string(),
        "engine": app.engines.default().health().as_str(),
        "engines": engines,
        "session_open": true,
        "draining": app.drain.causes().iter().map(Cause::as_str).collect::<Vec<_>>(),
        "proof_version": app.context.settings().proof_version,
        "active_model": app.active_model.view(),
        "model_sync": app.registrar.report(),
    });
    if let Some(trial) = &app.trial {
        view["canary"] = trial.view();
    }
    if let Some(before) = app.rollout.before() {
        view["rollout"] = before;
    }
    view
}

fn proofs(app: &App) -> Value {
    let store = app.store.stats();
    json!({
        "items": store.items,
        "proofs": store.proofs,
        "bytes": store.bytes,
        "collector": app.collector_endpoint,
        "spool": spool::summary(app),
    })
}

/// GET `/metrics`: Prometheus text.
///
/// # Errors
/// 500 should the encoder fail.
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = metrics_text(&app)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}

/// What `/metrics` says.
///
/// # Errors
/// 500 should the encoder fail.
pub fn metrics_text(app: &App) -> Result<String, ApiError> {
    let snapshot = app.context.load();
    let store = app.store.stats();
    let whole = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let gauges = Gauges {
        job_age_seconds: snapshot
            .job_age()
            .map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX)),
        vdf_tick: snapshot.vdf().map_or(0, |vdf| i64::try_from(vdf.tick.0).unwrap_or(i64::MAX)),
        store_proofs: whole(store.proofs),
        store_bytes: whole(store.bytes),
        spool: app.store.spool().stats(),
        spool_degraded: i64::from(matches!(
            app.store.spool().health(),
            SpoolHealth::Degraded { .. }
        )),
        outbox_waiting: app.outbox.as_ref().map_or(0, |outbox| whole(outbox.waiting())),
    };
    for (_, engine) in app.engines.iter() {
        app.metrics.set_engine_up(engine.label(), engine.health() == Health::Up);
    }
    app.workload.refresh_metrics();
    app.metrics.render(&gauges).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", error.to_string())
    })
}
