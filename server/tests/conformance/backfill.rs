//! Group `backfill`: what the engine is sent for one synthetic request in a given context. An engine
//! that records stands behind a real pool with a floor of one.

use crate::report::Group;
use async_trait::async_trait;
use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tensorpow_core::target::{Difficulty, Normalizer, parse_base_share_target};
use tensorpow_core::units::{HeaderPrefix, Tick, VdfBlob};
use tensorpow_server::backfill::BackfillSettings;
use tensorpow_server::backfill::engine::{Begun, MiningEngine, Reply};
use tensorpow_server::backfill::gate::Gate;
use tensorpow_server::backfill::pool::Backfill;
use tensorpow_server::breaker::BreakerState;
use tensorpow_server::http::engine::EngineError;
use tensorpow_server::metrics::Metrics;
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::job::{Job, JobUpdate};
use tensorpow_server::mining::model::{ModelRecord, Models};
use tensorpow_server::mining::payload::{Dialect, EngineKind, PayloadSettings, PowForm};
use tensorpow_server::mining::vdf::VdfState;
use tensorpow_server::priority::{Priority, PrioritySettings};
use tokio::runtime::Runtime;

/// Where the specification replaces what the reference sent. spec: proxy §14.3, §21.2
const OVERRIDES: [(&str, &str); 4] = [
    ("ignore_eos", "the vLLM form has it too: a window that is cut short leaves no proof"),
    ("PRIORITY_MODE", "its other form is not reproduced: one prompt a request, as by default"),
    ("stream", "llama.cpp streams: a user gets the slot with the next token, not within a second"),
    ("totals", "the Responses API's token counts are read"),
];

/// Records what it is sent; everything is completed at once.
#[derive(Debug)]
struct Recorder {
    kind: EngineKind,
    requests: Mutex<Vec<(Method, String, Bytes)>>,
}

#[async_trait]
impl MiningEngine for Recorder {
    fn dialect(&self) -> Dialect {
        self.kind.into()
    }

