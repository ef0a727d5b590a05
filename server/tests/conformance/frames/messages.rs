//! Groups about bytes and numbers alone: share targets, the messages of engines, the jobs of nodes.

use crate::examples::{array, list, text, unhex};
use crate::report::{Group, same};
use bytes::Bytes;
use serde_json::{Value, json};
use tensorpow_core::classify::Tier;
use tensorpow_core::proof::MiningResponseRef;
use tensorpow_core::proof::accept::{check_rpc, check_zmq};
use tensorpow_core::target::{
    Difficulty, Normalizer, parse_base_share_target, share_target as adjusted,
};
use tensorpow_server::intake::classify;
use tensorpow_server::node::job::read_job;

/// A of the protocol. An input that is not canonical may be an error. spec: broker §7.4
pub fn share_target(_: &Value, cases: &Value, group: &mut Group) {
    for (id, case) in list(cases).iter().enumerate() {
        let number = |key| text(case, key).parse::<i64>().ok();
        let ours = parse_base_share_target(text(case, "base_share_target")).ok().and_then(|base| {
            let difficulty = number("difficulty").and_then(|d| Difficulty::new(d).ok())?;
            let normalizer = number("normalizer").and_then(|n| u64::try_from(n).ok())?;
            adjusted(&base, difficulty, Normalizer(normalizer)).ok()
        });
        let ours = ours.map_or(Value::Null, |target| json!(format!("{target:x}")));
        let lenient = case["non_canonical_input"] == true && ours.is_null();
        let expected = if lenient { &Value::Null } else { &case["adjusted_share_target"] };
        group.case(id, same("target", &ours, expected));
    }
}

/// What the worker reads of an engine's message, and what a node would make of it.
/// spec: broker §7.5, node §3.4, §4.3
pub fn mining_response(_: &Value, cases: &Value, group: &mut Group) {
    for case in list(cases) {
        // Without bytes there is nothing to read: the writer has refused.
        let Some(message) = case["hex"].as_str().map(unhex) else { continue };
        group.case(text(case, "name"), one_response(case, message.into()));
    }
}

fn one_response(case: &Value, message: Bytes) -> Result<(), String> {
    let (rpc, zmq) = (&case["node_rpc"], &case["node_zmq"]);
    let rpc_id = rpc["rpc_req_id"].as_i64().unwrap_or_default();
    let passes = |outcome: &Value| *outcome == "lookup";
    same("rpc", check_rpc(rpc_id, &message).is_ok(), passes(&rpc["outcome"]))?;
    same("zmq", check_zmq(&message, |_| true).is_ok(), passes(&zmq["outcome"]))?;
    // The reference reads fields out of buffers that no verifier takes; we do not.
    let unverifiable = rpc["reason"].as_str().is_some_and(|why| why.contains("verification"));
    let view = &case["worker_view"];
    let response = MiningResponseRef::read(&message);
    if unverifiable || view["req_id"].is_null() {
        return same("readable", response.is_ok(), false);
    }
    let response = response.map_err(|error| error.to_string())?;
    let ours = json!({
        "req_id": response.req_id,
        "nonce": response.nonce,
        "adjusted_bits": response.adjusted_bits,
        "difficulty": response.difficulty,
        "pow_blob_hash_len": response.pow_blob_hash.len(),
        "has_pow_blob": response.pow_blob.is_some(),
    });
    for (key, value) in ours.as_object().expect("an object") {
        same(key, value, &view[key])?;
    }
    let Some(proof) = response.pow_blob else {
        return same("without a proof", classify(&message).is_err(), true);
    };
    let taken = classify(&message).map_err(|(_, detail)| detail)?;
    same("req_id", &json!(taken.request_id), &view["collector_req_id"])?;
    same("nonce", &json!(taken.nonce), &view["collector_nonce"])?;
    let completion_id = match view["completion_id"].as_str() {
        Some(id) => id.to_owned(),
        None => response.effective_completion_id().unwrap_or_default(),
    };
    same("completion_id", &taken.completion_id, &completion_id)?;
    same("audit", taken.tier == Tier::Audit, view["proof_purpose"] == "audit")?;
    if let Some(is_solution) = view["is_solution"].as_bool() {
        same("is_solution", proof.is_solution, is_solution)?;
    }
    if let Some(model) = view["model_identifier"].as_str() {
        same("model", taken.model_identifier.as_str(), model)?;
    }
    if let Some(hash) = view["proof_hash"].as_str() {
        same("hash", hex::encode(proof.hash).as_str(), hash)?;
    }
    Ok(())
}

/// A node's job. What has hashes of another size or no request id is refused. spec: node §2
pub fn block_header(_: &Value, cases: &Value, group: &mut Group) {
    for (id, case) in list(cases).iter().enumerate() {
        group.case(id, one_header(case));
    }
}

fn one_header(case: &Value) -> Result<(), String> {
    let job = read_job(&unhex(text(case, "hex")));
    let (fields, context) = (&case["fields"], &case["context"]);
    let has_hash = |key: &str| fields[key].as_str().is_some_and(|hash| hash.len() == 64);
    let fits = has_hash("prev_block_hash")
        && has_hash("merkle_root")
        && fields["req_id"].as_u64().is_some_and(|id| id > 0);
    if !fits || context.is_null() {
        return same("refused", job.is_err(), true);
    }
    let job = job.map_err(|error| error.to_string())?;
    same("request_id", &json!(job.request_id), &context["request_id"])?;
    same("bits", &json!(job.bits().to_bits()), &context["bits"])?;
    same("parent", *job.parent().as_bytes(), array::<32>(text(context, "block_hash")))?;
    same("prefix", format!("{:x}", job.prefix).as_str(), text(context, "header_prefix"))
}
