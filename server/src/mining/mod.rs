//! What is mined right now and where results go: jobs and VDF proofs come in from a
//! [`job::JobSource`], become one immutable [`snapshot::Snapshot`] that requests read, and finished
//! proofs leave through a [`sink::ProofSink`]. The development chain implements both ends; a node
//! link and a broker link are further implementations of the same two traits.

pub mod context;
pub mod job;
pub mod model;
pub mod network;
pub mod offer;
pub mod pause;
pub mod payload;
pub mod prover;
pub mod registry;
pub mod sink;
pub mod snapshot;
pub mod vdf;
