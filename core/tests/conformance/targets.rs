//! The groups of `targets.json`: compact bits, model adjustment, share targets, header prefixes,
//! the header test, hex spellings and block hashes.

use crate::report::{Group, Report, same};
use crate::source::{array, bytes, flag, get, list, text, uint};
use serde_json::Value;
use std::fmt::Display;
use tensorpow_core::classify::{judge, node_header_test, tier};
use tensorpow_core::header::{BlockHeader, HeaderFields};
use tensorpow_core::target::{
    AdjustError, CompactTarget, Difficulty, Normalizer, Target, adjust_for_model,
    check_adjusted_ratio, parse_base_share_target, share_target,
};
use tensorpow_core::units::{BlockHash, Digest, HashPow, HeaderPrefix, MerkleRoot};

type Case = fn(&Value) -> Result<(), String>;

pub fn run(vectors: &Value, report: &mut Report) {
    let groups = vectors.as_object().expect("targets.json is an object");
    for (name, group) in groups {
        let case: Case = match name.as_str() {
            "source" | "conventions" => continue,
            "compact_to_target" => compact_to_target,
            "target_to_compact" => target_to_compact,
            "adjusted_bits" => adjusted_bits,
            "ratio_check" => ratio_check,
            "share_targets" => share_targets,
            "header_prefix" => header_prefix,
            "header_checks" => header_checks,
            "target_hex_normalisation" => target_hex_normalisation,
            "block_hashes" => block_hashes,
            unknown => {
                report.unknown(unknown);
                continue;
            }
        };
        let cases = group.as_array().map_or_else(|| list(group, "cases"), Vec::as_slice);
        report.group(name, |counter: &mut Group| {
            for (number, vector) in cases.iter().enumerate() {
                counter.case(number, case(vector));
            }
        });
    }
}

fn bits(v: &Value, key: &str) -> CompactTarget {
    CompactTarget::from_bits(u32_of(v, key))
}

fn u32_of(v: &Value, key: &str) -> u32 {
    u32::try_from(uint(v, key)).unwrap_or_else(|e| panic!("{key}: {e}"))
}

