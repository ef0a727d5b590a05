//! Groups whose cases are whole messages: each decodes to the listed fields, and its re-encoding
//! decodes to the same ones.

use super::object::described;
use super::{hashes, why};
use crate::report::same;
use crate::source::{array, bytes, flag, get, text, uint};
use serde_json::{Map, Value, json};
use tensorpow_core::header::HeaderFields;
use tensorpow_core::proof::accept::{Refusal, check_rpc, check_zmq};
use tensorpow_core::proof::{
    BlockHeaderMessage, Encode, MiningResponseRef, ProofRef, RequestRef, ValidationRequestRef,
    ValidationResponseRef, ValidationType, ValidationVerdict, commit,
};
use tensorpow_core::target::CompactTarget;
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot};

pub fn mining_response(case: &Value) -> Result<(), String> {
    let message = bytes(case, "bytes");
    let response = MiningResponseRef::read(&message).map_err(why)?;
    mining_response_fields(&response, case)?;

    let again = response.encode_to_vec().map_err(why)?;
    same("announced length", response.encoded_len(), Ok(again.len()))?;
    mining_response_fields(&MiningResponseRef::read(&again).map_err(why)?, case)
        .map_err(|e| format!("own encoding: {e}"))?;

    let rpc_req_id = get(case, "rpc_req_id").as_i64().ok_or("rpc_req_id is no integer")?;
    for message in [&message, &again] {
        let rpc = verdict(check_rpc(rpc_req_id, message));
        same("rpc_structural", rpc, text(case, "rpc_structural"))?;
        let zmq = verdict(check_zmq(message, |_| true));
        same("zmq_structural", zmq, text(case, "zmq_structural"))?;
    }
    Ok(())
}

fn verdict(result: Result<MiningResponseRef<'_>, Refusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.as_str(), |_| "ok")
}

fn mining_response_fields(response: &MiningResponseRef<'_>, case: &Value) -> Result<(), String> {
    same("req_id", u64::from(response.req_id), uint(case, "req_id"))?;
    same("nonce", u64::from(response.nonce), uint(case, "nonce"))?;
    same("adjusted_bits", u64::from(response.adjusted_bits), uint(case, "adjusted_bits"))?;
    same("difficulty", u64::from(response.difficulty), uint(case, "difficulty"))?;
    // `null` marks an absent field, which reads as an empty one.
    let hash = get(case, "pow_blob_hash").as_str().unwrap_or_default();
    same("pow_blob_hash", hex::encode(response.pow_blob_hash).as_str(), hash)?;
    let id = get(case, "completion_id_hex").as_str().unwrap_or_default();
    same("completion_id", hex::encode(response.completion_id).as_str(), id)?;
    same("has_pow_blob", response.pow_blob.is_some(), flag(case, "has_pow_blob"))?;
    proof_against(response.pow_blob.as_ref(), case.get("object"), case.get("merkle_root"))
}

/// A proof inside a message against its description and its root.
fn proof_against(
    proof: Option<&ProofRef<'_>>,
    object: Option<&Value>,
    root: Option<&Value>,
) -> Result<(), String> {
    let Some(proof) = proof else {
        return same("proof expected", object.is_some(), false);
    };
    let ours = commit(proof).map_err(why)?.root;
    if let Some(object) = object {
        let described = described(object);
        same("described root", ours, commit(&described.as_ref()).map_err(why)?.root)?;
    }
    match root.and_then(Value::as_str) {
        Some(root) => same("root", format!("{ours:x}").as_str(), root),
        None => Ok(()),
    }
}

