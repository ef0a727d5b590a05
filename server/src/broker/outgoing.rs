//! What a worker says, frame by frame. Absent values are left out. spec: broker §3–§9

use super::leases::Lease;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A frame of the worker's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Outgoing {
    /// The first frame of a connection. spec: §3.1
    #[serde(rename = "HELLO")]
    Hello(Box<Hello>),
    /// The answer to a challenge. spec: §3.3
    #[serde(rename = "CHALLENGE_RESP")]
    ChallengeResponse {
        /// As it came.
        nonce: Value,
        /// Base64 of the HMAC.
        proof: String,
    },
    /// The worker is alive. spec: §4
    #[serde(rename = "HEARTBEAT")]
    Heartbeat(Heartbeat),
    /// An inference job is taken. spec: §5.1
    #[serde(rename = "ACK")]
    JobAck {
        /// The job.
        job_id: String,
    },
    /// A piece of a job's answer. spec: §5.2
    #[serde(rename = "CHUNK")]
    Chunk {
        /// The job.
        job_id: String,
        /// The engine's name of the answer.
        completion_id: String,
        /// The piece; its shape depends on the route.
        delta: Value,
        /// The whole event, on the Responses route.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Value>,
    },
    /// A job is done. spec: §5.2
    #[serde(rename = "END")]
    End {
        /// The job.
        job_id: String,
        /// The engine's name of the answer.
        completion_id: String,
        /// Tokens, as the engine counts them.
        usage: Map<String, Value>,
        /// The whole answer or null, on the Responses route alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        response: Option<Value>,
    },
    /// A job has failed. spec: §5.2
    #[serde(rename = "ERROR")]
    JobError {
        /// The job.
        job_id: String,
        /// Why.
        error: String,
    },
    /// The proof of a completion. spec: §6
    #[serde(rename = "PROOF_RESULT")]
    ProofResult {
        /// The completion.
        completion_id: String,
        /// Base64 of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        proof_b64: Option<String>,
        /// Why there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A sub-block proof. spec: §7.5
    #[serde(rename = "MINE_SHARE")]
    MineShare {
        /// Whose work it is.
        #[serde(flatten)]
        unit: WorkUnit,
        /// The header's nonce.
        nonce: u32,
        /// Hex of the final digest in stored order; empty when there is none.
        achieved_hash: String,
        /// 64 hex digits.
        share_target: String,
        /// This worker.
        worker_id: String,
        /// Base64 of the message.
        proof_b64: String,
    },
    /// A block-level proof, or a refusal. spec: §7.6
    #[serde(rename = "MINE_RESULT")]
    MineResult(MineResult),
    /// A tool runs here. spec: §9
    #[serde(rename = "TOOL_REGISTER")]
    ToolRegister(super::tools::ToolDefinition),
    /// A tool does not run here any more. spec: §9
    #[serde(rename = "TOOL_UNREGISTER")]
    ToolUnregister {
        /// The tool.
        tool_id: String,
    },
    /// What a tool has answered. spec: §9
    #[serde(rename = "TOOL_INVOKE_RESULT")]
    ToolInvokeResult(super::tools::ToolResult),
}

/// The worker introduces itself. spec: §3.1
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hello {
    /// This worker.
    pub worker_id: String,
    /// The models it serves.
    pub models: Vec<String>,
    /// Jobs at a time, as advertised.
    pub capacity: u32,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// What a worker can do. spec: §3.1
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capabilities {
    /// Architecture.
    pub compute_type: String,
    /// Card.
    pub gpu_model: String,
    /// Memory in GB.
    pub memory_gb: u32,
    /// Region.
    pub region: String,
    /// Smallest context of the models, in tokens.
    pub max_context_window: u64,
    /// The same.
    pub max_context_tokens: u64,
    /// Tokens an answer.
    pub max_output_tokens: u32,
    /// What is understood.
    pub features: Vec<&'static str>,
    /// A constant.
    pub quantization: [&'static str; 2],
    /// `plaintext` alone: confidential jobs are refused. spec: §10
    pub modes: [&'static str; 1],
    /// Present when mining is wired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mining: Option<MiningCapability>,
}

/// What a worker can mine. spec: §3.1
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MiningCapability {
    /// True.
    pub enabled: bool,
    /// 2.
    pub schema_version: u8,
    /// The chains.
    pub networks: Vec<String>,
    /// A constant.
    pub supported_modes: [&'static str; 2],
    /// True.
    pub supports_broker_registry: bool,
    /// True.
    pub supports_solution_return: bool,
    /// Leases at a time, as advertised.
    pub max_parallel: u32,
}

/// What the worker does at this moment. spec: §4
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Heartbeat {
    /// Inference jobs in progress.
    pub busy: usize,
    /// Prompt tokens a second over the last minute.
    pub input_tokens_per_sec: f64,
    /// Generated tokens a second over the last minute.
    pub output_tokens_per_sec: f64,
    /// Share of the jobs of the last minute that ended in an error.
    pub error_rate: f64,
    /// Accepted jobs that wait for the engine.
    pub queue_depth: usize,
}

/// Whose work a share or a result is. spec: §7.5
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkUnit {
    /// The broker's name of the lease.
    pub job_id: String,
    /// The same as `request_id`.
    pub work_unit_id: u64,
    /// Echoed.
    pub wallet_id: String,
    /// Echoed.
    pub network: String,
    /// Echoed.
    pub template_id: String,
    /// The node's request id.
    pub request_id: u64,
}

impl From<&Lease> for WorkUnit {
    fn from(lease: &Lease) -> Self {
        lease.unit.clone()
    }
}

/// A block-level proof, or a refusal. spec: §7.6
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MineResult {
    /// A solution, or a refusal that names the unit.
    Full {
        /// Whose work it is.
        #[serde(flatten)]
        unit: WorkUnit,
        /// This worker.
        worker_id: String,
        /// Base64 of the message.
        #[serde(skip_serializing_if = "Option::is_none")]
        solution_b64: Option<String>,
        /// Why not; the token before the first colon is what counts.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A refusal of what could not be read.
    Minimal {
        /// The job.
        job_id: String,
        /// Why not.
        error: String,
    },
}
