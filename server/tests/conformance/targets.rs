//! Pure functions of the mining context: block and share targets, the bits in a header prefix, the
//! spelling of model identifiers.
//!
//! | group | where the specification replaces the reference |
//! |---|---|
//! | `block_target` | `node_rule` is compared, `reference_proxy` is its inverse (10.2) |
//! | `share_target` | a base is 1 to 64 plain hex digits; what else the reference reads is an error (10.3) |
//! | `header_prefix_bits` | none |
//! | `normalize_model_identifier` | none |

use crate::report::{Group, same};
use serde_json::Value;
use tensorpow_core::target::{
    CompactTarget, Difficulty, Normalizer, Target, adjust_for_model, parse_base_share_target,
    share_target as adjusted_share_target,
};
use tensorpow_core::units::HeaderPrefix;
use tensorpow_server::mining::model::normalize_model_identifier as normalized;

fn cases(group: &Value) -> impl Iterator<Item = (usize, &Value)> {
    group.as_array().expect("a list of cases").iter().enumerate()
}

fn bits(value: &Value) -> CompactTarget {
    let bits = value.as_u64().and_then(|bits| u32::try_from(bits).ok());
    CompactTarget::from_bits(bits.expect("nBits fit 32 bits"))
}

/// The block target a job is mined against. spec: proxy §10.2
pub fn block_target(_: &Value, group: &Value, report: &mut Group) {
    for (id, case) in cases(group) {
        let difficulty = case["difficulty"].as_i64().and_then(|d| Difficulty::new(d).ok());
        let ours = difficulty.and_then(|difficulty| {
            let limit = &Target::POW_LIMIT_TENSOR;
            adjust_for_model(bits(&case["nbits"]), difficulty, Normalizer::DEFAULT, limit).ok()
        });
        let rule = &case["node_rule"];
        let theirs = rule.get("target").map(|target| {
            (text(&rule["max_adjusted_target"]), bits(&rule["nbits"]).to_bits(), text(target))
        });
        let ours = ours.map(|adjusted| {
            let hex = |target: Target| format!("{target:x}");
            (hex(adjusted.max_target), adjusted.bits.to_bits(), hex(adjusted.target))
        });
        report.case(id, same("target", ours, theirs));
    }
}

/// The share target of a broker's base. spec: proxy §10.3
pub fn share_target(_: &Value, group: &Value, report: &mut Group) {
    for (id, case) in cases(group) {
        let base = case["base_share_target"].as_str().unwrap_or_default();
        let plain = (1..=64).contains(&base.len()) && base.bytes().all(|b| b.is_ascii_hexdigit());
        let ours = parse_base_share_target(base).ok().and_then(|base| {
            let normalizer = case["normalizer"].as_u64().unwrap_or_default();
            let difficulty = Difficulty::new(case["difficulty"].as_i64().unwrap_or_default());
            adjusted_share_target(&base, difficulty.ok()?, Normalizer(normalizer)).ok()
        });
        let theirs = case["result"].get("share_target").filter(|_| plain).map(text);
        report.case(id, same("target", ours.map(|target| format!("{target:x}")), theirs));
    }
}

/// The prefix with other bits. spec: proxy §10.2
pub fn header_prefix_bits(_: &Value, group: &Value, report: &mut Group) {
    for (id, case) in cases(group) {
        let ours = HeaderPrefix::from_hex(case["prefix"].as_str().unwrap_or_default())
            .ok()
            .map(|prefix| format!("{:x}", prefix.with_bits(bits(&case["nbits"]))));
        report.case(id, same("prefix", ours, case["result"].get("prefix").map(text)));
    }
}

/// One spelling for two of the same model. spec: proxy §16.3
pub fn normalize_model_identifier(_: &Value, group: &Value, report: &mut Group) {
    for (id, case) in cases(group) {
        let ours = normalized(case["identifier"].as_str().unwrap_or_default());
        report.case(id, same("identifier", ours, text(&case["result"]["normalized"])));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
