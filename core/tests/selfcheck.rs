//! The self-check: a window mined here passes, each kind of damage fails at its own check, and the
//! real genesis proofs pass.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

mod mined;
mod real_proofs;

use mined::{VDF, VOCAB, logits, mine, prefix, proof};
use tensorpow_core::credit::Tier;
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::{Proof, ProofRef};
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::selfcheck::{Check, Expected, Passed, Purpose, Unsent, selfcheck};
use tensorpow_core::target::Target;
use tensorpow_core::units::{HeaderPrefix, Tick, WINDOW};
use tensorpow_core::verify::{Chain, Registry, Vdf, Workspace};
use tensorpow_core::window::{Label, Sequence, StepError, Window};

/// Version 3 is active for the proofs of that version; the VDF is not looked at.
fn judge_as(
    proof: &Proof,
    header_prefix: Option<&HeaderPrefix>,
    purpose: Purpose<'_>,
) -> Result<Passed, Unsent> {
    let chain = Chain::assumed(proof.version >= 3, 1_000_000);
    let expected = Expected { header_prefix, chain, registry: Registry::Absent, vdf: Vdf::Skip };
    let mut workspace = Workspace::new();
    let proof = proof.as_ref();
    selfcheck(&proof, &expected, purpose, &mut workspace.scratch(&proof, Some(&chain)))
}

fn judge(proof: &Proof) -> Result<(), Check> {
    judge_as(proof, Some(&prefix()), Purpose::Share(&Target::MAX))
        .map(|_| ())
        .map_err(|unsent| unsent.check().unwrap())
}

#[test]
fn first_and_later_windows_pass_with_every_kind_of_parameters() {
    for params in [
        Params::V3,
        Params { temperature: 0.7, top_k: 20, top_p: 0.9 },
        Params { temperature: 2.0, top_k: 5, top_p: 1.0 },
    ] {
        for windows in [1, 2] {
            assert_eq!(judge(&proof(&mine(params, windows))), Ok(()), "{params:?} {windows}");
        }
    }
}

#[test]
fn every_damage_fails_at_its_own_check() {
    type Damage = (Check, fn(&mut Proof));
    let damages: [Damage; 36] = [
        (Check::HashPresent, |p| p.hash.clear()),
        (Check::ModelPresent, |p| p.model_identifier.clear()),
        (Check::VdfPresent, |p| p.vdf.clear()),
        (Check::PrefixLength, |p| p.header_prefix.truncate(75)),
        (Check::TokensPresent, |p| p.chosen_tokens.clear()),
        (Check::WindowSize, |p| p.chosen_tokens.truncate(255)),
        (Check::LogitRows, |p| p.topk_logits.truncate(255)),
        (Check::IdRows, |p| p.topk_indices.truncate(255)),
        (Check::JobPrefix, |p| p.header_prefix[0] ^= 1),
        (Check::Parent, |p| p.block_hash[0] ^= 1),
        (Check::Prompt, |p| p.prompt_tokens.clear()),
        (Check::Mask, |p| p.pad_mask.clear()),
        (Check::Tick, |p| p.tick += 1 << 32),
        (Check::Identifier, |p| p.model_identifier.push(b'@')),
        (Check::Lists, |p| p.chosen_probs.truncate(255)),
        (Check::Temperature, |p| p.temperature = 2.001),
        (Check::TopPFinite, |p| p.top_p = f32::NAN),
        (Check::TopP, |p| p.top_p = 0.05),
        (Check::TopK, |p| p.top_k = 51),
        (Check::DrawCount, |p| p.sampling_u.truncate(255)),
        (Check::DrawRange, |p| p.sampling_u[9] = 1.0),
        (Check::Penalty, |p| p.repetition_penalty = 0.0),
        (Check::PenaltyFinite, |p| p.repetition_penalty = f32::NAN),
        (Check::RowsPair, |p| {
            p.topk_logits[7].clear();
            p.topk_indices[7].clear();
        }),
        (Check::V3Profile, |p| {
            p.version = 3;
            p.top_k = 49;
        }),
        (Check::HashLength, |p| p.hash.truncate(31)),
        (Check::ClosingDigest, |p| p.tick += 1),
        (Check::TargetLength, |p| p.target.truncate(31)),
        (Check::TargetMatches, |p| p.target[0] ^= 1),
        (Check::RowsPair, |p| p.topk_logits[7].truncate(69)),
        (Check::LogitsFinite, |p| p.topk_logits[7][3] = f32::INFINITY),
        (Check::EdgesFinite, |p| p.chosen_probs[7] = f32::NAN),
        (Check::EdgesRange, |p| p.chosen_probs[7] = 1.1),
        (Check::StatsFinite, |p| p.logsumexp_stats[7][2] = f32::NAN),
        (Check::Widths, |p| p.logsumexp_stats[7].truncate(5)),
        (Check::Grid, |p| p.topk_logits[7][3] += 0.01),
    ];
    let good = proof(&mine(Params::V3, 1));
    for (check, damage) in damages {
        let mut bad = good.clone();
        damage(&mut bad);
        assert_eq!(judge(&bad), Err(check));
    }
}

