//! Hostile buffers, one rule of the reader a test: what is refused, what is taken, and that a small
//! buffer cannot cost much.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use serde_json::Value;
use std::io::Read as _;
use std::time::{Duration, Instant};
use tensorpow_core::proof::accept::{Refusal, check_rpc, check_zmq};
use tensorpow_core::proof::canonical::canonical_len;
use tensorpow_core::proof::commitment::legacy_hash;
use tensorpow_core::proof::flat::Fault;
use tensorpow_core::proof::{
    BlockHeaderMessage, Encode, MiningResponseRef, Proof, ProofRef, ValidationRequestRef,
    ValidationResponseRef, commit,
};

/// A proof whose only field is `topk_logits`, with `rows` references to one row of `width` ones.
fn shared_rows(rows: u32, width: u32) -> Vec<u8> {
    const LOGITS: usize = 23;
    const VTABLE: u32 = 4;
    const TABLE: u32 = 56;
    const FIRST: u32 = 68;
    let mut vtable = [0_u16; 2 + LOGITS + 1];
    (vtable[0], vtable[1], vtable[2 + LOGITS]) = (TABLE as u16 - VTABLE as u16, 8, 4);
    let mut words = vec![TABLE];
    words.extend(vtable.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16));
    // The table: back to its vtable, then 4 bytes on to the vector.
    words.extend([TABLE - VTABLE, 4, rows]);
    // Behind the vector stand the row's vtable (8 bytes with padding) and the row.
    let row = FIRST + 4 * rows + 8;
    words.extend((0..rows).map(|i| row - (FIRST + 4 * i)));
    words.extend([6 | 8 << 16, 4, 8, 4, width]);
    words.resize(words.len() + width as usize, 1.0_f32.to_bits());
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The files of vectors that come with the project.
fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/proof.json.gz");
    let mut text = Vec::new();
    let packed = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn the_reader_gives_the_verdict_of_the_node_on_every_listed_buffer() {
    let vectors = vectors();
    for case in vectors["malformed"]["cases"].as_array().unwrap() {
        let bytes = hex::decode(case["bytes"].as_str().unwrap()).unwrap();
        let refused = match case["kind"].as_str().unwrap() {
            "Proof" => ProofRef::read(&bytes).err(),
            "MiningResponse" => MiningResponseRef::read(&bytes).err(),
            "BlockHeader" => BlockHeaderMessage::read(&bytes).err(),
            "ValidationRequest" => ValidationRequestRef::read(&bytes).err(),
            "ValidationResponse" => ValidationResponseRef::read(&bytes).err(),
            kind => panic!("unknown kind {kind}"),
        };
        assert_eq!(
            refused.is_none(),
            case["node_accepts"] == true,
            "{}: {refused:?}",
            case["name"]
        );
    }
}

#[test]
fn rows_may_be_shared() {
    let bytes = shared_rows(3, 2);
    let proof = ProofRef::read(&bytes).unwrap();
    let expected = Proof { topk_logits: vec![vec![1.0; 2]; 3], ..Proof::default() };
    assert_eq!(proof.topk_logits, expected.as_ref().topk_logits);
    assert_eq!(commit(&proof), commit(&expected.as_ref()));
}

#[test]
fn a_table_referenced_twice_counts_twice_and_the_limit_is_a_million() {
    // The proof itself is the first table.
    assert!(ProofRef::read(&shared_rows(999_999, 0)).is_ok());
    let refused = ProofRef::read(&shared_rows(1_000_000, 0)).unwrap_err();
    assert_eq!(refused.fault, Fault::TooManyTables);
}

#[test]
fn a_small_buffer_that_describes_an_enormous_proof_costs_little() {
    let bytes = shared_rows(100_000, 1_000_000);
    let start = Instant::now();
    let proof = ProofRef::read(&bytes).unwrap();
    assert_eq!(canonical_len(&proof), 51 + 5 + 100_000 * (5 + 4 * 1_000_000));
    assert!(commit(&proof).is_err());
    assert!(legacy_hash(&proof).is_err());
    assert!(Proof::try_from(&proof).is_err());
    assert!(proof.encode_to_vec().is_err());
    // Hashing 400 GB would take minutes; the bound is wide for slow machines.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn every_cut_of_a_message_is_refused_or_read_without_harm() {
    let proof = Proof {
        vdf: vec![1; 7],
        extra_flags: b"{}".to_vec(),
        topk_logits: vec![vec![1.0, 2.0], vec![]],
        logsumexp_stats: vec![vec![3.0]],
        ..Proof::default()
    };
    let message = proof.as_ref().encode_to_vec().unwrap();
    for end in 0..message.len() {
        assert!(ProofRef::read(&message[..end]).is_err(), "cut at {end}");
    }
    let mut longer = message;
    longer.extend([0xff; 5]);
    let read = ProofRef::read(&longer).unwrap();
    assert_eq!(commit(&read), commit(&proof.as_ref()));
}

