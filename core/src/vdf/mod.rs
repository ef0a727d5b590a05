//! The verifiable delay function of the network: Wesolowski proofs over class groups of imaginary
//! quadratic orders. A proof shows that `tick` squarings were done, one after the other, from a
//! start that only the previous block's hash determines. How it works: `docs/vdf.md`.
//!
//! Verifying ([`verify`]) needs neither an allocator nor std.

mod compose;
mod discriminant;
mod encoding;
mod error;
mod euclid;
mod fixed;
mod form;
mod hash_prime;
mod integer;
mod limbs;
mod montgomery;
mod partial;
mod power;
mod prime;
#[cfg(feature = "alloc")]
pub mod prover;
mod square;
mod wesolowski;

pub use discriminant::{Discriminant, magnitude_from_challenge};
pub use encoding::FORM_BYTES;
pub use error::{DiscriminantError, FormError, VdfError};
pub use form::Form;
pub use hash_prime::hash_prime;
pub use integer::Integer;
pub use partial::{Partial, partial_gcd};
pub use wesolowski::{
    DISCRIMINANT_BITS, PROOF_BYTES, PrimeError, SEGMENT_BYTES, fiat_shamir_prime, verify,
    verify_from, verify_proof, verify_with,
};
