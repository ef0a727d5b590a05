//! The bases of `verify.json`: windows of many shapes, also some that the rules refuse.

use crate::source::{bits32, bytes, folders, get, load, text, uint};
use crate::{round_trip, say, words};
use serde_json::Value;
use tensorpow_core::proof::Proof;

/// A proof as `verify.json` describes it.
fn described(v: &Value) -> Proof {
    let small = |key: &str| u32::try_from(uint(v, key)).unwrap();
    let spelled = |key: &str| match get(v, key) {
        Value::String(text) => text.as_bytes().to_vec(),
        other => bytes(other, "hex"),
    };
    let float = |key: &str| f32::from_bits(bits32(text(get(v, key), "f32")));
    let ids = |key: &str| {
        let list = get(v, key).as_array().unwrap();
        list.iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
    };
    let floats = |v: &Value| words(v).into_iter().map(f32::from_bits).collect::<Vec<f32>>();
    let rows = |key: &str| get(v, key).as_array().unwrap().iter();
    Proof {
        version: u8::try_from(uint(v, "version")).unwrap(),
        tick: uint(v, "tick"),
        timestamp: uint(v, "timestamp"),
        target: bytes(v, "target"),
        vdf: bytes(v, "vdf"),
        hash: bytes(v, "hash"),
        block_hash: bytes(v, "block_hash"),
        header_prefix: bytes(v, "header_prefix"),
        is_solution: get(v, "is_solution").as_bool().unwrap(),
        model_identifier: spelled("model_identifier"),
        compute_precision: spelled("compute_precision"),
        ipfs_cid: spelled("ipfs_cid"),
        extra_flags: spelled("extra_flags"),
        temperature: float("temperature"),
        top_p: float("top_p"),
        top_k: small("top_k"),
        repetition_penalty: float("repetition_penalty"),
        chosen_tokens: ids("chosen_tokens"),
        chosen_probs: floats(get(v, "chosen_probs")),
        sampling_u: floats(get(v, "sampling_u")),
        softmax_normalizers: floats(get(v, "softmax_normalizers")),
        prompt_tokens: ids("prompt_tokens"),
        pad_mask: bytes(v, "pad_mask"),
        topk_logits: rows("topk_logits").map(floats).collect(),
        topk_indices: rows("topk_indices").map(words).collect(),
        logsumexp_stats: rows("logsumexp_stats").map(floats).collect(),
    }
}

#[test]
fn every_base_of_the_verifier_comes_back() {
    let mut bases = 0;
    for folder in folders() {
        let Some(vectors) = load(&folder, "verify.json").unwrap() else { continue };
        for (name, base) in get(&vectors, "bases").as_object().unwrap() {
            round_trip(&described(get(base, "proof")).as_ref(), name);
            bases += 1;
        }
    }
    match bases {
        0 => say("bases of verify.json: skipped, no folder of vectors has the file"),
        _ => say(&format!("bases of verify.json: {bases} came back")),
    }
}