/// Messages of the reference's native writer, which stamps an identifier.
pub fn cpp_writer_mining_response(case: &Value) -> Result<(), String> {
    let message = bytes(case, "bytes");
    let response = MiningResponseRef::read(&message).map_err(why)?;
    same("req_id", u64::from(response.req_id), uint(case, "req_id"))?;
    same("nonce", u64::from(response.nonce), uint(case, "nonce"))?;
    same("adjusted_bits", u64::from(response.adjusted_bits), uint(case, "adjusted_bits"))?;
    same("difficulty", u64::from(response.difficulty), uint(case, "difficulty"))?;
    same("pow_blob_hash", response.pow_blob_hash, bytes(case, "pow_blob_hash").as_slice())?;
    same("completion_id", response.completion_id, text(case, "completion_id").as_bytes())?;
    let proof = response.pow_blob.as_ref();
    proof_against(proof, case.get("object"), case.get("merkle_root"))
}

pub fn block_header(case: &Value) -> Result<(), String> {
    let number = |key: &str| u32::try_from(uint(case, key)).map_err(why);
    let (parent, merkle_root) = (bytes(case, "prev_block_hash"), bytes(case, "merkle_root"));
    let expected = BlockHeaderMessage {
        req_id: number("req_id")?,
        version: number("version")?,
        prev_block_hash: &parent,
        merkle_root: &merkle_root,
        timestamp: number("timestamp")?,
        bits: number("bits")?,
    };
    let own = expected.encode_to_vec().map_err(why)?;
    same("announced length", expected.encoded_len(), Ok(own.len()))?;
    for message in [bytes(case, "node_bytes"), bytes(case, "python_bytes"), own] {
        same("fields", BlockHeaderMessage::read(&message).map_err(why)?, expected)?;
    }
    let prefix = HeaderPrefix::from_fields(&HeaderFields {
        version: expected.version,
        parent: BlockHash::from_bytes(array(text(case, "prev_block_hash"))),
        merkle_root: MerkleRoot::from_bytes(array(text(case, "merkle_root"))),
        time: expected.timestamp,
        bits: CompactTarget::from_bits(expected.bits),
    });
    same("header_prefix", format!("{prefix:x}").as_str(), text(case, "header_prefix"))
}

pub fn validation_request(case: &Value) -> Result<(), String> {
    let message = bytes(case, "bytes");
    let request = ValidationRequestRef::read(&message).map_err(why)?;
    validation_request_fields(&request, case)?;
    let known = ValidationType::from_code(request.validation_type);
    same("known validation_type", known.is_some(), true)?;
    let again = request.encode_to_vec().map_err(why)?;
    same("announced length", request.encoded_len(), Ok(again.len()))?;
    let again = ValidationRequestRef::read(&again).map_err(why)?;
    validation_request_fields(&again, case).map_err(|e| format!("own encoding: {e}"))
}

fn validation_request_fields(
    request: &ValidationRequestRef<'_>,
    case: &Value,
) -> Result<(), String> {
    let ours = match &request.request {
        None => json!({ "union": "NONE" }),
        Some(RequestRef::Block(block)) => {
            let (object, root) = (case.get("proof_object"), case.get("proof_merkle_root"));
            proof_against(block.pow_blob.as_ref(), object, root)?;
            json!({
                "union": "BlockValidation",
                "version": block.version,
                "hash": hex::encode(block.hash),
                "prev_block_hash": hex::encode(block.prev_block_hash),
                "merkle_root": hex::encode(block.merkle_root),
                "timestamp": block.timestamp,
                "bits": block.bits,
                "nonce": block.nonce,
                "pow_blob_hash": hex::encode(block.pow_blob_hash),
                "adjusted_bits": block.adjusted_bits,
                "difficulty": block.difficulty,
            })
        }
        Some(RequestRef::Model(model)) => json!({
            "union": "ModelValidation",
            "model_name": String::from_utf8_lossy(model.model_name),
            "model_commit": String::from_utf8_lossy(model.model_commit),
            "difficulty": model.difficulty,
            "cid": String::from_utf8_lossy(model.cid),
            "extra": String::from_utf8_lossy(model.extra),
            "txid": hex::encode(model.txid),
            "block_hash": hex::encode(model.block_hash),
            "block_height": model.block_height,
        }),
    };
    same("hash_id", request.hash_id, bytes(case, "hash_id").as_slice())?;
    same("validation_type", u64::from(request.validation_type), uint(case, "validation_type"))?;
    listed(&ours, case)
}

