//! Does any logits row make a step panic, and does every accepted row give a token of the
//! vocabulary with finite evidence?
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::Tick;
use tensorpow_core::window::{Label, Sequence, Window};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let grid = match choice % 3 {
        0 => Grid::Snapped(Snap::Bf16),
        1 => Grid::Snapped(Snap::Fp16),
        _ => Grid::Bf16Exact,
    };
    let params = Params {
        temperature: 0.25 + f32::from(choice >> 2) / 36.0,
        top_k: 1 + u32::from(choice % 50),
        top_p: if choice % 2 == 0 { 1.0 } else { 0.1 + f32::from(choice >> 1) / 150.0 },
    };
    let logits: Vec<f32> = rest.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let Ok(label) = Label::new("bf16") else { return };
    let hasher = StepHasher::new(&[1; 76], &[2; 200], Tick(3));
    let mut sequence = Sequence::<2>::new(hasher, label, grid, params, logits.len(), &[1]);
    let mut window = Window::<2>::new();
    let mut scratch = Box::new(RowScratch::new());
    for _ in 0..2 {
        if let Ok(step) = sequence.step(&logits, &mut scratch, &mut window) {
            assert!((step.token as usize) < logits.len());
            assert!(window.evidence_logits().iter().all(|l| l.is_finite()));
        }
    }
});