fn target(text: &str) -> Target {
    Target::from_hex_strict(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn difficulty(v: &Value) -> i64 {
    get(v, "difficulty").as_i64().expect("difficulty is an i64")
}

fn normalizer(v: &Value) -> Normalizer {
    Normalizer(uint(v, "normalizer"))
}

fn shown(value: impl Display) -> String {
    value.to_string()
}

/// Runs every comparison of a case in turn; the first difference is the answer.
fn all<const N: usize>(results: [Result<(), String>; N]) -> Result<(), String> {
    results.into_iter().collect()
}

fn compact_to_target(v: &Value) -> Result<(), String> {
    let bits = bits(v, "bits");
    let expanded = bits.expand();
    let below_2_224 = target(&format!("{}{}", "0".repeat(8), "f".repeat(56)));
    all([
        same("target", shown(expanded.target).as_str(), text(v, "target")),
        same("negative", expanded.negative, flag(v, "negative")),
        same("overflow", expanded.overflow, flag(v, "overflow")),
        same(
            "valid on tensor",
            bits.derive(&Target::POW_LIMIT_TENSOR).is_ok(),
            flag(v, "valid_tensor"),
        ),
        same("valid below 2^224", bits.derive(&below_2_224).is_ok(), flag(v, "valid_limit_2_224")),
    ])
}

fn target_to_compact(v: &Value) -> Result<(), String> {
    same("bits", target(text(v, "target")).compact(), bits(v, "bits"))
}

/// `ok` says that nBits and the difficulty are valid. A target of zero is `ok` there and refused
/// by ours: it cannot be mined.
fn adjusted_bits(v: &Value) -> Result<(), String> {
    let limit = target(text(v, "pow_limit"));
    let Ok(d) = Difficulty::new(difficulty(v)) else {
        return same("ok", false, flag(v, "ok"));
    };
    match adjust_for_model(bits(v, "bits"), d, normalizer(v), &limit) {
        Ok(adjusted) => all([
            same("ok", true, flag(v, "ok")),
            same("max_target", shown(adjusted.max_target).as_str(), text(v, "max_target")),
            same("adjusted_bits", adjusted.bits, bits(v, "adjusted_bits")),
            same("adjusted_target", shown(adjusted.target).as_str(), text(v, "adjusted_target")),
        ]),
        Err(AdjustError::Unminable { .. }) => all([
            same("ok", true, flag(v, "ok")),
            same("max_target", shown(Target::ZERO).as_str(), text(v, "max_target")),
            same("adjusted_bits", CompactTarget::from_bits(0), bits(v, "adjusted_bits")),
            same("adjusted_target", shown(Target::ZERO).as_str(), text(v, "adjusted_target")),
        ]),
        Err(AdjustError::InvalidBits { .. }) => same("ok", false, flag(v, "ok")),
        Err(other) => Err(shown(other)),
    }
}

fn ratio_check(v: &Value) -> Result<(), String> {
    let limit = target(text(v, "pow_limit"));
    let (bits, adjusted) = (bits(v, "bits"), bits(v, "adjusted_bits"));
    let ours = check_adjusted_ratio(bits, adjusted, difficulty(v), normalizer(v), &limit)
        .map_or_else(|error| error.as_str(), |()| "ok");
    same("result", ours, text(v, "result"))
}

fn derive_share(v: &Value) -> Result<Target, String> {
    let base = parse_base_share_target(text(v, "base_share_target")).map_err(shown)?;
    let d = Difficulty::new(difficulty(v)).map_err(shown)?;
    share_target(&base, d, normalizer(v)).map_err(shown)
}

/// Plain hex of 1 to 64 digits and errors are exact; a spelling only the reference reads is an
/// error of ours.
fn share_targets(v: &Value) -> Result<(), String> {
    let base = text(v, "base_share_target");
    let plain = (1..=64).contains(&base.len()) && base.bytes().all(|b| b.is_ascii_hexdigit());
    let ours = derive_share(v);
    match v.get("adjusted_share_target").and_then(Value::as_str) {
        Some(theirs) if plain => same("share target", shown(ours?).as_str(), theirs),
        Some(_) => same("refused", ours.is_err(), true),
        None => all([same("error", flag(v, "error"), true), same("refused", ours.is_err(), true)]),
    }
}

fn header_prefix(v: &Value) -> Result<(), String> {
    let parsed = HeaderPrefix::from_hex(text(v, "header_prefix"));
    if v.get("error").is_some() {
        return same("refused", parsed.is_err(), flag(v, "error"));
    }
    let prefix = parsed.map_err(shown)?;
    let fields = HeaderFields {
        version: u32_of(v, "version"),
        parent: BlockHash::from_bytes(array(text(v, "prev_block_hash"))),
        merkle_root: MerkleRoot::from_bytes(array(text(v, "merkle_root"))),
        time: u32_of(v, "timestamp"),
        bits: bits(v, "bits"),
    };
    let renewed = prefix.with_bits(bits(v, "new_bits"));
    all([
        same("prefix", HeaderPrefix::from_fields(&fields), prefix),
        same("fields", prefix.fields(), fields),
        same("with new bits", renewed.as_bytes().to_vec(), bytes(v, "with_new_bits")),
    ])
}

/// `node_pow_ok` compares the hash with the target of the prefix's bits, whatever `target` says;
/// the node accepts a proof when that target is the proof's too.
fn header_checks(v: &Value) -> Result<(), String> {
    let prefix = HeaderPrefix::from_bytes(array(text(v, "header_prefix")));
    let digest = Digest::from_bytes(array(text(v, "digest")));
    let block = target(text(v, "target"));
    let share = match text(v, "share_target") {
        "" => None,
        given => Some(target(given)),
    };
    let verdict = judge(&prefix, &digest, &block, share.as_ref());
    let header = BlockHeader {
        prefix,
        nonce: verdict.nonce,
        bits: prefix.bits(),
        hash_pow: HashPow::from_bytes([0; 32]),
        flags: 0,
    };
    let (of_bits, pow_ok) = (flag(v, "target_matches_bits"), flag(v, "node_pow_ok"));
    all([
        same("nonce", verdict.nonce, u32_of(v, "nonce")),
        same("header hash", verdict.header_hash.as_bytes().to_vec(), bytes(v, "header_hash")),
        same(
            "displayed hash",
            shown(verdict.header_hash.display()).as_str(),
            text(v, "header_hash_display"),
        ),
        same("block", verdict.is_solution, flag(v, "block_ok")),
        same("share", verdict.is_share, flag(v, "share_ok")),
        same("classification", tier(&verdict, false).as_str(), text(v, "classification")),
        same("target of the bits", prefix.bits().expand().target == block, of_bits),
        same("proof of work", header.has_proof_of_work(&Target::POW_LIMIT_TENSOR), pow_ok),
        same("node's test", node_header_test(&prefix, &digest, &block).is_ok(), of_bits && pow_ok),
    ])
}

fn target_hex_normalisation(v: &Value) -> Result<(), String> {
    let ours = Target::from_hex_padded(text(v, "hex")).ok().map(shown);
    same("normalised", ours.as_deref(), get(v, "normalised").as_str())
}

fn block_hashes(v: &Value) -> Result<(), String> {
    let version = get(v, "version").as_i64().expect("version is an integer");
    let version = i32::try_from(version).expect("version is an i32");
    let fields = HeaderFields {
        version: u32::from_le_bytes(version.to_le_bytes()),
        parent: BlockHash::from_bytes(array(text(v, "prev_block_hash"))),
        merkle_root: MerkleRoot::from_bytes(array(text(v, "merkle_root"))),
        time: u32_of(v, "time"),
        bits: bits(v, "adjusted_bits"),
    };
    let header = BlockHeader {
        prefix: HeaderPrefix::from_fields(&fields),
        nonce: u32_of(v, "nonce"),
        bits: bits(v, "bits"),
        hash_pow: HashPow::from_bytes(array(text(v, "hash_pow"))),
        flags: u8::try_from(uint(v, "flags")).expect("flags is a byte"),
    };
    let (short, long) = (header.short_hash(), header.long_hash());
    all([
        same("header", header.to_bytes().to_vec(), bytes(v, "serialized_header")),
        same("short hash", short.as_bytes().to_vec(), bytes(v, "short_hash")),
        same("long hash", long.as_bytes().to_vec(), bytes(v, "long_hash")),
        same("short hash shown", shown(short.display()).as_str(), text(v, "short_display")),
        same("long hash shown", shown(long.display()).as_str(), text(v, "long_display")),
    ])
}
