//! What a node checks on a submitted mining result before it looks at the proof itself: the
//! structural half of acceptance, in the order of each submission path. Used by stand-ins of the
//! node and by producers that want to know beforehand. spec: targets §8 stage A
//!
//! Unlike the reference, the socket path verifies the bytes as well, as every path of ours does.

use super::flat::FlatError;
use super::messages::MiningResponseRef;
use core::fmt;

/// Greatest request id a node takes back. It issues one more (10 000 000) that it then refuses.
/// spec: targets §8, proof-encoding §9
pub const MAX_REQ_ID: u32 = 9_999_999;

/// Why a result is refused before its proof is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The request id is not in 1 …= [`MAX_REQ_ID`].
    InvalidReqId,
    /// Fewer than 4 bytes.
    PayloadSize {
        /// Bytes found.
        found: usize,
    },
    /// The bytes are no `MiningResponse`.
    Unverified(FlatError),
    /// The request id of the call is not the one in the message.
    ReqIdMismatch {
        /// Id in the message.
        found: u32,
    },
    /// The message carries no proof.
    MissingPowBlob,
    /// `pow_blob_hash` is absent or not 32 bytes long; its value is nobody's concern.
    PowBlobHash {
        /// Its length.
        found: usize,
    },
    /// The request id belongs to no open work unit; the socket path skips such results silently.
    Stale,
}

impl Refusal {
    /// The short form that logs and counters use.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::InvalidReqId => "invalid req_id",
            Self::PayloadSize { .. } => "payload size",
            Self::Unverified(_) => "verification",
            Self::ReqIdMismatch { .. } => "req_id mismatch",
            Self::MissingPowBlob => "missing pow_blob",
            Self::PowBlobHash { .. } => "pow_blob_hash",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidReqId => write!(f, "req_id must lie in 1 to {MAX_REQ_ID}"),
            Self::PayloadSize { found } => write!(f, "{found} bytes are no mining response"),
            Self::Unverified(why) => write!(f, "no valid mining response: {why}"),
            Self::ReqIdMismatch { found } => {
                write!(f, "the message answers req_id {found}, not the one submitted")
            }
            Self::MissingPowBlob => f.write_str("the message has no pow_blob"),
            Self::PowBlobHash { found } => {
                write!(f, "pow_blob_hash must have 32 bytes, it has {found}")
            }
            Self::Stale => f.write_str("req_id is unknown or was already submitted"),
        }
    }
}

impl core::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unverified(why) => Some(why),
            _ => None,
        }
    }
}

/// The RPC `submit_mining_response`, checks 1 to 6 (base64 is already decoded); every refusal has
/// the status `invalid_payload`. The work unit is looked up afterwards. spec: targets §8 stage A
///
/// # Errors
/// The first [`Refusal`].
pub fn check_rpc(req_id: i64, message: &[u8]) -> Result<MiningResponseRef<'_>, Refusal> {
    let expected = u32::try_from(req_id).ok().filter(|&id| takes(id));
    let expected = expected.ok_or(Refusal::InvalidReqId)?;
    let response = verified(message)?;
    if response.req_id != expected {
        return Err(Refusal::ReqIdMismatch { found: response.req_id });
    }
    pow_blob(&response)?;
    pow_blob_hash(&response)?;
    Ok(response)
}

/// The ZMQ path up to quick verification; `is_open` says whether a work unit with this request id
/// is known and not yet submitted. spec: targets §8 stage A
///
/// # Errors
/// The first [`Refusal`].
pub fn check_zmq(
    message: &[u8],
    is_open: impl FnOnce(u32) -> bool,
) -> Result<MiningResponseRef<'_>, Refusal> {
    let response = verified(message)?;
    if !takes(response.req_id) {
        return Err(Refusal::InvalidReqId);
    }
    pow_blob_hash(&response)?;
    if !is_open(response.req_id) {
        return Err(Refusal::Stale);
    }
    pow_blob(&response)?;
    Ok(response)
}

fn takes(req_id: u32) -> bool {
    (1..=MAX_REQ_ID).contains(&req_id)
}

fn verified(message: &[u8]) -> Result<MiningResponseRef<'_>, Refusal> {
    match message.len() {
        found @ 0..4 => Err(Refusal::PayloadSize { found }),
        _ => MiningResponseRef::read(message).map_err(Refusal::Unverified),
    }
}

fn pow_blob(response: &MiningResponseRef<'_>) -> Result<(), Refusal> {
    response.pow_blob.map(drop).ok_or(Refusal::MissingPowBlob)
}

fn pow_blob_hash(response: &MiningResponseRef<'_>) -> Result<(), Refusal> {
    match response.pow_blob_hash.len() {
        32 => Ok(()),
        found => Err(Refusal::PowBlobHash { found }),
    }
}
