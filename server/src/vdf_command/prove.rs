//! `tensorpow vdf prove`: squarings up to a tick, with the proof of them at the end. Earlier stretches
//! are proved on the way, so that the age of the newest proof can be watched as a miner sees it.

use super::{VdfCommandError, challenge, print, rate};
use clap::Args;
use std::time::{Duration, Instant};
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::prover::{Progress, Prover, Settings, prove};
use tensorpow_core::vdf::{DISCRIMINANT_BITS, Discriminant, PROOF_BYTES};

/// Below this many squarings a proof is there before any progress could be shown.
const SHORT: u32 = 32_768;
/// How often the prover is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Flags of `vdf prove`.
#[derive(Debug, Clone, Args)]
pub struct ProveArgs {
    /// The previous block's hash in header order, 64 hex digits
    #[arg(long, value_name = "HEX")]
    challenge: String,
    /// Squarings to prove
    #[arg(long, value_name = "N")]
    ticks: u32,
    /// Threads that construct proofs beside the one that squares
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    threads: u32,
    /// Squarings between two proofs on the way to the last
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    chunk: u32,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ProveArgs) -> Result<(), VdfCommandError> {
    let parent = challenge(&args.challenge)?;
    let started = Instant::now();
    let blob = if args.ticks < SHORT {
        let d = Discriminant::from_challenge(parent.as_bytes(), DISCRIMINANT_BITS)?;
        prove(&d, args.ticks.into())?
    } else {
        prove_watched(args, parent, started)?
    };
    let seconds = started.elapsed().as_secs_f64();
    let blob = hex::encode(blob);
    let value = serde_json::json!({
        "challenge": hex::encode(parent.as_bytes()),
        "tick": args.ticks,
        "blob": blob,
        "seconds": seconds,
        "ticks_per_second": rate(args.ticks.into(), seconds),
    });
    print(args.json, &value, &blob)
}

/// With the streaming prover, which verifies what it publishes.
fn prove_watched(
    args: &ProveArgs,
    parent: BlockHash,
    started: Instant,
) -> Result<[u8; PROOF_BYTES], VdfCommandError> {
    let settings = Settings { chunk: args.chunk.into(), limit: args.ticks, threads: args.threads };
    let prover = Prover::start(parent, settings).map_err(VdfCommandError::Thread)?;
    let mut shown = started;
    let mut newest = Newest { tick: 0, since: started };
    loop {
        if let Some(proof) = prover.latest() {
            if proof.tick == u64::from(args.ticks) {
                return Ok(proof.blob);
            }
            newest.see(proof.tick);
        }
        let progress = prover.progress();
        if progress.faults > 0 {
            return Err(VdfCommandError::Faulty);
        }
        if !args.quiet && shown.elapsed() >= SHOW_EVERY {
            shown = Instant::now();
            eprintln!("{}", line(&progress, args.ticks, started.elapsed(), &newest));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The newest proof, and since when it is that.
struct Newest {
    tick: u64,
    since: Instant,
}

impl Newest {
    fn see(&mut self, tick: u64) {
        if self.tick != tick {
            *self = Self { tick, since: Instant::now() };
        }
    }
}

/// One line of progress.
fn line(progress: &Progress, ticks: u32, elapsed: Duration, newest: &Newest) -> String {
    let speed = rate(progress.ticks, elapsed.as_secs_f64());
    let left = u64::from(ticks).saturating_sub(progress.ticks);
    let rest = match left {
        0 => "constructing the proof".to_owned(),
        _ if speed <= 0.0 => "ETA unknown".to_owned(),
        _ => format!("ETA {:.0} s", rate(left, speed)),
    };
    let proof = match newest.tick {
        0 => "no proof yet".to_owned(),
        tick => {
            format!("proof of tick {tick} is {:.1} s old", newest.since.elapsed().as_secs_f64())
        }
    };
    format!("{} of {ticks} ticks, {speed:.0} ticks/s, {proof}, {rest}", progress.ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_speed_age_and_rest() {
        let progress = |ticks| Progress { ticks, ..Progress::default() };
        let none = Newest { tick: 0, since: Instant::now() };
        assert_eq!(
            line(&progress(1000), 3000, Duration::from_secs(2), &none),
            "1000 of 3000 ticks, 500 ticks/s, no proof yet, ETA 4 s"
        );
        let mut newest = none;
        newest.see(900);
        let done = line(&progress(3000), 3000, Duration::from_secs(2), &newest);
        assert_eq!(
            done,
            "3000 of 3000 ticks, 1500 ticks/s, proof of tick 900 is 0.0 s old, constructing the proof"
        );
        assert!(line(&progress(0), 9, Duration::ZERO, &newest).ends_with("ETA unknown"));
    }
}
