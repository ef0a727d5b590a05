//! Mines one window, encodes its proof and checks it, and verifies a VDF proof, with neither std nor
//! an allocator: if any path needed one, this would not link. The exit status says which part failed.
#![no_std]
#![no_main]

use core::panic::PanicInfo;
use tensorpow_core::interval::{Slot, TOLERANCE};
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::{Encode, MiningResponseRef, PadMask, ProofRef, Rows, Words, commit};
use tensorpow_core::row::Grid;
use tensorpow_core::sampler::Params;
use tensorpow_core::select::RowScratch;
use tensorpow_core::selfcheck::{Expected, Purpose, selfcheck};
use tensorpow_core::target::Target;
use tensorpow_core::units::{BlockHash, HeaderPrefix, Tick};
use tensorpow_core::vdf;
use tensorpow_core::verify::{Chain, Registry, Scratch, Vdf};
use tensorpow_core::window::{Label, Sequence, Window};

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `abort` takes nothing and does not return.
    unsafe { abort() }
}

/// The compiled `core` refers to it for unwinding, which this program never does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// A challenge, 32 bytes, and the proof of [`VDF_TICKS`] squarings on it, one of the published
/// vectors.
const VDF_PROOF: &[u8] = include_bytes!("vdf_proof.bin");
const VDF_TICKS: u64 = 32768;

const VOCAB: usize = 512;
const PROMPT: [u32; 3] = [1, 2, 3];

static mut WINDOW: Window = Window::new();
static mut MESSAGE: [u8; 200_000] = [0; 200_000];

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    // SAFETY: this program has one thread and takes each reference once.
    let (window, message) = unsafe { (&mut *(&raw mut WINDOW), &mut *(&raw mut MESSAGE)) };
    match mine(window, message).and_then(|()| verify_vdf()) {
        Ok(()) => 0,
        Err(part) => part,
    }
}

fn verify_vdf() -> Result<(), i32> {
    let (challenge, blob) = VDF_PROOF.split_at_checked(32).ok_or(20)?;
    let challenge = BlockHash::from_bytes(challenge.try_into().map_err(|_| 21)?);
    vdf::verify(&challenge, VDF_TICKS, blob).map_err(|_| 22)?;
    match vdf::verify(&challenge, VDF_TICKS + 1, blob) {
        Ok(()) => Err(23),
        Err(_) => Ok(()),
    }
}

fn mine(window: &mut Window, message: &mut [u8]) -> Result<(), i32> {
    let mut prefix = [7; 76];
    prefix[72..].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
    let prefix = HeaderPrefix::from_bytes(prefix);
    let vdf = [9; 200];
    let hasher = StepHasher::new(prefix.as_bytes(), &vdf, Tick(32_768));
    let label = Label::new("bf16").map_err(|_| 2)?;
    let grid = Grid::Snapped(Snap::Bf16);
    let mut sequence = Sequence::new(hasher, label, grid, Params::V3, VOCAB, &PROMPT);
    let mut scratch = RowScratch::new();
    let mut state = 1_u32;
    while !window.is_complete() {
        let mut logits = [0.0; VOCAB];
        for l in &mut logits {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *l = (state >> 8) as f32 / 1_000_000.0;
        }
        sequence.step(&logits, &mut scratch, window).map_err(|_| 3)?;
    }
    let digest = sequence.closer().digest(window).ok_or(4)?;
    let target = prefix.bits().expand().target.to_be_bytes();
    let parent = prefix.parent();
    let proof = ProofRef {
        version: 2,
        tick: 32_768,
        timestamp: 0,
        target: &target,
        vdf: &vdf,
        hash: digest.as_bytes(),
        block_hash: parent.as_bytes(),
        header_prefix: prefix.as_bytes(),
        is_solution: false,
        model_identifier: b"bare/model@0",
        compute_precision: b"bf16",
        ipfs_cid: b"",
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
        topk_logits: Rows::Flat { words: Words::Floats(window.evidence_logits()), width: 70 },
        topk_indices: Rows::Flat { words: Words::Native(window.evidence_ids()), width: 70 },
        logsumexp_stats: Rows::Flat { words: Words::Floats(window.stats()), width: 6 },
    };
    let root = commit(&proof).map_err(|_| 12)?.root;
    let expected = Expected {
        header_prefix: Some(&prefix),
        chain: Chain::assumed(false, 0),
        registry: Registry::Absent,
        vdf: Vdf::Skip,
    };
    let (draws, slots) = (&mut [0.0; 256], &mut [Slot::default(); 140]);
    let mut scratch = Scratch { draws, slots, tokens: &mut [], admission: None };
    let share = Purpose::Share(&Target::MAX);
    let passed = selfcheck(&proof, &expected, share, &mut scratch).map_err(|_| 5)?;
    if passed.steps != 256 || passed.least_margin < TOLERANCE / 2.0 {
        return Err(6);
    }
    let response = MiningResponseRef {
        req_id: 1,
        nonce: digest.nonce(),
        adjusted_bits: prefix.bits().to_bits(),
        pow_blob_hash: root.as_bytes(),
        difficulty: 1,
        pow_blob: Some(proof),
        completion_id: b"bare",
    };
    let length = response.encode(message).map_err(|_| 7)?;
    let read = MiningResponseRef::read(message.get(..length).ok_or(8)?).map_err(|_| 9)?;
    if commit(&read.pow_blob.ok_or(10)?).map_err(|_| 13)?.root != root {
        return Err(11);
    }
    Ok(())
}
