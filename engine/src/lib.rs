//! What every engine binding of tensorpow shares: the operator's settings, mined sequences, the
//! thread that turns finished windows into proofs, the sockets proofs leave by, and the counters.
//!
//! ```text
//!  decode thread          closer thread                    egress thread
//!  Sequence::sample ──▶ ┃window queue┃ digest, tier,  ──▶ ┃proof queue┃ ZMQ PUSH, file
//!                                      self-check, encode
//! ```
//!
//! The decode thread pays for the step itself and, every 256 tokens, for the exchange of a pointer.
//! Both queues are bounded and nothing ever waits for room in them: what does not fit is dropped
//! and counted. A request that cannot be mined is served by the inference engine's own sampler and
//! counted by reason.
#![forbid(unsafe_code)]

mod admission;
mod archive;
mod closer;
mod counters;
mod egress;
mod engine;
pub mod inspect;
mod job;
mod notice;
mod request;
mod sequence;
pub mod settings;
mod sync;
mod windows;

pub use admission::AdmissionError;
pub use engine::{BeginRequest, Engine, Identity, NotMined, StartError};
pub use notice::{Level, Log};
pub use request::{EndReason, Exclusion, Exclusions};
pub use sequence::{Sequence, Stopped};
pub use tensorpow_core::door::Requested;