#[test]
fn an_unknown_kind_of_request_reads_as_none() {
    // Table at 16 with hash_id absent, tag at 20, request at 24 leading to byte 28.
    let request = |tag: u8, offset: u8| {
        let mut bytes = vec![16, 0, 0, 0, 12, 0, 12, 0, 0, 0, 0, 0, 4, 0, 8, 0];
        bytes.extend([12, 0, 0, 0, tag, 0, 0, 0, offset, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        bytes
    };
    let read = |tag, offset| {
        ValidationRequestRef::read(&request(tag, offset)).map(|r| r.request.is_some())
    };
    for tag in [0, 3, 255] {
        assert_eq!(read(tag, 4), Ok(false), "what lies there is nobody's concern");
        assert_eq!(read(tag, 200).unwrap_err().fault, Fault::OutOfBounds);
        assert_eq!(read(tag, 0).unwrap_err().fault, Fault::BadOffset);
    }
    for tag in [1, 2] {
        assert!(read(tag, 4).is_err(), "four ff bytes are no table");
    }
}

#[test]
fn errors_name_the_place() {
    let mut message = ValidationResponseRef { hash_identifier: &[9; 32], enum_response: 1 }
        .encode_to_vec()
        .unwrap();
    message[0] = 0;
    let refused = ValidationResponseRef::read(&message).unwrap_err();
    assert_eq!(refused.to_string(), "the offset at byte 0 is zero or above 2^31 - 1");
    let refused = ProofRef::read(&message[..11]).unwrap_err();
    assert_eq!(refused.to_string(), "a message has at least 12 bytes, this one has 11");
}

/// The two submission paths look at the same things in different orders.
#[test]
fn each_submission_path_refuses_for_its_own_first_reason() {
    let proof = Proof::default();
    let response = |req_id: u32, hash: &[u8], with_proof: bool| {
        let pow_blob = with_proof.then(|| proof.as_ref());
        MiningResponseRef { req_id, pow_blob_hash: hash, pow_blob, ..Default::default() }
            .encode_to_vec()
            .unwrap()
    };
    let rpc = |req_id, message: &[u8]| check_rpc(req_id, message).map(|_| ());
    let zmq = |message: &[u8], open| check_zmq(message, |_| open).map(|_| ());

    let good = response(7, &[0; 32], true);
    assert_eq!(rpc(7, &good), Ok(()));
    assert_eq!(zmq(&good, true), Ok(()));
    assert_eq!(zmq(&good, false), Err(Refusal::Stale));
    for req_id in [0, -1, 10_000_000, i64::MAX] {
        assert_eq!(rpc(req_id, b"no message at all"), Err(Refusal::InvalidReqId));
    }
    assert_eq!(rpc(8, &good), Err(Refusal::ReqIdMismatch { found: 7 }));
    assert_eq!(rpc(8, &good[..3]), Err(Refusal::PayloadSize { found: 3 }));
    assert!(matches!(zmq(&good[..4], true), Err(Refusal::Unverified(_))));

    let bare = response(7, &[0; 31], false);
    assert_eq!(rpc(7, &bare), Err(Refusal::MissingPowBlob));
    assert_eq!(zmq(&bare, false), Err(Refusal::PowBlobHash { found: 31 }));
    let no_proof = response(7, &[0; 32], false);
    assert_eq!(zmq(&no_proof, false), Err(Refusal::Stale));
    assert_eq!(zmq(&no_proof, true), Err(Refusal::MissingPowBlob));
    let short_hash = response(7, &[], true);
    assert_eq!(rpc(7, &short_hash), Err(Refusal::PowBlobHash { found: 0 }));
    for req_id in [0, 10_000_000, u32::MAX] {
        assert_eq!(zmq(&response(req_id, &[], false), false), Err(Refusal::InvalidReqId));
    }
}
