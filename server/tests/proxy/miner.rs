//! A miner for tests: makes complete windows from a `pow` payload with the core's sampler on
//! synthetic logits, as a patched engine does on real ones.

use serde_json::Value;
use tensorpow_core::classify::judge;
use tensorpow_core::precision::Snap;
use tensorpow_core::precision::bf16;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::{Encode, MiningResponseRef, Proof, commit};
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::target::Target;
use tensorpow_core::units::{EVIDENCE_SLOTS, HeaderPrefix, STATS, Tick, WINDOW};
use tensorpow_core::window::{Label, Sequence, Window};

const VOCAB: usize = 512;
const PROMPT: [u32; 5] = [1, 17, 42, 99, 7];

/// A mined window and the message around it.
#[derive(Debug, Clone)]
pub(crate) struct Mined {
    pub(crate) req_id: u32,
    pub(crate) nonce: u32,
    pub(crate) adjusted_bits: u32,
    pub(crate) pow_blob_hash: Vec<u8>,
    pub(crate) difficulty: u32,
    pub(crate) proof: Proof,
    pub(crate) completion_id: String,
}

impl Mined {
    /// The message an engine pushes.
    pub(crate) fn message(&self) -> Vec<u8> {
        MiningResponseRef {
            req_id: self.req_id,
            nonce: self.nonce,
            adjusted_bits: self.adjusted_bits,
            pow_blob_hash: &self.pow_blob_hash,
            difficulty: self.difficulty,
            pow_blob: Some(self.proof.as_ref()),
            completion_id: self.completion_id.as_bytes(),
        }
        .encode_to_vec()
        .unwrap()
    }
}

fn hex_field(pow: &Value, name: &str) -> Vec<u8> {
    hex::decode(pow[name].as_str().unwrap_or_else(|| panic!("{name} is a string"))).unwrap()
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Logits of one step: between -8 and 8, on the bf16 grid.
#[allow(clippy::cast_precision_loss)]
fn logits(seed: u64, step: usize) -> Vec<f32> {
    (0..VOCAB)
        .map(|id| {
            let x = mix(seed ^ mix((step * VOCAB + id) as u64)) >> 40;
            bf16((x as f32 / 8_388_608.0 - 1.0) * 8.0)
        })
        .collect()
}

/// Mines one window for a payload. `seed` stands for the model and the prompt: another seed,
/// another window.
pub(crate) fn mine(pow: &Value, completion_id: &str, seed: u64) -> Mined {
    let prefix: [u8; 76] = hex_field(pow, "header_prefix").try_into().unwrap();
    let prefix = HeaderPrefix::from_bytes(prefix);
    let vdf = hex_field(pow, "vdf");
    let tick = pow["tick"].as_u64().unwrap();
    let label = pow["compute_precision"].as_str().unwrap_or("bf16");
    let hasher = StepHasher::new(prefix.as_bytes(), &vdf, Tick(tick));
    let mut sequence = Sequence::<WINDOW>::new(
        hasher,
        Label::new(label).unwrap(),
        Grid::Snapped(Snap::Bf16),
        Params::V3,
        VOCAB,
        &PROMPT,
    );
    let mut window = Box::new(Window::<WINDOW>::new());
    let mut scratch = Box::new(RowScratch::new());
    for step in 0..WINDOW {
        sequence.step(&logits(seed, step), &mut scratch, &mut window).unwrap();
    }
    let digest = sequence.closer().digest(&window).unwrap();
    let target = Target::from_hex_strict(pow["target"].as_str().unwrap()).unwrap();
    let is_solution = judge(&prefix, &digest, &target, None).is_solution;
    let rows = |words: &[f32], width: usize| words.chunks(width).map(<[f32]>::to_vec).collect();
    let proof = Proof {
        version: pow["proof_version"].as_u64().map_or(1, |version| version.try_into().unwrap()),
        tick,
        timestamp: 1_780_000_000,
        target: target.to_be_bytes().to_vec(),
        vdf,
        hash: digest.as_bytes().to_vec(),
        block_hash: prefix.parent().as_bytes().to_vec(),
        header_prefix: prefix.as_bytes().to_vec(),
        is_solution: is_solution && pow["audit_emit"] != true,
        model_identifier: pow["model_identifier"].as_str().unwrap_or_default().as_bytes().to_vec(),
        compute_precision: label.as_bytes().to_vec(),
        ipfs_cid: pow["ipfs_cid"].as_str().unwrap().as_bytes().to_vec(),
        extra_flags: Vec::new(),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 50,
        repetition_penalty: 1.0,
        chosen_tokens: window.tokens().to_vec(),
        chosen_probs: window.upper_edges().to_vec(),
        sampling_u: window.draws().to_vec(),
        softmax_normalizers: window.normalizers().to_vec(),
        prompt_tokens: PROMPT.to_vec(),
        pad_mask: vec![0; PROMPT.len()],
        topk_logits: rows(window.evidence_logits(), EVIDENCE_SLOTS),
        topk_indices: window.evidence_ids().chunks(EVIDENCE_SLOTS).map(<[u32]>::to_vec).collect(),
        logsumexp_stats: rows(window.stats(), STATS),
    };
    let pow_blob_hash = commit(&proof.as_ref()).unwrap().root.as_bytes().to_vec();
    Mined {
        req_id: pow["request_id"].as_u64().unwrap().try_into().unwrap(),
        nonce: digest.nonce(),
        adjusted_bits: prefix.bits().to_bits(),
        pow_blob_hash,
        difficulty: pow["difficulty"].as_u64().unwrap().try_into().unwrap_or(u32::MAX),
        proof,
        completion_id: completion_id.to_owned(),
    }
}

/// The first window, by seed, that is (or is not) a solution.
pub(crate) fn mine_tier(pow: &Value, completion_id: &str, is_solution: bool) -> Mined {
    let windows = (0..).map(|seed| mine(pow, completion_id, seed));
    let mut right = windows.take(64).filter(|mined| mined.proof.is_solution == is_solution);
    right.next().expect("one of 64 windows is of the wanted tier")
}

/// Pushes messages as an engine does.
pub(crate) fn push(endpoint: &str, messages: &[Vec<u8>]) {
    let socket = zmq::Context::new().socket(zmq::PUSH).unwrap();
    socket.set_linger(1000).unwrap();
    socket.connect(endpoint).unwrap();
    for message in messages {
        socket.send(message, 0).unwrap();
    }
}
