//! A worker without sockets: a session whose frames are collected, a scripted proxy around it, and
//! the way of a proof from the collector to the sink.

use crate::registry::SETTINGS;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tensorpow_core::target::Normalizer;
use tensorpow_server::broker::inside::Inside;
use tensorpow_server::broker::session::Session;
use tensorpow_server::broker::settings::{BrokerSettings, Hardware, Timings};
use tensorpow_server::broker::shared::Shared;
use tensorpow_server::broker::token::Credential;
use tensorpow_server::broker::uplink::Wire;
use tensorpow_server::mining::context::ContextCell;
use tensorpow_server::mining::network::Network;
use tensorpow_server::mining::prover::VdfSettings;
use tokio::sync::mpsc;

pub const WORKER_ID: &str = "worker-vec-01";

/// The settings every group begins with.
pub fn settings() -> BrokerSettings {
    BrokerSettings {
        url: "ws://127.0.0.1:1/v1/ws".parse().expect("a URL"),
        credential: Credential::new("eyJ0", ""),
        worker_id: WORKER_ID.to_owned(),
        capacity: 4,
        hardware: Hardware {
            compute_type: Some("nvidia-8.9".to_owned()),
            gpu_model: Some("RTX-4090".to_owned()),
            memory_gb: Some(24),
            region: "us-west-2".to_owned(),
        },
        max_context_window: None,
        max_output_tokens: 8192,
        challenge_secret: None,
        mining: true,
        network: Network::Tensor,
        networks: vec!["tensor".to_owned()],
        max_parallel: 1,
        local_model: String::new(),
        registry_pushed: true,
        proof_version: 3,
        share_normalizer: Normalizer::DEFAULT,
        tools: Vec::new(),
        mcp_tools: None,
        ca_file: None,
        vdf: VdfSettings::default(),
        leases: None,
        timings: Timings::default(),
    }
}

/// A proxy whose answers are written down beforehand.
#[derive(Default)]
pub struct Scripted {
    pub answers: Mutex<VecDeque<Value>>,
    pub requests: Mutex<Vec<Value>>,
    pub times: Mutex<Vec<Instant>>,
    pub withdrawn: Mutex<Vec<u32>>,
    /// For the question which models there are.
    pub models: Mutex<Option<Value>>,
}

#[async_trait]
impl Inside for Scripted {
    async fn call(&self, method: Method, path: &str, body: Bytes) -> Response<Body> {
        if let Some(models) = self.models.lock().unwrap().clone() {
            let known = path == "/v1/models";
            if known {
                self.times.lock().unwrap().push(Instant::now());
            }
            return answer(&if known {
                json!({ "status": 200, "body": models.to_string() })
            } else {
                json!({ "status": 404, "body": "" })
            });
        }
        self.requests.lock().unwrap().push(json!({
            "method": method.as_str(),
            "path": path,
            "json": serde_json::from_slice::<Value>(&body).unwrap_or_default(),
        }));
        let scripted = self.answers.lock().unwrap().pop_front();
        answer(&scripted.unwrap_or_else(|| json!({ "status": 599, "body": "not scripted" })))
    }

    fn rates(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn waiting(&self) -> usize {
        0
    }

    fn engine_is_up(&self) -> bool {
        true
    }

    fn is_drained(&self) -> bool {
        false
    }

    fn withdraw(&self, request_id: u32) {
        self.withdrawn.lock().unwrap().push(request_id);
    }

    fn reinstate(&self, _: u32) {}
}

fn answer(scripted: &Value) -> Response<Body> {
    let body = match scripted["body_hex"].as_str() {
        Some(digits) => hex::decode(digits).expect("hex"),
        None => scripted["body"].as_str().unwrap_or_default().as_bytes().to_vec(),
    };
    let status = scripted["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let mut response = Response::builder().status(status.expect("a status"));
    if let Some(kind) = scripted["content_type"].as_str() {
        response = response.header("content-type", kind);
    }
    response.body(Body::from(body)).expect("an answer")
}

pub type Frames = Arc<Mutex<Vec<Value>>>;

/// A session, and the broker's end of its wire.
pub struct Rig {
    pub shared: Arc<Shared>,
    pub inside: Arc<Scripted>,
    pub frames: Frames,
    pub session: Option<Session>,
}

impl Rig {
    /// A worker that nobody gives jobs to.
    pub fn idle(settings: BrokerSettings) -> Self {
        Self::new(Arc::new(Shared::new(settings, None, None)))
    }

    pub fn new(shared: Arc<Shared>) -> Self {
        let inside = Arc::default();
        Self { shared, inside, frames: Frames::default(), session: None }
    }

    /// Opens a connection whose frames all arrive.
    pub fn connect(&mut self) {
        let (wire, mut parcels) = Wire::new();
        let (fatal, _) = mpsc::channel(1);
        let inside: Arc<dyn Inside> = self.inside.clone();
        self.session = Some(Session::new(self.shared.clone(), inside, wire, fatal));
        let frames = self.frames.clone();
        tokio::spawn(async move {
            while let Some(parcel) = parcels.recv().await {
                frames.lock().unwrap().push(serde_json::from_str(&parcel.text).expect("JSON"));
                if let Some(delivered) = parcel.delivered {
                    let _ = delivered.send(());
                }
            }
        });
    }

    /// The broker says something.
    pub async fn say(&mut self, frame: &Value) {
        let session = self.session.as_mut().expect("a connection");
        session.message(frame.to_string().as_bytes()).await.expect("an open wire");
    }

    /// Waits for this many frames, and a moment for one too many.
    pub async fn heard(&self, expected: usize) -> Vec<Value> {
        let started = Instant::now();
        while self.frames.lock().unwrap().len() < expected
            && started.elapsed() < Duration::from_secs(5)
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
        std::mem::take(&mut *self.frames.lock().unwrap())
    }
}

/// A context that only has a pin and a registry to come.
pub fn context() -> Arc<ContextCell> {
    Arc::new(ContextCell::new(tensorpow_server::mining::model::Models::default(), SETTINGS))
}

/// A frame with nothing of its error but the token before the first colon.
pub fn normative(frames: &[Value]) -> Vec<Value> {
    let token = |frame: &Value| {
        let mut frame = frame.clone();
        if let Some(error) = frame.get("error").and_then(Value::as_str) {
            frame["error"] = error.split(':').next().unwrap_or_default().into();
        }
        frame
    };
    frames.iter().map(token).collect()
}
