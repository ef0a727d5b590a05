//! What a proof is held against besides itself. Every part can be missing, and what is then not
//! checked is the node's rule, not a guess.

use super::network::Params;
use crate::units::BlockHash;
use core::fmt;

/// The chain a proof is judged for. spec: verification §4
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The chain's parameters.
    pub params: Params,
    /// Height of the proof's own block; none while its parent is unknown.
    pub height: Option<u32>,
    /// Registered difficulty of the proof's model, 0 when it is not known.
    pub difficulty: i64,
}

impl Chain {
    /// A chain on which version 3 is held to be active, or not, for those whom nobody tells a
    /// height; windows have 256 tokens. spec: verification §17
    #[must_use]
    pub const fn assumed(v3_active: bool, difficulty: i64) -> Self {
        let v3_height = if v3_active { Some(0) } else { None };
        let params = Params { reuse_entropy_height: None, v3_height, ..Params::MAINNET };
        Self { params, height: Some(0), difficulty }
    }

    /// True when the rules of version 3 bind a proof. spec: verification §8.1
    #[must_use]
    pub fn is_v3_active_for(&self, version: u8) -> bool {
        version >= 3 && self.params.is_v3_active(self.height)
    }
}

/// What the registry of models says about a proof's model. spec: verification §4 Q02–Q05
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registry {
    /// There is no registry: nothing is checked.
    #[default]
    Absent,
    /// The model is not registered.
    Unknown,
    /// The model is registered, its record cannot be read.
    Unreadable,
    /// The model is registered with this difficulty.
    Registered(i64),
}

/// Answers whether a VDF proof holds, from challenge, tick and blob. None when there is no answer,
/// which is never a reject.
pub type VdfOracle<'a> = dyn Fn(&BlockHash, u64, &[u8]) -> Option<bool> + 'a;

/// How the VDF proof is checked: it costs more than everything else and its answer serves every
/// proof with the same challenge, blob and tick.
#[derive(Clone, Copy, Default)]
pub enum Vdf<'a> {
    /// By [`crate::vdf::verify`].
    #[default]
    Verify,
    /// By asking, for example a cache.
    Ask(&'a VdfOracle<'a>),
    /// Not here.
    Skip,
}

impl fmt::Debug for Vdf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verify => "Verify",
            Self::Ask(_) => "Ask",
            Self::Skip => "Skip",
        })
    }
}

/// Everything a proof is held against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The chain; without one neither version 3 nor the window's size is checked.
    pub chain: Option<Chain>,
    /// The registry's answer.
    pub registry: Registry,
    /// The check of the VDF proof.
    pub vdf: Vdf<'a>,
}
