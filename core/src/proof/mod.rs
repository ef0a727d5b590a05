//! Proofs and the messages that carry them: reading hostile bytes in place, writing in one pass,
//! the canonical bytes every node hashes, and the commitment over them.
//!
//! The transport (FlatBuffers) and the commitment (canonical bytes) never meet: nothing in the
//! network hashes transport bytes, so [`flat`] may lay a message out as it likes, while
//! [`canonical`] has no freedom at all. Both read the same borrowed record, [`ProofRef`], whose
//! lists may lie in a received buffer, in the sampling window or in an owned [`Proof`]; none of
//! these is copied first. spec: proof-encoding §1
//!
//! What a proof *means* (targets, replay, admission) is not judged here.

pub mod accept;
pub mod canonical;
pub mod commitment;
pub mod convert;
#[cfg(feature = "json")]
pub mod extra_flags;
pub mod flat;
mod mask;
mod messages;
#[cfg(feature = "alloc")]
mod owned;
mod record;
mod rows;
mod validation;
mod words;

pub use canonical::{MAX_CANONICAL_LEN, TooLong};
pub use commitment::{Commitment, commit};
pub use flat::{Encode, FlatError, WriteError};
pub use mask::PadMask;
pub use messages::{BlockHeaderMessage, MiningResponseRef};
#[cfg(feature = "alloc")]
pub use owned::Proof;
pub use record::ProofRef;
pub use rows::{Rows, RowsIter};
pub use validation::{
    BlockValidationRef, ModelValidationRef, RequestRef, ValidationRequestRef,
    ValidationResponseRef, ValidationType, ValidationVerdict,
};
pub use words::{Words, WordsIter};
