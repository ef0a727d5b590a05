//! `tensorpow vdf`: proofs of sequential work by hand. Each subcommand has its own file; what they
//! share, the reading of hex and the way they end, is here. Results go to standard output, progress
//! to standard error.

mod bench;
mod discriminant;
mod prove;
mod verify;

use clap::Subcommand;
use std::process::ExitCode;
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::DiscriminantError;
use tensorpow_core::vdf::prover::ProveError;

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum VdfCommand {
    /// Do the squarings and print the proof of them in hex
    Prove(prove::ProveArgs),
    /// Judge a proof as a node does: exit code 0 valid, 1 invalid, 2 unreadable
    Verify(verify::VerifyArgs),
    /// Measure squaring, verifying and proof construction on this machine
    Bench(bench::BenchArgs),
    /// Print the discriminant that a challenge gives, in hex
    Discriminant(discriminant::DiscriminantArgs),
}

/// Why a subcommand gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VdfCommandError {
    /// An argument is not hex.
    #[error("{name} is not hex: {error}")]
    Hex {
        /// The flag.
        name: &'static str,
        /// What is wrong.
        error: hex::FromHexError,
    },
    /// A block hash has 32 bytes.
    #[error("--challenge has {found} bytes, a block hash has 32 (64 hex digits)")]
    Challenge {
        /// Bytes found.
        found: usize,
    },
    /// The challenge gives no discriminant.
    #[error(transparent)]
    Discriminant(#[from] DiscriminantError),
    /// The proof could not be made.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The prover's own verification failed.
    #[error(
        "a finished proof does not verify: the memory or the processor of this machine is faulty"
    )]
    Faulty,
    /// The system gives no thread.
    #[error("cannot start the prover: {0}")]
    Thread(std::io::Error),
    /// Standard input or output failed.
    #[error("cannot read the proof or write the result: {0}")]
    Io(#[from] std::io::Error),
}

impl VdfCommandError {
    /// 2 for what the caller gave, as clap does; 1 for the rest.
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Hex { .. } | Self::Challenge { .. } | Self::Discriminant(_) => 2,
            _ => 1,
        }
    }
}

/// Runs a subcommand to its end and says how it went.
#[must_use]
pub fn run(command: VdfCommand) -> ExitCode {
    let outcome = match command {
        VdfCommand::Prove(args) => prove::run(&args),
        VdfCommand::Verify(args) => return verify::run(&args),
        VdfCommand::Bench(args) => bench::run(&args),
        VdfCommand::Discriminant(args) => discriminant::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tensorpow: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints a result: the text, or with `--json` the value on one line.
fn print(json: bool, value: &serde_json::Value, text: &str) -> Result<(), VdfCommandError> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{value}")?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// Bytes from hex; blanks around them are ignored.
fn bytes(text: &str, name: &'static str) -> Result<Vec<u8>, VdfCommandError> {
    hex::decode(text.trim()).map_err(|error| VdfCommandError::Hex { name, error })
}

/// The previous block's hash in header order.
fn challenge(text: &str) -> Result<BlockHash, VdfCommandError> {
    let bytes = bytes(text, "--challenge")?;
    let found = bytes.len();
    bytes.try_into().map(BlockHash::from_bytes).map_err(|_| VdfCommandError::Challenge { found })
}

/// Events per second; 0 before any time has passed.
#[allow(clippy::cast_precision_loss)] // a rate is shown, not computed with
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_a_block_hash() {
        let hash = challenge(&format!(" {}\n", "ab".repeat(32))).unwrap();
        assert_eq!(hash.as_bytes(), &[0xab; 32]);
        let short = challenge("abcd").unwrap_err();
        assert_eq!(
            (short.to_string().as_str(), short.exit_code()),
            ("--challenge has 2 bytes, a block hash has 32 (64 hex digits)", 2)
        );
        assert!(challenge("xy").unwrap_err().to_string().starts_with("--challenge is not hex"));
        assert_eq!(VdfCommandError::Faulty.exit_code(), 1);
    }

    #[test]
    fn no_time_is_no_rate() {
        assert!((rate(10, 4.0) - 2.5).abs() < 1e-9);
        assert!(rate(10, 0.0).abs() < 1e-9);
    }
}
