//! GET `/transparency`: what a worker publishes about itself, for everybody and without a key: how
//! long it serves, which version it is, what it mines, and where its changes are written down.
//! spec: proxy §25

use super::App;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// GET `/transparency`.
pub async fn transparency(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "name": "tensorpow",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.started.elapsed().as_secs(),
        "mining": app.source.is_some(),
        "network": app.source.map(|_| app.network),
        "proof_version": app.source.map(|_| app.context.settings().proof_version),
        "model": app.context.load().expected_model_identifier(),
        "source_code": REPOSITORY,
        "change_log": format!("{REPOSITORY}/blob/main/CHANGELOG.md"),
    }))
}
