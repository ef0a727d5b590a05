//! Groups `mine_request_validation` and `sessions`: leases, cancels, registries and the proofs mined
//! for them, through the session, the mining context, the intake, the spool's outbox and the sink.
//! Frames are compared in order, and after each step what the worker knows.

use super::overrides;
use super::rig::{Rig, context, normative, settings};
use crate::examples::{list, text, unhex};
use crate::report::{Group, same};
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tensorpow_core::target::{Normalizer, parse_base_share_target};
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::prover::{Progress, Published};
use tensorpow_server::broker::shared::Shared;
use tensorpow_server::broker::sink::BrokerSink;
use tensorpow_server::cache::CacheLimits;
use tensorpow_server::intake::Intake;
use tensorpow_server::metrics::Metrics;
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::job::JobSource;
use tensorpow_server::mining::model::ModelId;
use tensorpow_server::mining::pause::{Pause, SolutionCooldown};
use tensorpow_server::mining::prover::{Proving, VdfFeed, VdfSettings};
use tensorpow_server::mining::templates::TemplateJobs;
use tensorpow_server::outbox::Outbox;
use tensorpow_server::registry::registrar::Registrar;
use tensorpow_server::registry::source::PushedRegistry;
use tensorpow_server::spool::{Spool, SpoolSettings};
use tensorpow_server::store::ProofStore;
use tokio::sync::watch;

/// A prover that only counts how often it begins.
struct Counting(Arc<AtomicU64>);

impl Proving for Counting {
    fn reset(&mut self, _: BlockHash) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn latest(&self) -> Option<Published> {
        None
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }
}

/// A worker from the collector to the wire.
struct Worker {
    rig: Rig,
    context: Arc<ContextCell>,
    intake: Intake,
    store: Arc<ProofStore>,
    pause: Arc<Pause>,
    resets: Arc<AtomicU64>,
    /// Leases that were closed for good, with the reason.
    hard: Arc<Mutex<Vec<Value>>>,
}

