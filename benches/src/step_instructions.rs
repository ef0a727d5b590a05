//! Steps on one path, for an instruction counter: `step-instructions PATH VOCAB STEPS`.
//! Everything else it does is the same for any number of steps, so that two runs tell what one costs.
//! `benches/instructions` is what calls this.

use std::process::ExitCode;
use tensorpow_benches::rows::{Decoder, row};
use tensorpow_core::select::RowScratch;
use tensorpow_core::simd::Path;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, vocab, steps] = arguments.as_slice() else {
        eprintln!("usage: step-instructions PATH VOCAB STEPS");
        return ExitCode::FAILURE;
    };
    let (Ok(vocab), Ok(steps)) = (vocab.parse(), steps.parse::<u32>()) else {
        eprintln!("VOCAB and STEPS are numbers");
        return ExitCode::FAILURE;
    };
    let Some(path) = Path::available().find(|path| path.name() == name) else {
        eprintln!("this machine has no path {name}");
        return ExitCode::from(2);
    };
    let logits = row(vocab, 1);
    let mut decoder = Decoder::new(vocab);
    let mut scratch = Box::new(RowScratch::new());
    let tokens: u64 =
        (0..steps).map(|_| u64::from(decoder.step(path, &logits, &mut scratch))).sum();
    println!("{tokens}");
    ExitCode::SUCCESS
}
