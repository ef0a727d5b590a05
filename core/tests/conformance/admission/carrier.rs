//! Groups `carrier` and `merge`.

use super::{all, optional_bytes};
use crate::report::same;
use crate::source::{bytes, text};
use serde_json::Value;
use tensorpow_core::admission::{MergeError, extract, merge_to_vec, parse_nonce};

pub(super) fn extracted(v: &Value) -> Result<(), String> {
    let found = extract(&bytes(v, "extra_flags")).map(|nonce| nonce.as_bytes().to_vec());
    same("nonce", found, optional_bytes(v, "nonce"))
}

/// The requirements of §3.2: a malformed nonce is refused; every other top-level member of a valid
/// object is kept; `v3` stands there once; anything else becomes `_diff`; and the nonce can be read
/// back, or there is an error.
pub(super) fn merged(v: &Value) -> Result<(), String> {
    let (input, digits) = (bytes(v, "input"), text(v, "nonce"));
    let Some(nonce) = parse_nonce(digits.as_bytes()) else {
        return same("the reference refuses the nonce", v["cpp_recovers"].is_null(), true);
    };
    let merged = match merge_to_vec(&input, &nonce) {
        Ok(merged) => merged,
        // Only a carrier too long for the claim may fail; the reference loses the nonce then.
        Err(MergeError::TooLong { length }) => {
            return all([
                same("room was lacking", length > 4096, true),
                same("the reference loses it", v["cpp_recovers"].as_bool(), Some(false)),
            ]);
        }
        Err(other) => return Err(other.to_string()),
    };
    let after: Value = serde_json::from_slice(&merged).map_err(|e| e.to_string())?;
    let mut after = after.as_object().cloned().ok_or("the result is no object")?;
    let claim = after.remove("v3").ok_or("v3 is missing")?;
    let object = serde_json::from_slice::<Value>(&input).ok();
    let object = object.and_then(|value| value.as_object().cloned());
    // What the strict grammar refuses is kept as text, though a lenient reader would take it.
    let kept = if let Some(diff) = after.get("_diff") {
        same("_diff", diff.as_str().map(str::as_bytes), Some(&input[..]))
    } else {
        let mut before = object.unwrap_or_default();
        before.remove("v3");
        same("members", after.clone(), before)
    };
    all([
        same("read back", extract(&merged), Some(nonce)),
        same("claim", claim["admission_nonce"].as_str(), Some(digits)),
        kept,
        same("v3 stands once", count_of_v3(&merged), 1),
        must_wrap(&input).map_or(Ok(()), |must| same("wrapped", after.contains_key("_diff"), must)),
    ])
}

/// Occurrences of the claim as it is written.
fn count_of_v3(merged: &[u8]) -> usize {
    let claim = br#""v3":{"admission_nonce":""#;
    merged.windows(claim.len()).filter(|window| window == claim).count()
}

/// True when the input is neither blank nor an object that keeps the carrier's rules. An object
/// without `v3` keeps them when the extractor finds a claim that is put in front of its members;
/// of one with `v3` nothing is said.
fn must_wrap(input: &[u8]) -> Option<bool> {
    let inner = input.trim_ascii().strip_prefix(b"{");
    let Some(inner) = inner else {
        return Some(!input.iter().all(|byte| b" \t\r\n".contains(byte)));
    };
    if serde_json::from_slice::<Value>(input).is_ok_and(|object| object.get("v3").is_some()) {
        return None;
    }
    let claim = format!(r#"{{"v3":{{"admission_nonce":"{}"}}"#, "0".repeat(64));
    let comma: &[u8] = if inner.trim_ascii_start().starts_with(b"}") { b"" } else { b"," };
    Some(extract(&[claim.as_bytes(), comma, inner].concat()).is_none())
}
