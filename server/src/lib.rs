//! `tensorpow`, the miner's proxy: it serves the OpenAI API in front of an inference engine, puts
//! the mining context on each request, collects the proofs the engine leaves and hands them to the
//! chain. One direction: a socket ([`http`]) reads a snapshot ([`mining`]), the engine answers, its
//! proof arrives ([`collector`]), is kept ([`store`]) and goes to a sink ([`mining::sink`]).
//! [`service`] puts the pieces together, [`ui`] shows them; [`devnet`] is a chain to try them on. Beside all that,
//! [`proof_command`] inspects, judges and converts proofs, and [`vdf_command`] makes and checks VDF
//! proofs by hand.
#![forbid(unsafe_code)]

pub mod collector;
pub mod config;
pub mod devnet;
pub mod http;
pub mod metrics;
pub mod mining;
pub mod proof_command;
pub mod quickstart;
pub mod report;
pub mod service;
pub mod store;
pub mod ui;
pub mod vdf_command;
