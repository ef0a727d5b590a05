//! `tensorpow vdf bench`: what this machine can do, in the figures that decide a race for ticks.

use super::{VdfCommandError, print, rate};
use clap::Args;
use std::time::{Duration, Instant};
use tensorpow_core::vdf::prover::{Checkpoints, construct_in_parallel};
use tensorpow_core::vdf::{DISCRIMINANT_BITS, Discriminant, Form, verify_proof};

/// What is squared on: any block hash is as good.
const CHALLENGE: [u8; 32] = [0x42; 32];
/// Squarings between two looks at the clock: about a millisecond.
const SLICE: u64 = 240;
/// Verifications that are averaged.
const VERIFICATIONS: u32 = 8;

/// Flags of `vdf bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Seconds to square for; the rest takes a fraction of that
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    seconds: u64,
    /// Threads of the parallel construction; 0 takes all of the machine's
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=256), value_name = "N")]
    threads: u32,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BenchArgs) -> Result<(), VdfCommandError> {
    let threads = match args.threads {
        0 => {
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
        }
        threads => threads,
    };
    let (d, discriminant) = timed(|| Discriminant::from_challenge(&CHALLENGE, DISCRIMINANT_BITS));
    let d = d?;
    let mut checkpoints = Checkpoints::new(Form::generator(&d));
    let limit = Duration::from_secs(args.seconds);
    let started = Instant::now();
    while started.elapsed() < limit && checkpoints.tick() < u64::from(u32::MAX) {
        checkpoints.square_to(checkpoints.tick() + SLICE, &d);
    }
    let squaring = started.elapsed().as_secs_f64();
    let ticks = checkpoints.tick();
    let (blob, one) = timed(|| construct_in_parallel(&d, &checkpoints, 1, &|| false));
    let blob = blob?;
    let (parallel, many) = timed(|| construct_in_parallel(&d, &checkpoints, threads, &|| false));
    let (valid, verifying) =
        timed(|| (0..VERIFICATIONS).all(|_| verify_proof(&d, ticks, &blob).is_ok()));
    if !valid || parallel? != blob {
        return Err(VdfCommandError::Faulty);
    }
    let verifying = verifying / f64::from(VERIFICATIONS);
    let per_second = rate(ticks, squaring);
    let value = serde_json::json!({
        "bits": DISCRIMINANT_BITS,
        "ticks": ticks,
        "squarings_per_second": per_second,
        "discriminant_seconds": discriminant,
        "verify_seconds": verifying,
        "construct_one_thread_seconds": one,
        "construct_threads": threads,
        "construct_threads_seconds": many,
    });
    let text = format!(
        "squaring        {per_second:.0} a second, one thread ({ticks} in {squaring:.1} s)\n\
         discriminant    {:.1} ms\n\
         verifying       {:.2} ms, with the discriminant at hand\n\
         construction    {one:.3} s with 1 thread, {many:.3} s with {threads} ({:.2} times as fast)",
        discriminant * 1e3,
        verifying * 1e3,
        one / many.max(f64::MIN_POSITIVE),
    );
    print(args.json, &value, &text)
}

/// The outcome and the seconds it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let outcome = work();
    (outcome, started.elapsed().as_secs_f64())
}
