//! The group `injection`: a configuration, a registry, a context and a request, and the body the
//! engine gets. spec: proxy §8, §9, §11, §12.1

use crate::examples::{array, environment, get, list, parse, text, uint, unhex};
use crate::json::same_json;
use crate::overrides;
use crate::report::Group;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tensorpow_core::target::{CompactTarget, Normalizer, Target, parse_base_share_target};
use tensorpow_core::units::{HeaderPrefix, Tick, VdfBlob};
use tensorpow_server::config::layers::Layers;
use tensorpow_server::config::{Config, WorkerMode};
use tensorpow_server::http::inject::{Route, prepare};
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::job::{Job, JobUpdate};
use tensorpow_server::mining::model::{ModelId, Models};
use tensorpow_server::mining::payload::{Dialect, PayloadSettings};
use tensorpow_server::mining::vdf::VdfState;
use tensorpow_server::registry::registrar::Registrar;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The engine gets this body.
    Body(Value),
    /// The reference refuses it with this message.
    Refused(String),
}

/// One case, as far as the rules look at it.
pub struct InjectionCase {
    /// The client's body.
    pub body: Value,
    /// The member that carries `pow`.
    pub key: &'static str,
    /// Proof version.
    pub version: u8,
    /// nBits of the job.
    pub nbits: u32,
    /// The job's share target.
    pub base_share_target: Option<Target>,
    /// The share normalizer, if it is set.
    pub normalizer: Option<u64>,
    /// The engine is llama.cpp.
    pub llama_cpp: bool,
    /// Broker mode without mining.
    pub inference_only: bool,
    pinned: bool,
    registry: Vec<Value>,
    context: Value,
}

impl InjectionCase {
    fn new(case: &Value, registry: Vec<Value>, config: &Config) -> Self {
        let context = get(case, "context").clone();
        let dialect = config.engine.dialect;
        Self {
            body: parse(text(case, "body_text")),
            key: dialect.key.as_str(),
            version: config.proof_version,
            nbits: context["nbits"].as_u64().and_then(|bits| bits.try_into().ok()).unwrap_or(0),
            base_share_target: context["base_share_target"]
                .as_str()
                .map(|text| parse_base_share_target(text).expect("a share target")),
            normalizer: get(case, "env")
                .get("MODEL_DIFFICULTY_NORMALIZER")
                .map(|_| config.share_normalizer.0),
            llama_cpp: dialect.key.as_str() == "extra_sampling_params" && is_llama(case),
            inference_only: config.mode
                == WorkerMode::Broker { mining: false, registry_pushed: false },
            pinned: config.pin.is_some(),
            registry,
            context,
        }
    }

    /// A model is pinned.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Some registered record has the request's model name.
    pub fn is_registered(&self) -> bool {
        self.registered_identifier().is_some()
    }

    /// There is a job and a VDF proof.
    pub fn has_context(&self) -> bool {
        self.context["vdf"].is_string() && self.context["header_prefix"].is_string()
    }

    /// `name@commit` of the request's model.
    pub fn registered_identifier(&self) -> Option<String> {
        let model = self.body.get("model")?.as_str()?;
        let record = self.registry.iter().rev().find(|record| {
            record["model_name"] == model && record["status"].as_u64().unwrap_or(2) == 2
        })?;
        Some(format!("{model}@{}", record["model_commit"].as_str()?))
    }

    /// The job's header prefix.
    pub fn prefix(&self) -> HeaderPrefix {
        HeaderPrefix::from_bytes(array(text(&self.context, "header_prefix")))
    }

    /// The job's own target.
    pub fn expanded_target(&self) -> String {
        expanded(self.nbits)
    }

    /// The audit payload of the specification.
    pub fn audit_pow(&self) -> Value {
        json!({
            "block_hash": self.context["prev_hash"],
            "vdf": self.context["vdf"],
            "tick": self.context["tick"],
            "target": self.expanded_target(),
            "header_prefix": self.context["header_prefix"],
            "ipfs_cid": "QmDefault",
            "request_id": self.context["request_id"],
            "difficulty": self.normalizer.filter(|normalizer| *normalizer > 0).unwrap_or(1_000_000),
            "audit_emit": true,
        })
    }
}

fn is_llama(case: &Value) -> bool {
    get(case, "env").get("LLAMA_CPP").and_then(Value::as_str) == Some("True")
}

/// A compact target as 64 hex digits.
pub fn expanded(bits: u32) -> String {
    let target = CompactTarget::from_bits(bits).derive(&Target::POW_LIMIT_TENSOR);
    format!("{:x}", target.expect("a valid target"))
}

/// The configuration of a case. The reference's own default proof version is 2, ours the network's.
pub fn config(mut env: BTreeMap<String, String>) -> Config {
    env.entry("POW_PROOF_VERSION".to_owned()).or_insert_with(|| "2".to_owned());
    env.entry("TARGET_URL".to_owned()).or_insert_with(|| "http://127.0.0.1:9".to_owned());
    let layers = Layers { environment: env.into_iter().collect(), ..Layers::default() };
    Config::load(&layers).unwrap_or_else(|error| panic!("{error}"))
}

