//! Flags of the development chain and the chain they stand for.

use super::ConfigError;
use crate::devnet::chain::ChainSettings;
use crate::devnet::vdf::DEFAULT_TICKS;
use crate::mining::model::{ModelId, ModelRecord};
use clap::Args;
use std::time::Duration;
use tensorpow_core::target::{
    CompactTarget, Difficulty, Normalizer, Target, parse_base_share_target,
};

/// Flags of the development chain.
#[derive(Debug, Clone, Args)]
pub struct DevnetArgs {
    /// The registered model as name@commit; requests for this name are mined
    #[arg(long, value_name = "NAME@COMMIT")]
    pub model: ModelId,
    /// Its registered difficulty; 1000000 leaves the targets as they are
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub difficulty: i64,
    /// Block target in compact form; the default makes about every fourth window a block
    #[arg(long, default_value = "0x203fffff", value_parser = parse_bits, value_name = "BITS")]
    pub block_bits: CompactTarget,
    /// Share target in hex, or `none`; the default makes every window a share
    #[arg(
        long,
        default_value = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        value_parser = parse_share_target,
        value_name = "HEX"
    )]
    pub share_target: ShareTarget,
    /// Proof version that blocks must have. 3 fixes temperature 1, top_k 50 and top_p 1, and its
    /// rules of credited entropy and admission bind from the first block on
    #[arg(long, env = "POW_PROOF_VERSION", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub proof_version: u8,
    /// Seconds between templates on the same block
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub interval: f64,
    /// Squarings behind the VDF proof of each parent block. The prover rests once they are proved,
    /// a fraction of a second with the default; until then requests are served unmined
    #[arg(
        long,
        default_value_t = DEFAULT_TICKS,
        value_parser = clap::value_parser!(u32).range(1..),
        value_name = "N"
    )]
    pub vdf_ticks: u32,
    /// Makes all headers depend on this number alone, not on the clock
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// A share target, or none. (clap reads an `Option` as "flag may be missing".)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareTarget(pub Option<Target>);

impl DevnetArgs {
    /// The chain these flags stand for.
    ///
    /// # Errors
    /// [`ConfigError`] when a value is out of range.
    pub fn into_settings(self) -> Result<ChainSettings, ConfigError> {
        let difficulty = Difficulty::new(self.difficulty).map_err(|_| {
            ConfigError::one(format!("--difficulty {} must be positive", self.difficulty))
        })?;
        if !(0.01..=86_400.0).contains(&self.interval) {
            return Err(ConfigError::one(format!(
                "--interval {} must be between 0.01 and 86400 seconds",
                self.interval
            )));
        }
        Ok(ChainSettings {
            block_bits: self.block_bits,
            base_share_target: self.share_target.0,
            model: ModelRecord {
                id: self.model,
                difficulty,
                cid: String::new(),
                commit_block_height: 0,
            },
            proof_version: self.proof_version,
            normalizer: Normalizer::DEFAULT,
            interval: Duration::from_secs_f64(self.interval),
            vdf_ticks: self.vdf_ticks,
            seed: self.seed,
        })
    }
}

/// A compact target as decimal or `0x` hex, if it is a valid one.
fn parse_bits(text: &str) -> Result<CompactTarget, String> {
    let value = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let bits = value.map(CompactTarget::from_bits).map_err(|error| error.to_string())?;
    bits.derive(&Target::POW_LIMIT_TENSOR).map_err(|error| error.to_string())?;
    Ok(bits)
}

fn parse_share_target(text: &str) -> Result<ShareTarget, String> {
    if text == "none" {
        return Ok(ShareTarget(None));
    }
    parse_base_share_target(text).map(|target| ShareTarget(Some(target))).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Devnet {
        #[command(flatten)]
        args: DevnetArgs,
    }

    #[test]
    fn devnet_flags_are_checked_one_by_one() {
        let parse = |flags: &[&str]| {
            Devnet::try_parse_from([&["x", "--model", "a/b@c"], flags].concat()).map(|x| x.args)
        };
        let settings = parse(&[]).unwrap().into_settings().unwrap();
        assert_eq!(settings.base_share_target, Some(Target::MAX));
        assert_eq!(parse(&["--share-target", "none"]).unwrap().share_target, ShareTarget(None));
        for bad in [
            &["--block-bits", "0x04800001"][..],
            &["--block-bits", "zero"],
            &["--block-bits", "0"],
            &["--share-target", "0x1"],
            &["--share-target", ""],
            &["--proof-version", "4"],
            &["--model", "no-commit"],
            &["--vdf-ticks", "0"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&["--difficulty", "0"]).unwrap().into_settings().is_err());
        assert!(parse(&["--interval", "0"]).unwrap().into_settings().is_err());
    }
}
