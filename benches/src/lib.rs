//! What the benches compare the core with.

pub mod closing;
#[cfg(feature = "gmp")]
pub mod gmp;
pub mod mined;
pub mod rows;
