//! The proxy over real sockets on loopback, in front of an engine made for the test: what clients
//! see ([`routes`], [`face`], [`several`], [`relay`], [`token_limits`]), what the engine gets ([`inject`]), what becomes
//! of its proofs ([`collector`], [`chain`], [`spool`], [`latency`]), how links come back
//! ([`broker`], [`reconnect`]), how a worker is drained ([`drain`]), and what is left when clients leave ([`abandoned`]).

// clippy knows test functions, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abandoned;
mod active_model;
mod broker;
mod broker_tls;
mod broker_tools;
mod chain;
mod collector;
mod dashboard;
mod drain;
mod engine;
mod face;
mod inject;
mod latency;
mod mcp;
mod metrics;
mod miner;
mod node;
#[allow(dead_code)] // other tests use the rest
mod ports;
mod reconnect;
mod registry;
mod relay;
mod rollout;
mod routes;
mod several;
mod spool;
mod token_limits;
mod worker;
