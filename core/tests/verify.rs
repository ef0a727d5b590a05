//! Quick verification outside the vectors: the real proofs of the network with their VDF, the
//! version gates of block connection, what is no verdict, and proofs changed at random.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod mined;
mod real_proofs;

use mined::{mine, mine_with, proof};
use proptest::prelude::*;
use real_proofs::folder;
use serde_json::Value;
use std::sync::LazyLock;
use tensorpow_core::admission::Memory;
use tensorpow_core::credit::{CreditUnits, Tier};
use tensorpow_core::interval::Slot;
use tensorpow_core::proof::{Encode, Proof, ProofRef};
use tensorpow_core::sampler::Params as Sampling;
use tensorpow_core::units::{AdmissionNonce, BlockHash};
use tensorpow_core::verify::{
    Chain, Check, Context, Detail, NoVerdict, Observer, Params, Registry, Report, Scratch, Step,
    Vdf, Workspace, block_rules, final_hash_only, quick, quick_observed, steps,
};

const NO_VDF: Context<'_> = Context { chain: None, registry: Registry::Absent, vdf: Vdf::Skip };

fn on(params: Params, height: Option<u32>, difficulty: i64) -> Context<'static> {
    Context { chain: Some(Chain { params, height, difficulty }), ..NO_VDF }
}

fn judge(proof: &ProofRef<'_>, context: &Context<'_>) -> Report {
    let mut workspace = Workspace::new();
    quick(proof, context, &mut workspace.scratch(proof, context.chain.as_ref())).unwrap()
}

#[test]
fn the_real_proofs_get_the_nodes_verdict_credit_and_score() {
    let Some(folder) = folder("real proofs") else { return };
    let load = |file: &str| std::fs::read(folder.join(file)).expect("a file of the folder");
    let listed: Value = serde_json::from_slice(&load("verify_artefact_verdicts.json")).unwrap();
    for (file, wanted) in listed["artefacts"].as_object().unwrap() {
        let bytes = load(file);
        let proof = ProofRef::read(&bytes).unwrap();
        let report =
            judge(&proof, &Context { vdf: Vdf::Verify, ..on(Params::MAINNET, Some(0), 0) });
        let verdict = wanted["node"]["verdict"].as_str();
        assert_eq!(Some(report.verdict().as_str()), verdict, "{file}");
        if let Some(units) = wanted["b_cred_units"].as_u64() {
            assert_eq!(report.credit.node(), CreditUnits(units), "{file}");
            assert_eq!(report.credit.exact(), CreditUnits(units), "{file}");
            assert_eq!(report.tier, Some(Tier::Free), "{file}");
            assert_eq!(Some(report.reuse_score), wanted["reuse_score_q32"].as_u64(), "{file}");
        } else {
            assert_eq!(report.failure.unwrap().check, Check::HeaderHash, "{file}");
        }
    }
}

const NONCE: AdmissionNonce = AdmissionNonce::from_bytes([0x5a; 32]);
/// So easy a model that every digest solves the puzzle.
const ONE_TRY: i64 = 50_000_000;

static GOOD: LazyLock<Proof> = LazyLock::new(|| proof(&mine(Sampling::V3, 1)));
static NONCED: LazyLock<Proof> = LazyLock::new(|| proof(&mine_with(Sampling::V3, 1, Some(NONCE))));

#[test]
fn a_nonce_is_hashed_where_version_3_is_active_and_nowhere_else() {
    let proof = NONCED.as_ref();
    let active = judge(&proof, &on(Params::MAINNET, Some(8_000), ONE_TRY));
    assert_eq!((active.failure, active.nonce, active.v3_active), (None, Some(NONCE), true));
    for early in [on(Params::MAINNET, Some(7_999), ONE_TRY), on(Params::MAINNET, None, ONE_TRY)] {
        let report = judge(&proof, &early);
        assert_eq!(report.failure.unwrap().check, Check::ClosingDigest);
        assert_eq!((report.nonce, report.v3_active), (None, false));
    }
    let unknown = judge(&proof, &on(Params::MAINNET, Some(8_000), 0));
    assert_eq!(unknown.failure.unwrap().check, Check::PuzzleDifficulty);
    let of_record =
        Context { registry: Registry::Registered(ONE_TRY), ..on(Params::MAINNET, Some(8_000), 0) };
    assert_eq!(judge(&proof, &of_record).failure, None);
    assert_eq!(judge(&GOOD.as_ref(), &NO_VDF).failure, None);
}

#[test]
fn a_chain_with_another_admission_refuses_version_3_proofs_and_no_others() {
    let mut params = Params::MAINNET;
    params.argon.memory_kib = 16;
    let chain = on(params, Some(8_000), ONE_TRY);
    assert_eq!(judge(&NONCED.as_ref(), &chain).failure.unwrap().check, Check::Preparation);
    assert_eq!(
        final_hash_only(&NONCED.as_ref(), &chain).unwrap().failure.unwrap().check.id(),
        "Q01"
    );
    assert_eq!(judge(&GOOD.as_ref(), &chain).failure, None);
}

