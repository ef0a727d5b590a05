//! The frames a broker sends, built field by field from the specification as plain JSON. The
//! worker's side of this crate has types for them; here are none on purpose, so that each side is a
//! test of the other. spec: broker §2

use crate::devnet::chain::ChainSettings;
use crate::devnet::registry;
use crate::mining::job::Job;
use serde_json::{Value, json};
use tensorpow_core::target::Target;

/// Seconds for which a template is good.
const TEMPLATE_LIFE: u64 = 600;

/// spec: broker §3.2
pub(super) fn registration_ack(worker: &str, heartbeat_sec: u64) -> Value {
    json!({
        "type": "ACK",
        "heartbeat_interval_sec": heartbeat_sec,
        "worker_id": worker,
        "status": "registered",
    })
}

/// spec: broker §3.3
pub(super) fn challenge(nonce: &str, timestamp: u64) -> Value {
    json!({ "type": "CHALLENGE", "nonce": nonce, "timestamp": timestamp })
}

/// The chain's one model. spec: broker §7.1
pub(super) fn registry_sync(chain: &ChainSettings) -> Value {
    json!({ "type": "MODEL_REGISTRY_SYNC", "models": [registry::record(&chain.model, 2)] })
}

/// What a lease is called.
#[derive(Debug, Clone)]
pub(super) struct Names<'a> {
    pub(super) job_id: &'a str,
    pub(super) template_id: &'a str,
    pub(super) wallet_id: &'a str,
    pub(super) network: &'a str,
    pub(super) max_parallel: usize,
}

/// spec: broker §7.2, §12 item 6
pub(super) fn mine_request(job: &Job, names: &Names<'_>, chain: &ChainSettings, now: u64) -> Value {
    let target = job.bits().derive(&Target::POW_LIMIT_TENSOR).unwrap_or(Target::MAX);
    let mut template = json!({
        "template_id": names.template_id,
        "request_id": job.request_id,
        "header_prefix": format!("{:x}", job.prefix),
        // Display order, unlike the prefix's.
        "block_hash": job.parent().display().to_string(),
        "target": hex::encode(target.to_be_bytes()),
        "bits": job.bits().to_bits(),
        "expires_at": now + TEMPLATE_LIFE,
    });
    if let Some(base) = &job.base_share_target {
        template["base_share_target"] = hex::encode(base.to_be_bytes()).into();
    }
    json!({
        "type": "MINE_REQUEST",
        "job_id": names.job_id,
        "work_unit_id": job.request_id,
        "wallet_id": names.wallet_id,
        "network": names.network,
        "mode": "dummy_only",
        "model": {
            "name": chain.model.id.name(),
            "commit": chain.model.id.commit(),
            "registry_height": chain.model.commit_block_height,
            "model_hash": chain.model.id.display_hash(),
        },
        "template": template,
        "policy": {
            "submit_policy": "tensorcash_core_node",
            "max_parallel": names.max_parallel,
            "user_inference_blocks_on_mining": false,
        },
    })
}

/// spec: broker §7.3
pub(super) fn mine_cancel(job_id: &str, work_unit_id: u32, reason: &str, network: &str) -> Value {
    json!({
        "type": "MINE_CANCEL",
        "job_id": job_id,
        "work_unit_id": work_unit_id,
        "reason": reason,
        "network": network,
    })
}

/// spec: broker §5.1
pub(super) fn start(job_id: &str, api: &str, payload: Value) -> Value {
    json!({ "type": "START", "job_id": job_id, "api": api, "payload": payload })
}

/// spec: broker §6
pub(super) fn proof_request(completion_id: &str) -> Value {
    json!({ "type": "PROOF_REQUEST", "completion_id": completion_id })
}
