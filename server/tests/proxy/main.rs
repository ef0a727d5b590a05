//! The proxy over real sockets on loopback, in front of an engine made for the test: what clients
//! see ([`routes`], [`relay`]), what the engine gets ([`inject`]), what becomes of its proofs
//! ([`collector`], [`chain`]).

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod active_model;
mod chain;
mod collector;
mod dashboard;
mod engine;
mod inject;
mod miner;
mod node;
mod registry;
mod relay;
mod routes;
mod worker;
