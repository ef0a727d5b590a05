//! The group `http`: whole exchanges with a running proxy between two recording engines. The cases
//! are steps of one story, told by their names; what a case needs (a job, a pause, a full house) is
//! brought about before it. spec: proxy §4 to §7

use crate::engine::{Answer, Engine, Recorded};
use crate::examples::{environment, get, list, parse, text};
use crate::injection::{apply_context, load_registry, records};
use crate::json::same_json;
use crate::overrides;
use crate::report::{Group, same};
use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tensorpow_core::classify::Tier;
use tensorpow_core::target::Normalizer;
use tensorpow_server::active_model::ActiveModelSettings;
use tensorpow_server::config::Config;
use tensorpow_server::config::layers::Layers;
use tensorpow_server::http::App;
use tensorpow_server::http::limits::{Client, Place};
use tensorpow_server::link::Link;
use tensorpow_server::mining::job::{JobSource, JobUpdate};
use tensorpow_server::mining::model::Models;
use tensorpow_server::mining::sink::{Attempt, ProofSink, ReceivedProof, Verdict};
use tensorpow_server::service::Service;

/// Generation requests that run at a time, so that the house can be filled.
const CONCURRENCY: usize = 4;

/// One exchange: as recorded, and after the rules as expected.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The client's `Authorization`.
    pub authorization: Option<String>,
    /// The client's body.
    pub request_body: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Its media type.
    pub content_type: String,
    /// Its JSON body; none when it is not compared.
    pub body: Option<Value>,
    /// The body as text, for what is not JSON.
    pub body_text: String,
    /// The last request an engine got: which engine, path, body.
    pub upstream: Option<(String, String, Value)>,
}

/// The audit of a request under its own model name: the payload of `recorded` without what is only
/// mined.
pub fn audited(asked: &Value, recorded: &Value) -> Value {
    let mut body = asked.clone();
    let mut pow = recorded["vllm_xargs"]["pow"].clone();
    let members = pow.as_object_mut().expect("a payload");
    for mined_only in ["proof_version", "share_target"] {
        members.remove(mined_only);
    }
    members.insert("ipfs_cid".into(), "QmDefault".into());
    members.insert("difficulty".into(), 1_000_000.into());
    members.insert("audit_emit".into(), true.into());
    body["vllm_xargs"] = json!({ "pow": pow });
    body
}

/// Jobs come from the test, not from a source.
struct NoJobs;

#[async_trait::async_trait]
impl JobSource for NoJobs {
    fn name(&self) -> &'static str {
        "examples"
    }

    async fn next(&mut self) -> Option<JobUpdate> {
        std::future::pending().await
    }
}

struct NoSink;

#[async_trait::async_trait]
impl ProofSink for NoSink {
    fn name(&self) -> &'static str {
        "examples"
    }

    async fn submit(&self, _: &ReceivedProof, _: Attempt) -> Verdict {
        Verdict::Share
    }
}

