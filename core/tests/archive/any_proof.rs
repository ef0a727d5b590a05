//! Proofs of any kind: the lists have any lengths and any words, the texts any bytes.

use crate::{round_trip, window};
use proptest::collection::vec;
use proptest::prelude::*;
use tensorpow_core::proof::Proof;

/// Words that floats and ids are made of: small ones, special ones and any.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0_u32..300,
        2 => any::<u32>(),
        1 => (0_u32..0x1_0000).prop_map(|high| high << 16),
        1 => prop::sample::select(vec![
            0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 0xffff_ffff, 1,
        ]),
    ]
}

fn float() -> impl Strategy<Value = f32> {
    word().prop_map(f32::from_bits)
}

prop_compose! {
    fn any_proof()(
        (version, tick, timestamp, is_solution) in any::<(u8, u64, u64, bool)>(),
        texts in vec(vec(any::<u8>(), 0..80), 9),
        settings in (float(), float(), word(), float()),
        floats in vec(vec(float(), 0..9), 3),
        ids in vec(vec(word(), 0..9), 2),
        pad_mask in vec(any::<u8>(), 0..9),
        logits in vec(vec(float(), 0..9), 0..6),
        topk_indices in vec(vec(word(), 0..9), 0..6),
        stats in vec(vec(float(), 0..9), 0..6),
    ) -> Proof {
        let text = |at: usize| texts[at].clone();
        Proof {
            version, tick, timestamp, is_solution, pad_mask, topk_indices,
            target: text(0), vdf: text(1), hash: text(2), block_hash: text(3),
            header_prefix: text(4), model_identifier: text(5), compute_precision: text(6),
            ipfs_cid: text(7), extra_flags: text(8),
            temperature: settings.0, top_p: settings.1, top_k: settings.2,
            repetition_penalty: settings.3,
            chosen_tokens: ids[0].clone(), prompt_tokens: ids[1].clone(),
            chosen_probs: floats[0].clone(), sampling_u: floats[1].clone(),
            softmax_normalizers: floats[2].clone(),
            topk_logits: logits, logsumexp_stats: stats,
        }
    }
}

/// A change to one list of a window, at a place and with a word that are anything.
#[derive(Debug, Clone)]
struct Edit {
    list: usize,
    row: prop::sample::Index,
    column: prop::sample::Index,
    word: u32,
    cut: bool,
}

prop_compose! {
    fn edit()(
        list in 0_usize..9,
        row in any::<prop::sample::Index>(),
        column in any::<prop::sample::Index>(),
        word in word(),
        cut in prop::bool::weighted(0.2),
    ) -> Edit {
        Edit { list, row, column, word, cut }
    }
}

/// Sets one word of a list, or drops the list's last one.
fn set<T>(list: &mut Vec<T>, at: prop::sample::Index, word: T, cut: bool) {
    if cut {
        list.pop();
    } else if !list.is_empty() {
        let at = at.index(list.len());
        list[at] = word;
    }
}

impl Edit {
    fn apply(&self, proof: &mut Proof) {
        let (word, float, cut) = (self.word, f32::from_bits(self.word), self.cut);
        let row = |len: usize| if len == 0 { 0 } else { self.row.index(len) };
        match self.list {
            0 => set(&mut proof.chosen_tokens, self.row, word, cut),
            1 => set(&mut proof.chosen_probs, self.row, float, cut),
            2 => set(&mut proof.sampling_u, self.row, float, cut),
            3 => set(&mut proof.softmax_normalizers, self.row, float, cut),
            4 => set(&mut proof.prompt_tokens, self.row, word, cut),
            5 => set(&mut proof.pad_mask, self.row, 2, cut),
            6 => {
                let row = row(proof.topk_logits.len());
                set(&mut proof.topk_logits[row], self.column, float, cut);
            }
            7 => {
                let row = row(proof.topk_indices.len());
                set(&mut proof.topk_indices[row], self.column, word, cut);
            }
            _ => {
                let row = row(proof.logsumexp_stats.len());
                set(&mut proof.logsumexp_stats[row], self.column, float, cut);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_proof_comes_back(proof in any_proof()) {
        round_trip(&proof.as_ref(), "any proof");
    }

    #[test]
    fn a_window_that_breaks_a_rule_comes_back(
        seed in 0_u64..8,
        steps in 1_usize..6,
        edits in vec(edit(), 0..6),
        settings in prop::option::of((float(), float(), word())),
    ) {
        let mut proof = window::by_the_rules(seed, steps);
        for edit in edits {
            edit.apply(&mut proof);
        }
        if let Some((temperature, top_p, top_k)) = settings {
            (proof.temperature, proof.top_p, proof.top_k) = (temperature, top_p, top_k);
        }
        round_trip(&proof.as_ref(), "an altered window");
    }
}
