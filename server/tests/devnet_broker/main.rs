//! The development broker under a raw WebSocket client that has no more in common with it than the
//! specification: registration and tokens ([`registration`]), leases, shares and results
//! ([`mining`]), inference jobs and audits ([`jobs`]), the misbehaviours ([`faults`]) and the
//! command ([`command`]).

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod command;
mod faults;
mod jobs;
#[allow(dead_code)] // there is no collector here to push to
#[path = "../proxy/miner.rs"]
mod miner;
mod mining;
mod registration;
mod stage;
