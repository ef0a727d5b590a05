//! How the vectors describe a proof: strings as hex, floats as bit patterns, only the fields that
//! are present.

use crate::source::{bits32, text, uint, unhex};
use serde_json::Value;
use tensorpow_core::proof::{Proof, convert};

/// A proof from its description.
pub fn described(object: &Value) -> Proof {
    let field = |key: &str| object.get(key);
    let int = |key: &str| field(key).map_or(0, unsigned);
    let small = |key: &str| field(key).map_or(0, word);
    let raw = |key: &str| field(key).map_or_else(Vec::new, |v| unhex(string(v)));
    let spelled = |key: &str| field(key).map_or_else(Vec::new, |v| unhex(text(v, "hex")));
    let float = |key: &str| field(key).map_or(0.0, f32_bits);
    let words = |key: &str| field(key).map_or_else(Vec::new, word_list);
    let floats = |key: &str| field(key).map_or_else(Vec::new, float_list);
    Proof {
        version: u8::try_from(int("version")).expect("version is a byte"),
        tick: int("tick"),
        timestamp: int("timestamp"),
        target: raw("target"),
        vdf: raw("vdf"),
        hash: raw("hash"),
        block_hash: raw("block_hash"),
        header_prefix: raw("header_prefix"),
        is_solution: int("is_solution") != 0,
        model_identifier: spelled("model_identifier"),
        compute_precision: spelled("compute_precision"),
        ipfs_cid: spelled("ipfs_cid"),
        extra_flags: spelled("extra_flags"),
        temperature: float("temperature"),
        top_p: float("top_p"),
        top_k: small("top_k"),
        repetition_penalty: float("repetition_penalty"),
        chosen_tokens: words("chosen_tokens"),
        chosen_probs: floats("chosen_probs"),
        sampling_u: floats("sampling_u"),
        softmax_normalizers: floats("softmax_normalizers"),
        prompt_tokens: words("prompt_tokens"),
        pad_mask: field("pad_mask").map_or_else(Vec::new, |mask| {
            items(mask).iter().map(|v| u8::try_from(unsigned(v)).expect("a mask byte")).collect()
        }),
        topk_logits: rows(field("topk_logits"), float_list),
        topk_indices: rows(field("topk_indices"), word_list),
        logsumexp_stats: rows(field("logsumexp_stats"), float_list),
    }
}

/// A proof from numbers held in wider types, converted by the rules for producers.
pub fn from_wide_numbers(input: &Value) -> Proof {
    let float = |key: &str| convert::float(f64_bits(&input[key]));
    let floats = |list: &Value| items(list).iter().map(f64_bits).map(convert::float).collect();
    let tokens = |list: &Value| items(list).iter().map(signed).map(convert::token).collect();
    let raw = |key: &str| unhex(text(input, key));
    let spelled = |key: &str| text(input, key).as_bytes().to_vec();
    Proof {
        version: u8::try_from(uint(input, "version")).expect("version is a byte"),
        tick: uint(input, "tick"),
        timestamp: convert::timestamp(f64_bits(&input["timestamp"])).expect("a time"),
        target: raw("target"),
        vdf: raw("vdf"),
        hash: raw("hash"),
        block_hash: raw("block_hash"),
        header_prefix: raw("header_prefix"),
        is_solution: input["is_solution"].as_bool().expect("is_solution is a boolean"),
        model_identifier: spelled("model_identifier"),
        compute_precision: spelled("compute_precision"),
        ipfs_cid: spelled("ipfs_cid"),
        extra_flags: Vec::new(),
        temperature: float("temperature"),
        top_p: float("top_p"),
        top_k: word(&input["top_k"]),
        repetition_penalty: float("repetition_penalty"),
        chosen_tokens: tokens(&input["chosen_tokens"]),
        chosen_probs: floats(&input["chosen_probs"]),
        sampling_u: floats(&input["sampling_u"]),
        softmax_normalizers: floats(&input["softmax_normalizers"]),
        prompt_tokens: tokens(&input["prompt_tokens"]),
        pad_mask: items(&input["pad_mask"]).iter().map(|v| u8::from(signed(v) != 0)).collect(),
        topk_logits: items(&input["topk_logits"]).iter().map(floats).collect(),
        topk_indices: items(&input["topk_indices"]).iter().map(tokens).collect(),
        logsumexp_stats: items(&input["logsumexp_stats"]).iter().map(floats).collect(),
    }
}

/// A float described by its f32 pattern.
pub fn f32_bits(v: &Value) -> f32 {
    f32::from_bits(bits32(text(v, "bits")))
}

/// A float described by its f64 pattern.
pub fn f64_bits(v: &Value) -> f64 {
    let bits = text(v, "bits");
    f64::from_bits(u64::from_str_radix(bits, 16).unwrap_or_else(|e| panic!("{bits}: {e}")))
}

/// Rows of a matrix; `null` is a row table without values.
fn rows<T>(matrix: Option<&Value>, row: fn(&Value) -> Vec<T>) -> Vec<Vec<T>> {
    let rows = matrix.map_or(&[] as &[Value], items);
    rows.iter().map(|v| if v.is_null() { Vec::new() } else { row(v) }).collect()
}

fn word_list(v: &Value) -> Vec<u32> {
    items(v).iter().map(word).collect()
}

fn float_list(v: &Value) -> Vec<f32> {
    items(&v["bits"]).iter().map(|bits| f32::from_bits(bits32(string(bits)))).collect()
}

fn items(v: &Value) -> &[Value] {
    v.as_array().unwrap_or_else(|| panic!("{v:.60} is no list"))
}

fn string(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v:.60} is no string"))
}

fn unsigned(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v:.60} is no unsigned integer"))
}

fn signed(v: &Value) -> i64 {
    v.as_i64().unwrap_or_else(|| panic!("{v:.60} is no integer"))
}

fn word(v: &Value) -> u32 {
    u32::try_from(unsigned(v)).unwrap_or_else(|e| panic!("{v:.60}: {e}"))
}