/// Every field of ours is listed with the same value.
fn listed(ours: &Value, case: &Value) -> Result<(), String> {
    for (key, ours) in ours.as_object().into_iter().flat_map(Map::iter) {
        same(key, ours, get(case, key))?;
    }
    Ok(())
}

pub fn validation_response(case: &Value) -> Result<(), String> {
    let (message, hash) = (bytes(case, "bytes"), bytes(case, "hash_identifier"));
    let code = u8::try_from(uint(case, "enum_response")).map_err(why)?;
    let expected = ValidationResponseRef { hash_identifier: &hash, enum_response: code };
    same(
        "known code",
        ValidationVerdict::from_code(code).map(ValidationVerdict::code),
        Some(code),
    )?;
    let own = expected.encode_to_vec().map_err(why)?;
    for message in [&message, &own] {
        same("fields", ValidationResponseRef::read(message).map_err(why)?, expected)?;
    }
    Ok(())
}

/// Hostile bytes: what the node refuses must be refused; what is accepted must mean the same.
pub fn malformed(case: &Value) -> Result<(), String> {
    let message = bytes(case, "bytes");
    let accepted = match text(case, "kind") {
        "Proof" => ProofRef::read(&message).map(|proof| (Some(proof), json!({}))),
        "MiningResponse" => MiningResponseRef::read(&message).map(|response| {
            let fields = json!({
                "req_id": response.req_id,
                "nonce": response.nonce,
                "adjusted_bits": response.adjusted_bits,
                "difficulty": response.difficulty,
                "pow_blob_hash": hex::encode(response.pow_blob_hash),
                "completion_id_hex": hex::encode(response.completion_id),
                "has_pow_blob": response.pow_blob.is_some(),
            });
            (response.pow_blob, fields)
        }),
        "BlockHeader" => BlockHeaderMessage::read(&message).map(|job| {
            let fields = json!({
                "req_id": job.req_id,
                "version": job.version,
                "prev_block_hash": hex::encode(job.prev_block_hash),
                "merkle_root": hex::encode(job.merkle_root),
                "timestamp": job.timestamp,
                "bits": job.bits,
            });
            (None, fields)
        }),
        "ValidationRequest" => ValidationRequestRef::read(&message).map(|request| {
            let fields = json!({
                "hash_id": hex::encode(request.hash_id),
                "validation_type": request.validation_type,
            });
            match request.request {
                Some(RequestRef::Block(block)) => (block.pow_blob, fields),
                _ => (None, fields),
            }
        }),
        "ValidationResponse" => ValidationResponseRef::read(&message).map(|response| {
            let fields = json!({
                "hash_identifier": hex::encode(response.hash_identifier),
                "enum_response": response.enum_response,
            });
            (None, fields)
        }),
        unknown => return Err(format!("unknown kind {unknown}")),
    };
    match (accepted, flag(case, "node_accepts")) {
        (Ok(_), false) => Err("accepted, the node refuses it".to_owned()),
        (Err(_), false) => Ok(()),
        (Err(error), true) if case.get("must_accept").is_some_and(|v| v == true) => {
            Err(format!("refused, but {error} is no reason"))
        }
        (Err(_), true) => Ok(()),
        (Ok((proof, ours)), true) => {
            for (key, theirs) in case.get("fields").and_then(Value::as_object).into_iter().flatten()
            {
                same(key, ours.get(key), Some(theirs))?;
            }
            match proof {
                Some(proof) => hashes(&proof, case),
                None => same("root expected", case.get("merkle_root").is_some(), false),
            }
        }
    }
}
