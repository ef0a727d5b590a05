//! Measures the VDF side by side with GMP in one run and prints the ratios: alternating rounds, so
//! that a busy machine slows both. `--json` prints one object instead.

use std::time::{Duration, Instant};
use tensorpow_core::vdf::prover::{Checkpoints, construct_in_parallel, prove};
use tensorpow_core::vdf::{Discriminant, Form, verify_proof};

/// Squarings a round.
const ROUND: u64 = 20_000;
/// Rounds of each competitor; the median counts.
const ROUNDS: usize = 9;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut lines: Vec<(&str, f64)> = Vec::new();
    let derived: Vec<f64> = (0..20)
        .map(|i| {
            timed(|| {
                let _ = std::hint::black_box(Discriminant::from_challenge(&[i; 32], 1024));
            })
            .as_secs_f64()
        })
        .collect();
    lines.push(("discriminant_ms_mean", derived.iter().sum::<f64>() / 20.0 * 1e3));

    let d = Discriminant::from_challenge(&[7; 32], 1024).expect("32 bytes serve");
    let start = Form::generator(&d).square_repeatedly(1_000, &d);
    let mut ours = start;
    let mut our_rates = Vec::new();
    #[cfg(feature = "gmp")]
    let mut theirs = {
        let hex = |n: &tensorpow_core::vdf::Integer| format!("{n:x}");
        tensorpow_benches::gmp::Squarer::new(
            &hex(&d.value()),
            &hex(start.a()),
            &hex(start.b()),
            &hex(start.c()),
        )
    };
    #[cfg(feature = "gmp")]
    let mut their_rates = Vec::new();
    for _ in 0..ROUNDS {
        let took = timed(|| ours = ours.square_repeatedly(ROUND, &d));
        our_rates.push(ROUND as f64 / took.as_secs_f64());
        #[cfg(feature = "gmp")]
        {
            let took = timed(|| (0..ROUND).for_each(|_| theirs.square()));
            their_rates.push(ROUND as f64 / took.as_secs_f64());
        }
    }
    lines.push(("squarings_per_s", median(our_rates.clone())));
    #[cfg(feature = "gmp")]
    {
        assert_eq!(format!("{:x}", ours.a()), theirs.a_hex(), "both must reach the same form");
        lines.push(("gmp_squarings_per_s", median(their_rates.clone())));
        lines.push(("squarings_to_gmp", median(our_rates) / median(their_rates)));
    }

    let blob = prove(&d, 32_768).expect("a proof");
    let times: Vec<f64> = (0..50)
        .map(|_| timed(|| verify_proof(&d, 32_768, &blob).expect("valid")).as_secs_f64() * 1e3)
        .collect();
    lines.push(("verify_ms", median(times)));

    let proved = timed(|| {
        let _ = prove(&d, 100_000);
    });
    lines.push(("prove_ticks_per_s", 1e5 / proved.as_secs_f64()));
    // Forms with a small first coefficient take the general arithmetic, and all these share factors
    // with the start: of all blobs tried, this kind took longest.
    let small = Form::generator(&d).encode(&d).expect("encodes");
    let hostile = [small, small].concat();
    let times: Vec<f64> = (0..20)
        .map(|_| {
            timed(|| {
                let _ = verify_proof(&d, u64::MAX, &hostile);
            })
            .as_secs_f64()
                * 1e3
        })
        .collect();
    lines.push(("verify_hostile_ms", median(times)));

    let ticks =
        std::env::var("VDF_BENCH_TICKS").ok().and_then(|t| t.parse().ok()).unwrap_or(200_000);
    let mut checkpoints = Checkpoints::new(Form::generator(&d));
    checkpoints.square_to(ticks, &d);
    let construct = |threads| {
        timed(|| {
            let _ = construct_in_parallel(&d, &checkpoints, threads, &|| false);
        })
        .as_secs_f64()
    };
    let (one, two) = (construct(1), construct(2));
    lines.push(("construct_ticks", ticks as f64));
    lines.push(("construct_one_thread_s", one));
    lines.push(("construct_two_threads_s", two));
    lines.push(("construct_speedup", one / two));

    if json {
        let members: Vec<String> = lines.iter().map(|(k, v)| format!("\"{k}\": {v:.4}")).collect();
        println!("{{{}}}", members.join(", "));
    } else {
        for (name, value) in lines {
            println!("{name:<26} {value:>14.3}");
        }
    }
}
