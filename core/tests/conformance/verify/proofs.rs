//! The base proofs as owned records.

use crate::source::{bits32, flag, get, list, text, uint, unhex};
use serde_json::Value;
use std::collections::HashMap;
use tensorpow_core::proof::Proof;

/// All base proofs by name.
pub fn bases(bases: &Value) -> HashMap<String, Proof> {
    let bases = bases.as_object().expect("bases is an object");
    bases.iter().map(|(name, base)| (name.clone(), read(get(base, "proof")))).collect()
}

/// Little-endian words given as hex.
pub fn words(hex: &str) -> Vec<u32> {
    let bytes = unhex(hex);
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

/// Little-endian floats given as hex.
pub fn floats(hex: &str) -> Vec<f32> {
    words(hex).into_iter().map(f32::from_bits).collect()
}

/// A list of integers.
pub fn ids(list: &[Value]) -> Vec<u32> {
    list.iter().map(|id| u32::try_from(id.as_u64().expect("an id")).expect("a u32")).collect()
}

fn read(v: &Value) -> Proof {
    let hex = |key| unhex(text(v, key));
    // A string field that is no UTF-8 is given as bytes.
    let string = |key: &str| match v.get(format!("{key}_utf8hex")) {
        Some(bytes) => unhex(bytes.as_str().expect("hex")),
        None => text(v, key).as_bytes().to_vec(),
    };
    let float = |key| f32::from_bits(bits32(text(get(v, key), "f32")));
    let list_of_floats = |key| floats(text(get(v, key), "f32le"));
    let rows = |key| -> Vec<Vec<f32>> {
        list(v, key).iter().map(|row| floats(text(row, "f32le"))).collect()
    };
    Proof {
        version: u8::try_from(uint(v, "version")).expect("a version"),
        tick: uint(v, "tick"),
        timestamp: uint(v, "timestamp"),
        target: hex("target"),
        vdf: hex("vdf"),
        hash: hex("hash"),
        block_hash: hex("block_hash"),
        header_prefix: hex("header_prefix"),
        is_solution: flag(v, "is_solution"),
        model_identifier: string("model_identifier"),
        compute_precision: string("compute_precision"),
        ipfs_cid: string("ipfs_cid"),
        extra_flags: string("extra_flags"),
        temperature: float("temperature"),
        top_p: float("top_p"),
        top_k: u32::try_from(uint(v, "top_k")).expect("a u32"),
        repetition_penalty: float("repetition_penalty"),
        chosen_tokens: ids(list(v, "chosen_tokens")),
        chosen_probs: list_of_floats("chosen_probs"),
        sampling_u: list_of_floats("sampling_u"),
        softmax_normalizers: list_of_floats("softmax_normalizers"),
        prompt_tokens: ids(list(v, "prompt_tokens")),
        pad_mask: hex("pad_mask"),
        topk_logits: rows("topk_logits"),
        topk_indices: list(v, "topk_indices").iter().map(|row| words(text(row, "u32le"))).collect(),
        logsumexp_stats: rows("logsumexp_stats"),
    }
}
