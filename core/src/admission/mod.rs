//! Admission of version-3 windows: the nonce a proof claims in its `extra_flags`, the Argon2id
//! puzzle it solves, and the search for it.
//!
//! A window whose credited entropy lies between two bounds needs a nonce. It is searched before
//! the window's first step, because every draw of the window hashes it.
//!
//! * Carrier: [`extract`] reads a claim, [`merge`] writes one.
//! * Puzzle: [`prompt_commitment`], [`Message`], [`argon2id`], [`expected_tries`], [`target`].
//! * Verdict: [`judge`] says whether a claim holds; tiers are told by the credit of the window.
//! * Search: [`grind::Grind`] on one thread; with `std`, `pool::Pool` on several; and
//!   `schedule::Schedule`, the table of which window is searched when.
//!
//! spec: admission

mod argon2id;
mod carrier;
mod commitment;
pub mod grind;
mod judge;
#[cfg(feature = "alloc")]
mod memory;
mod message;
#[cfg(feature = "std")]
pub mod pool;
mod puzzle;
#[cfg(feature = "alloc")]
pub mod schedule;
mod selftest;

pub use crate::units::{PromptCommitment, PuzzleDigest};
pub use argon2id::{Block, HashError, LANES, MEMORY_BLOCKS, MEMORY_KIB, SALT, TIME_COST, argon2id};
#[cfg(feature = "alloc")]
pub use carrier::merge_to_vec;
pub use carrier::{MAX_CARRIER, MAX_DEPTH, MergeError, extract, merge, parse_nonce};
pub use commitment::{PromptError, prompt_commitment};
pub use judge::{AdmissionFault, Scratch, judge, message_len};
#[cfg(feature = "alloc")]
pub use memory::Memory;
pub use message::{FirstStep, Message, MessageError, length as message_length};
pub use puzzle::{
    DEFAULT_TRIES_FACTOR, PuzzleParams, PuzzleTarget, TriesError, expected_tries, max_tries, target,
};
pub use selftest::{SELF_TEST_MESSAGE, SelfTestError, self_test};
