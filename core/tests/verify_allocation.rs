//! Quick verification takes no memory but what it is lent: an allocator that counts sees nothing.

#![allow(clippy::unwrap_used, unsafe_code)] // a global allocator is unsafe to write

mod mined;

use mined::{mine, mine_with, proof};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tensorpow_core::sampler::Params as Sampling;
use tensorpow_core::selfcheck::{Expected, Purpose, selfcheck};
use tensorpow_core::units::AdmissionNonce;
use tensorpow_core::verify::{Chain, Context, Registry, Vdf, Workspace, quick};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the work returns, and how often it allocated.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let value = work();
    (value, ALLOCATIONS.with(Cell::get) - before)
}

#[test]
fn verification_and_selfcheck_allocate_nothing() {
    let (_, seen) = counted(|| vec![1_u8; 100]);
    assert_eq!(seen, 1, "the allocator counts");
    let chain = Chain::assumed(true, 50_000_000);
    let nonce = AdmissionNonce::from_bytes([9; 32]);
    let penalised = Sampling { temperature: 0.7, top_k: 20, top_p: 0.9 };
    let cases = [
        // A usual window, one that needs slots for top-p, and one with a puzzle.
        (proof(&mine(Sampling::V3, 1)), 0),
        (proof(&mine(penalised, 1)), 0),
        (proof(&mine_with(Sampling::V3, 2, Some(nonce))), 3),
    ];
    for (mut proof, least_version) in cases {
        let mut workspace = Workspace::new();
        // Judged by the real VDF check, which this blob fails: the others skip it.
        for vdf in [Vdf::Skip, Vdf::Verify] {
            let context = Context { chain: Some(chain), vdf, ..Context::default() };
            let record = proof.as_ref();
            let mut scratch = workspace.scratch(&record, Some(&chain));
            let (report, allocations) = counted(|| quick(&record, &context, &mut scratch));
            let passes = report.unwrap().failure.is_none();
            assert_eq!((passes, allocations), (matches!(vdf, Vdf::Skip), 0));
        }
        // A penalty wants the set of tokens, whatever the verdict.
        if least_version < 3 {
            let chain = Chain::assumed(false, 0);
            let (registry, vdf) = (Registry::Absent, Vdf::Skip);
            let expected = Expected { header_prefix: None, chain, registry, vdf };
            let record = proof.as_ref();
            let mut scratch = workspace.scratch(&record, Some(&chain));
            let purpose = Purpose::Solution;
            let (checked, allocations) =
                counted(|| selfcheck(&record, &expected, purpose, &mut scratch));
            checked.unwrap();
            assert_eq!(allocations, 0);
            proof.repetition_penalty = 0.9;
            let record = proof.as_ref();
            let context = Context { vdf, ..Context::default() };
            let mut scratch = workspace.scratch(&record, None);
            let (report, allocations) = counted(|| quick(&record, &context, &mut scratch));
            assert_eq!((report.unwrap().steps > 0, allocations), (true, 0));
        }
    }
}
