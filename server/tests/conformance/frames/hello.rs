//! Group `hello`: settings and what the engine serves, to the first frame or no frame at all.

use super::overrides;
use super::rig::{Scripted, settings};
use crate::examples::{get, list, text};
use crate::report::{Group, same};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tensorpow_server::broker::hello::{discover, hello};
use tensorpow_server::broker::outgoing::Outgoing;
use tensorpow_server::broker::settings::BrokerSettings;

/// A second of the recording.
const SECOND: Duration = Duration::from_millis(50);

pub fn run(_: &Value, cases: &Value, group: &mut Group) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in list(cases) {
        group.case(text(case, "name"), runtime.block_on(one(case)));
    }
}

fn configured(case: &Value) -> BrokerSettings {
    let env = get(case, "env");
    let words = |key: &str| env[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| u32::try_from(env[key].as_u64().unwrap_or_default()).unwrap();
    let mut settings = settings();
    settings.worker_id = text(case, "worker_id").to_owned();
    settings.mining = env["MINING_ENABLED"] == true;
    settings.networks =
        list(&env["MINING_NETWORKS"]).iter().map(|n| n.as_str().unwrap().to_owned()).collect();
    settings.max_parallel = number("MINING_MAX_PARALLEL");
    settings.local_model = words("LOCAL_MODEL_NAME");
    settings.capacity = number("WORKER_CAPACITY");
    settings.hardware.compute_type = Some(words("COMPUTE_TYPE"));
    settings.hardware.gpu_model = Some(words("GPU_MODEL"));
    settings.hardware.memory_gb = Some(number("GPU_MEMORY_GB"));
    settings.hardware.region = words("WORKER_REGION");
    settings.max_output_tokens = number("MAX_OUTPUT_TOKENS");
    settings.max_context_window = env["MAX_CONTEXT_WINDOW"].as_u64();
    settings.timings.discovery = SECOND;
    settings
}

async fn one(case: &Value) -> Result<(), String> {
    let settings = configured(case);
    let models = get(case, "backend_models_context").as_object().expect("models");
    let listed: Vec<Value> =
        models.iter().map(|(id, context)| json!({ "id": id, "max_model_len": context })).collect();
    let inside = Scripted::default();
    *inside.models.lock().unwrap() = Some(json!({ "data": listed }));
    let served = discover(&inside, &settings).await;
    let mut times = std::mem::take(&mut *inside.times.lock().unwrap());
    times.push(Instant::now());
    // Within a factor of the square root of two.
    let waits: Vec<i32> = times
        .windows(2)
        .map(|pair| {
            ((pair[1] - pair[0]).as_secs_f64() / SECOND.as_secs_f64()).log2().round() as i32
        })
        .filter(|wait| *wait >= 0)
        .collect();
    let expected: Vec<i32> = list(&case["retry_sleeps"])
        .iter()
        .map(|wait| wait.as_f64().expect("seconds").log2().round() as i32)
        .collect();
    same("waits, as powers of two", waits, expected)?;
    match hello(&settings, &served, None) {
        Ok(hello) => {
            let ours: Value =
                serde_json::from_str(&Outgoing::Hello(Box::new(hello)).to_text()).unwrap();
            let mut theirs = overrides::hello(case["frame"].clone());
            let mut ours = ours;
            // The recording's map of models has lost its order.
            for frame in [&mut ours, &mut theirs] {
                if let Some(models) = frame["models"].as_array_mut() {
                    models.sort_by_key(ToString::to_string);
                }
            }
            same("frame", ours, theirs)
        }
        Err(_) => same("refused", case["frame"].is_null(), true),
    }
}
