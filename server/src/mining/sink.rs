//! Finished proofs and the place they go. The collector ([`crate::collector`]) turns engine
//! messages into [`ReceivedProof`]s; a sink judges or forwards them.

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
    /// The proof was refused.
    Rejected {
        /// Label of the reason, for counters.
        reason: &'static str,
        /// The reason in words, with the values that disagree.
        detail: String,
    },
}

impl Verdict {
    /// Label for counters: `block`, `share` or the reject reason.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Block { .. } => "block",
            Self::Share => "share",
            Self::Rejected { reason, .. } => reason,
        }
    }

    /// True for a credited share and for a block.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        !matches!(self, Self::Rejected { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { height, hash } => write!(f, "block {height} {}", hash.display()),
            Self::Share => f.write_str("share credited"),
            Self::Rejected { reason, detail } => write!(f, "rejected ({reason}): {detail}"),
        }
    }
}

/// Where solutions and shares go: a development chain, a node, a broker.
#[async_trait]
pub trait ProofSink: Send + Sync {
    /// Name of the sink in logs and `/status`.
    fn name(&self) -> &'static str;

    /// Hands over one solution or share and waits for what became of it.
    async fn submit(&self, proof: &ReceivedProof) -> Verdict;
}
