//! Keeping an engine busy, over real sockets on loopback, before an engine made for the test: the
//! floor ([`floor`]), users before backfill ([`users`]), the proofs' way ([`proofs`]), and the
//! published examples of both ([`conformance_backfill`], [`conformance_throughput`]).

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../conformance/backfill.rs"]
mod conformance_backfill;
#[path = "../conformance/throughput.rs"]
mod conformance_throughput;
mod engine;
mod examples;
mod floor;
#[allow(dead_code)] // what only tests of the chain need
#[path = "../proxy/miner.rs"]
mod miner;
mod proofs;
mod rig;
mod users;
