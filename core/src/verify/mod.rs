//! The node's quick verification: everything that can be said about a proof without the model's
//! weights, check by check in the node's order, with the node's verdict.
//!
//! * [`quick`]: the whole list, as a node makes it on its own solutions.
//! * [`consensus_v2`]: the part of it that block connection repeats, and [`block_rules`] with the
//!   version gates around it.
//! * [`Place::judge`]: a proof in the hand, for as much of a chain as is known.
//! * [`final_hash_only`]: the closing digest alone, a cheap preflight that can only reject.
//!
//! What a proof is held against stands in [`Context`], memory is lent as [`Scratch`], and whoever
//! wants to see every value on the way passes an [`Observer`]. No verdict is never a reject.
//! spec: verification §3, §4

mod block;
mod check;
mod context;
mod engine;
mod failure;
mod gates;
mod judge;
mod network;
mod report;
mod scratch;
mod sequence;

pub use block::{BlockReject, block_rules, consensus_v2, consensus_v2_observed, version_gate};
pub use check::Check;
pub use context::{Chain, Context, Registry, Vdf, VdfOracle};
pub use engine::Purpose;
pub use failure::{Detail, Failure};
pub use judge::{Judgement, Place, Unjudged};
pub use network::{Argon, Carrier, Network, Params, UnknownNetwork};
pub use report::{NoVerdict, Observer, Report, Step, Verdict};
#[cfg(feature = "alloc")]
pub use scratch::Workspace;
pub use scratch::{Needs, Scratch};

pub(crate) use engine::{Engine, Stop};

use crate::proof::ProofRef;
use crate::units::AdmissionNonce;

/// The node's quick verification, Q01–Q81. spec: verification §4
///
/// # Errors
/// [`NoVerdict`] says nothing about the proof.
pub fn quick(
    proof: &ProofRef<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch<'_>,
) -> Result<Report, NoVerdict> {
    quick_observed(proof, context, scratch, &mut ())
}

/// [`quick`] under the eyes of an observer.
///
/// # Errors
/// As for [`quick`].
pub fn quick_observed(
    proof: &ProofRef<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch<'_>,
    observer: &mut dyn Observer,
) -> Result<Report, NoVerdict> {
    run(proof, context, observer, |engine| {
        engine.preparation()?;
        engine.registration()?;
        engine.shape()?;
        engine.parameters()?;
        let digest = engine.closing()?;
        engine.header(&digest)?;
        engine.evidence()?;
        engine.draws(scratch)?;
        engine.sequence(scratch)
    })
}

/// The closing digest alone: Q01, Q30, Q31. Passing says little, failing says everything.
/// spec: verification §4.1
///
/// # Errors
/// As for [`quick`].
pub fn final_hash_only(proof: &ProofRef<'_>, context: &Context<'_>) -> Result<Report, NoVerdict> {
    run(proof, context, &mut (), |engine| {
        engine.preparation()?;
        engine.closing()?;
        Ok(())
    })
}

/// Replays every step, judged or not: for whoever wants to see a window that was refused, too.
/// Steps whose evidence row is empty or ragged have no interval and are left out. `nonce` is the
/// one every draw ends with, see [`Report::nonce`].
///
/// # Errors
/// As for [`quick`].
pub fn steps(
    proof: &ProofRef<'_>,
    nonce: Option<&AdmissionNonce>,
    scratch: &mut Scratch<'_>,
    mut look: impl FnMut(&Step),
) -> Result<(), NoVerdict> {
    sequence::replay(proof, nonce, scratch, &mut look)
}

/// Runs checks until one fails and makes the report.
fn run(
    proof: &ProofRef<'_>,
    context: &Context<'_>,
    observer: &mut dyn Observer,
    checks: impl FnOnce(&mut Engine<'_, '_>) -> Result<(), Stop>,
) -> Result<Report, NoVerdict> {
    let mut engine = Engine::new(proof, context, Purpose::Solution, false, observer)?;
    let outcome = checks(&mut engine);
    engine.finish(outcome)
}
