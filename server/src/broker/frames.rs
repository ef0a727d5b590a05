//! Every frame of the protocol as a type: what a broker may say ([`Incoming`]) and what a worker
//! says ([`Outgoing`]). Unknown keys are ignored, absent values are left out and never null, and no
//! bytes of a broker's can do more than be ignored. spec: broker §1.2, §2

use super::outgoing::Outgoing;
use serde_json::{Map, Value};

/// What a broker has said.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Incoming {
    /// The registration is accepted, again perhaps. spec: §3.2
    Ack(Ack),
    /// Prove that you know the secret. spec: §3.3
    Challenge(Challenge),
    /// An inference job. spec: §5
    Start(Start),
    /// The proof of a completion is wanted. spec: §6
    ProofRequest {
        /// The completion; never empty.
        completion_id: String,
    },
    /// The registered models; `None` when the list is no list. spec: §7.1
    RegistrySync(Option<Vec<Value>>),
    /// A mining lease, to be checked field by field. spec: §7.2
    MineRequest(Map<String, Value>),
    /// A lease is closed. spec: §7.3
    MineCancel(MineCancel),
    /// A tool is registered, or not. spec: §9
    ToolRegisterAck {
        /// The tool.
        tool_id: String,
        /// `registered` is success.
        registered: bool,
        /// Why not.
        error: Option<String>,
    },
    /// A tool is unregistered. spec: §9
    ToolUnregisterAck,
    /// A tool is to be run. spec: §9
    ToolInvoke(Map<String, Value>),
}

/// A registration acknowledgement. spec: §3.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Seconds between two heartbeats.
    pub heartbeat_seconds: u64,
}

/// Heartbeat interval of an acknowledgement that names none, or none that can be used.
const DEFAULT_HEARTBEAT: u64 = 15;
/// An interval outside of these is moved to the nearest. spec: §3.2
const HEARTBEATS: std::ops::RangeInclusive<f64> = 1.0..=300.0;

impl Ack {
    /// Truncated to whole seconds, a decimal string is accepted; what is neither means 15.
    fn read(frame: &Map<String, Value>) -> Self {
        let given = match frame.get("heartbeat_interval_sec") {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse::<i64>().ok().map(|n| n as f64),
            _ => None,
        };
        let seconds = given.filter(|seconds| seconds.is_finite()).map_or(DEFAULT_HEARTBEAT, |s| {
            // Within the range a cast only truncates.
            s.clamp(*HEARTBEATS.start(), *HEARTBEATS.end()) as u64
        });
        Self { heartbeat_seconds: seconds }
    }
}

/// A challenge. spec: §3.3
#[derive(Debug, Clone, PartialEq)]
pub struct Challenge {
    /// Echoed as it came.
    pub nonce: Value,
    /// An integer or a string; null and absence are the empty text.
    pub timestamp: Value,
}

/// An inference job. spec: §5.1
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The job; never empty.
    pub job_id: String,
    /// The hint is `responses`.
    pub wants_responses: bool,
    /// The request; `None` when it is no object.
    pub payload: Option<Map<String, Value>>,
}

/// A lease is closed. spec: §7.3
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MineCancel {
    /// Whose lease.
    pub job_id: Option<String>,
    /// The request id.
    pub work_unit_id: Option<u64>,
    /// Why; decides whether it counts at once.
    pub reason: String,
}

/// Reasons that close a lease for good; every other one leaves it to time. spec: §7.3
const HARD: [&str; 2] = ["superseded", "expired_final"];

impl MineCancel {
    /// True when nothing of the lease may be sent any more.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        HARD.contains(&self.reason.as_str())
    }
}

impl Incoming {
    /// Reads one message; `None` for everything that is to be ignored: no JSON, no object, no
    /// known type, or without the key it is about. spec: §1.2
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        match serde_json::from_slice(message) {
            Ok(Value::Object(frame)) => Self::of(frame),
            _ => None,
        }
    }

    fn of(frame: Map<String, Value>) -> Option<Self> {
        let value = |key: &str| frame.get(key).cloned().unwrap_or_default();
        Some(match frame.get("type")?.as_str()? {
            "ACK" => Self::Ack(Ack::read(&frame)),
            "CHALLENGE" => {
                let nonce = frame.get("nonce").cloned().unwrap_or_else(|| "".into());
                Self::Challenge(Challenge { nonce, timestamp: value("timestamp") })
            }
            "START" => Self::Start(Start {
                job_id: text(&frame, "job_id")?,
                wants_responses: frame.get("api").is_some_and(|api| api == "responses"),
                payload: frame.get("payload").and_then(Value::as_object).cloned(),
            }),
            "PROOF_REQUEST" => Self::ProofRequest { completion_id: text(&frame, "completion_id")? },
            "MODEL_REGISTRY_SYNC" => Self::RegistrySync(match value("models") {
                Value::Array(models) => Some(models),
                _ => None,
            }),
            "MINE_REQUEST" => Self::MineRequest(frame),
            "MINE_CANCEL" => Self::MineCancel(MineCancel {
                job_id: text(&frame, "job_id"),
                work_unit_id: frame.get("work_unit_id").and_then(integer),
                reason: text(&frame, "reason").unwrap_or_default(),
            }),
            "TOOL_REGISTER_ACK" => Self::ToolRegisterAck {
                tool_id: text(&frame, "tool_id")?,
                registered: frame.get("status").is_some_and(|status| status == "registered"),
                error: text(&frame, "error"),
            },
            "TOOL_UNREGISTER_ACK" => Self::ToolUnregisterAck,
            "TOOL_INVOKE" => Self::ToolInvoke(frame),
            _ => return None,
        })
    }
}

/// A string that is not empty.
pub(super) fn text(frame: &Map<String, Value>, key: &str) -> Option<String> {
    frame.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
}

/// A JSON integer or an integral decimal string, from 0 on. spec: §7.2
pub(super) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

impl Outgoing {
    /// The frame's text: one JSON object.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Maps with string keys and finite numbers always have a JSON text.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_frame_is_ignored() {
        for text in
            ["", "hello", "[]", "null", "5", "\"x\"", "{}", "{\"type\":5}", "{\"type\":\"ack\"}"]
        {
            assert_eq!(Incoming::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Incoming::read(b"{\"type\":\"START\",\"payload\":{}}"), None, "no job id");
        assert_eq!(Incoming::read(b"{\"type\":\"\xff\"}"), None, "no UTF-8");
        let deep = "[".repeat(2000) + &"]".repeat(2000);
        assert_eq!(Incoming::read(deep.as_bytes()), None, "nested too deep");
    }

    #[test]
    fn an_acks_interval_is_forgiving() {
        let seconds = |value: &str| {
            let text = format!("{{\"type\":\"ACK\",\"heartbeat_interval_sec\":{value}}}");
            match Incoming::read(text.as_bytes()) {
                Some(Incoming::Ack(ack)) => ack.heartbeat_seconds,
                other => panic!("{other:?}"),
            }
        };
        let cases = [("10", 10), ("7.9", 7), ("\"20\"", 20), ("null", 15), ("\"x\"", 15)];
        for (value, expected) in cases {
            assert_eq!(seconds(value), expected, "{value}");
        }
        assert_eq!((seconds("0"), seconds("-3"), seconds("1e300")), (1, 1, 300));
    }

    #[test]
    fn the_last_of_two_keys_counts() {
        let twice = b"{\"type\":\"ACK\",\"type\":\"NOPE\"}";
        assert_eq!(Incoming::read(twice), None);
    }
}