#[test]
fn block_connection_demands_the_heights_version_after_the_proof_itself() {
    let rules = |proof: &Proof, height| {
        let (context, proof) = (on(Params::MAINNET, Some(height), ONE_TRY), proof.as_ref());
        let mut workspace = Workspace::new();
        let mut scratch = workspace.scratch(&proof, context.chain.as_ref());
        block_rules(&proof, &context, &mut scratch).unwrap().map_err(|why| why.as_str())
    };
    let first = Proof { version: 1, ..GOOD.clone() };
    assert_eq!(rules(&first, 1_499), Ok(()));
    assert_eq!(rules(&first, 1_500), Err("bad-proof-version"));
    assert_eq!(rules(&first, 8_000), Err("bad-proof-version"));
    assert_eq!(rules(&GOOD, 7_999), Ok(()));
    assert_eq!(rules(&GOOD, 8_000), Err("bad-proof-version-v3"));
    assert_eq!(rules(&NONCED, 8_000), Ok(()));
    assert_eq!(rules(&NONCED, 7_999), Err("bad-reuse-entropy"));
    let mut damaged = GOOD.clone();
    damaged.sampling_u[3] = 0.5;
    assert_eq!(rules(&damaged, 8_000), Err("bad-reuse-entropy"), "before the version gate");
    // A template says nothing that could be judged.
    let template = Proof { chosen_tokens: Vec::new(), version: 0, ..GOOD.clone() };
    assert_eq!(rules(&template, 8_000), Ok(()));
}

#[test]
fn what_cannot_be_judged_is_no_reject() {
    let proof = GOOD.as_ref();
    let with = |draws: usize, slots: usize, context: &Context<'_>| {
        let (mut draws, mut slots) = (vec![0.0; draws], vec![Slot::default(); slots]);
        let (draws, slots) = (&mut draws[..], &mut slots[..]);
        quick(&proof, context, &mut Scratch { draws, slots, tokens: &mut [], admission: None })
    };
    let short = |part, needed, found| Some(NoVerdict::Scratch { part, needed, found });
    assert_eq!(with(255, 140, &NO_VDF).err(), short("draws", 256, 255));
    assert_eq!(with(256, 69, &NO_VDF).err(), None, "a usual row needs no slots");
    let silent = |_: &BlockHash, _: u64, _: &[u8]| None;
    let asking = Context { vdf: Vdf::Ask(&silent), ..NO_VDF };
    assert_eq!(with(256, 140, &asking).err(), Some(NoVerdict::Vdf));
    let never = |_: &BlockHash, _: u64, _: &[u8]| Some(false);
    let asking = Context { vdf: Vdf::Ask(&never), ..NO_VDF };
    assert_eq!(with(256, 140, &asking).unwrap().failure.unwrap().check, Check::Vdf);

    let active = on(Params::MAINNET, Some(8_000), ONE_TRY);
    let proof = NONCED.as_ref();
    let (draws, slots, tokens) = (&mut [0.0; 256], &mut [Slot::default(); 140], &mut []);
    let mut scratch = Scratch { draws, slots, tokens, admission: None };
    assert_eq!(quick(&proof, &active, &mut scratch).err(), Some(NoVerdict::AdmissionMemory));
    let mut memory = Memory::new();
    let mut lent = memory.scratch(0);
    lent.message = &mut [];
    scratch.admission = Some(lent);
    let no_room = quick(&proof, &active, &mut scratch).err();
    assert!(matches!(no_room, Some(NoVerdict::Scratch { part: "the puzzle", found: 0, .. })));

    let long = Proof { ipfs_cid: vec![b'a'; 1_000_000], ..GOOD.clone() };
    let mut workspace = Workspace::new();
    let long = long.as_ref();
    let verdict = quick(&long, &NO_VDF, &mut workspace.scratch(&long, None));
    assert!(matches!(verdict, Err(NoVerdict::TooLong(_))));
}

/// Keeps the checks that hold and counts steps.
#[derive(Default)]
struct Watch(Vec<Check>, usize);

impl Observer for Watch {
    fn passed(&mut self, check: Check, detail: Detail) {
        assert!(!format!("{detail:?}").is_empty());
        self.0.push(check);
    }

    fn step(&mut self, step: &Step) {
        assert_eq!(step.j as usize, self.1);
        self.1 += 1;
    }
}

#[test]
fn an_observer_sees_every_check_in_the_order_of_the_list() {
    let proof = NONCED.as_ref();
    let registry = Registry::Registered(ONE_TRY);
    let context = Context { registry, ..on(Params::MAINNET, Some(8_000), ONE_TRY) };
    let mut workspace = Workspace::new();
    let mut watch = Watch::default();
    let mut scratch = workspace.scratch(&proof, context.chain.as_ref());
    let report = quick_observed(&proof, &context, &mut scratch, &mut watch).unwrap();
    assert_eq!(report.failure, None);
    let of_node = Check::ALL.iter().copied().filter(|check| check.id().starts_with('Q'));
    // The VDF proof was left out.
    let wanted: Vec<_> = of_node.filter(|check| *check != Check::Vdf).collect();
    assert_eq!(watch.0, wanted);
    assert_eq!(watch.1, 256);

    let mut replayed = 0;
    steps(&proof, Some(&NONCE), &mut scratch, |step| replayed += usize::from(step.interval.inside))
        .unwrap();
    assert_eq!(replayed, 256);
}

