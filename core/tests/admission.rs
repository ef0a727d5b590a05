//! Admission end to end: any carrier, the search in all its ways, the verdict on whole proofs, the
//! self-test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use proptest::prelude::*;
use std::time::{Duration, Instant};
use tensorpow_core::admission::grind::{Grind, Progress, Search, State};
use tensorpow_core::admission::pool::{Counts, Pool, random_nonce};
use tensorpow_core::admission::schedule::Grinder;
use tensorpow_core::admission::{
    AdmissionFault, HashError, MAX_CARRIER, Memory, MergeError, Message, PromptCommitment,
    PuzzleTarget, SELF_TEST_MESSAGE, Scratch, TriesError, argon2id, extract, judge, merge_to_vec,
    message_len, message_length, self_test, target,
};
use tensorpow_core::proof::{PadMask, ProofRef, Words};
use tensorpow_core::units::AdmissionNonce;

const LONG: Duration = Duration::from_secs(60);

fn nonce(byte: u8) -> AdmissionNonce {
    AdmissionNonce::from_bytes([byte; 32])
}

/// Pieces that carriers are made of, and some that break them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let digits = "0123456789abcdef".repeat(4);
    let fixed = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        " ",
        "\n",
        "\"v3\"",
        "\"\\u0076\\u0033\"",
        "\"a\"",
        "\"\"",
        "\"admission_nonce\"",
        "{\"v3\":",
        "{\"v3\":{\"admission_nonce\":",
        "\"\\ud83d\\ude00\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud83d\\u12\"",
        "0",
        "-0.5e-7",
        "NaN",
        "-Infinity",
        "true",
        "null",
        "[[[[[[[[",
        "]]]]]]]]",
        "\"",
        "\\",
        "\\u",
        "é",
        "plain text",
        "\u{7f}",
        "\0",
        "\t",
    ];
    let mut pieces: Vec<Vec<u8>> = fixed.iter().map(|text| text.as_bytes().to_vec()).collect();
    pieces.push(format!("\"{digits}\"").into_bytes());
    pieces.push(format!("{{\"v3\":{{\"admission_nonce\":\"{digits}\"}}}}").into_bytes());
    pieces.extend([vec![0xff], vec![0xed, 0xa0, 0x80], b" ".repeat(1000), b"x".repeat(3000)]);
    prop_oneof![
        12 => proptest::sample::select(pieces),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

fn carrier() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat()),
        (proptest::collection::vec(piece(), 0..8), proptest::collection::vec(piece(), 0..4))
            .prop_map(|(inner, after)| {
                [b"{\"k\":[".to_vec(), inner.concat(), b"]}".to_vec(), after.concat()].concat()
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever stands there, reading ends without a panic, and a merged nonce is read back or
    /// there is an error.
    #[test]
    fn a_merged_nonce_is_read_back_or_there_is_an_error(
        text in carrier(),
        bytes in any::<[u8; 32]>(),
    ) {
        let before = extract(&text);
        let nonce = AdmissionNonce::from_bytes(bytes);
        match merge_to_vec(&text, &nonce) {
            Ok(merged) => {
                prop_assert_eq!(extract(&merged), Some(nonce));
                prop_assert!(merged.len() <= MAX_CARRIER);
                // A carrier that claimed something was valid: it is not wrapped but replaced.
                let wrapped = merged.starts_with(b"{\"_diff\"") && !text.starts_with(b"{\"_diff\"");
                prop_assert!(!(before.is_some() && wrapped));
                // Once merged, a carrier only changes in its nonce.
                let again = merge_to_vec(&merged, &nonce);
                prop_assert_eq!(again.as_ref(), Ok(&merged));
            }
            Err(MergeError::TooLong { length }) => prop_assert!(length > MAX_CARRIER),
            Err(MergeError::NotUtf8) => prop_assert!(std::str::from_utf8(&text).is_err()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// The strict reader takes nothing that a lenient JSON parser calls something else.
    #[test]
    fn what_is_claimed_stands_in_the_json(text in carrier()) {
        let plain = std::str::from_utf8(&text).ok().filter(|t| !t.contains(['N', 'I', '\\']));
        if let (Some(claimed), Some(plain)) = (extract(&text), plain) {
            let value: serde_json::Value = serde_json::from_str(plain).unwrap();
            let found = value["v3"]["admission_nonce"].as_str().map(str::to_owned);
            prop_assert_eq!(found, Some(format!("{claimed:x}")));
        }
    }
}

#[test]
fn the_worst_carrier_costs_little() {
    // As many distinct keys as fit, at the greatest depth: every key is compared with all others.
    let mut text = String::from("{\"a\":[[[[[{");
    for key in 0.. {
        let member = format!("\"{key:x}\":0,");
        if text.len() + member.len() > MAX_CARRIER - 120 {
            break;
        }
        text += &member;
    }
    text.pop();
    text += "}]]]]]}";
    let claimed = merge_to_vec(text.as_bytes(), &nonce(1)).unwrap();
    assert!(claimed.starts_with(b"{\"a\":"), "the text must be a valid carrier");
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(extract(&claimed), Some(nonce(1)));
    }
    // Some 60 µs each when optimised; the bound leaves room for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?} for 100", start.elapsed());
}

fn search(target: PuzzleTarget, max_tries: u64) -> Search {
    let mut message = vec![0; message_length(5, 3)].into_boxed_slice();
    let commitment = PromptCommitment::from_bytes([3; 32]);
    Message::of_bytes(&mut message, b"first", &commitment, b"m@c").unwrap();
    Search { message, target, max_tries }
}

fn is_valid(search: &Search, nonce: &AdmissionNonce) -> bool {
    let (mut bytes, mut memory) = (search.message.clone(), Memory::new());
    let mut message = Message::again(&mut bytes).unwrap();
    message.set_nonce(nonce);
    let digest = argon2id(message.as_bytes(), memory.scratch(0).memory).unwrap();
    search.target.is_met_by(&digest)
}

/// What one uninterrupted search finds.
fn in_order(search: &Search, start: AdmissionNonce) -> (Progress, u64) {
    let (mut bytes, mut memory) = (search.message.clone(), Memory::new());
    let mut message = Message::again(&mut bytes).unwrap();
    let mut grind = Grind::new(start, search.max_tries, search.target);
    let end = grind.run(u64::MAX, &mut message, memory.scratch(0).memory, || true).unwrap();
    (end, grind.tried())
}

#[test]
fn a_search_that_is_interrupted_finds_the_same() {
    let search = search(target(8), 200);
    let (whole, tries) = in_order(&search, nonce(9));
    let Progress::Found(solution) = whole else { panic!("{whole:?}") };
    assert!(is_valid(&search, &solution.nonce));
    assert!(tries > 2, "the case must take several attempts, it took {tries}");

    let (mut bytes, mut memory) = (search.message.clone(), Memory::new());
    let mut message = Message::again(&mut bytes).unwrap();
    let mut grind = Grind::new(nonce(9), search.max_tries, search.target);
    let memory = memory.scratch(0).memory;
    assert_eq!(grind.run(0, &mut message, memory, || true), Ok(Progress::Paused));
    assert_eq!(grind.run(9, &mut message, memory, || false), Ok(Progress::Paused));
    let small = grind.run(9, &mut message, &mut [], || true);
    assert_eq!(small, Err(HashError::Memory { found: 0 }));
    assert_eq!(grind.tried(), 0);
    let mut rounds = 0;
    let end = loop {
        // Asked before each attempt; the third round is stopped by the answer, not by the budget.
        let mut asked = 0;
        let end = grind.run(2, &mut message, memory, || {
            asked += 1;
            rounds != 2 || asked < 2
        });
        rounds += 1;
        if end != Ok(Progress::Paused) {
            break end.unwrap();
        }
    };
    assert_eq!((end, grind.tried()), (whole, tries));
    // A search that is over says so again and tries nothing.
    assert_eq!(grind.run(9, &mut message, memory, || true), Ok(whole));
    assert_eq!(grind.tried(), tries);
}

#[test]
fn attempts_are_exhausted() {
    // No digest is below zero.
    let never = search(PuzzleTarget::from_le_bytes([0; 32]), 3);
    assert_eq!(in_order(&never, nonce(0)), (Progress::Exhausted, 3));
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads);
        let ticket = pool.submit(never.clone(), nonce(0));
        assert_eq!(ticket.wait(LONG), State::Ready(None));
        let counts = pool.counts();
        assert_eq!((counts.tries, counts.exhausted, counts.found), (3, 1, 0));
    }
    let none = Search { max_tries: 0, ..never };
    let pool = Pool::new(0).unwrap();
    assert_eq!(pool.threads(), 1);
    assert_eq!(pool.submit(none, nonce(0)).poll(), State::Ready(None));
}

#[test]
fn one_thread_searches_in_the_specified_order() {
    let search = search(target(8), 200);
    let (whole, tries) = in_order(&search, nonce(9));
    let Progress::Found(solution) = whole else { panic!("{whole:?}") };
    let pool = Pool::new(1).unwrap();
    let ticket = pool.submit(search, nonce(9));
    assert_eq!(ticket.wait(LONG), State::Ready(Some(solution.nonce)));
    assert_eq!(ticket.poll(), State::Ready(Some(solution.nonce)));
    assert_eq!(pool.counts().tries, tries);
}

#[test]
fn several_threads_find_valid_nonces_for_several_windows() {
    let mut pool = Pool::new(3).unwrap();
    let search = search(target(6), 400);
    let tickets: Vec<_> = (0..4).map(|i| pool.submit(search.clone(), nonce(i))).collect();
    for ticket in &tickets {
        let State::Ready(Some(found)) = ticket.wait(LONG) else { panic!("{ticket:?}") };
        assert!(is_valid(&search, &found));
    }
    // Through the table's door the start is random.
    let mut table_door = || Grinder::submit(&mut pool, search.clone()).wait(LONG);
    let (first, second) = (table_door(), table_door());
    assert!(matches!(first, State::Ready(Some(_))) && first != second, "{first:?} {second:?}");
    let counts = pool.counts();
    assert_eq!((counts.submitted, counts.found, counts.failed), (6, 6, 0));
    let ticket = pool.submit(search, nonce(0));
    assert_eq!(pool.poll(&ticket), ticket.poll());
    assert_ne!(random_nonce().unwrap(), random_nonce().unwrap());
}

#[test]
fn a_search_is_cancelled_between_two_attempts_and_makes_room() {
    let never = search(PuzzleTarget::from_le_bytes([0; 32]), u64::MAX);
    let pool = Pool::new(2).unwrap();
    let endless = pool.submit(never.clone(), nonce(0));
    assert_eq!(endless.wait(Duration::from_millis(50)), State::Pending);
    let waiting = pool.submit(search(PuzzleTarget::MAX, 1), nonce(0));
    assert_eq!(waiting.poll(), State::Pending, "the oldest search has all threads");
    drop(endless);
    assert!(matches!(waiting.wait(LONG), State::Ready(Some(_))));
    let Counts { cancelled, found, .. } = pool.counts();
    assert_eq!((cancelled, found), (1, 1));
    drop(waiting);
    assert_eq!(pool.counts().cancelled, 1, "a search that has ended is not cancelled");

    // The pool's end is the end of its searches.
    let orphan = pool.submit(never, nonce(0));
    drop(pool);
    assert_eq!(orphan.poll(), State::Ready(None));
}

#[test]
fn the_self_test_finds_a_nonce_or_says_why_not() {
    let mut memory = Memory::new();
    assert_eq!(self_test(nonce(4), &mut memory.scratch(SELF_TEST_MESSAGE)), Ok(nonce(4)));
    let mut small = Memory::new();
    let why = self_test(nonce(4), &mut small.scratch(SELF_TEST_MESSAGE - 1)).unwrap_err();
    assert!(why.to_string().starts_with("the admission self-test failed: "), "{why}");
}

fn judged(proof: &ProofRef<'_>, difficulty: i64) -> Result<bool, AdmissionFault> {
    let mut memory = Memory::new();
    judge(proof, &nonce(1), difficulty, &mut memory.scratch(message_len(proof)))
}

#[test]
fn faults_are_told_apart() {
    let proof = ProofRef { prompt_tokens: Words::Native(&[5, 6]), ..ProofRef::default() };
    // One expected try: everything but 32 bytes ff passes.
    assert_eq!(judged(&proof, i64::MAX), Ok(true));
    assert_eq!(judged(&proof, 1), Ok(false));
    let difficulty = AdmissionFault::Tries(TriesError::Difficulty { found: 0 });
    assert_eq!(judged(&proof, 0), Err(difficulty));

    let masked = ProofRef { pad_mask: PadMask::Zeros(1), ..proof };
    let mask = AdmissionFault::MaskLength { tokens: 2, mask: 1 };
    assert_eq!(judged(&masked, 1), Err(mask));
    assert!(!mask.is_no_verdict());

    let model = vec![b'm'; 65_536];
    let named = ProofRef { model_identifier: &model, ..proof };
    assert_eq!(judged(&named, 1), Err(AdmissionFault::ModelTooLong { found: 65_536 }));

    let mut memory = Memory::new();
    let needed = message_len(&proof);
    for (message, blocks) in [(needed - 1, 8192), (needed, 8191)] {
        let Scratch { message: bytes, memory } = memory.scratch(needed);
        let mut scratch = Scratch { message: &mut bytes[..message], memory: &mut memory[..blocks] };
        let fault = judge(&proof, &nonce(1), 1, &mut scratch).unwrap_err();
        assert!(fault.is_no_verdict(), "{fault}");
    }
}
