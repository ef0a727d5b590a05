//! Proofs to judge: windows mined by the core's own sampler on made-up logits.

#![allow(dead_code, unreachable_pub)] // each test takes what it needs

use tensorpow_core::admission::merge_to_vec;
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::{PadMask, Proof, ProofRef, Rows, Words};
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::{AdmissionNonce, HeaderPrefix, Tick, WINDOW};
use tensorpow_core::window::{Label, Sequence, Window};

pub const VOCAB: usize = 1000;
pub const VDF: [u8; 200] = [9; 200];

/// With a target that nearly every hash meets.
pub fn prefix() -> HeaderPrefix {
    let mut bytes = [7; 76];
    bytes[72..].copy_from_slice(&0x2100_ffff_u32.to_le_bytes());
    HeaderPrefix::from_bytes(bytes)
}

/// Logits that look like a language model's: a few large ones, the rest far below.
pub fn logits(step: u32) -> Vec<f32> {
    let mut state = step.wrapping_mul(2_654_435_761).wrapping_add(99);
    (0..VOCAB)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (state >> 8) as f32 / 16_777_216.0;
            x * x * x * 22.0 - 4.0
        })
        .collect()
}

/// A window with what a proof needs beside it.
pub struct Mined {
    prompt: Vec<u32>,
    window: Box<Window>,
    hash: [u8; 32],
    params: Params,
}

/// The last of some windows, without a nonce.
pub fn mine(params: Params, windows: usize) -> Mined {
    mine_with(params, windows, None)
}

/// The last of some windows, each with this nonce.
pub fn mine_with(params: Params, windows: usize, nonce: Option<AdmissionNonce>) -> Mined {
    let mut archive = vec![1, 2, 3];
    let hasher = StepHasher::new(prefix().as_bytes(), &VDF, Tick(32_768));
    let grid = Grid::Snapped(Snap::Bf16);
    let label = Label::new("bf16").unwrap();
    let mut sequence = Sequence::new(hasher, label, grid, params, VOCAB, &archive);
    let mut window = Box::new(Window::new());
    let mut scratch = Box::new(RowScratch::new());
    for n in 0..windows * WINDOW {
        if window.is_complete() {
            window.clear();
        }
        if window.filled() == 0 {
            window.set_nonce(nonce).unwrap();
        }
        let step = sequence.step(&logits(n as u32), &mut scratch, &mut window).unwrap();
        assert_eq!(step.j as usize, n % WINDOW);
        archive.push(step.token);
    }
    archive.truncate(archive.len() - WINDOW);
    let hash = *sequence.closer().digest(&window).unwrap().as_bytes();
    Mined { prompt: archive, window, hash, params }
}

/// Version 3 with a nonce, version 2 without one.
pub fn proof(mined: &Mined) -> Proof {
    let window = &mined.window;
    let flags = window.nonce().map_or(b"{}".to_vec(), |nonce| merge_to_vec(b"{}", nonce).unwrap());
    Proof::try_from(&ProofRef {
        version: if window.nonce().is_some() { 3 } else { 2 },
        tick: 32_768,
        timestamp: 1_780_000_000,
        target: &prefix().bits().expand().target.to_be_bytes(),
        vdf: &VDF,
        hash: &mined.hash,
        block_hash: prefix().parent().as_bytes(),
        header_prefix: prefix().as_bytes(),
        is_solution: true,
        model_identifier: b"org/model@0123",
        compute_precision: b"bf16",
        ipfs_cid: b"",
        extra_flags: &flags,
        temperature: mined.params.temperature,
        top_p: mined.params.top_p,
        top_k: mined.params.top_k,
        repetition_penalty: 1.0,
        chosen_tokens: Words::Native(window.tokens()),
        chosen_probs: Words::Floats(window.upper_edges()),
        sampling_u: Words::Floats(window.draws()),
        softmax_normalizers: Words::Floats(window.normalizers()),
        prompt_tokens: Words::Native(&mined.prompt),
        pad_mask: PadMask::Zeros(mined.prompt.len()),
        topk_logits: Rows::Flat { words: Words::Floats(window.evidence_logits()), width: 70 },
        topk_indices: Rows::Flat { words: Words::Native(window.evidence_ids()), width: 70 },
        logsumexp_stats: Rows::Flat { words: Words::Floats(window.stats()), width: 6 },
    })
    .unwrap()
}