#[test]
fn a_penalty_reaches_every_token_of_a_long_prompt() {
    // 200 000 prompt tokens times 256 rows of 70 would take minutes one by one.
    let mut long = Proof { repetition_penalty: 0.9, version: 1, ..GOOD.clone() };
    long.prompt_tokens = (0..200_000).collect();
    long.pad_mask.clear();
    let (long, mut workspace) = (long.as_ref(), Workspace::new());
    let mut seen = 0;
    let mut scratch = workspace.scratch(&long, None);
    let started = std::time::Instant::now();
    steps(&long, None, &mut scratch, |_| seen += 1).unwrap();
    assert_eq!(seen, 256);
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
}

/// One change of a field somebody looks at; where earlier changes left nothing, none.
fn change(proof: &mut Proof, what: u8, at: usize, to: u32) {
    let float = f32::from_bits(to);
    let spot = |len: usize| at % len.max(1);
    let row = spot(256);
    fn set<T>(list: &mut [T], at: usize, to: T) {
        if let Some(room) = list.get_mut(at) {
            *room = to;
        }
    }
    let logits = |proof: &mut Proof, with: &dyn Fn(&mut Vec<f32>)| {
        proof.topk_logits.get_mut(row).map(with);
    };
    let ids = |proof: &mut Proof, with: &dyn Fn(&mut Vec<u32>)| {
        proof.topk_indices.get_mut(row).map(with);
    };
    match what {
        0 => set(&mut proof.chosen_tokens, row, to),
        1 => set(&mut proof.sampling_u, row, float),
        2 => logits(proof, &|row| set(row, spot(70), float)),
        3 => ids(proof, &|row| set(row, spot(70), to)),
        4 => logits(proof, &|row| row.truncate(spot(71))),
        5 => ids(proof, &|row| row.truncate(spot(71))),
        6 => {
            logits(proof, &Vec::clear);
            ids(proof, &Vec::clear);
        }
        7 => proof.temperature = float,
        8 => proof.top_p = float,
        9 => proof.top_k = to,
        10 => proof.repetition_penalty = float,
        11 => proof.chosen_probs.truncate(row),
        12 => proof.prompt_tokens.truncate(spot(4)),
        13 => proof.header_prefix.truncate(spot(77)),
        14 => proof.hash.truncate(spot(33)),
        15 => proof.target.truncate(spot(33)),
        16 => proof.pad_mask.truncate(spot(4)),
        17 => proof.extra_flags.truncate(spot(100)),
        18 => proof.chosen_tokens.truncate(row),
        19 => proof.topk_logits.truncate(row),
        20 => proof.logsumexp_stats.truncate(row),
        21 => proof.version = to as u8,
        22 => proof.tick = u64::from(to) << spot(33),
        23 => proof.vdf.truncate(spot(201)),
        24 => proof.model_identifier.clear(),
        25 => proof.compute_precision.truncate(spot(5)),
        26 => logits(proof, &|row| *row = vec![float; spot(400)]),
        27 => ids(proof, &|row| *row = vec![to; spot(400)]),
        _ => logits(proof, &|row| row.fill(float)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_proof_makes_it_panic(
        changes in prop::collection::vec((0_u8..29, any::<usize>(), any::<u32>()), 1..4),
        nonced: bool,
        height in prop_oneof![Just(None), Just(Some(0)), Just(Some(8_000_u32))],
    ) {
        let mut proof = if nonced { NONCED.clone() } else { GOOD.clone() };
        for (what, at, to) in changes {
            change(&mut proof, what, at, to);
        }
        let context = on(Params { window: None, ..Params::MAINNET }, height, ONE_TRY);
        let proof = proof.as_ref();
        let report = judge(&proof, &context);
        if let Some(failure) = report.failure {
            prop_assert!(failure.to_string().starts_with(failure.check.id()));
        }
        let mut workspace = Workspace::new();
        let mut scratch = workspace.scratch(&proof, context.chain.as_ref());
        steps(&proof, None, &mut scratch, |_| {}).unwrap();
    }

    #[test]
    fn no_bytes_make_it_panic(at: prop::sample::Index, mask in 1_u8..=255) {
        let mut bytes = GOOD.as_ref().encode_to_vec().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok(proof) = ProofRef::read(&bytes) {
            let mut workspace = Workspace::new();
            let chain = Chain::assumed(false, 0);
            let mut scratch = workspace.scratch(&proof, Some(&chain));
            // Padding and fields that nobody looks at may change; a verdict there is.
            let _ = quick(&proof, &NO_VDF, &mut scratch);
        }
    }
}