    fn label(&self) -> &'static str {
        "recorder"
    }

    fn users(&self) -> BreakerState {
        BreakerState::Closed
    }

    fn is_healthy(&self) -> bool {
        true
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        _limit: Duration,
        _begun: Begun<'_>,
    ) -> Result<Reply, EngineError> {
        let body = {
            let answer = match (self.kind, &method) {
                (EngineKind::Vllm, &Method::GET) => json!({
                    "status": "completed",
                    "usage": { "input_tokens": 3, "output_tokens": 256 },
                }),
                (EngineKind::Vllm, _) => json!({ "status": "queued" }),
                (EngineKind::LlamaCpp, _) => {
                    json!({ "usage": { "prompt_tokens": 3, "completion_tokens": 256 } })
                }
            };
            if path.starts_with("/v1/") {
                self.requests.lock().unwrap().push((method, path.to_owned(), body));
            }
            Bytes::from(answer.to_string())
        };
        Ok(Reply { status: 200, body })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The records of a registry list that are registered.
fn records(registry: &Value) -> Vec<ModelRecord> {
    let listed = registry.as_array().expect("a list of records");
    let registered = listed.iter().filter(|record| record["status"] == 2);
    registered
        .map(|record| {
            let id = format!("{}@{}", text(record, "model_name"), text(record, "model_commit"));
            ModelRecord {
                id: id.parse().unwrap(),
                difficulty: Difficulty::new(record["difficulty"].as_i64().unwrap()).unwrap(),
                cid: text(record, "cid").to_owned(),
                commit_block_height: record["commit_block_height"].as_u64().unwrap_or(0),
            }
        })
        .collect()
}

fn kind(env: &Value) -> EngineKind {
    if text(env, "LLAMA_CPP") == "True" { EngineKind::LlamaCpp } else { EngineKind::Vllm }
}

fn context(case: &Value, registry: &Value) -> ContextCell {
    let (env, given) = (&case["env"], &case["context"]);
    let pin = format!("{}@{}", text(env, "LOCAL_MODEL_NAME"), text(env, "MODEL_HASH"));
    let normalizer = Normalizer(text(env, "MODEL_DIFFICULTY_NORMALIZER").parse().unwrap());
    let settings = PayloadSettings {
        engine: kind(env),
        form: PowForm::Object,
        proof_version: text(env, "POW_PROOF_VERSION").parse().unwrap(),
        normalizer: Normalizer::DEFAULT,
        share_normalizer: normalizer,
    };
    let context =
        ContextCell::new(Models::new(Some(pin.parse().unwrap()), records(registry)), settings);
    let prefix: [u8; 76] = hex::decode(text(given, "header_prefix")).unwrap().try_into().unwrap();
    let job = Job {
        request_id: u32::try_from(given["request_id"].as_u64().unwrap()).unwrap(),
        prefix: HeaderPrefix::from_bytes(prefix),
        base_share_target: given["base_share_target"]
            .as_str()
            .map(|target| parse_base_share_target(target).unwrap()),
        height: None,
    };
    let challenge = job.parent();
    assert_eq!(format!("{challenge:x}"), text(given, "prev_hash"));
    context.apply(JobUpdate::Job(job));
    context.apply(JobUpdate::Vdf(Arc::new(VdfState {
        challenge,
        tick: Tick(given["tick"].as_u64().unwrap()),
        blob: VdfBlob::from_slice(&hex::decode(text(given, "vdf")).unwrap()).unwrap(),
    })));
    context
}

fn settings(env: &Value) -> BackfillSettings {
    let mut backfill = BackfillSettings {
        floor: 1,
        poll: Duration::from_millis(1),
        jitter: Duration::ZERO,
        ..BackfillSettings::default()
    };
    if let Some(directive) = env["MINING_NO_THINK_DIRECTIVE"].as_str() {
        backfill.prompts.directive = Some(directive.to_owned());
    }
    if text(env, "MINING_DISABLE_THINKING") == "false" {
        backfill.prompts.directive = None;
    }
    backfill
}

/// One request through the pool: what was sent, and the totals behind it.
async fn one_request(case: &Value, registry: &Value) -> (Vec<(Method, String, Bytes)>, Value) {
    let engine = Arc::new(Recorder { kind: kind(&case["env"]), requests: Mutex::default() });
    let metrics = Arc::new(Metrics::new());
    let gate = Gate::new(Arc::new(context(case, registry)), Some(Duration::from_secs(60)));
    let priority = Priority::new(PrioritySettings::default());
    let (settings, metrics_of_pool) = (settings(&case["env"]), metrics.clone());
    let pool = Backfill::new(settings, engine.clone(), gate, priority, metrics_of_pool).unwrap();
    let done = {
        let metrics = metrics.clone();
        async move {
            while metrics.busy().throughput().1.completions == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), pool.run(done)).await.expect("in time");
    let requests = std::mem::take(&mut *engine.requests.lock().unwrap());
    let totals = metrics.busy().throughput().1;
    let each = totals.completions.max(1);
    // Several requests may have ended meanwhile, all alike.
    let totals = json!({
        "prompt_tokens": totals.prompt_tokens / each,
        "completion_tokens": totals.completion_tokens / each,
        "completions": 1,
        "hashes": totals.hashes / each,
    });
    (requests, totals)
}

/// `resp_dummy_…_<8 hex>` with the random part as the examples write it.
fn masked(id: &str) -> String {
    let Some((front, random)) = id.rsplit_once('_') else { return id.to_owned() };
    assert!(random.len() == 8 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    format!("{front}_<8 hex>")
}

/// Our request as the examples write it: id and prompt masked.
fn masked_body(body: &Bytes, directive: &str) -> Value {
    let mut body: Value = serde_json::from_slice(body).unwrap();
    body["request_id"] = masked(text(&body, "request_id")).into();
    for key in ["input", "prompt"] {
        if let Some(prompt) = body[key].as_str() {
            assert!(prompt.ends_with(directive) && prompt.len() > directive.len() + 60, "{prompt}");
            body[key] = format!("<PROMPT>{directive}").into();
        } else if let Some(object) = body.as_object_mut() {
            object.remove(key);
        }
    }
    body
}

/// Runs the group with the registry of its file. spec: proxy §14.3
pub fn run(examples: &Value, cases: &Value, group: &mut Group) {
    let runtime = Runtime::new().expect("a runtime");
    for case in cases.as_array().expect("a list of cases") {
        let one = || {
            let (sent, totals) = runtime.block_on(one_request(case, &examples["registry_default"]));
            compare(case, &sent, &totals);
        };
        let outcome = catch_unwind(AssertUnwindSafe(one)).map_err(|why| {
            let text = why.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| why.downcast_ref().copied()).unwrap_or("a panic").to_owned()
        });
        group.case(text(case, "name"), outcome);
    }
}

/// Compares one case.
///
/// # Panics
/// When it disagrees.
fn compare(case: &Value, sent: &[(Method, String, Bytes)], totals: &Value) {
    let name = text(case, "name");
    let overridden = |what| OVERRIDES.iter().any(|(known, _)| *known == what);
    let kind = kind(&case["env"]);
    let expected = case["upstream_requests"].as_array().expect("upstream requests");
    let mut wanted: Value = serde_json::from_str(text(&expected[0], "body")).unwrap();
    let prompt = ["input", "prompt"].into_iter().find_map(|key| wanted[key].as_str());
    let directive = match prompt {
        Some(prompt) => prompt.strip_prefix("<PROMPT>").unwrap().to_owned(),
        None => " /no_think".to_owned(),
    };
    let directive = if text(&case["env"], "PRIORITY_MODE") == "false" {
        " /no_think".to_owned()
    } else {
        directive
    };
    let (method, path, body) = &sent[0];
    let ours = masked_body(body, &directive);
    assert_eq!(method, Method::POST, "{name}");
    if kind == EngineKind::LlamaCpp && overridden("stream") {
        wanted["stream"] = true.into();
        wanted["stream_options"] = json!({ "include_usage": true });
    }
    if overridden("ignore_eos") {
        wanted["ignore_eos"] = true.into();
    }
    if text(&case["env"], "PRIORITY_MODE") == "false" && overridden("PRIORITY_MODE") {
        let form = if kind == EngineKind::Vllm { "/v1/responses" } else { "/v1/completions" };
        assert_eq!(path, form, "{name}");
        for key in ["model", "temperature", "top_k", "top_p", "repetition_penalty"] {
            assert_eq!(ours[key], wanted[key], "{name}: {key}");
        }
        assert_eq!(ours[kind.pow_key().as_str()], wanted[kind.pow_key().as_str()], "{name}");
    } else {
        assert_eq!(path, text(&expected[0], "path"), "{name}");
        assert_eq!(ours, wanted, "{name}");
        if let Some(poll) = expected.get(1) {
            let (method, path, _) = &sent[1];
            assert_eq!(method.as_str(), text(poll, "method"), "{name}");
            assert_eq!(masked(path), text(poll, "path"), "{name}");
        }
    }
    let mut wanted = case["totals_after"].clone();
    if kind == EngineKind::Vllm && overridden("totals") {
        wanted = json!({
            "prompt_tokens": 3, "completion_tokens": 256, "completions": 1, "hashes": 1,
        });
    }
    assert_eq!(*totals, wanted, "{name}");
}
