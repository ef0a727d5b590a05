//! The groups of `proof.json`: proofs in every layout, the conversions of wider numbers, messages,
//! hostile buffers and the size limit. How JSON describes a proof is read in [`object`]; the groups
//! of messages are judged in [`messages`].

mod messages;
mod object;

use crate::report::{Group, Report, same};
use crate::source::{bytes, get, text, uint, unhex};
use object::{described, from_wide_numbers};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorpow_core::proof::canonical::{canonical_len, canonical_to_vec, check_canonical_len};
use tensorpow_core::proof::commitment::{legacy_hash, model_hash};
use tensorpow_core::proof::{Encode, MiningResponseRef, Proof, ProofRef, commit, convert};

pub fn run(vectors: &Value, report: &mut Report) {
    let groups = vectors.as_object().expect("proof.json holds an object");
    for (name, group) in groups {
        match name.as_str() {
            "source" | "conventions" | "format" | "note" => {}
            "proofs" => cases(report, name, group, proof),
            "python_writer" => cases(report, name, get(group, "cases"), python_writer),
            "f64_to_f32" => cases(report, name, get(group, "cases"), f64_to_f32),
            "mining_responses" => cases(report, name, group, messages::mining_response),
            "cpp_writer_mining_responses" => {
                cases(report, name, group, messages::cpp_writer_mining_response);
            }
            "block_headers" => cases(report, name, group, messages::block_header),
            "validation_requests" => cases(report, name, group, messages::validation_request),
            "validation_responses" => cases(report, name, group, messages::validation_response),
            "malformed" => cases(report, name, get(group, "cases"), messages::malformed),
            "size_limit" => cases(report, name, group, size_limit),
            unknown => report.unknown(unknown),
        }
    }
}

/// Runs one group, a list of cases named by their `name` or their place in the list.
fn cases(
    report: &mut Report,
    name: &str,
    group: &Value,
    check: impl Fn(&Value) -> Result<(), String>,
) {
    let list = group.as_array().unwrap_or_else(|| panic!("{name} holds no list of cases"));
    report.group(name, |group: &mut Group| {
        for (place, case) in list.iter().enumerate() {
            let id = case.get("name").and_then(Value::as_str);
            group.case(id.map_or_else(|| place.to_string(), str::to_owned), check(case));
        }
    });
}

