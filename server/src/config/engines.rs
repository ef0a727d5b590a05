//! The engines: which there are, which model goes to which, how long they may take.

use super::layers::RouteEntry;
use super::rollout::CanaryConfig;
use super::sections::Settings;
use super::value::{ModelRoute, SettingValue as _};
use super::workload;
use crate::breaker::BreakerSettings;
use crate::http::auth::ApiKey;
use crate::http::engine::{EngineTimeouts, EngineUrl, EngineUrlError};
use crate::mining::payload::{Dialect, EngineKind, PowForm, PowKey};

/// The engines and how they are spoken to.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The engine of every model without a route.
    pub url: EngineUrl,
    /// Engines of single models.
    pub routes: Vec<ModelRoute>,
    /// The proxy's own key towards them.
    pub key: Option<ApiKey>,
    /// Limits on their answers.
    pub timeouts: EngineTimeouts,
    /// Idle connections kept for users.
    pub pool: usize,
    /// How they want to be told what to mine, unless a route says otherwise.
    pub dialect: Dialect,
    /// When users are no longer sent to one.
    pub breaker: BreakerSettings,
    /// An engine on trial.
    pub canary: Option<CanaryConfig>,
}

/// A second engine serves the mining model, unless routes say where it is. spec: proxy §12.3
pub(super) fn prepare_dual(settings: &mut Settings, problems: &mut Vec<String>) {
    let engine = &mut settings.engine;
    if !engine.dual {
        return;
    }
    if engine.dual_model_name.is_empty() || engine.dual_model_commit.is_empty() {
        problems.push(
            "MINING_VLLM_ENABLED (engine.dual) needs MINING_MODEL_NAME and MINING_MODEL_COMMIT"
                .into(),
        );
        return;
    }
    settings.mining.model_name.clone_from(&engine.dual_model_name);
    settings.mining.model_commit.clone_from(&engine.dual_model_commit);
    let url = format!("http://127.0.0.1:{}", engine.dual_port);
    if let (true, Ok(url)) = (engine.routes.0.is_empty(), url.parse()) {
        engine.routes.0.push(ModelRoute {
            model: engine.dual_model_name.clone(),
            commit: Some(engine.dual_model_commit.clone()),
            url,
            dialect: None,
        });
    }
}

pub(super) fn engine_key(settings: &Settings, problems: &mut Vec<String>) -> Option<ApiKey> {
    let secret = settings.engine.api_key.as_ref()?;
    secret
        .reveal()
        .parse()
        .map_err(|error| problems.push(format!("API_KEY, --engine-key (engine.api_key): {error}")))
        .ok()
}

pub(super) fn engine(
    settings: &Settings,
    key: Option<ApiKey>,
    routes: Vec<ModelRoute>,
) -> EngineConfig {
    let engine = &settings.engine;
    let by_flag = if engine.llama_cpp { EngineKind::LlamaCpp } else { EngineKind::Vllm };
    let kind = engine.kind.unwrap_or(by_flag);
    EngineConfig {
        url: engine.url.clone(),
        routes,
        key,
        timeouts: EngineTimeouts {
            connect: engine.connect_timeout,
            first_byte: engine.first_byte_timeout,
            absence: engine.absence,
            idle: engine.idle_timeout,
            total: engine.total_timeout,
        },
        pool: engine.pool,
        dialect: Dialect { kind, key: pow_key(kind, engine.use_vllm_xargs), form: engine.pow_form },
        breaker: workload::breaker(&settings.breaker),
        canary: None,
    }
}

pub(super) fn pow_key(kind: EngineKind, use_vllm_xargs: Option<bool>) -> PowKey {
    match use_vllm_xargs {
        Some(true) => PowKey::VllmXargs,
        Some(false) => PowKey::ExtraSamplingParams,
        None => kind.pow_key(),
    }
}

/// The routes of `MODEL_ROUTES`, and those of the file's tables, which go before them.
pub(super) fn routes(
    settings: &Settings,
    entries: &[RouteEntry],
    problems: &mut Vec<String>,
) -> Vec<ModelRoute> {
    let mut routes = settings.engine.routes.0.clone();
    for entry in entries {
        let read = read_route(settings, entry);
        match read {
            Ok(route) => {
                routes.retain(|known| known.model != route.model);
                routes.push(route);
            }
            Err(problem) => problems.push(format!("[[route]] {:?}: {problem}", entry.model)),
        }
    }
    routes
}

fn read_route(settings: &Settings, entry: &RouteEntry) -> Result<ModelRoute, String> {
    let engine = &settings.engine;
    let kind = match &entry.kind {
        Some(text) => EngineKind::read(text)
            .ok_or_else(|| format!("kind {text:?} is not {}", EngineKind::FORM))?,
        None => engine.kind.unwrap_or(if engine.llama_cpp {
            EngineKind::LlamaCpp
        } else {
            EngineKind::Vllm
        }),
    };
    let form = match &entry.pow_form {
        Some(text) => PowForm::read(text)
            .ok_or_else(|| format!("pow_form {text:?} is not {}", PowForm::FORM))?,
        None => engine.pow_form,
    };
    let key = pow_key(kind, entry.use_vllm_xargs.or(engine.use_vllm_xargs));
    Ok(ModelRoute {
        model: entry.model.clone(),
        commit: entry.commit.clone(),
        url: entry.url.parse().map_err(|error: EngineUrlError| error.to_string())?,
        dialect: Some(Dialect { kind, key, form }),
    })
}
