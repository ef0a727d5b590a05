//! The chain a worker mines for, and what follows from its name: the proof version its nodes demand
//! and its normalizer. The rules behind both are the core's.

use std::fmt;
use tensorpow_core::target::Normalizer;
use tensorpow_core::verify::Params;

/// A chain by the name its node gives. spec: node §1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Network {
    /// The main network.
    #[value(name = "tensor", alias = "mainnet")]
    Tensor,
    /// The test network.
    #[value(name = "tensor-test", alias = "testnet")]
    TensorTest,
    /// A development chain of ours.
    #[value(name = "devnet")]
    Devnet,
}

impl Network {
    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tensor => "tensor",
            Self::TensorTest => "tensor-test",
            Self::Devnet => "devnet",
        }
    }

    /// The proof version to mine where the operator names none: 3 wherever version 3 is ever
    /// demanded, because it is valid below its activation height too. A development chain demands
    /// what its own flags say, 3 by default. spec: proxy §8.1
    #[must_use]
    pub const fn proof_version(self) -> u8 {
        match self.params().v3_height {
            Some(_) => 3,
            None => 2,
        }
    }

    /// The chain's model difficulty normalizer. spec: targets §1
    #[must_use]
    pub const fn normalizer(self) -> Normalizer {
        self.params().normalizer
    }

    const fn params(self) -> Params {
        match self {
            Self::Tensor => Params::MAINNET,
            Self::TensorTest => Params::TENSOR_TEST,
            Self::Devnet => Params { v3_height: Some(1), ..Params::REGTEST },
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_decides_the_proof_version() {
        let versions = [Network::Tensor, Network::TensorTest, Network::Devnet]
            .map(|network| (network.as_str(), network.proof_version()));
        assert_eq!(versions, [("tensor", 3), ("tensor-test", 2), ("devnet", 3)]);
        assert_eq!(Network::Tensor.normalizer(), Normalizer::DEFAULT);
    }
}
