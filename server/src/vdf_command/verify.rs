//! `tensorpow vdf verify`: the node's verdict on a proof, as an exit code and in words.

use super::{VdfCommandError, bytes, challenge, print};
use clap::Args;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Instant;
use tensorpow_core::vdf::VdfError;

/// More hex digits than any proof has.
const MOST_INPUT: u64 = 1 << 20;

/// Flags of `vdf verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The previous block's hash in header order, 64 hex digits
    #[arg(long, value_name = "HEX")]
    challenge: String,
    /// Squarings that the proof claims
    #[arg(long, value_name = "N")]
    tick: u64,
    /// The proof in hex; `-` reads it from standard input
    #[arg(long, value_name = "HEX")]
    blob: String,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Exit code of an input that could not be read.
const UNREADABLE: u8 = 2;

pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    match judge(args) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tensorpow: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn judge(args: &VerifyArgs) -> Result<Result<(), VdfError>, VdfCommandError> {
    let parent = challenge(&args.challenge)?;
    let blob = match args.blob.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin().lock().take(MOST_INPUT).read_to_string(&mut text)?;
            bytes(&text, "--blob")?
        }
        text => bytes(text, "--blob")?,
    };
    let started = Instant::now();
    let verdict = tensorpow_core::vdf::verify(&parent, args.tick, &blob);
    let seconds = started.elapsed().as_secs_f64();
    let reason = verdict.err().map(|error| error.to_string());
    let value = serde_json::json!({
        "valid": verdict.is_ok(),
        "reason": reason,
        "tick": args.tick,
        "seconds": seconds,
    });
    let text = match &reason {
        None => format!("valid: {} squarings, verified in {:.1} ms", args.tick, seconds * 1e3),
        Some(reason) => format!("invalid: {reason}"),
    };
    print(args.json, &value, &text)?;
    Ok(verdict)
}
