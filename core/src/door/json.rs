//! Reads a payload from JSON: an object, or a string that holds the same JSON. Every value that is
//! not what it must be is named with its key.

use super::Payload;
use crate::target::{CompactTarget, Difficulty, Target};
use crate::units::{BlockHash, HeaderPrefix, HexError, MAX_VDF_BYTES, VdfBlob};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec;
use core::fmt;
use serde_json::{Map, Number, Value};

/// Longest payload text taken, in bytes; a real one has about 1 kB.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// Why a payload cannot be mined with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// The text is longer than [`MAX_PAYLOAD_BYTES`].
    TooLong {
        /// Bytes found.
        found: usize,
    },
    /// The text is not JSON.
    NotJson {
        /// The parser's words.
        why: String,
    },
    /// The value is neither an object nor a string that holds one.
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// A required key is missing or null.
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value has another type than its key asks for.
    Type {
        /// The key.
        key: &'static str,
        /// The type it must have.
        wanted: &'static str,
    },
    /// A text is not the hex it must be.
    Hex {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: HexError,
    },
    /// A VDF blob of no or too many bytes.
    VdfLength {
        /// Hex digits found.
        digits: usize,
    },
    /// A number that does not fit.
    Range {
        /// The key.
        key: &'static str,
        /// The number's text.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
}

impl PayloadError {
    /// A short name for counters; the values it stands for are few and known.
    #[must_use]
    pub fn label(&self) -> &'static str {
        let key = match self {
            Self::TooLong { .. } => return "payload_too_long",
            Self::NotJson { .. } => return "payload_not_json",
            Self::NotAnObject { .. } => return "payload_not_an_object",
            Self::VdfLength { .. } => "vdf",
            Self::Missing { key }
            | Self::Type { key, .. }
            | Self::Hex { key, .. }
            | Self::Range { key, .. } => key,
        };
        LABELS.iter().find(|(name, _)| *name == key).map_or("payload", |(_, label)| label)
    }

    /// Every label there is.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        ["payload_too_long", "payload_not_json", "payload_not_an_object"]
            .into_iter()
            .chain(LABELS.iter().map(|(_, label)| *label))
    }
}

/// Counter labels by key.
const LABELS: [(&str, &str); 12] = [
    ("block_hash", "payload_block_hash"),
    ("vdf", "payload_vdf"),
    ("tick", "payload_tick"),
    ("target", "payload_target"),
    ("header_prefix", "payload_header_prefix"),
    ("ipfs_cid", "payload_ipfs_cid"),
    ("request_id", "payload_request_id"),
    ("difficulty", "payload_difficulty"),
    ("proof_version", "payload_proof_version"),
    ("audit_emit", "payload_audit_emit"),
    ("model_identifier", "payload_model_identifier"),
    ("compute_precision", "payload_compute_precision"),
];

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { found } => {
                write!(f, "pow has {found} bytes, at most {MAX_PAYLOAD_BYTES} are read")
            }
            Self::NotJson { why } => write!(f, "pow is not JSON: {why}"),
            Self::NotAnObject { found } => write!(f, "pow is {found}, not an object"),
            Self::Missing { key } => write!(f, "{key} is missing"),
            Self::Type { key, wanted } => write!(f, "{key} is not {wanted}"),
            Self::Hex { key, why } => write!(f, "{key} {why}"),
            Self::VdfLength { digits } => {
                write!(f, "vdf has {digits} hex digits, it needs 2 to {}", 2 * MAX_VDF_BYTES)
            }
            Self::Range { key, found, wanted } => write!(f, "{key} {found} {wanted}"),
        }
    }
}

impl core::error::Error for PayloadError {}

impl Payload<String> {
    /// Reads and validates a payload. spec: sampler §1
    ///
    /// # Errors
    /// [`PayloadError`] names the first value that is wrong.
    pub fn from_json(text: &[u8]) -> Result<Self, PayloadError> {
        let outer = parse(text)?;
        let value = match outer {
            Value::String(inner) => parse(inner.as_bytes())?,
            other => other,
        };
        match value {
            Value::Object(members) => Self::from_members(&members),
            other => Err(PayloadError::NotAnObject { found: kind(&other) }),
        }
    }

    fn from_members(members: &Map<String, Value>) -> Result<Self, PayloadError> {
        let audit_emit = match optional(members, "audit_emit") {
            None => false,
            Some(Value::Bool(audit)) => *audit,
            Some(_) => return Err(PayloadError::Type { key: "audit_emit", wanted: "a boolean" }),
        };
        let (share_target, share_target_unreadable) = share_target(members);
        Ok(Self {
            block_hash: hex_value(members, "block_hash", BlockHash::from_hex)?,
            vdf: vdf(members)?,
            tick: u32_value(members, "tick")?,
            target: target(members, audit_emit)?,
            share_target,
            share_target_unreadable,
            header_prefix: hex_value(members, "header_prefix", HeaderPrefix::from_hex)?,
            ipfs_cid: text_value(members, "ipfs_cid")?.unwrap_or_default(),
            request_id: u32_value(members, "request_id")?,
            difficulty: difficulty(members)?,
            proof_version: proof_version(members)?,
            audit_emit,
            model_identifier: text_value(members, "model_identifier")?,
            compute_precision: text_value(members, "compute_precision")?,
        })
    }
}