impl Worker {
    async fn start(config: &Value) -> Self {
        let mut settings = settings();
        let off = |key: &str| config[key] == false;
        settings.mining = !off("mining_enabled") && !off("context");
        if let Some(normalizer) = config["normalizer"].as_u64() {
            settings.share_normalizer = Normalizer(normalizer);
        }
        settings.challenge_secret = config["challenge_secret"].as_str().map(ToOwned::to_owned);
        let context = context();
        if let Some(pin) = config["expected_model"].as_array() {
            let part = |at: usize| pin[at].as_str().unwrap_or_default();
            context.set_pin(ModelId::new(part(0), part(1)));
        }
        let (jobs, followed) = watch::channel(None);
        let (lists, pushed) = PushedRegistry::new();
        let registrar = Arc::new(Registrar::new(context.clone()));
        tokio::spawn(registrar.follow(Box::new(pushed)));
        let resets = Arc::<AtomicU64>::default();
        let started = resets.clone();
        let prover = move |_: BlockHash, _: &VdfSettings| -> std::io::Result<Box<dyn Proving>> {
            started.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Counting(started.clone())))
        };
        let pause = Arc::<Pause>::default();
        let vdf = VdfFeed::with_prover(VdfSettings::default(), pause.clone(), Box::new(prover));
        let mut source = TemplateJobs::new("broker", followed, vdf, ());
        let following = context.clone();
        tokio::spawn(async move {
            while let Some(update) = source.next().await {
                following.apply(update);
            }
        });
        let jobs = (!off("listener")).then_some(jobs);
        let shared = Arc::new(Shared::new(settings, jobs, (!off("model_client")).then_some(lists)));
        shared.context.set(context.clone()).expect("a new context");
        let spool = Spool::open(SpoolSettings::default()).unwrap();
        let store = Arc::new(ProofStore::new(CacheLimits::default(), spool.clone()));
        let metrics = Arc::new(Metrics::new());
        let sink = Arc::new(BrokerSink::new(shared.clone()));
        let outbox = Outbox::open(sink, spool, context.clone(), metrics.clone()).await;
        let outbox = Arc::new(outbox);
        tokio::spawn(outbox.clone().run());
        // A thousand times the mean, so that the draw is not over before the next step.
        let mean = config["cooldown_sec"].as_u64().unwrap_or_default() * 1000;
        let cooldown = SolutionCooldown::new(Duration::from_secs(mean));
        let intake = Intake::new(store.clone(), context.clone(), metrics, Some(outbox))
            .pausing(pause.clone(), cooldown);
        let mut rig = Rig::new(shared);
        rig.connect();
        Self { rig, context, intake, store, pause, resets, hard: Arc::default() }
    }

    /// Says a frame and waits until the context is what it makes of it.
    async fn say(&mut self, frame: &Value) {
        let before = self.rig.inside.withdrawn.lock().unwrap().len();
        let frame = with_right_hashes(frame);
        self.rig.say(&frame).await;
        if self.rig.inside.withdrawn.lock().unwrap().len() > before {
            let reason = format!("broker_cancel:{}", frame["reason"].as_str().unwrap_or_default());
            let id = self.rig.inside.withdrawn.lock().unwrap().last().copied();
            self.hard.lock().unwrap().push(json!([id, reason]));
        }
        let started = Instant::now();
        let current = || self.context.load().job().map(|job| job.request_id);
        while self.rig.shared.leases.newest() != current()
            && started.elapsed() < Duration::from_secs(5)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn act(&mut self, step: &Value) {
        match text(step, "action") {
            "disconnect" => self.rig.session = None,
            "reconnect" => self.rig.connect(),
            "purge_after_901s" => {
                let later = Instant::now() + Duration::from_secs(901);
                self.rig.shared.leases.purge(later);
            }
            "mine_cancel_range" => {
                let id = |key: &str| step[key].as_u64().expect("an id");
                for id in id("from")..=id("to") {
                    let cancel = json!({
                        "type": "MINE_CANCEL", "work_unit_id": id, "reason": "superseded",
                    });
                    self.say(&cancel).await;
                }
            }
            other => panic!("unknown action {other:?}"),
        }
    }

    fn context_state(&self) -> Value {
        let snapshot = self.context.load();
        match snapshot.job() {
            None => json!({
                "block_hash": "0".repeat(64), "header_prefix": "0".repeat(152),
                "bits": null, "request_id": 0, "base_share_target": null,
            }),
            Some(job) => json!({
                "block_hash": format!("{:x}", job.parent()),
                "header_prefix": format!("{:x}", job.prefix),
                "bits": job.bits().to_bits(),
                "request_id": job.request_id,
                "base_share_target": job.base_share_target.map(|target| format!("{target:x}")),
            }),
        }
    }

    fn registry(&self) -> Value {
        let snapshot = self.context.load();
        let records = snapshot.models().registry.records();
        let mut names: Vec<String> =
            records.iter().map(|r| format!("{}={}", r.id, r.difficulty.get())).collect();
        names.sort();
        json!(names)
    }

    async fn cached(&self) -> Value {
        let mut keys = self.store.keys(usize::MAX).await.1;
        keys.sort();
        json!(keys)
    }
}

/// The recording's hashes are made up; ours are checked. spec: proxy §13.1
fn with_right_hashes(frame: &Value) -> Value {
    let mut frame = frame.clone();
    for record in frame.get_mut("models").and_then(Value::as_array_mut).into_iter().flatten() {
        let part = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        if let (Some(id), true) = (
            ModelId::new(&part("model_name"), &part("model_commit")),
            record.get("model_hash").is_some(),
        ) {
            record["model_hash"] = id.display_hash().into();
        }
    }
    frame
}

