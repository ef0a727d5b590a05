//! How the development broker misbehaves when it is told to: the faults by name, and which of them
//! are switched on. spec: broker §12 item 11

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

/// Messages beyond this are too large for a worker. spec: broker §1
const MESSAGE_LIMIT: usize = 1_048_576;
/// Cancels in one burst.
const CANCELS: u64 = 5_000;
/// Request ids of cancels in a burst: far above what the chain hands out.
const CANCELS_FROM: u64 = 3_000_000_000;

/// One way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Answers every upgrade with 401.
    Unauthorized,
    /// Accepts the upgrade, then closes with 1008.
    CloseAfterAccept,
    /// Takes the `HELLO`, then closes with 1008.
    CloseAfterHello,
    /// Drops the TCP connection without a word.
    Drop,
    /// Takes the `HELLO` and never answers.
    Silent,
    /// Keeps the TCP connection and neither reads nor writes.
    HalfOpen,
    /// Reads one message, then waits.
    SlowReader,
    /// Sends what is no frame.
    Garbage,
    /// Sends a message one byte above the limit.
    Oversize,
    /// Sends thousands of hard cancels for request ids that do not exist.
    Cancels,
    /// Sends hard cancels for open leases in the name of other jobs: a worker ignores them.
    ForeignCancels,
    /// Sends the cancel of a lease before its request.
    CancelFirst,
    /// Sends every frame twice.
    Duplicates,
    /// The clock is a day ahead: challenges and tokens are judged by tomorrow.
    ClockAhead,
    /// The clock is a day behind: challenges are old, templates expired yesterday.
    ClockBehind,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 15] = [
        Self::Unauthorized,
        Self::CloseAfterAccept,
        Self::CloseAfterHello,
        Self::Drop,
        Self::Silent,
        Self::HalfOpen,
        Self::SlowReader,
        Self::Garbage,
        Self::Oversize,
        Self::Cancels,
        Self::ForeignCancels,
        Self::CancelFirst,
        Self::Duplicates,
        Self::ClockAhead,
        Self::ClockBehind,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unauthorized => "401",
            Self::CloseAfterAccept => "close-after-accept",
            Self::CloseAfterHello => "close-after-hello",
            Self::Drop => "drop",
            Self::Silent => "silent",
            Self::HalfOpen => "half-open",
            Self::SlowReader => "slow-reader",
            Self::Garbage => "garbage",
            Self::Oversize => "oversize",
            Self::Cancels => "cancels",
            Self::ForeignCancels => "foreign-cancels",
            Self::CancelFirst => "cancel-first",
            Self::Duplicates => "duplicates",
            Self::ClockAhead => "clock-ahead",
            Self::ClockBehind => "clock-behind",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No fault has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no misbehaviour {0:?}; there are {all}", all = Fault::ALL.map(Fault::name).join(", "))]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|fault| fault.name() == text);
        found.ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

/// The faults that are switched on.
#[derive(Debug)]
pub struct Faults(watch::Sender<BTreeSet<Fault>>);

impl Faults {
    /// These from the start.
    #[must_use]
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self(watch::Sender::new(faults.into_iter().collect()))
    }

    /// These and no others from now on. Connections that exist feel it at once.
    pub fn set(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.send_replace(faults.into_iter().collect());
    }

    /// Whether one is switched on.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.0.borrow().contains(&fault)
    }

    /// All that are switched on.
    #[must_use]
    pub fn now(&self) -> BTreeSet<Fault> {
        self.0.borrow().clone()
    }

    /// Changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<BTreeSet<Fault>> {
        self.0.subscribe()
    }
}

/// What no worker may stumble over: not JSON, JSON that is no object, frames without sense.
/// spec: broker §1.2
pub(super) fn garbage() -> Vec<Message> {
    let texts = [
        "hello",
        "",
        "\u{feff}{}",
        "{} x",
        "[]",
        "null",
        "5",
        "\"x\"",
        "false",
        "{}",
        r#"{"type":5}"#,
        r#"{"type":"NOPE"}"#,
        r#"{"type":"START"}"#,
        r#"{"type":"MINE_REQUEST"}"#,
        r#"{"type":"MINE_CANCEL","reason":"superseded"}"#,
        r#"{"type":"MODEL_REGISTRY_SYNC","models":5}"#,
        r#"{"type":"PROOF_REQUEST"}"#,
        r#"{"type":"NOPE","x":NaN}"#,
    ];
    let mut messages: Vec<_> = texts.into_iter().map(Message::text).collect();
    messages.push(Message::binary(&b"{\"type\":\"\xff\xfe\"}"[..]));
    messages.push(Message::text("[".repeat(2000)));
    messages.push(Message::text(format!(r#"{{"type":"NOPE","x":{}}}"#, "9".repeat(5000))));
    messages
}

/// A message that breaks the limit by one byte.
pub(super) fn oversize() -> Message {
    let frame = r#"{"type":"NOPE","x":""}"#;
    let filling = "x".repeat(MESSAGE_LIMIT + 1 - frame.len());
    Message::text(format!(r#"{{"type":"NOPE","x":"{filling}"}}"#))
}

/// Hard cancels for work that was never given out. spec: broker §7.3
pub(super) fn cancels() -> impl Iterator<Item = Value> {
    (0..CANCELS).map(|number| {
        json!({
            "type": "MINE_CANCEL",
            "job_id": format!("never-{number}"),
            "work_unit_id": CANCELS_FROM + number,
            "reason": "superseded",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        let error = "none".parse::<Fault>().unwrap_err().to_string();
        assert!(error.contains("half-open"), "{error}");
    }

    #[test]
    fn the_large_message_is_one_byte_too_large() {
        assert_eq!(oversize().len(), 1_048_577);
    }
}
