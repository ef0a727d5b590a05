//! A proof of our own to measure with: one window mined by the core on made-up logits.

use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::{Encode, PadMask, ProofRef, Rows, Words};
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::{EVIDENCE_SLOTS, HeaderPrefix, STATS, Tick, WINDOW};
use tensorpow_core::window::{Label, Sequence, Window};

const VOCAB: usize = 32_000;
const PROMPT: [u32; 300] = [7; 300];
const VDF: [u8; 241] = [9; 241];

/// Logits that look like a language model's: a few large ones, the rest far below.
fn logits(state: &mut u32) -> Vec<f32> {
    let mut next = || {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(*state) / 4_294_967_296.0
    };
    #[allow(clippy::cast_possible_truncation)] // an f32 is wanted
    (0..VOCAB).map(|_| (-3.0 * (next() + 1e-9).ln() - 8.0) as f32).collect()
}

/// The FlatBuffer of a version-2 solution.
///
/// # Panics
/// Never: the window is complete and the proof well-formed.
#[must_use]
pub fn proof() -> Vec<u8> {
    let mut prefix = [7; 76];
    prefix[72..].copy_from_slice(&0x2100_ffff_u32.to_le_bytes());
    let prefix = HeaderPrefix::from_bytes(prefix);
    let hasher = StepHasher::new(prefix.as_bytes(), &VDF, Tick(32_768));
    let label = Label::new("bf16").expect("a short label");
    let grid = Grid::Snapped(Snap::Bf16);
    let mut sequence: Sequence = Sequence::new(hasher, label, grid, Params::V3, VOCAB, &PROMPT);
    let mut window: Box<Window> = Box::new(Window::new());
    let (mut scratch, mut state) = (Box::new(RowScratch::new()), 1);
    while window.filled() < WINDOW {
        sequence.step(&logits(&mut state), &mut scratch, &mut window).expect("finite logits");
    }
    let digest = sequence.closer().digest(&window).expect("a complete window");
    let rows = |words, width| Rows::Flat { words, width };
    ProofRef {
        version: 2,
        tick: 32_768,
        target: &prefix.bits().expand().target.to_be_bytes(),
        vdf: &VDF,
        hash: digest.as_bytes(),
        block_hash: prefix.parent().as_bytes(),
        header_prefix: prefix.as_bytes(),
        is_solution: true,
        model_identifier: b"example/model@0123456789abcdef0123456789abcdef01234567",
        compute_precision: b"bf16",
        extra_flags: b"{}",
        temperature: 1.0,
        top_p: 1.0,
        top_k: 50,
        repetition_penalty: 1.0,
        chosen_tokens: Words::Native(window.tokens()),
        chosen_probs: Words::Floats(window.upper_edges()),
        sampling_u: Words::Floats(window.draws()),
        softmax_normalizers: Words::Floats(window.normalizers()),
        prompt_tokens: Words::Native(&PROMPT),
        pad_mask: PadMask::Zeros(PROMPT.len()),
        topk_logits: rows(Words::Floats(window.evidence_logits()), EVIDENCE_SLOTS),
        topk_indices: rows(Words::Native(window.evidence_ids()), EVIDENCE_SLOTS),
        logsumexp_stats: rows(Words::Floats(window.stats()), STATS),
        ..ProofRef::default()
    }
    .encode_to_vec()
    .expect("within the size limit")
}