/// A context with the configuration's pin and settings.
pub fn context(config: &Config) -> Arc<ContextCell> {
    let dialect = config.engine.dialect;
    let settings = PayloadSettings {
        engine: dialect.kind,
        form: dialect.form,
        proof_version: config.proof_version,
        normalizer: Normalizer::DEFAULT,
        share_normalizer: config.share_normalizer,
    };
    Arc::new(ContextCell::new(Models::new(config.pin.clone(), []), settings))
}

/// Applies a registry list. The examples' hashes are made up, so every record gets its right one.
pub fn load_registry(registrar: &Registrar, records: &[Value]) {
    let right: Vec<Value> = records
        .iter()
        .map(|record| {
            let mut record = record.clone();
            let part = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            if let Some(id) = ModelId::new(&part("model_name"), &part("model_commit")) {
                record["model_hash"] = id.display_hash().into();
            }
            record
        })
        .collect();
    registrar.apply("examples", &right);
}

/// The registry of a case: its own, or the shared one.
pub fn records(all: &Value, registry: &Value) -> Vec<Value> {
    list(if registry.is_array() { registry } else { get(all, "registry_default") }).to_vec()
}

/// Applies what a case says about job and VDF proof, as far as it says it.
pub fn apply_context(cell: &ContextCell, context: &Value) {
    let Some(prefix) = context["header_prefix"].as_str() else { return };
    let prefix = HeaderPrefix::from_bytes(array(prefix));
    let base = context["base_share_target"].as_str();
    cell.apply(JobUpdate::Job(Job {
        request_id: u32::try_from(uint(context, "request_id")).expect("a u32"),
        prefix,
        base_share_target: base.map(|text| parse_base_share_target(text).expect("a target")),
        height: None,
    }));
    if let Some(vdf) = context["vdf"].as_str() {
        cell.apply(JobUpdate::Vdf(Arc::new(VdfState {
            challenge: prefix.parent(),
            tick: Tick(uint(context, "tick")),
            blob: VdfBlob::from_slice(&unhex(vdf)).expect("a VDF proof"),
        })));
    }
}

pub fn run(all: &Value, cases: &Value, group: &mut Group) {
    let mut touched: BTreeMap<&str, usize> = BTreeMap::new();
    for case in list(cases) {
        let config = config(environment(get(case, "env")));
        let registry = records(all, get(case, "registry"));
        let wanted = InjectionCase::new(case, registry.clone(), &config);
        let cell = context(&config);
        if !wanted.inference_only {
            load_registry(&Registrar::new(cell.clone()), &registry);
            apply_context(&cell, get(case, "context"));
        }
        if let Some(seconds) = case.get("paused_for").and_then(Value::as_f64) {
            cell.pause().extend(Duration::from_secs_f64(seconds));
        }
        cell.set_switching(case.get("switching") == Some(&Value::Bool(true)));
        let result = get(case, "result");
        let mut expected = match result.get("body_out").and_then(Value::as_str) {
            Some(body) => Expected::Body(parse(body)),
            None => Expected::Refused(result["message"].as_str().unwrap_or_default().to_owned()),
        };
        for rule in overrides::apply(overrides::INJECTION, &wanted, &mut expected) {
            *touched.entry(rule).or_default() += 1;
        }
        let name = format!("{} / {}", text(case, "config"), text(case, "name"));
        group.case(name, compare(&cell, &config, text(case, "body_text"), expected));
    }
    for (rule, cases) in touched {
        println!("      {cases:>4} by {rule}");
    }
}

fn compare(
    cell: &ContextCell,
    config: &Config,
    body: &str,
    expected: Expected,
) -> Result<(), String> {
    let snapshot = cell.load();
    let stale = config.limits.job_stale_after;
    let route = if body.contains("\"input\"") { Route::Responses } else { Route::Completions };
    let prepared = prepare(
        &Bytes::copy_from_slice(body.as_bytes()),
        route,
        false,
        config.proof_version,
        |_, _| config.engine.dialect,
        |dialect: Dialect, model| snapshot.offer_to(dialect.kind, dialect.form, model, stale),
    );
    match (prepared, expected) {
        (Ok(prepared), Expected::Body(expected)) => {
            let mut ours: Value = serde_json::from_slice(&prepared.body).expect("JSON");
            // The recording was made before streams are asked for their usage.
            if expected.get("stream_options").is_none() {
                ours.as_object_mut().expect("an object").remove("stream_options");
            }
            same_json("body", &ours, &expected)
        }
        (Err(error), Expected::Body(_)) => Err(format!("refused: {error}")),
        (Ok(prepared), Expected::Refused(why)) => {
            Err(format!("served as {}, expected the refusal {why:?}", prepared.class))
        }
        (Err(_), Expected::Refused(_)) => Ok(()),
    }
}
