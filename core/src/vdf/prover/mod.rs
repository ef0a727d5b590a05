//! Making proofs: the squaring loop, its checkpoints, and the construction of π from them.
//!
//! [`prove`] makes one proof in the calling thread. With std, [`Prover`] runs in the background and
//! publishes ever later proofs of one challenge.

mod checkpoints;
mod construct;
#[cfg(feature = "std")]
mod stream;

pub use checkpoints::Checkpoints;
pub use construct::{ProveError, construct};
#[cfg(feature = "std")]
pub use stream::{Progress, Prover, Published, Settings, construct_in_parallel};

use super::discriminant::Discriminant;
use super::form::Form;
use super::wesolowski::PROOF_BYTES;

/// Proves `tick` squarings of the generator, in the calling thread. The bytes are the same for
/// every implementation. spec: vdf §10.1
///
/// # Errors
/// [`ProveError`]: a form without an encoding or without a prime; neither has ever been seen.
pub fn prove(d: &Discriminant, tick: u64) -> Result<[u8; PROOF_BYTES], ProveError> {
    let mut checkpoints = Checkpoints::new(Form::generator(d));
    checkpoints.square_to(tick, d);
    construct(d, &checkpoints, &|| false)
}