/// Whole sessions, step by step. spec: broker §7
pub fn sessions(_: &Value, cases: &Value, group: &mut Group) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in list(cases) {
        group.case(text(case, "name"), runtime.block_on(session(case)));
    }
}

async fn session(case: &Value) -> Result<(), String> {
    let name = text(case, "name");
    let mut worker = Worker::start(&case["config"]).await;
    // Leases that ours has closed and the recording has not.
    let mut closed = BTreeSet::new();
    for (number, step) in list(&case["steps"]).iter().enumerate() {
        let at = |why: String| format!("step {number}: {why}");
        let before = worker.rig.shared.leases.tracked();
        let mut expected = list(&step["out"]).to_vec();
        if let Some(frame) = step.get("frame") {
            if let Some(ours) = overrides::frames("sessions", name, number, frame) {
                expected = ours;
            }
            worker.say(frame).await;
        } else if let Some(digits) = step["proof_hex"].as_str() {
            if let Some(ours) = overrides::frames("sessions", name, number, &Value::Null) {
                expected = ours;
            }
            if overrides::SAME_PARENT.contains(&name)
                && expected.is_empty()
                && let Some(frame) = of_same_parent(step, digits, &before)
            {
                closed.extend(frame["request_id"].as_u64());
                expected = vec![frame];
            }
            worker.intake.take(unhex(digits).into()).await;
        } else {
            worker.act(step).await;
        }
        let heard = worker.rig.heard(expected.len()).await;
        let heard = match overrides::SAME_PARENT.contains(&name) {
            true => heard.iter().map(short).collect(),
            false => normative(&heard),
        };
        let expected: Vec<Value> = match overrides::SAME_PARENT.contains(&name) {
            true => expected.iter().map(short).collect(),
            false => normative(&expected),
        };
        same("frames", heard, expected).map_err(at)?;
        let (keys, wanted) = (worker.cached().await, step.get("state"));
        if let Some(state) = wanted {
            compare(&worker, name, number, state, &closed, keys).map_err(at)?;
        }
    }
    Ok(())
}

/// The result that the rule sends where the recording drops it: what identifies it.
fn of_same_parent(step: &Value, digits: &str, tracked: &[(u32, String)]) -> Option<Value> {
    let id = step["proof_info"]["req_id"].as_u64()?;
    let (_, job) = tracked.iter().find(|(open, _)| u64::from(*open) == id)?;
    let message = base64::engine::general_purpose::STANDARD.encode(unhex(digits));
    (step["proof_info"]["is_solution"] == true).then(|| {
        json!({
            "type": "MINE_RESULT", "job_id": job, "request_id": id, "solution_b64": message,
        })
    })
}

/// What identifies a result.
fn short(frame: &Value) -> Value {
    let kept = ["type", "job_id", "request_id", "solution_b64", "proof_b64", "share_target"];
    let picked: Map<String, Value> =
        kept.iter().filter_map(|key| Some(((*key).to_owned(), frame.get(*key)?.clone()))).collect();
    picked.into()
}

