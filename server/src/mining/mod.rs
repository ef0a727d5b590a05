//! What is mined right now and where results go: jobs and VDF proofs come in from a
//! [`job::JobSource`], become one immutable [`snapshot::Snapshot`] that requests read, and finished
//! proofs leave through a [`sink::ProofSink`]. The development chain implements both ends by itself;
//! the links to a node and to a broker share [`templates::TemplateJobs`] at the one end.

pub mod context;
pub mod follow;
pub mod job;
pub mod model;
pub mod network;
pub mod offer;
pub mod pause;
pub mod payload;
pub mod prover;
mod proving;
pub mod registry;
pub mod sink;
pub mod snapshot;
pub mod templates;
pub mod vdf;
pub mod vdf_report;
