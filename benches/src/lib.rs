//! What the benches compare the core with.

#[cfg(feature = "gmp")]
pub mod gmp;
pub mod mined;
pub mod rows;
