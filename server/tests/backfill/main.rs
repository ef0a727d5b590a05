//! Keeping an engine busy, over real sockets on loopback, before an engine made for the test: the
//! floor ([`floor`]), users before backfill ([`users`]), the proofs' way ([`proofs`]). The published
//! examples are run by the conformance test.

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod engine;
mod floor;
#[allow(dead_code)] // what only tests of the chain need
#[path = "../proxy/miner.rs"]
mod miner;
mod proofs;
mod rig;
mod users;
