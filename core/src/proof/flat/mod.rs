//! FlatBuffers, as far as the network uses them: a strict reader for hostile bytes, a forward
//! writer, and nothing generated. Which fields a message has is said where the message is
//! ([`super::ProofRef`], [`super::MiningResponseRef`], …); these rooms only know tables.
//! spec: proof-encoding §2, §7

mod buffer;
mod error;
mod reader;
mod rows;
mod writer;

pub use error::{Fault, FlatError};
pub use rows::TableRows;
pub use writer::{Encode, MAX_MESSAGE_LEN, WriteError};

pub(super) use reader::{Fields, read_root};
pub(super) use writer::{Field, Out, WriteTable};
