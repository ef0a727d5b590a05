//! How requests end and why proofs go no further, as labels and in words.

use std::fmt;

/// How a forwarded request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The engine's answer reached the client as a whole.
    Complete,
    /// The engine answered with 4xx: the request was at fault.
    EngineRefused,
    /// The engine answered with an error of its own.
    EngineError,
    /// The engine could not be reached or broke off.
    EngineBroke,
    /// The client went away; the engine request was aborted.
    ClientGone,
}

impl Outcome {
    /// As a label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::EngineRefused => "engine_refused",
            Self::EngineError => "engine_error",
            Self::EngineBroke => "engine_broke",
            Self::ClientGone => "client_gone",
        }
    }
}

/// Why a proof went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofDrop {
    /// The bytes are no `MiningResponse`.
    Malformed,
    /// The message carries no proof.
    NoPowBlob,
    /// The proof is for another model than the pinned one.
    OtherModel,
    /// An audit proof without a completion id: nobody could fetch it.
    AuditWithoutId,
    /// The proof's parent is not the current one: kept, not forwarded.
    StaleParent,
    /// There is nobody to forward to: kept.
    NoSink,
    /// Neither disk nor sink keep up: not forwarded.
    SinkQueueFull,
    /// Mining is paused: kept, not forwarded.
    Paused,
    /// The same proof has arrived before.
    Duplicate,
}

impl ProofDrop {
    /// Label for counters and dead letters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoPowBlob => "no_pow_blob",
            Self::OtherModel => "other_model",
            Self::AuditWithoutId => "audit_without_completion_id",
            Self::StaleParent => "stale_parent",
            Self::NoSink => "no_sink",
            Self::SinkQueueFull => "sink_queue_full",
            Self::Paused => "paused",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for ProofDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the bytes are no MiningResponse",
            Self::NoPowBlob => "the message carries no proof",
            Self::OtherModel => "the proof is for another model than the pinned one",
            Self::AuditWithoutId => "an audit proof without a completion id",
            Self::StaleParent => "its parent was not the tip when it arrived",
            Self::NoSink => "there is nobody to forward it to",
            Self::SinkQueueFull => "neither disk nor sink kept up",
            Self::Paused => "mining was paused when it arrived",
            Self::Duplicate => "the same proof has arrived before",
        })
    }
}
