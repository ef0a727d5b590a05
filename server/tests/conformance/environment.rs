//! The group `env`: what the reference makes of its environment, and what we do.
//! spec: proxy §1, §12, §20

use crate::examples::{environment, get, list};
use crate::report::{Group, same};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tensorpow_server::config::layers::Layers;
use tensorpow_server::config::value::SettingValue;
use tensorpow_server::config::{Config, WorkerMode};

/// What the reference reports and we do not keep, with the reason.
const NOT_OURS: &[(&str, &str)] = &[
    ("TEST_MODE", "2.1: jobs are never made up"),
    ("GENESIS_GENERATOR", "no genesis blocks are ground"),
    ("BATCH_SIZE", "14.2: every slot is refilled as it frees"),
    ("MODEL_ROUTES", "12.3: the URL is reduced at once, see routes"),
];

pub fn run(all: &Value, cases: &Value, group: &mut Group) {
    for case in list(cases) {
        let env = environment(get(case, "env"));
        let name = format!("{env:?}");
        let mut expected = get(all, "env_default").as_object().expect("an object").clone();
        let differs = get(case, "differs_from_default").as_object().expect("an object").clone();
        expected.extend(differs);
        group.case(name, compare(&env, expected));
    }
}

fn compare(env: &BTreeMap<String, String>, mut expected: Map<String, Value>) -> Result<(), String> {
    let layers = Layers { environment: env.clone().into_iter().collect(), ..Layers::default() };
    let config = match Config::load(&layers) {
        Ok(config) => config,
        // 12.3: a URL without a scheme is refused by name instead of being used as it is.
        Err(error) if error.to_string().contains("TARGET_URL") => {
            return same(
                "scheme",
                expected["base_url"].as_str().map(|it| it.contains("://")),
                Some(false),
            );
        }
        Err(error) => return Err(format!("refused: {error}")),
    };
    override_expected(env, &mut expected);
    let ours = view(&config);
    for (key, expected) in expected {
        if !NOT_OURS.iter().any(|(name, _)| *name == key) {
            let ours = ours.get(&key).ok_or_else(|| format!("{key} is not compared"))?;
            same(&key, ours, &expected)?;
        }
    }
    Ok(())
}

/// Where the specification replaces the reference.
fn override_expected(env: &BTreeMap<String, String>, expected: &mut Map<String, Value>) {
    let flag = |name: &str| env.get(name).and_then(|text| bool::read(text));
    // 20: one boolean grammar.
    if let Some(llama_cpp) = flag("LLAMA_CPP") {
        expected.insert("LLAMA_CPP".into(), llama_cpp.into());
        let xargs = flag("USE_VLLM_XARGS").unwrap_or(!llama_cpp);
        expected.insert("USE_VLLM_XARGS".into(), xargs.into());
    }
    if let Some(mcp) = flag("MCP_MODE") {
        expected.insert("MCP_MODE".into(), mcp.into());
    }
    // 24: no published keys.
    if !env.contains_key("API_KEY") {
        expected.insert("auth".into(), Value::Null);
        expected.insert("BACKEND_CONTROL_API_KEY".into(), Value::Null);
    }
    // The same machine by number: no name to resolve on the way.
    if expected["base_url"] == "http://localhost:8000" {
        expected.insert("base_url".into(), "http://127.0.0.1:8000".into());
    }
}

fn view(config: &Config) -> Value {
    let settings = &config.settings;
    let (broker, pushed, inference_only) = match config.mode {
        WorkerMode::Standalone => (false, false, false),
        WorkerMode::Broker { mining: true, registry_pushed } => (true, registry_pushed, false),
        WorkerMode::Broker { mining: false, .. } => (false, false, true),
    };
    let routes: Map<String, Value> = config
        .engine
        .routes
        .iter()
        .map(|route| (route.model.clone(), route.url.to_string().into()))
        .collect();
    let commits: Map<String, Value> = config
        .engine
        .routes
        .iter()
        .filter_map(|route| Some((route.model.clone(), route.commit.clone()?.into())))
        .collect();
    let float = |value: f64| json!({ "decimal": format!("{value:?}"), "f64_bits": format!("{:016x}", value.to_bits()) });
    let (name, commit) = (&settings.mining.model_name, &settings.mining.model_commit);
    json!({
        "MODEL_ROUTE_COMMITS": commits,
        "routes": routes,
        "base_url": config.engine.url.to_string(),
        "LLAMA_CPP": settings.engine.llama_cpp,
        "USE_VLLM_XARGS": config.engine.dialect.key.as_str() == "vllm_xargs",
        "MCP_MODE": config.mcp.is_some(),
        "PRIORITY_MODE": settings.backfill.priority,
        "MINING_ENABLED": settings.mining.enabled,
        "STANDALONE_MODE": settings.mining.standalone,
        "MINING_DISABLE_THINKING": settings.backfill.disable_thinking,
        "BASE_NBITS": settings.mining.base_nbits.0,
        "MINING_NETWORKS": settings.broker.networks,
        "MINING_MAX_PARALLEL": settings.broker.max_parallel,
        "WORKER_SUPPORTED_MODES": settings.broker.supported_modes,
        "active_model": {
            "model_name": name,
            "model_commit": commit,
            "pinned": config.pin.is_some(),
            "auto_select": config.pin.is_none(),
            "source": "env",
            "switch_in_progress": false,
            "pending_switch": null,
        },
        "mode": [broker, pushed, inference_only],
        "model_client_base_url": (!inference_only).then(|| settings.registry.url.clone()),
        "model_poll": if inference_only { Value::Null } else { float(settings.registry.poll_interval.as_secs_f64()) },
        "auth": config.engine.key.as_ref().and_then(|key| Some(key.bearer()?.to_str().ok()?.to_owned())),
        "BACKEND_CONTROL_API_KEY": settings.switch.control_api_key.as_ref().map(|key| key.reveal().to_owned()),
    })
}
