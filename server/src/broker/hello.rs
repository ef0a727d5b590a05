//! The worker's first frame: which models it serves, with what context, and what it can do. The
//! engine is asked before the broker is dialled, so that no socket is held open unread.
//! spec: broker §3.1

use super::inside::{Inside, read};
use super::outgoing::{Capabilities, Hello, MiningCapability};
use super::settings::BrokerSettings;
use crate::gpu::card::Card;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::Value;
use std::time::Duration;

/// How often an engine is asked that does not know its context. spec: §3.1 step 3
const ATTEMPTS: u32 = 5;
/// Limit on one question.
const ANSWER: Duration = Duration::from_secs(5);
/// What is advertised where no engine names its models.
const UNNAMED: &str = "model";
/// The reference's last resort. spec: §3.1 step 6
const LAST_RESORT: &str = "Qwen/Qwen3-8B";

/// What is advertised of a card where neither operator nor machine says anything. spec: §3.1
const COMPUTE_TYPE: &str = "nvidia-8.6";
const GPU_MODEL: &str = "A100-80GB";
const MEMORY_GB: u32 = 80;

/// A model and its context in tokens, where that is known.
pub type ServedModel = (String, Option<u64>);

/// There is nothing to introduce oneself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the engine names no model with a context window: start it, or set MAX_CONTEXT_WINDOW; nothing is sent to the broker before that"
)]
pub struct NoContext;

/// What the engine serves, asked up to five times with growing waits where nothing fixes the
/// context. spec: §3.1 steps 1–3
pub async fn discover(inside: &dyn Inside, settings: &BrokerSettings) -> Vec<ServedModel> {
    let mut wait = settings.timings.discovery;
    for attempt in 1..=ATTEMPTS {
        let models = ask(inside, settings).await;
        let known = models.iter().any(|(_, context)| context.is_some());
        if known || settings.max_context_window.is_some() {
            return models;
        }
        if attempt == 1 {
            tracing::info!("the engine does not say which context it has yet; asking again");
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2);
    }
    Vec::new()
}

async fn ask(inside: &dyn Inside, settings: &BrokerSettings) -> Vec<ServedModel> {
    let mut models = question(inside, "/v1/models").await.map_or_else(Vec::new, |body| {
        let listed = body.get("data").and_then(Value::as_array).map(Vec::as_slice);
        listed.unwrap_or_default().iter().filter_map(served).collect()
    });
    if models.iter().any(|(_, context)| context.is_some()) {
        return models;
    }
    let props = question(inside, "/props").await;
    let context = props
        .as_ref()
        .and_then(|props| props.pointer("/default_generation_settings/n_ctx"))
        .and_then(Value::as_u64)
        .filter(|context| *context > 0);
    if models.is_empty() && context.is_some() {
        let named = settings.registry_pushed && !settings.local_model.is_empty();
        let name = if named { settings.local_model.clone() } else { UNNAMED.to_owned() };
        models.push((name, None));
    }
    for (_, unknown) in &mut models {
        *unknown = unknown.or(context);
    }
    models
}

async fn question(inside: &dyn Inside, path: &'static str) -> Option<Value> {
    let exchange = async {
        let answer = inside.call(Method::GET, path, Bytes::new()).await;
        match answer.status() {
            StatusCode::OK => serde_json::from_slice(&read(answer).await.ok()?).ok(),
            _ => None,
        }
    };
    tokio::time::timeout(ANSWER, exchange).await.ok()?
}

fn served(model: &Value) -> Option<ServedModel> {
    let id = model.get("id")?.as_str().filter(|id| !id.is_empty())?;
    let length = model.get("max_model_len");
    // llama-server says it elsewhere.
    let length = length.or_else(|| model.pointer("/meta/n_ctx"));
    Some((id.to_owned(), length.and_then(Value::as_u64).filter(|length| *length > 0)))
}

/// The frame for what the engine serves, and for the card where the operator names none.
/// spec: §3.1 steps 4–6
///
/// # Errors
/// [`NoContext`] when neither the engine nor the operator names a context.
pub fn hello(
    settings: &BrokerSettings,
    served: &[ServedModel],
    card: Option<&Card>,
) -> Result<Hello, NoContext> {
    let mut advertised: Vec<&ServedModel> = served.iter().collect();
    let is_local = |model: &&ServedModel| model.0 == settings.local_model;
    if settings.mining && advertised.len() > 1 && advertised.iter().any(is_local) {
        advertised.retain(|model| !is_local(model));
    }
    let context = advertised.iter().filter_map(|(_, context)| *context).min();
    let context = context.or(settings.max_context_window).ok_or(NoContext)?;
    let mut models: Vec<String> = advertised.iter().map(|(name, _)| name.clone()).collect();
    if models.is_empty() {
        let named = settings.registry_pushed && !settings.local_model.is_empty();
        models.push(if named { settings.local_model.clone() } else { LAST_RESORT.to_owned() });
    }
    let mut features = vec!["streaming"];
    if settings.mining {
        features.push("pow_injection");
    }
    features.push("responses");
    let hardware = &settings.hardware;
    Ok(Hello {
        worker_id: settings.worker_id.clone(),
        models,
        capacity: settings.capacity,
        capabilities: Capabilities {
            compute_type: hardware
                .compute_type
                .clone()
                .or_else(|| card.and_then(Card::compute_type))
                .unwrap_or_else(|| COMPUTE_TYPE.to_owned()),
            gpu_model: hardware
                .gpu_model
                .clone()
                .or_else(|| card.map(Card::model))
                .unwrap_or_else(|| GPU_MODEL.to_owned()),
            memory_gb: hardware
                .memory_gb
                .or_else(|| card.and_then(Card::memory_gb))
                .unwrap_or(MEMORY_GB),
            region: hardware.region.clone(),
            max_context_window: context,
            max_context_tokens: context,
            max_output_tokens: settings.max_output_tokens,
            features,
            quantization: ["fp16", "int8"],
            modes: ["plaintext"],
            mining: settings.mining.then(|| MiningCapability {
                enabled: true,
                schema_version: 2,
                networks: settings.networks.clone(),
                supported_modes: ["dummy_only", "request_attached"],
                supports_broker_registry: true,
                supports_solution_return: true,
                max_parallel: settings.max_parallel.max(1),
            }),
        },
    })
}
