//! Windows mined here by the rules, on logits of the three grids, some with an admission nonce: what
//! the compact form is made for.

use crate::{round_trip, share};
use tensorpow_core::admission::merge_to_vec;
use tensorpow_core::archive::encode;
use tensorpow_core::context::Context;
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::Proof;
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::{AdmissionNonce, HeaderPrefix, Tick, WINDOW};
use tensorpow_core::window::{Label, Sequence, Window};

/// More than 2000, so that every statistic has its ranks.
const VOCAB: usize = 2600;

/// Logits that look like a language model's: a few large ones, the rest far below.
fn logits(seed: u64, step: u64) -> Vec<f32> {
    let mut state = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..VOCAB)
        .map(|_| {
            let x = uniform();
            x * x * x * 22.0 - 4.0
        })
        .collect()
}

/// A window of some steps. The seed chooses grid, parameters and whether there is a nonce.
pub fn by_the_rules(seed: u64, steps: usize) -> Proof {
    let mut prefix = [7; HeaderPrefix::LEN];
    prefix[72..].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
    let prefix = HeaderPrefix::from_bytes(prefix);
    let (label, snap) = [("bf16", Snap::Bf16), ("fp16", Snap::Fp16), ("fp32", Snap::None)]
        [usize::try_from(seed % 3).unwrap()];
    let params = match seed % 4 {
        0 => Params { temperature: 0.7, top_k: 20, top_p: 0.9 },
        _ => Params::V3,
    };
    let nonce = (seed % 2 == 1).then(|| AdmissionNonce::from_bytes([0xa5; 32]));
    let extra_flags = match &nonce {
        Some(nonce) => merge_to_vec(b"{}", nonce).unwrap(),
        None => Vec::new(),
    };
    let (vdf, tick, prompt) = ([9; 200], Tick(32_768), [1, 2, 3]);
    let hasher = StepHasher::new(prefix.as_bytes(), &vdf, tick);
    let mut sequence = Sequence::<WINDOW>::new(
        hasher.clone(),
        Label::new(label).unwrap(),
        Grid::Snapped(snap),
        params,
        VOCAB,
        &prompt,
    );
    let mut window = Box::new(Window::<WINDOW>::new());
    window.set_nonce(nonce).unwrap();
    let mut scratch = Box::new(RowScratch::new());
    let mut context = Context::<WINDOW>::of_prompt(&prompt);
    for step in 0..steps {
        let logits = logits(seed, step as u64);
        let step = sequence.step(&logits, &mut scratch, &mut window).unwrap();
        context.push(step.token);
    }
    let hash = hasher.step(0, &context, label.as_bytes(), nonce.as_ref());
    let rows = |flat: &[f32], width: usize| flat.chunks(width).map(<[f32]>::to_vec).collect();
    Proof {
        version: 3,
        tick: tick.0,
        timestamp: 1_780_000_000,
        target: prefix.bits().expand().target.to_be_bytes().to_vec(),
        vdf: vdf.to_vec(),
        hash: hash.as_bytes().to_vec(),
        block_hash: prefix.parent().as_bytes().to_vec(),
        header_prefix: prefix.as_bytes().to_vec(),
        is_solution: false,
        model_identifier: b"org/model@0123".to_vec(),
        compute_precision: label.as_bytes().to_vec(),
        ipfs_cid: Vec::new(),
        extra_flags,
        temperature: params.temperature,
        top_p: params.top_p,
        top_k: params.top_k,
        repetition_penalty: 1.0,
        chosen_tokens: window.tokens().to_vec(),
        chosen_probs: window.upper_edges().to_vec(),
        sampling_u: window.draws().to_vec(),
        softmax_normalizers: window.normalizers().to_vec(),
        prompt_tokens: prompt.to_vec(),
        pad_mask: vec![0; prompt.len()],
        topk_logits: rows(window.evidence_logits(), 70),
        topk_indices: window.evidence_ids().chunks(70).map(<[u32]>::to_vec).collect(),
        logsumexp_stats: rows(window.stats(), 6),
    }
}

#[test]
fn windows_of_every_grid_shrink() {
    for (seed, limit) in [(1, 0.31), (2, 0.45), (3, 0.25), (4, 0.31), (5, 0.45)] {
        let proof = by_the_rules(seed, WINDOW);
        let what = String::from_utf8(proof.compute_precision.clone()).unwrap();
        let archive = round_trip(&proof.as_ref(), &what);
        assert!(share(&proof.as_ref(), &archive, &what) < limit, "{what}");
    }
}

#[test]
fn what_follows_from_the_rest_costs_next_to_nothing() {
    // Draws, edges, normalizers and the closing digest are 4·3·256 + 32 bytes.
    let proof = by_the_rules(3, WINDOW);
    let whole = encode(&proof.as_ref()).unwrap().len();
    let mut without = proof;
    without.chosen_probs.clear();
    without.sampling_u.clear();
    without.softmax_normalizers.clear();
    let bare = encode(&without.as_ref()).unwrap().len();
    assert!(whole < bare + 128, "{whole} bytes, without these lists {bare}");
}
