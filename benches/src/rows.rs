//! Rows of logits to measure with, and the sequences that draw from them.

use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::row::{Grid, Row};
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::simd::Path;
use tensorpow_core::units::Tick;
use tensorpow_core::window::{Label, Sequence, Window};

/// Vocabularies that are measured: of Llama 2, SmolLM2, Llama 3, Qwen 2.5 and Gemma 3.
pub const VOCABULARIES: [usize; 5] = [32_000, 49_152, 128_256, 151_936, 262_144];
/// The vocabulary of everything that is measured at one.
pub const VOCAB: usize = 151_936;
/// Sequences that decode side by side.
pub const BATCHES: [usize; 3] = [1, 8, 64];
/// The grid of every row.
pub const GRID: Grid = Grid::Snapped(Snap::Bf16);

/// Logits that look like a language model's: a few large ones, the rest far below, none on the
/// bf16 grid.
#[must_use]
pub fn row(vocab: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / 16_777_216.0
    };
    #[allow(clippy::cast_possible_truncation)] // an f32 is wanted
    (0..vocab).map(|_| (-3.0 * (next() + 1e-9).ln() - 8.0 + next()) as f32).collect()
}

/// The head of every step message, with a VDF blob of the networks' size.
#[must_use]
pub fn hasher() -> StepHasher {
    StepHasher::new(&[7; 76], &[9; 200], Tick(32_768))
}

/// One mined sequence with its window.
#[derive(Debug)]
pub struct Decoder {
    sequence: Sequence,
    window: Box<Window>,
}

impl Decoder {
    /// A sequence after a prompt of 300 tokens.
    ///
    /// # Panics
    /// Never: the label is short.
    #[must_use]
    pub fn new(vocab: usize) -> Self {
        let label = Label::new("bf16").expect("a short label");
        let sequence = Sequence::new(hasher(), label, GRID, Params::V3, vocab, &[7; 300]);
        Self { sequence, window: Box::new(Window::new()) }
    }

    /// The whole step: digest, draw, evidence, choice, record.
    ///
    /// # Panics
    /// Never on finite logits.
    pub fn step(&mut self, path: Path, logits: &[f32], scratch: &mut RowScratch) -> u32 {
        if self.window.is_complete() {
            self.window.clear();
        }
        let mut row = Row::prepare_on(path, logits, GRID, scratch).expect("finite logits");
        self.sequence.step_row(&mut row, &mut self.window).expect("an open window").token
    }
}
