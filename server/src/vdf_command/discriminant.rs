//! `tensorpow vdf discriminant`: the group that a challenge names.

use super::{VdfCommandError, bytes, print};
use clap::Args;
use tensorpow_core::vdf::{DISCRIMINANT_BITS, magnitude_from_challenge};

/// Flags of `vdf discriminant`.
#[derive(Debug, Clone, Args)]
pub struct DiscriminantArgs {
    /// The challenge in hex, of any length; the network's is the previous block's hash in header
    /// order
    #[arg(long, value_name = "HEX")]
    challenge: String,
    /// Size: a multiple of 8 up to 2048; above 1024 no proof can be made
    #[arg(long, default_value_t = DISCRIMINANT_BITS, value_name = "N")]
    bits: u32,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DiscriminantArgs) -> Result<(), VdfCommandError> {
    let seed = bytes(&args.challenge, "--challenge")?;
    let discriminant = format!("-{:x}", magnitude_from_challenge(&seed, args.bits)?);
    let value = serde_json::json!({
        "challenge": hex::encode(&seed),
        "bits": args.bits,
        "discriminant": discriminant,
    });
    print(args.json, &value, &discriminant)
}
