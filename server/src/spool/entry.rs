//! What is known of a stored proof without its body, and how far its delivery to each sink has
//! come. Both are stored as postcard; [`FORMAT`] changes with either of them.

use crate::mining::sink::{ReceivedProof, Verdict};
use crate::spool::form::Form;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tensorpow_core::classify::Tier;
use tensorpow_core::units::{BlockHash, Digest};

/// Version of everything in the file.
pub const FORMAT: u32 = 1;

/// The name under which the proxy itself refuses proofs, beside the sinks: what no sink ever sees
/// is a dead letter of the intake.
pub const INTAKE: &str = "intake";

/// What a window was emitted as, in the file. An undecodable message has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredTier {
    /// A share.
    Share,
    /// A solution.
    Solution,
    /// An audit.
    Audit,
}

impl StoredTier {
    const fn of(tier: Tier) -> Option<Self> {
        match tier {
            Tier::Share => Some(Self::Share),
            Tier::Solution => Some(Self::Solution),
            Tier::Audit => Some(Self::Audit),
            Tier::Nothing => None,
        }
    }

    /// The core's tier.
    #[must_use]
    pub const fn tier(self) -> Tier {
        match self {
            Self::Share => Tier::Share,
            Self::Solution => Tier::Solution,
            Self::Audit => Tier::Audit,
        }
    }
}

/// A stored proof without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Arrival in microseconds since 1970.
    pub arrived_us: u64,
    /// Solution, share or audit; `None` for a message that is no proof.
    pub tier: Option<StoredTier>,
    /// Job of the window.
    pub request_id: u32,
    /// Nonce of the header.
    pub nonce: u32,
    /// Parent block.
    pub parent: Option<[u8; 32]>,
    /// Final sampling digest.
    pub digest: Option<[u8; 32]>,
    /// The proof's commitment, or a hash of the message where it has none: what makes two proofs the
    /// same one.
    pub identity: [u8; 32],
    /// Completion id the client saw, maybe empty.
    pub completion_id: String,
    /// Further completion ids that came with the same proof.
    pub also: Vec<String>,
    /// `name@commit`, lossy.
    pub model_identifier: String,
    /// Bytes of the message.
    pub message_len: u32,
    /// Bytes of the stored body.
    pub stored_len: u32,
    /// Form of the stored body.
    pub form: Form,
}

impl Entry {
    /// The entry of a proof, its body still to be packed.
    pub(super) fn of(proof: &ReceivedProof, identity: [u8; 32]) -> Self {
        Self {
            arrived_us: micros(proof.received_at),
            tier: StoredTier::of(proof.tier),
            request_id: proof.request_id,
            nonce: proof.nonce,
            parent: proof.parent.map(|parent| *parent.as_bytes()),
            digest: proof.digest.map(|digest| *digest.as_bytes()),
            identity,
            completion_id: proof.completion_id.clone(),
            also: Vec::new(),
            model_identifier: proof.model_identifier.clone(),
            message_len: u32::try_from(proof.message.len()).unwrap_or(u32::MAX),
            stored_len: 0,
            form: Form::Raw,
        }
    }

    /// The entry of a message that is no proof.
    pub(super) fn of_junk(message: &[u8], identity: [u8; 32], arrived: SystemTime) -> Self {
        Self {
            arrived_us: micros(arrived),
            tier: None,
            request_id: 0,
            nonce: 0,
            parent: None,
            digest: None,
            identity,
            completion_id: String::new(),
            also: Vec::new(),
            model_identifier: String::new(),
            message_len: u32::try_from(message.len()).unwrap_or(u32::MAX),
            stored_len: 0,
            form: Form::Raw,
        }
    }

    /// The proof as it arrived, its message given; `None` for what is no proof.
    #[must_use]
    pub fn into_proof(self, message: Bytes) -> Option<ReceivedProof> {
        Some(ReceivedProof {
            message,
            completion_id: self.completion_id,
            tier: self.tier?.tier(),
            request_id: self.request_id,
            nonce: self.nonce,
            parent: self.parent.map(BlockHash::from_bytes),
            digest: self.digest.map(Digest::from_bytes),
            model_identifier: self.model_identifier,
            received_at: UNIX_EPOCH + Duration::from_micros(self.arrived_us),
        })
    }

    /// `solution`, `share`, `audit` or `none`.
    #[must_use]
    pub fn tier_name(&self) -> &'static str {
        self.tier.map_or("none", |tier| tier.tier().as_str())
    }
}

/// Microseconds since 1970.
#[must_use]
pub fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    /// Not yet handed over.
    Pending,
    /// Being handed over; after a crash nobody knows whether it arrived.
    Sent,
    /// The sink took it.
    Confirmed,
    /// It goes nowhere any more, for a reason.
    Dead,
}

impl DeliveryState {
    /// `pending`, `sent`, `confirmed` or `dead`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Dead => "dead",
        }
    }

    /// Still to be settled.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Sent)
    }
}

/// The delivery of one proof to one sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// How far it is.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: u32,
    /// Last change in microseconds since 1970.
    pub changed_us: u64,
    /// Label: the verdict, or why it is dead.
    pub reason: String,
    /// The same in words.
    pub detail: String,
}

impl Delivery {
    fn now(state: DeliveryState, attempts: u32, reason: &str, detail: String) -> Self {
        let changed_us = micros(SystemTime::now());
        Self { state, attempts, changed_us, reason: reason.to_owned(), detail }
    }

    /// Not yet handed over, after so many attempts that did not leave.
    #[must_use]
    pub fn pending(attempts: u32) -> Self {
        Self::now(DeliveryState::Pending, attempts, "", String::new())
    }

    /// The attempt with this number begins.
    #[must_use]
    pub fn sent(attempt: u32) -> Self {
        Self::now(DeliveryState::Sent, attempt, "", String::new())
    }

    /// It goes nowhere any more.
    #[must_use]
    pub fn dead(attempts: u32, reason: &str, detail: String) -> Self {
        Self::now(DeliveryState::Dead, attempts, reason, detail)
    }

    /// What a verdict makes of it.
    #[must_use]
    pub fn judged(attempts: u32, verdict: &Verdict) -> Self {
        let (state, detail) = match verdict {
            Verdict::Rejected { detail, .. } => (DeliveryState::Dead, detail.clone()),
            Verdict::Unavailable { detail } => (DeliveryState::Pending, detail.clone()),
            accepted => (DeliveryState::Confirmed, accepted.to_string()),
        };
        Self::now(state, attempts, verdict.label(), detail)
    }
}

/// A change of one delivery.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The entry.
    pub seq: u64,
    /// The sink's name.
    pub sink: &'static str,
    /// Its delivery from now on.
    pub delivery: Delivery,
}
