//! Finished proofs and the place they go. The collector ([`crate::collector`]) turns engine
//! messages into [`ReceivedProof`]s, the spool ([`crate::spool`]) keeps them, the outbox
//! ([`crate::outbox`]) hands them to a sink, which judges or forwards them.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::time::SystemTime;
use tensorpow_core::classify::Tier;
use tensorpow_core::units::{BlockHash, Digest};

/// A proof as it arrived from an engine: a verified `MiningResponse` message and the fields that
/// decide its way.
#[derive(Debug, Clone)]
pub struct ReceivedProof {
    /// The message, byte for byte.
    pub message: Bytes,
    /// Completion id the client saw; empty when the engine knew none.
    pub completion_id: String,
    /// What the engine says the window is. Never [`Tier::Nothing`].
    pub tier: Tier,
    /// Job the window was mined for.
    pub request_id: u32,
    /// The header's nonce.
    pub nonce: u32,
    /// Parent block the window was mined on; `None` when the proof names none.
    pub parent: Option<BlockHash>,
    /// Final sampling digest; `None` when it is not 32 bytes.
    pub digest: Option<Digest>,
    /// `name@commit` of the model, lossy where it is not UTF-8.
    pub model_identifier: String,
    /// When it arrived.
    pub received_at: SystemTime,
}

/// What a sink made of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The solution became a block.
    Block {
        /// Height of the new block.
        height: u64,
        /// Its id.
        hash: BlockHash,
    },
    /// The share was credited.
    Share,
    /// Handed over to somebody who never answers, as a node on its result socket. spec: node §1
    Sent,
    /// The proof was refused.
    Rejected {
        /// Label of the reason, for counters.
        reason: &'static str,
        /// The reason in words, with the values that disagree.
        detail: String,
    },
    /// Nobody is there to take it. It did not leave, and is offered again later.
    Unavailable {
        /// What is missing.
        detail: String,
    },
}

impl Verdict {
    /// Label for counters: `block`, `share`, `sent`, `unavailable` or the reject reason.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Block { .. } => "block",
            Self::Share => "share",
            Self::Sent => "sent",
            Self::Rejected { reason, .. } => reason,
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// True unless the proof was refused or not taken.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        !matches!(self, Self::Rejected { .. } | Self::Unavailable { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { height, hash } => write!(f, "block {height} {}", hash.display()),
            Self::Share => f.write_str("share credited"),
            Self::Sent => f.write_str("sent"),
            Self::Rejected { reason, detail } => write!(f, "rejected ({reason}): {detail}"),
            Self::Unavailable { detail } => write!(f, "not taken: {detail}"),
        }
    }
}

/// The how-manieth handing over of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// An earlier attempt may have arrived: the proxy went down, or waited in vain, before it knew.
    /// A sink that can say so to the other end does.
    pub repeat: bool,
}

impl Attempt {
    /// The first one.
    pub const FIRST: Self = Self { number: 1, repeat: false };
}

/// Where solutions and shares go: a development chain, a node, a broker.
#[async_trait]
pub trait ProofSink: Send + Sync {
    /// Name of the sink in logs, in `/status` and in the spool, where it must not change between
    /// two runs.
    fn name(&self) -> &'static str;

    /// Whether proofs of this tier go here at all. Audits never do.
    fn takes(&self, tier: Tier) -> bool {
        matches!(tier, Tier::Solution | Tier::Share)
    }

    /// Whether shares that waited for the sink go before solutions that waited, for a sink where a
    /// solution ends the work its shares belong to.
    fn shares_first(&self) -> bool {
        false
    }

    /// Whether a proof that arrived then had to wait for the sink; `None` for one of an earlier run.
    fn has_waited(&self, _received: Option<SystemTime>) -> bool {
        false
    }

    /// Whether somebody is there to take a proof that arrived then; `None` for one of an earlier
    /// run. What nobody takes waits.
    fn is_ready_for(&self, _received: Option<SystemTime>) -> bool {
        true
    }

    /// Completes when [`Self::is_ready_for`] may have another answer.
    async fn readiness_changed(&self) {
        std::future::pending::<()>().await;
    }

    /// Hands over one solution or share and waits for what became of it.
    async fn submit(&self, proof: &ReceivedProof, attempt: Attempt) -> Verdict;
}
