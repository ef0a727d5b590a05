//! The networks as data: what a verifier has to know of a chain.

use crate::admission::{LANES, MAX_CARRIER, MAX_DEPTH, MEMORY_KIB, PuzzleParams, TIME_COST};
use crate::target::{Normalizer, Target};
use core::fmt;
use core::str::FromStr;

/// The parameters of a chain. A development chain takes a network's and changes what it needs.
/// spec: verification §1.2, admission §1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Easiest block target.
    pub pow_limit: Target,
    /// First height that demands version 2; none for never.
    pub reuse_entropy_height: Option<u32>,
    /// First height at which the rules of version 3 bind, and that demands it; none for never.
    pub v3_height: Option<u32>,
    /// Tokens every window must have; none for any number.
    pub window: Option<u32>,
    /// Difficulty that leaves a target unchanged.
    pub normalizer: Normalizer,
    /// Bits of credited entropy below which a window is refused.
    pub floor_bits: u32,
    /// Bits of credited entropy from which a window needs no nonce.
    pub free_bits: u32,
    /// Cost of one try of the admission puzzle.
    pub argon: Argon,
    /// How many tries a difficulty stands for.
    pub puzzle: PuzzleParams,
    /// Limits of the nonce's carrier.
    pub carrier: Carrier,
    /// Blocks must pass the external verifier too.
    pub external_validation: bool,
    /// The model a chain begins with.
    pub default_model: Option<&'static str>,
}

/// Cost of one try of the admission puzzle. spec: admission §1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon {
    /// Passes over the memory.
    pub time_cost: u32,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Limits of `extra_flags` as the nonce's carrier. spec: admission §1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    /// Bytes at most.
    pub max_bytes: u32,
    /// Depth at most.
    pub max_depth: u32,
}

impl Params {
    /// `tensor`.
    pub const MAINNET: Self = Self {
        reuse_entropy_height: Some(1_500),
        v3_height: Some(8_000),
        window: Some(256),
        external_validation: true,
        default_model: Some("Qwen/Qwen3-8B@9c925d64d72725edaf899c6cb9c377fd0709d9c5"),
        ..Self::REGTEST
    };

    /// `tensor-test`.
    pub const TENSOR_TEST: Self = Self {
        reuse_entropy_height: Some(5_000),
        v3_height: None,
        window: Some(256),
        external_validation: true,
        default_model: Some("Qwen/Qwen3-0.6B@c1899de289a04d12100db370d81485cdf75e47ca"),
        ..Self::REGTEST
    };

    /// `tensor-reg` and `regtest` without options.
    pub const REGTEST: Self = Self {
        pow_limit: Target::POW_LIMIT_TENSOR,
        reuse_entropy_height: None,
        v3_height: None,
        window: None,
        normalizer: Normalizer::DEFAULT,
        floor_bits: 45,
        free_bits: 70,
        argon: Argon { time_cost: 1, memory_kib: 8_192, lanes: 1 },
        puzzle: PuzzleParams::NETWORK,
        carrier: Carrier { max_bytes: 4_096, max_depth: 8 },
        external_validation: false,
        default_model: None,
    };

    /// True when this build computes admission as the chain does. The node refuses every version-3
    /// proof otherwise. spec: verification §8.1
    #[must_use]
    pub fn admission_is_compiled_in(&self) -> bool {
        let argon = Argon { time_cost: TIME_COST, memory_kib: MEMORY_KIB, lanes: LANES };
        self.argon == argon
            && self.puzzle == PuzzleParams::NETWORK
            && self.carrier.max_bytes == MAX_CARRIER as u32
            && self.carrier.max_depth == u32::from(MAX_DEPTH)
    }

    /// True when the rules of version 3 bind at a height; never at an unknown one.
    /// spec: verification §1.2
    #[must_use]
    pub fn is_v3_active(&self, height: Option<u32>) -> bool {
        reached(height, self.v3_height)
    }

    /// True when a height demands version 2 at least. spec: verification §3
    #[must_use]
    pub fn is_v2_demanded(&self, height: Option<u32>) -> bool {
        reached(height, self.reuse_entropy_height)
    }

    /// The least version a proof must have at a height. spec: verification §3
    #[must_use]
    pub fn least_version(&self, height: Option<u32>) -> u8 {
        if self.is_v3_active(height) {
            3
        } else if self.is_v2_demanded(height) {
            2
        } else {
            0
        }
    }
}

fn reached(height: Option<u32>, activation: Option<u32>) -> bool {
    matches!((height, activation), (Some(height), Some(activation)) if height >= activation)
}

/// A public chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// `tensor`.
    Mainnet,
    /// `tensor-test`.
    TensorTest,
    /// A local chain without options.
    Regtest,
}

impl Network {
    /// All networks.
    pub const ALL: [Self; 3] = [Self::Mainnet, Self::TensorTest, Self::Regtest];

    /// The network's parameters.
    #[must_use]
    pub const fn params(self) -> Params {
        match self {
            Self::Mainnet => Params::MAINNET,
            Self::TensorTest => Params::TENSOR_TEST,
            Self::Regtest => Params::REGTEST,
        }
    }

    /// The name on command lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::TensorTest => "tensor-test",
            Self::Regtest => "regtest",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that no network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownNetwork;

impl fmt::Display for UnknownNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the networks are mainnet, tensor-test and regtest")
    }
}

impl core::error::Error for UnknownNetwork {}

impl FromStr for Network {
    type Err = UnknownNetwork;

    /// The command line's name or the chain's own.
    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        match name {
            "mainnet" | "tensor" => Ok(Self::Mainnet),
            "tensor-test" => Ok(Self::TensorTest),
            "regtest" | "tensor-reg" => Ok(Self::Regtest),
            _ => Err(UnknownNetwork),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn versions_are_demanded_from_their_heights_and_never_at_an_unknown_one() {
        for (height, version) in
            [(None, 0), (Some(1_499), 0), (Some(1_500), 2), (Some(7_999), 2), (Some(8_000), 3)]
        {
            assert_eq!(Params::MAINNET.least_version(height), version, "{height:?}");
        }
        assert_eq!(Params::TENSOR_TEST.least_version(Some(5_000)), 2);
        assert_eq!(Params::REGTEST.least_version(Some(u32::MAX)), 0);
    }

    #[test]
    fn every_network_has_the_admission_of_this_build() {
        assert!(Network::ALL.iter().all(|network| network.params().admission_is_compiled_in()));
        let argon = Argon { time_cost: 2, ..Params::MAINNET.argon };
        assert!(!Params { argon, ..Params::MAINNET }.admission_is_compiled_in());
    }

    #[test]
    fn names_lead_to_networks_and_back() {
        for network in Network::ALL {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        assert_eq!("tensor".parse(), Ok(Network::Mainnet));
        assert_eq!("main".parse::<Network>(), Err(UnknownNetwork));
    }
}