struct World {
    app: Arc<App>,
    address: SocketAddr,
    main: Engine,
    second: Engine,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    state_path: std::path::PathBuf,
    registry: Vec<Value>,
    guests: Vec<Place>,
    _folder: tempfile::TempDir,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl World {
    async fn start(all: &Value) -> Self {
        let recorded = Arc::new(Mutex::default());
        let (main, main_url) = Engine::start("main", recorded.clone()).await;
        let (second, second_url) = Engine::start("second", recorded.clone()).await;
        let mut env = environment(get(all, "http_env"));
        env.insert("TARGET_URL".into(), main_url);
        let routes = env["MODEL_ROUTES"].split('=').next().unwrap_or_default().to_owned();
        env.insert("MODEL_ROUTES".into(), format!("{routes}={second_url}"));
        let folder = tempfile::tempdir().unwrap();
        let state_path = folder.path().join("state.json");
        let flags = [
            ("http.listen", "127.0.0.1:0".to_owned()),
            ("proofs.collector", "127.0.0.1:0".to_owned()),
            ("data.dir", "none".to_owned()),
            ("limits.concurrency", CONCURRENCY.to_string()),
            ("priority.queue", "0".to_owned()),
        ];
        let layers = Layers {
            environment: env.into_iter().collect(),
            flags: flags.into_iter().map(|(key, text)| (key.to_owned(), text)).collect(),
            ..Layers::default()
        };
        let config = Config::load(&layers).unwrap_or_else(|error| panic!("{error}"));
        let link = Link {
            source: Box::new(NoJobs),
            sink: Arc::new(NoSink),
            models: Models { pin: config.pin.clone(), ..Models::default() },
            proof_version: config.proof_version,
            normalizer: Normalizer::DEFAULT,
            report: None,
            pause: Arc::default(),
            registry: Vec::new(),
            active_model: ActiveModelSettings {
                state_path: Some(state_path.clone()),
                ..ActiveModelSettings::default()
            },
            metrics: Vec::new(),
            reconnect: None,
            broker: None,
        };
        let service = Service::start(config, Some(link)).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let world = Self {
            app: service.app().clone(),
            address: service.address(),
            main,
            second,
            recorded,
            state_path,
            registry: records(all, &Value::Null),
            guests: Vec::new(),
            _folder: folder,
            _stop: stop,
        };
        service.spawn(async move {
            let _ = stopped.await;
        });
        world
    }

    /// Brings about what the case's name says, and what its recording shows.
    async fn prepare(&mut self, name: &str, case: &Value) {
        if !name.contains("before the registry") && !self.app.context.load().models().loaded {
            load_registry(&self.app.registrar, &self.registry);
        }
        if name.starts_with("paused") {
            self.app.context.pause().extend(Duration::from_secs(1000));
        }
        if let Some(context) = recorded_context(case) {
            let tick = self.app.context.load().vdf().map_or(0, |vdf| vdf.tick.0);
            if context["tick"].as_u64().is_some_and(|wanted| wanted < tick) {
                // Here ticks never go back within one block, in the recording they do.
                apply_context(&self.app.context, &recorded_tip(0x66));
            }
            apply_context(&self.app.context, &context);
        }
        if name.contains("after the tip changed") {
            let other = recorded_tip(0x77);
            apply_context(&self.app.context, &other);
            let view = || self.app.active_model.view()["pending_switch"].clone();
            for _ in 0..500 {
                if view().is_null() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        if name.starts_with("proof") && self.app.store.stats().items == 0 {
            let proof = Arc::new(ReceivedProof {
                message: Bytes::from_static(b"\x00\x01\xff"),
                completion_id: "cmpl-abc".to_owned(),
                tier: Tier::Share,
                request_id: 1,
                nonce: 0,
                parent: None,
                digest: None,
                model_identifier: String::new(),
                received_at: std::time::SystemTime::now(),
            });
            self.app.store.put("cmpl-abc", proof, None);
        }
        self.guests.clear();
        if name.starts_with("at capacity") {
            let guest = || self.app.limiter.admit(Client::Key("guest".into()));
            self.guests.extend((0..CONCURRENCY).filter_map(|_| guest().ok()));
        }
        self.tell_engines(name, case);
    }

    fn tell_engines(&self, name: &str, case: &Value) {
        let response = get(case, "response");
        let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
        let body = response["body_text"].as_str().unwrap_or_default().to_owned();
        let kind = header_of(response, "content-type");
        let ok = r#"{"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}"#;
        let usual = || Answer::Whole(200, "application/json".into(), ok.to_owned());
        let answer = match name {
            _ if name.contains("drops the connection") || name.contains("engine down") => {
                Answer::Drop
            }
            _ if name.contains("gzip") => Answer::Gzip(body),
            _ if status >= 400
                && !body.is_empty()
                && list(get(case, "upstream_requests")).len() == 1 =>
            {
                Answer::Whole(status, "application/json".into(), body)
            }
            _ if status != 200 => usual(),
            _ if kind.starts_with("text/event-stream") || name.contains("chunked") => {
                Answer::Chunked(200, kind, body)
            }
            _ if body.is_empty() => usual(),
            _ => Answer::Whole(200, "application/json; charset=utf-8".into(), body),
        };
        self.main.answer(answer.clone());
        self.second.answer(answer);
        if name.starts_with("models") {
            let list = |text: &str| Answer::Whole(200, "application/json".into(), text.to_owned());
            let failing = || Answer::Whole(500, "application/json".into(), "{}".to_owned());
            let main =
                r#"{"data":[{"id":"shared","max_model_len":8192},{"id":"only-main"},{"x":1}]}"#;
            let second = r#"{"data":[{"id":"shared"},{"id":"only-second"}]}"#;
            let all_fail = name.contains("all failing");
            self.main.answer(if all_fail { failing() } else { list(main) });
            let fails = name.contains("failing");
            self.second.answer(if fails { failing() } else { list(second) });
        }
    }

    async fn ask(&self, exchange: &Exchange, headers: &[(String, String)]) -> Got {
        self.recorded.lock().unwrap().clear();
        let client = HttpClient::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let url = format!("http://{}{}", self.address, exchange.path);
        let mut request = Request::builder().method(exchange.method.as_str()).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let body = exchange.request_body.clone().unwrap_or_default();
        let answer = client.request(request.body(Full::from(body)).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let header =
            |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        Got {
            status: head.status.as_u16(),
            content_type: header("content-type").unwrap_or_default(),
            both_framings: header("content-length").is_some()
                && header("transfer-encoding").is_some(),
            encoded: header("content-encoding").is_some(),
            cors: header("access-control-allow-origin").is_some(),
            proof_headers: ["content-disposition", "x-proof-canonical-id", "x-proof-aliased"]
                .map(|name| header(name).unwrap_or_default()),
            body: body.collect().await.unwrap().to_bytes(),
            upstream: self.recorded.lock().unwrap().clone(),
        }
    }
}

/// An answer.
struct Got {
    status: u16,
    content_type: String,
    both_framings: bool,
    encoded: bool,
    cors: bool,
    proof_headers: [String; 3],
    body: Bytes,
    upstream: Vec<Recorded>,
}

fn header_of(message: &Value, name: &str) -> String {
    let headers = list(get(message, "headers"));
    let found =
        headers.iter().find(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name));
    found.and_then(|header| header[1].as_str()).unwrap_or_default().to_owned()
}

/// Job and VDF proof of a recorded engine request. Its model's difficulty leaves the prefix alone.
fn recorded_context(case: &Value) -> Option<Value> {
    let asked = list(get(case, "upstream_requests")).last()?;
    let body: Value = serde_json::from_str(asked["body"].as_str()?).ok()?;
    let pow = body.get("vllm_xargs")?.get("pow")?;
    Some(json!({
        "header_prefix": pow["header_prefix"],
        "request_id": pow["request_id"],
        "base_share_target": pow.get("share_target"),
        "vdf": pow["vdf"],
        "tick": pow["tick"],
    }))
}

/// A job on another parent.
fn recorded_tip(parent: u8) -> Value {
    let prefix = ["20000000".to_owned(), hex::encode([parent; 32]), hex::encode([0; 36])].concat();
    json!({ "header_prefix": prefix + "ffff001d", "request_id": 9, "base_share_target": null })
}

pub fn run(all: &Value, cases: &Value, group: &mut Group) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut world = World::start(all).await;
        let mut touched: BTreeMap<&str, usize> = BTreeMap::new();
        for case in list(cases) {
            let name = text(case, "name");
            if case.get("request").is_none() {
                group.case(name, state_file(&world, case));
                continue;
            }
            world.prepare(name, case).await;
            let recorded = exchange(case);
            let mut expected = recorded.clone();
            for rule in overrides::apply(overrides::HTTP, &recorded, &mut expected) {
                *touched.entry(rule).or_default() += 1;
            }
            let headers = request_headers(case, &expected);
            let got = world.ask(&expected, &headers).await;
            group.case(name, compare(name, &expected, &headers, &got));
        }
        for (rule, cases) in touched {
            println!("      {cases:>4} by {rule}");
        }
    });
}

