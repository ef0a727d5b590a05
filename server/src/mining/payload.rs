//! The `pow` object of one snapshot: every member of the mining payload and of the audit payload,
//! rendered once per job and model. Where the object is put into a request is decided in
//! [`crate::http::inject`].

use super::job::Job;
use super::model::{DEFAULT_CID, ModelRecord};
use super::vdf::VdfState;
use serde::Serialize;
use tensorpow_core::target::{
    AdjustError, CompactError, Normalizer, Target, adjust_for_model, share_target,
};

/// Precision label llama.cpp is told, whatever the GGUF type. spec: proxy §8.1
pub const LLAMA_CPP_PRECISION: &str = "bf16";

/// Which engine the payload is for: it decides the key and the identity members. spec: proxy §8
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum EngineKind {
    /// `llama-server`: `extra_sampling_params`, identity in the payload.
    #[value(name = "llama.cpp", alias = "llama-cpp", alias = "llamacpp")]
    LlamaCpp,
    /// vLLM: `vllm_xargs`, identity known to the engine.
    Vllm,
}

impl EngineKind {
    /// The request member such an engine reads `pow` from, unless it is told otherwise.
    /// spec: proxy §8
    #[must_use]
    pub const fn pow_key(self) -> PowKey {
        match self {
            Self::LlamaCpp => PowKey::ExtraSamplingParams,
            Self::Vllm => PowKey::VllmXargs,
        }
    }
}

/// The request member that holds `pow`. spec: proxy §8
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PowKey {
    /// vLLM from 0.16 on.
    VllmXargs,
    /// Older vLLM, llama.cpp.
    ExtraSamplingParams,
}

impl PowKey {
    /// Both: a client's own `pow` is taken out of either.
    pub const ALL: [Self; 2] = [Self::VllmXargs, Self::ExtraSamplingParams];

    /// The member's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VllmXargs => "vllm_xargs",
            Self::ExtraSamplingParams => "extra_sampling_params",
        }
    }
}

/// Whether `pow` is sent as a JSON object or as a string holding the same JSON. spec: proxy §8
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum PowForm {
    /// A nested object, what every engine of the network takes.
    Object,
    /// A string, for a stock vLLM without our middleware.
    String,
}

/// How an engine wants to be told what to mine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// Which engine it is.
    pub kind: EngineKind,
    /// The member that carries `pow`.
    pub key: PowKey,
    /// Object or string.
    pub form: PowForm,
}

impl From<EngineKind> for Dialect {
    /// What engines of the network understand.
    fn from(kind: EngineKind) -> Self {
        Self { kind, key: kind.pow_key(), form: PowForm::Object }
    }
}

/// What a payload needs beyond job, VDF proof and model.
#[derive(Debug, Clone, Copy)]
pub struct PayloadSettings {
    /// Engine the payload goes to.
    pub engine: EngineKind,
    /// Object or string.
    pub form: PowForm,
    /// Stamp of the proof version. spec: proxy §8.1
    pub proof_version: u8,
    /// The chain's model difficulty normalizer: it makes block targets.
    pub normalizer: Normalizer,
    /// The normalizer of share targets; 0 switches shares off and leaves blocks alone.
    pub share_normalizer: Normalizer,
}

/// Why no payload can be made of a job. Users are served all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The job's nBits and the model's difficulty leave nothing to mine.
    #[error(transparent)]
    Target(#[from] AdjustError),
    /// The job's nBits is no valid target.
    #[error("nBits of the job is no valid target: {0}")]
    Bits(CompactError),
}

/// Members in the order of spec: proxy §8.1.
#[derive(Debug, Serialize)]
struct Pow<'a> {
    block_hash: String,
    vdf: String,
    tick: u64,
    target: String,
    header_prefix: String,
    ipfs_cid: &'a str,
    request_id: u32,
    difficulty: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof_version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_emit: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_identifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_precision: Option<&'static str>,
}

/// The payload that makes an engine mine `model` on `job`. spec: proxy §8.1, targets §3.3
///
/// # Errors
/// [`PayloadError`] when the adjusted target is not minable.
pub fn mining_payload(
    job: &Job,
    vdf: &VdfState,
    model: &ModelRecord,
    settings: &PayloadSettings,
) -> Result<String, PayloadError> {
    let adjusted = adjust_for_model(
        job.bits(),
        model.difficulty,
        settings.normalizer,
        &Target::POW_LIMIT_TENSOR,
    )?;
    // A disabled share tier costs the key, never the request. spec: proxy §8.1
    let share_target = job
        .base_share_target
        .and_then(|base| share_target(&base, model.difficulty, settings.share_normalizer).ok());
    let (model_identifier, compute_precision) = identity(Some(model), settings.engine);
    Ok(render(&Pow {
        block_hash: format!("{:x}", job.parent()),
        vdf: hex::encode(vdf.blob.as_bytes()),
        tick: vdf.tick.0,
        target: format!("{:x}", adjusted.target),
        header_prefix: format!("{:x}", job.prefix.with_bits(adjusted.bits)),
        ipfs_cid: model.payload_cid(),
        request_id: job.request_id,
        difficulty: model.difficulty.get(),
        proof_version: Some(settings.proof_version),
        share_target: share_target.map(|target| format!("{target:x}")),
        audit_emit: None,
        model_identifier,
        compute_precision,
    }))
}

/// The payload that makes an engine leave an audit proof of a model that is not mined: unadjusted
/// target and prefix, no version, no share target. `model` is the registered model where it is
/// known. spec: proxy §9
///
/// # Errors
/// [`PayloadError::Bits`] when nBits is no valid target.
pub fn audit_payload(
    job: &Job,
    vdf: &VdfState,
    model: Option<&ModelRecord>,
    settings: &PayloadSettings,
) -> Result<String, PayloadError> {
    let target = job.bits().derive(&Target::POW_LIMIT_TENSOR).map_err(PayloadError::Bits)?;
    let (model_identifier, compute_precision) = identity(model, settings.engine);
    Ok(render(&Pow {
        block_hash: format!("{:x}", job.parent()),
        vdf: hex::encode(vdf.blob.as_bytes()),
        tick: vdf.tick.0,
        target: format!("{target:x}"),
        header_prefix: format!("{:x}", job.prefix),
        ipfs_cid: DEFAULT_CID,
        request_id: job.request_id,
        difficulty: audit_difficulty(settings.share_normalizer),
        proof_version: None,
        share_target: None,
        audit_emit: Some(true),
        model_identifier,
        compute_precision,
    }))
}

/// `difficulty` of an audit payload: the share normalizer, or its default where that is off.
/// spec: proxy §9
fn audit_difficulty(normalizer: Normalizer) -> i64 {
    let value = if normalizer.0 == 0 { Normalizer::DEFAULT.0 } else { normalizer.0 };
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// llama.cpp has no other source of its identity than the payload. spec: proxy §8.1, §9
fn identity(
    model: Option<&ModelRecord>,
    engine: EngineKind,
) -> (Option<String>, Option<&'static str>) {
    match (engine, model) {
        (EngineKind::LlamaCpp, Some(model)) => {
            (Some(model.id.to_string()), Some(LLAMA_CPP_PRECISION))
        }
        _ => (None, None),
    }
}

fn render(pow: &Pow<'_>) -> String {
    // A struct of strings and integers always has a JSON form.
    serde_json::to_string(pow).unwrap_or_default()
}

/// `text` as the value of `pow` in the wanted form.
#[must_use]
pub fn in_form(text: String, form: PowForm) -> String {
    match form {
        PowForm::Object => text,
        PowForm::String => serde_json::Value::String(text).to_string(),
    }
}
