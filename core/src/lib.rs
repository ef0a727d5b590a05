//! The proof-of-work core of TensorCash, bit-exact with the node and free of an operating system.
//!
//! One decode step of a language model becomes one token ([`sampler`]) whose draw is the SHA-256
//! of the mining context ([`preimage`]); 256 steps with their evidence become a window
//! ([`window`]), a finished window a proof ([`proof`]) that is a block solution, a share, an audit
//! record or nothing ([`classify`]). Before it leaves it is judged ([`selfcheck`]) as a node does
//! ([`verify`]): draws and intervals, credited entropy ([`credit`]), and the nonce that windows of
//! version 3 are admitted by ([`admission`]). What all of it is bound to is proved by the verifiable
//! delay function ([`vdf`]).
//!
//! The crate is `no_std`; without features it needs no allocator either. `alloc` adds owned
//! records and the plain sampler, `json` the payload door for JSON text, `archive` the compact
//! form of proofs, `std` all of them and what needs an operating system.
#![no_std]
#![deny(unsafe_code)] // allowed in four files, which hold and choose vector instructions

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod admission;
#[cfg(feature = "archive")]
pub mod archive;
pub mod classify;
pub mod context;
pub mod credit;
pub mod door;
pub mod evidence;
pub mod header;
pub mod interval;
pub mod math;
#[cfg(feature = "alloc")]
pub mod plain;
pub mod precision;
pub mod preimage;
pub mod proof;
pub mod replay;
pub mod row;
pub mod sampler;
pub mod select;
pub mod selfcheck;
pub mod simd;
pub mod target;
pub mod units;
pub mod vdf;
pub mod verify;
pub mod window;