fn parse(text: &[u8]) -> Result<Value, PayloadError> {
    if text.len() > MAX_PAYLOAD_BYTES {
        return Err(PayloadError::TooLong { found: text.len() });
    }
    serde_json::from_slice(text).map_err(|e| PayloadError::NotJson { why: e.to_string() })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string in a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A member that is there and not null.
fn optional<'a>(members: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    members.get(key).filter(|value| !value.is_null())
}

fn required<'a>(
    members: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a Value, PayloadError> {
    optional(members, key).ok_or(PayloadError::Missing { key })
}

fn text_of<'a>(value: &'a Value, key: &'static str) -> Result<&'a str, PayloadError> {
    value.as_str().ok_or(PayloadError::Type { key, wanted: "a string" })
}

fn text_value(
    members: &Map<String, Value>,
    key: &'static str,
) -> Result<Option<String>, PayloadError> {
    optional(members, key).map(|value| text_of(value, key).map(ToOwned::to_owned)).transpose()
}

fn hex_value<T>(
    members: &Map<String, Value>,
    key: &'static str,
    read: impl FnOnce(&str) -> Result<T, HexError>,
) -> Result<T, PayloadError> {
    read(text_of(required(members, key)?, key)?).map_err(|why| PayloadError::Hex { key, why })
}

fn vdf(members: &Map<String, Value>) -> Result<VdfBlob, PayloadError> {
    let text = text_of(required(members, "vdf")?, "vdf")?;
    let digits = text.len();
    if digits == 0 || digits > 2 * MAX_VDF_BYTES {
        return Err(PayloadError::VdfLength { digits });
    }
    let mut blob = vec![0; digits.div_ceil(2)];
    crate::units::decode_hex(text, &mut blob)
        .map_err(|why| PayloadError::Hex { key: "vdf", why })?;
    VdfBlob::from_slice(&blob).map_err(|_| PayloadError::VdfLength { digits })
}

fn number<'a>(value: &'a Value, key: &'static str) -> Result<&'a Number, PayloadError> {
    match value {
        Value::Number(number) => Ok(number),
        _ => Err(PayloadError::Type { key, wanted: "an integer" }),
    }
}

fn u32_value(members: &Map<String, Value>, key: &'static str) -> Result<u32, PayloadError> {
    let number = number(required(members, key)?, key)?;
    number.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| PayloadError::Range {
        key,
        found: number.to_string(),
        wanted: "does not fit u32",
    })
}

fn difficulty(members: &Map<String, Value>) -> Result<Difficulty, PayloadError> {
    const KEY: &str = "difficulty";
    let number = number(required(members, KEY)?, KEY)?;
    number.as_i64().and_then(|n| Difficulty::new(n).ok()).ok_or_else(|| PayloadError::Range {
        key: KEY,
        found: number.to_string(),
        wanted: "is not a positive 63-bit integer",
    })
}

fn proof_version(members: &Map<String, Value>) -> Result<Option<u64>, PayloadError> {
    const KEY: &str = "proof_version";
    let Some(value) = optional(members, KEY) else { return Ok(None) };
    let number = number(value, KEY)?;
    number.as_u64().map(Some).ok_or_else(|| PayloadError::Range {
        key: KEY,
        found: number.to_string(),
        wanted: "is not a version",
    })
}

/// The block target: 64 hex digits; in an audit payload also the chain's compact bits.
/// spec: sampler §1, proxy §9
fn target(members: &Map<String, Value>, audit: bool) -> Result<Target, PayloadError> {
    const KEY: &str = "target";
    match required(members, KEY)? {
        Value::Number(bits) if audit => bits
            .as_u64()
            .and_then(|bits| u32::try_from(bits).ok())
            .map(|bits| CompactTarget::from_bits(bits).expand())
            .filter(|expanded| !expanded.negative && !expanded.overflow)
            .map(|expanded| expanded.target)
            .ok_or_else(|| PayloadError::Range {
                key: KEY,
                found: bits.to_string(),
                wanted: "is no compact target",
            }),
        value => Target::from_hex_strict(text_of(value, KEY)?)
            .map_err(|why| PayloadError::Hex { key: KEY, why }),
    }
}

/// The share target, and whether one was there that cannot be read: that switches off the share
/// tier only. spec: sampler §1
fn share_target(members: &Map<String, Value>) -> (Option<Target>, bool) {
    match optional(members, "share_target") {
        None => (None, false),
        Some(Value::String(text)) if text.is_empty() => (None, false),
        Some(value) => {
            let target = value.as_str().and_then(|text| Target::from_hex_strict(text).ok());
            (target, target.is_none())
        }
    }
}