/// The file that remembers the active model.
fn state_file(world: &World, case: &Value) -> Result<(), String> {
    let text = std::fs::read_to_string(&world.state_path).ok();
    let ours = text.map(|text| {
        let mut state = parse(&text);
        if state["updated_at"].is_u64() {
            state["updated_at"] = "<unix seconds>".into();
        }
        state
    });
    same("state", ours.unwrap_or(Value::Null), get(case, "state").clone())
}

fn exchange(case: &Value) -> Exchange {
    let (request, response) = (get(case, "request"), get(case, "response"));
    let repeated = request.get("body_repeat").map(|parts| {
        let count = parts[1].as_u64().unwrap().try_into().unwrap();
        [parts[0].as_str().unwrap(), &"a".repeat(count), parts[2].as_str().unwrap()].concat()
    });
    let body_text = response["body_text"].as_str().unwrap_or_default();
    let upstream = list(get(case, "upstream_requests")).last().map(|request| {
        let body = serde_json::from_str(text(request, "body")).unwrap_or(Value::Null);
        (text(request, "backend").to_owned(), text(request, "path").to_owned(), body)
    });
    let kind = header_of(response, "content-type");
    Exchange {
        method: text(request, "method").to_owned(),
        path: text(request, "path").to_owned(),
        authorization: None,
        request_body: repeated
            .or_else(|| request.get("body_text").and_then(Value::as_str).map(ToOwned::to_owned)),
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        content_type: kind.split(';').next().unwrap_or_default().to_owned(),
        body: serde_json::from_str(body_text).ok(),
        body_text: body_text.to_owned(),
        upstream,
    }
}