fn compare(
    worker: &Worker,
    name: &str,
    number: usize,
    state: &Value,
    closed: &BTreeSet<u64>,
    cached: Value,
) -> Result<(), String> {
    let still = |(session, from, id): &(&str, usize, u32)| {
        (*session == name && number >= *from).then_some(*id)
    };
    let leases = &worker.rig.shared.leases;
    let tracked: Map<String, Value> =
        leases.tracked().into_iter().map(|(id, job)| (id.to_string(), job.into())).collect();
    let mut theirs = state["tracked"].as_object().cloned().unwrap_or_default();
    theirs.retain(|id, _| id.parse().map_or(true, |id: u64| !closed.contains(&id)));
    for id in overrides::STILL_OPEN.iter().filter_map(still) {
        let job = tracked.get(&id.to_string()).cloned();
        theirs.insert(id.to_string(), job.ok_or_else(|| format!("lease {id} is closed"))?);
    }
    same("tracked", &json!(tracked), &json!(theirs))?;
    same("tombstones", &json!(leases.tombstones()), &state["tombstones"])?;
    let mut context = state["context"].clone();
    if let Some(base) = context["base_share_target"].as_str() {
        let target = parse_base_share_target(base).ok().map(|target| format!("{target:x}"));
        context["base_share_target"] = target.into();
    }
    same("context", worker.context_state(), context)?;
    let resets = worker.resets.load(Ordering::Relaxed);
    same("vdf resets", &json!(resets), &state["vdf_resets"])?;
    same("paused", &json!(worker.pause.is_paused()), &state["mining_paused"])?;
    let cancels = json!(*worker.hard.lock().unwrap());
    same("backfill cancels", &cancels, &state["dummy_cancels"])?;
    if let Some(registry) = state.get("registry").filter(|registry| registry.is_array()) {
        let malformed = overrides::REGISTRY.contains(&(name, number));
        let kept = list(registry).iter().all(|model| list(&worker.registry()).contains(model));
        match malformed {
            true => same("kept models", kept && worker.registry() != *registry, true)?,
            false => same("registry", &worker.registry(), registry)?,
        }
    }
    let mut keys: Vec<String> =
        list(&state["proof_cache"]).iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    keys.sort();
    let more = overrides::CACHED.iter().any(|(session, from)| *session == name && number >= *from);
    match more {
        true => {
            let all = keys.iter().all(|key| list(&cached).contains(&json!(key)));
            same("cached more", all && list(&cached).len() > keys.len(), true)
        }
        false => same("cached", cached, json!(keys)),
    }
}

/// One request each: accepted or refused, and the context it leaves. Where the recording only goes
/// through by coercion, `invalid_payload` is an answer; a job that says `disabled` is refused.
/// spec: broker §7.2
pub fn mine_request_validation(_: &Value, cases: &Value, group: &mut Group) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for case in list(cases) {
        group.case(text(case, "name"), runtime.block_on(validated(case)));
    }
}

async fn validated(case: &Value) -> Result<(), String> {
    let mut worker = Worker::start(&Value::Null).await;
    worker.say(&case["frame"]).await;
    let heard = normative(&worker.rig.heard(list(&case["out"]).len()).await);
    let refusal = |token: &str| {
        let job_id = &case["frame"]["job_id"];
        vec![json!({ "type": "MINE_RESULT", "job_id": job_id, "error": token })]
    };
    if case["coerced"] == true && heard == refusal("invalid_payload") {
        return same("no lease", worker.rig.shared.leases.tracked().len(), 0);
    }
    // A job id that is no text names nobody to answer.
    if case["coerced"] == true && !case["frame"]["job_id"].is_string() && heard.is_empty() {
        return same("no lease", worker.rig.shared.leases.tracked().len(), 0);
    }
    if case["policy_choice"] == true && case["frame"]["mode"] == "disabled" {
        return same("frames", heard, refusal("mining_disabled"));
    }
    same("frames", heard, normative(list(&case["out"])))?;
    let tracked = worker.rig.shared.leases.tracked().len();
    same("accepted", &json!(tracked == 1), &case["accepted"])?;
    if case["accepted"] != true {
        return Ok(());
    }
    let ours = worker.context_state();
    for (key, value) in case["context"].as_object().into_iter().flatten() {
        let expected = match (key.as_str(), value.as_str()) {
            // An empty or unusable target is none; block mining goes on.
            ("base_share_target", _) if case["coerced"] == true => ours[key].clone(),
            ("base_share_target", Some(base)) => {
                let target = parse_base_share_target(base).ok();
                target.map_or(Value::Null, |target| json!(format!("{target:x}")))
            }
            ("base_share_target", None) => Value::Null,
            _ => value.clone(),
        };
        same(key, &ours[key], &expected)?;
    }
    Ok(())
}