#[test]
fn tampering_with_the_sequence_is_seen() {
    let good = proof(&mine(Params::V3, 1));
    // A token of the prompt changes every draw, but not the closing digest.
    let mut bad = good.clone();
    bad.prompt_tokens[0] += 1;
    assert_eq!(judge(&bad), Err(Check::Draws));
    // Evidence that gives the chosen token no mass.
    let mut bad = good.clone();
    let token = bad.chosen_tokens[100];
    for (id, logit) in bad.topk_indices[100].iter().zip(&mut bad.topk_logits[100]) {
        *logit = if *id == token { -64.0 } else { *logit };
    }
    assert_eq!(judge(&bad), Err(Check::Intervals));
    // A recorded edge that is not the recomputed one.
    let mut bad = good.clone();
    bad.chosen_probs[100] = (bad.chosen_probs[100] + 0.5) % 1.0;
    assert_eq!(judge(&bad), Err(Check::Edges));
    // The target of a share that is not met.
    let none = judge_as(&good, Some(&prefix()), Purpose::Share(&Target::ZERO));
    assert_eq!(none.unwrap_err().check(), Some(Check::HeaderHash));
}

#[test]
fn a_sequence_of_certain_tokens_exceeds_the_reuse_cap() {
    // One logit towers over all others: the window costs nobody anything.
    let mut greedy = proof(&mine(Params::V3, 1));
    for (j, token) in greedy.chosen_tokens.clone().into_iter().enumerate() {
        greedy.topk_logits[j].iter_mut().for_each(|l| *l = -100.0);
        greedy.topk_logits[j][0] = 100.0;
        greedy.topk_indices[j][0] = token;
        greedy.chosen_probs[j] = 1.0;
        // Ids must stay distinct from the chosen one, or the duplicate is merged into it.
        for (slot, id) in greedy.topk_indices[j].iter_mut().enumerate().skip(1) {
            *id = 100_000 + slot as u32;
        }
    }
    assert_eq!(judge(&greedy), Err(Check::ReuseScore));
    greedy.version = 1;
    assert_eq!(judge(&greedy), Ok(()), "version 1 has no reuse gate");
}

#[test]
fn a_row_of_another_width_or_a_foreign_window_is_refused_and_changes_nothing() {
    let hasher = StepHasher::new(prefix().as_bytes(), &VDF, Tick(1));
    let label = Label::new("bf16").unwrap();
    let grid = Grid::Snapped(Snap::Bf16);
    let mut sequence: Sequence = Sequence::new(hasher, label, grid, Params::V3, VOCAB, &[1]);
    let mut window = Box::new(Window::new());
    let mut scratch = Box::new(RowScratch::new());
    let before = sequence.digest(None);
    let narrow = sequence.step(&logits(0)[..VOCAB - 1], &mut scratch, &mut window);
    assert!(matches!(narrow, Err(StepError::Row(_))));
    let mut nan = logits(0);
    nan[5] = f32::NAN;
    let nan = sequence.step(&nan, &mut scratch, &mut window).unwrap_err();
    assert_eq!((nan.label(), nan.to_string().as_str()), ("logits_nan", "logit 5 is not a number"));
    assert_eq!((sequence.drawn(), window.filled()), (0, 0));
    assert_eq!(sequence.digest(None), before);
    sequence.step(&logits(0), &mut scratch, &mut window).unwrap();
    let mut other = Box::new(Window::new());
    let foreign = sequence.step(&logits(1), &mut scratch, &mut other);
    assert_eq!(foreign, Err(StepError::WindowMismatch { expected: 1, found: 0 }));
}

#[test]
fn the_real_genesis_proofs_pass() {
    let Some(folder) = real_proofs::folder("the_real_genesis_proofs_pass") else { return };
    for (file, reuse_score, credit) in [
        ("proof_genesis_mainnet.bin", 4_878_022_307, 209_511),
        ("proof_genesis_tensor_test.bin", 673_485_255, 618_103),
    ] {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let mut genesis = Proof::try_from(&ProofRef::read(&bytes).unwrap()).unwrap();
        assert_eq!(genesis.version, 1);
        let passed = judge_as(&genesis, None, Purpose::Solution).unwrap();
        assert_eq!(passed.steps, WINDOW);
        // As version 2 the reuse gate runs too; its score is known from the node.
        genesis.version = 2;
        let passed = judge_as(&genesis, None, Purpose::Solution).unwrap();
        assert_eq!(passed.reuse_score, reuse_score);
        assert_eq!((passed.credit.0, passed.tier), (credit, Tier::Free));
    }
}