/// Text of an error, for the report.
fn why(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A proof against the hashes that a case lists; absent keys are not compared.
fn hashes(proof: &ProofRef<'_>, case: &Value) -> Result<(), String> {
    let canonical = canonical_to_vec(proof).map_err(why)?;
    let commitment = commit(proof).map_err(why)?;
    same("own measure of the length", canonical_len(proof), canonical.len() as u64)?;
    let ours = [
        ("canonical", hex::encode(&canonical)),
        ("canonical_sha256", hex::encode(Sha256::digest(&canonical))),
        ("legacy_hash", hex::encode(legacy_hash(proof).map_err(why)?)),
        ("model_hash", hex::encode(model_hash(proof.model_identifier))),
        ("leaf_tick", hex::encode(commitment.tick_leaf)),
        ("leaf_vdf", hex::encode(commitment.vdf_leaf)),
        ("leaf_meta", hex::encode(commitment.meta_leaf)),
        ("leaf_rest", hex::encode(commitment.rest_leaf)),
        ("merkle_root", format!("{:x}", commitment.root)),
    ];
    for (key, ours) in ours {
        if let Some(theirs) = case.get(key).and_then(Value::as_str) {
            same(key, ours.as_str(), theirs)?;
        }
    }
    match case.get("canonical_len").and_then(Value::as_u64) {
        Some(len) => same("canonical_len", canonical.len() as u64, len),
        None => Ok(()),
    }
}

/// Every layout decodes to the described proof, and so does our own encoding of each.
fn proof(case: &Value) -> Result<(), String> {
    let described: Proof = described(get(case, "object"));
    // The only proof that our encoding may change is one that stores a -0.0 scalar.
    let keeps_sign = case.get("node_reencoding_differs").is_some();
    let expected = match keeps_sign {
        true => described.as_ref(),
        false => described.as_ref().as_transported(),
    };
    hashes(&expected, case).map_err(|e| format!("described: {e}"))?;
    through_our_encoding(&expected).map_err(|e| format!("own encoding: {e}"))?;

    let layouts = get(case, "flatbuffers").as_object().ok_or("flatbuffers is no object")?;
    for (builder, layout) in layouts {
        let layout = unhex(layout.as_str().ok_or("a layout is no text")?);
        let decoded = ProofRef::read(&layout).map_err(|e| format!("{builder}: {e}"))?;
        let differs = case.get(format!("{builder}_differs")).is_some();
        if !differs {
            hashes(&decoded, case).map_err(|e| format!("{builder}: {e}"))?;
        }
        through_our_encoding(&decoded).map_err(|e| format!("{builder}, own encoding: {e}"))?;
        let owned = Proof::try_from(&decoded).map_err(why)?;
        same(
            "root of the owned copy",
            commit(&owned.as_ref()).map_err(why)?,
            commit(&decoded).map_err(why)?,
        )?;
    }
    Ok(())
}

/// Encoded and decoded again, a proof has the root it has as transported.
fn through_our_encoding(proof: &ProofRef<'_>) -> Result<(), String> {
    let message = proof.encode_to_vec().map_err(why)?;
    same("announced length", proof.encoded_len(), Ok(message.len()))?;
    same("identifier", message.get(4..8), Some(b"PROF".as_slice()))?;
    let decoded = ProofRef::read(&message).map_err(why)?;
    same(
        "root",
        commit(&decoded).map_err(why)?.root,
        commit(&proof.as_transported()).map_err(why)?.root,
    )
}

/// The reference's Python writer: what it sent decodes to what it was given, numbers converted by
/// our rules. Its text of `extra_flags` is its own choice.
fn python_writer(case: &Value) -> Result<(), String> {
    let message = bytes(case, "mining_response");
    let response = MiningResponseRef::read(&message).map_err(why)?;
    let wire = response.pow_blob.ok_or("no proof")?;
    let expected = text(case, "canonical_of_wire_proof");
    let root = text(case, "merkle_root_of_wire_proof");
    let flags = text(case, "extra_flags_on_wire");
    same("extra_flags", wire.extra_flags, flags.as_bytes())?;
    let completion_id = text(case, "completion_id_on_wire");
    same("completion_id", response.completion_id, completion_id.as_bytes())?;

    let mut given = from_wide_numbers(get(case, "input"));
    given.extra_flags = flags.as_bytes().to_vec();
    for (what, proof) in [("wire", wire), ("input", given.as_ref())] {
        let canonical = canonical_to_vec(&proof).map_err(why)?;
        same(what, hex::encode(canonical).as_str(), expected)?;
        same(what, format!("{:x}", commit(&proof).map_err(why)?.root).as_str(), root)?;
    }
    Ok(())
}

fn f64_to_f32(case: &Value) -> Result<(), String> {
    let wide = object::f64_bits(get(case, "f64"));
    let (ours, theirs) = (convert::float(wide), object::f32_bits(get(case, "f32")));
    if ours.is_nan() && theirs.is_nan() {
        return Ok(());
    }
    same("bits", ours.to_bits(), theirs.to_bits())
}

/// A base object with a long `extra_flags` is within the limit or not.
fn size_limit(case: &Value) -> Result<(), String> {
    let mut proof = described(get(case, "base_object"));
    let len = usize::try_from(uint(case, "extra_flags_len")).map_err(why)?;
    proof.extra_flags = vec![b'a'; len];
    same("canonical_size", canonical_len(&proof.as_ref()), uint(case, "canonical_size"))?;
    let verdict = match check_canonical_len(&proof.as_ref()) {
        Ok(_) => "ok",
        Err(_) => "bad-pow-blob-size",
    };
    same("verdict", verdict, text(case, "verdict"))?;
    same("commitment refused", commit(&proof.as_ref()).is_err(), verdict != "ok")
}
