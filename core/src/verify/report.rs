//! The answer: a verdict with its reason and everything that was computed on the way to it.

use super::{Check, Detail, Failure};
use crate::credit::{BCred, Tier};
use crate::interval::Interval;
use crate::proof::TooLong;
use crate::units::{AdmissionNonce, Digest, HeaderHash};
use core::fmt;

/// The node's three answers. spec: verification §1.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every check holds.
    Ok,
    /// A check on the proof does not hold.
    Fail,
    /// The registry does not vouch for the model (Q02–Q05).
    ModelUnregistered,
}

impl Verdict {
    /// The name the node gives it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Quick_OK",
            Self::Fail => "Quick_Fail",
            Self::ModelUnregistered => "Quick_Fail_Model_Unregistered",
        }
    }

    /// The verdict that follows from the first check that failed.
    #[must_use]
    pub const fn of(failure: Option<&Failure>) -> Self {
        let Some(failure) = failure else { return Self::Ok };
        match failure.check {
            Check::ModelCommit
            | Check::ModelKnown
            | Check::ModelRecord
            | Check::ModelDifficulty => Self::ModelUnregistered,
            _ => Self::Fail,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one verification saw. Values that belong to checks behind the one that failed are absent
/// or partial; `steps` says how many intervals entered the sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// The first check that does not hold; none when all do.
    pub failure: Option<Failure>,
    /// The rules of version 3 bound this proof.
    pub v3_active: bool,
    /// The nonce its carrier claims, if the rules of version 3 bound it.
    pub nonce: Option<AdmissionNonce>,
    /// The closing digest its window gives.
    pub digest: Option<Digest>,
    /// The hash of its header, when prefix and `hash` are long enough to make one.
    pub header_hash: Option<HeaderHash>,
    /// Steps whose interval was rebuilt.
    pub steps: u32,
    /// Smallest distance of a draw from an edge of its interval widened by the tolerance; negative
    /// when it lies outside.
    pub least_margin: Option<f32>,
    /// Credited entropy of these steps, whatever the version.
    pub credit: BCred,
    /// The admission tier of the whole window, by the node's sum.
    pub tier: Option<Tier>,
    /// Reuse-entropy score of these steps in units of 2^-32, whatever the version.
    pub reuse_score: u64,
}

impl Report {
    /// The node's answer.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        Verdict::of(self.failure.as_ref())
    }
}

/// One step as it was judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Index in the window.
    pub j: u32,
    /// The chosen token.
    pub token: u32,
    /// The draw recomputed from the recorded context.
    pub draw: f32,
    /// The draw the proof claims.
    pub claimed: f32,
    /// The token's interval, judged with the recomputed draw.
    pub interval: Interval,
}

/// Looks on while a proof is judged. Nothing it does changes the verdict.
pub trait Observer {
    /// A check holds, with what it saw; of a check made per step, what the last step showed.
    fn passed(&mut self, _check: Check, _detail: Detail) {}

    /// The interval of a step was rebuilt.
    fn step(&mut self, _step: &Step) {}
}

/// Sees nothing.
impl Observer for () {}

/// Why there is no verdict. It says nothing about the proof and is never a reject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoVerdict {
    /// The proof is longer than any block can hold (`bad-pow-blob-size`).
    /// spec: verification §16
    TooLong(TooLong),
    /// A part of the scratch is too short.
    Scratch {
        /// Which part.
        part: &'static str,
        /// Entries needed.
        needed: usize,
        /// Entries there.
        found: usize,
    },
    /// A nonce is claimed, and no memory for its puzzle was lent.
    AdmissionMemory,
    /// Nobody answered whether the VDF proof holds.
    Vdf,
    /// Something that every judged proof has was not computed.
    Incomplete,
}

impl fmt::Display for NoVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(why) => write!(f, "the proof has {why}"),
            Self::Scratch { part, needed, found } => {
                write!(f, "the scratch for {part} has {found} entries, {needed} are needed")
            }
            Self::AdmissionMemory => {
                f.write_str("a nonce is claimed, and there is no memory for its puzzle")
            }
            Self::Vdf => f.write_str("nobody answered whether the VDF proof holds"),
            Self::Incomplete => f.write_str("a figure of the proof was not computed"),
        }
    }
}

impl core::error::Error for NoVerdict {}