fn request_headers(case: &Value, expected: &Exchange) -> Vec<(String, String)> {
    list(get(get(case, "request"), "headers"))
        .iter()
        .map(|header| {
            (header[0].as_str().unwrap().to_owned(), header[1].as_str().unwrap().to_owned())
        })
        .map(|(name, value)| match (&expected.authorization, name.as_str()) {
            (Some(key), "Authorization") => (name, key.clone()),
            _ => (name, value),
        })
        .collect()
}

fn compare(
    name: &str,
    expected: &Exchange,
    headers: &[(String, String)],
    got: &Got,
) -> Result<(), String> {
    let text = String::from_utf8_lossy(&got.body).into_owned();
    same("status", (got.status, &*text), (expected.status, &*text))?;
    same("CORS", got.cors, false)?;
    same("framing", (got.both_framings, got.encoded), (false, false))?;
    let ours: Option<Value> = serde_json::from_slice(&got.body).ok();
    let media_type = got.content_type.split(';').next().unwrap_or_default();
    let flat = expected.body.as_ref().and_then(|body| body.get("error")?.as_str());
    if got.status >= 400 && (flat.is_some() || expected.body.is_none()) {
        // 4: the error object of the API, with the reference's words where it has some of its own.
        let error = ours.as_ref().and_then(|body| body.get("error")).cloned().unwrap_or_default();
        let own_words = flat.filter(|text| {
            !["Proxy error", "Invalid JSON:", "Bad Gateway"].iter().any(|it| text.starts_with(it))
        });
        if let Some(words) = own_words {
            same("message", error["message"].as_str(), Some(words))?;
        }
        same("error object", error["code"].is_string() && error["type"].is_string(), true)?;
    } else if let Some(body) = &expected.body {
        let ours = without_times(ours.unwrap_or_default(), body);
        same_json("body", &ours, &without_times(body.clone(), body))?;
        same("content type", media_type, &*expected.content_type)?;
    } else if expected.status == 200 && expected.content_type == "text/event-stream" {
        same("stream", text, expected.body_text.clone())?;
        same("content type", media_type, "text/event-stream")?;
    } else if name.starts_with("proof") {
        same("bytes", &*got.body, &b"\x00\x01\xff"[..])?;
        let aliased = if expected.path.ends_with("-0") { "1" } else { "0" };
        let headers = ["attachment; filename=\"proof_cmpl-abc.bin\"", "cmpl-abc", aliased];
        same("headers", got.proof_headers.clone(), headers.map(ToOwned::to_owned))?;
    }
    upstream(name, expected, headers, &got.upstream)
}

fn upstream(
    name: &str,
    expected: &Exchange,
    headers: &[(String, String)],
    got: &[Recorded],
) -> Result<(), String> {
    let Some((backend, path, body)) = &expected.upstream else {
        // What goes over the old limit is forwarded now.
        let forwarded = name.starts_with("over 1 MiB") || expected.status == 502;
        return if forwarded { Ok(()) } else { same("engine requests", got.len(), 0) };
    };
    let last = got.iter().rfind(|request| request.backend == backend);
    let last = last.ok_or_else(|| format!("{backend} was not asked: {got:?}"))?;
    same("path", &last.path, path)?;
    same("method", &last.method, &expected.method)?;
    same_json("engine body", &last.json(), body)?;
    let id = last.header("x-request-id").unwrap_or_default();
    same("request id", id.len(), 32)?;
    let shown = headers.iter().find(|(name, _)| name == "Authorization").map(|(_, key)| &**key);
    let key = if path == "/v1/models" { Some("Bearer internal-secret") } else { shown };
    same("Authorization", last.header("authorization"), key)
}

/// What changes from run to run counts as equal; members of ours beside the reference's are allowed.
fn without_times(mut ours: Value, reference: &Value) -> Value {
    if let (Some(members), Some(known)) = (ours.as_object_mut(), reference.as_object()) {
        members.retain(|name, _| known.contains_key(name));
        for varying in ["timestamp", "ttl_remaining_seconds"] {
            members.entry(varying).and_modify(|value| *value = value.is_u64().into());
        }
        if let Some(pending) =
            members.get_mut("active_model").and_then(|it| it.get_mut("pending_switch"))
        {
            forget_job(pending);
        }
        if let Some(pending) = members.get_mut("pending_switch") {
            forget_job(pending);
        }
    }
    ours
}

/// The number of the job at which a switch was asked for is the story's own.
fn forget_job(pending: &mut Value) {
    if let Some(members) = pending.as_object_mut() {
        members.entry("start_request_id").and_modify(|value| *value = value.is_u64().into());
    }
}
