//! The C and C++ doors of tensorpow: what an inference engine written in C or C++ calls to have
//! its sampled tokens mined. The header `include/tensorpow.h` is made from this crate; `bridge`
//! (feature `cxx`) offers the same to C++ with types that clean up after themselves.
//!
//! Nothing is decided here: the doors check pointers, keep panics inside and hand over to
//! [`tensorpow_engine`].

mod arguments;
mod batch;
#[cfg(feature = "cxx")]
mod bridge;
mod engine;
mod proof;
mod sequence;
mod status;
mod vdf;

pub use batch::{BatchRow, tensorpow_sample_batch};
pub use engine::{
    EngineArgs, EngineHandle, tensorpow_engine_free, tensorpow_engine_new, tensorpow_last_error,
    tensorpow_metrics, tensorpow_version,
};
pub use proof::{tensorpow_proof_check, tensorpow_proof_commitment};
pub use sequence::{
    BeginArgs, EndReason, SequenceHandle, TENSORPOW_EXCLUDE_ADAPTER, TENSORPOW_EXCLUDE_BACKEND,
    TENSORPOW_EXCLUDE_CONTEXT_SHIFT, TENSORPOW_EXCLUDE_GRAMMAR, TENSORPOW_EXCLUDE_LOGIT_BIAS,
    TENSORPOW_EXCLUDE_MULTIMODAL, TENSORPOW_EXCLUDE_NOT_COMPLETION, TENSORPOW_EXCLUDE_PENALTY,
    TENSORPOW_EXCLUDE_REASONING_BUDGET, TENSORPOW_EXCLUDE_SAMPLER_OPTION, TENSORPOW_EXCLUDE_SEED,
    TENSORPOW_EXCLUDE_SEVERAL_CHOICES, tensorpow_begin, tensorpow_end, tensorpow_ready,
    tensorpow_sample,
};
pub use status::Status;
pub use vdf::{
    TENSORPOW_VDF_MOST_TICKS, TENSORPOW_VDF_PROOF_BYTES, tensorpow_vdf_prove, tensorpow_vdf_verify,
};
