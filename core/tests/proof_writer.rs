//! The writer's promises: exact lengths, nothing touched on refusal, the same bytes wherever a
//! record's lists lie, and the canonical bytes and commitment against a plain second computation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use sha2::{Digest as _, Sha256};
use tensorpow_core::proof::canonical::{canonical_len, canonical_to_vec};
use tensorpow_core::proof::flat::MAX_MESSAGE_LEN;
use tensorpow_core::proof::{
    BlockHeaderMessage, BlockValidationRef, Encode, MiningResponseRef, PadMask, Proof, ProofRef,
    RequestRef, Rows, ValidationRequestRef, Words, WriteError, commit,
};

fn sample() -> Proof {
    Proof {
        version: 2,
        tick: 55_869_440,
        vdf: vec![5; 200],
        model_identifier: b"name@commit".to_vec(),
        temperature: 1.0,
        chosen_tokens: (0..256).collect(),
        prompt_tokens: vec![1, 2, 3],
        pad_mask: vec![0; 3],
        topk_logits: vec![vec![1.5; 70]; 256],
        topk_indices: vec![(0..70).collect(); 256],
        ..Proof::default()
    }
}

#[test]
fn a_buffer_of_the_announced_length_is_filled_and_a_smaller_one_left_alone() {
    let proof = sample();
    let proof = proof.as_ref();
    let len = proof.encoded_len().unwrap();
    let mut exact = vec![0xaa; len + 3];
    assert_eq!(proof.encode(&mut exact), Ok(len));
    assert_eq!(exact[len..], [0xaa; 3]);
    assert_eq!(exact[..len], proof.encode_to_vec().unwrap(), "no byte is left unwritten");

    for dirty in [Vec::new(), vec![0xaa; len - 1], vec![0xaa; 2 * len]] {
        let (mut message, room) = (dirty, len * 2);
        message.reserve(room - message.len());
        let place = message.as_ptr();
        proof.encode_over(&mut message).unwrap();
        assert_eq!((message.as_slice(), message.as_ptr()), (&exact[..len], place));
    }

    let mut small = vec![0xaa; len - 1];
    let refused = WriteError::BufferTooSmall { needed: len, found: len - 1 };
    assert_eq!(proof.encode(&mut small), Err(refused));
    assert!(small.iter().all(|&byte| byte == 0xaa));
}

#[test]
fn lists_are_written_the_same_wherever_they_lie() {
    let owned = sample();
    let logits = [1.5_f32; 70 * 256];
    let indices: Vec<u8> =
        (0..256).flat_map(|_| 0..70_u32).flat_map(|id| id.to_le_bytes()).collect();
    let window = ProofRef {
        pad_mask: PadMask::Zeros(3),
        topk_logits: Rows::Flat { words: Words::Floats(&logits), width: 70 },
        topk_indices: Rows::Flat { words: Words::LittleEndian(&indices), width: 70 },
        ..owned.as_ref()
    };
    assert_eq!(window.encode_to_vec(), owned.as_ref().encode_to_vec());
    assert_eq!(commit(&window), commit(&owned.as_ref()));
    let flags = ProofRef { pad_mask: PadMask::Flags(&[false, true, true]), ..window };
    assert_eq!(
        commit(&flags),
        commit(&ProofRef { pad_mask: PadMask::Bytes(&[0, 1, 1]), ..window })
    );
}

#[test]
fn only_a_standalone_proof_carries_an_identifier() {
    let proof = Proof::default();
    let message = proof.as_ref().encode_to_vec().unwrap();
    assert_eq!(&message[4..8], b"PROF");
    let pow_blob = Some(proof.as_ref());
    let response = MiningResponseRef { pow_blob, ..Default::default() }.encode_to_vec().unwrap();
    let job = BlockHeaderMessage::default().encode_to_vec().unwrap();
    for message in [response, job] {
        assert_ne!(&message[4..8], b"PROF");
    }
}

#[test]
fn a_negative_zero_setting_arrives_as_zero_and_a_vector_keeps_its_signs() {
    let proof = Proof {
        temperature: -0.0,
        top_p: f32::from_bits(0xff80_0001),
        sampling_u: vec![-0.0],
        ..Proof::default()
    };
    let message = proof.as_ref().encode_to_vec().unwrap();
    let read = ProofRef::read(&message).unwrap();
    assert_eq!(read.temperature.to_bits(), 0);
    assert_eq!(read.top_p.to_bits(), 0xff80_0001);
    assert_eq!(read.sampling_u.get(0), Some(0x8000_0000));
    assert_ne!(commit(&read), commit(&proof.as_ref()));
    assert_eq!(commit(&read), commit(&proof.as_ref().as_transported()));
}

#[test]
fn what_a_verifier_would_crash_on_is_not_written() {
    let ragged = Proof { logsumexp_stats: vec![vec![1.0], vec![]], ..Proof::default() };
    let good = Proof::default();
    let request = |hash_id, block| {
        let request = Some(RequestRef::Block(block));
        ValidationRequestRef { hash_id, validation_type: 0, request }.encoded_len()
    };
    let block = BlockValidationRef {
        prev_block_hash: &[1; 32],
        pow_blob: Some(good.as_ref()),
        ..Default::default()
    };
    assert!(request(&[1], block).is_ok());
    let missing = |field| Err(WriteError::Missing { field });
    assert_eq!(request(&[], block), missing("hash_id"));
    let orphan = BlockValidationRef { prev_block_hash: &[], ..block };
    assert_eq!(request(&[1], orphan), missing("prev_block_hash"));
    let empty = BlockValidationRef { pow_blob: None, ..block };
    assert_eq!(request(&[1], empty), missing("pow_blob"));
    let uneven = BlockValidationRef { pow_blob: Some(ragged.as_ref()), ..block };
    let refused = WriteError::Ragged { field: "logsumexp_stats", row: 1 };
    assert_eq!(request(&[1], uneven), Err(refused));
}

#[test]
fn a_message_no_transport_takes_is_not_written() {
    let limit = usize::try_from(MAX_MESSAGE_LEN).unwrap();
    let zeros = |count| ProofRef { pad_mask: PadMask::Zeros(count), ..ProofRef::default() };
    let overhead = zeros(0).encoded_len().unwrap();
    // A mask of whole words keeps the alignment of what follows.
    let most = (limit - overhead) / 4 * 4;
    assert_eq!(zeros(most).encoded_len(), Ok(overhead + most));
    for count in [most + 4, usize::MAX] {
        assert!(matches!(zeros(count).encoded_len(), Err(WriteError::TooLong(_))));
        assert!(commit(&zeros(count)).is_err());
    }
}

/// `CS(n)` written out once more.
fn compact(count: usize) -> Vec<u8> {
    match count {
        0..=252 => vec![count as u8],
        253..=0xffff => [vec![0xfd], (count as u16).to_le_bytes().to_vec()].concat(),
        _ => [vec![0xfe], (count as u32).to_le_bytes().to_vec()].concat(),
    }
}

#[test]
fn counts_change_their_form_at_the_boundaries_and_blocks_of_words_join_without_seam() {
    // One below, at and above each boundary of the count and of the block that words are hashed in.
    for count in [0, 1, 252, 253, 255, 256, 257, 512, 65_535, 65_536] {
        let tokens: Vec<u32> = (0..count as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
        let proof = Proof { prompt_tokens: tokens.clone(), ..Proof::default() };
        let canonical = canonical_to_vec(&proof.as_ref()).unwrap();
        // 17 bytes of numbers, 5 empty vectors, a flag, 4 empty strings, 16 bytes of settings and
        // 4 empty vectors stand before; a mask and three matrices, all empty, behind.
        let words = tokens.iter().flat_map(|token| token.to_le_bytes());
        let mut expected = vec![0; 17 + 5 + 1 + 4 + 16 + 4];
        expected.extend(compact(count));
        expected.extend(words);
        expected.extend([0; 4]);
        assert_eq!(canonical, expected, "{count} words");
        assert_eq!(canonical_len(&proof.as_ref()), expected.len() as u64);

        let mask = ProofRef { pad_mask: PadMask::Zeros(count), ..ProofRef::default() };
        let zeros = vec![0; count];
        let bytes = ProofRef { pad_mask: PadMask::Bytes(&zeros), ..mask };
        assert_eq!(commit(&mask), commit(&bytes), "{count} mask bytes");
    }
}

#[test]
fn the_streamed_commitment_is_that_of_the_collected_bytes() {
    let double = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(Sha256::digest(bytes)).into() };
    let leaf = |tag: u8, content: &[u8]| {
        let len = (content.len() as u32).to_le_bytes();
        double(&[b"\xffPOW\0", [tag].as_slice(), &len, content].concat())
    };
    let owned = sample();
    let proof = owned.as_ref();
    let ours = commit(&proof).unwrap();
    let model: [u8; 32] = Sha256::digest(proof.model_identifier).into();
    assert_eq!(ours.tick_leaf, leaf(1, &proof.tick.to_le_bytes()));
    assert_eq!(ours.vdf_leaf, leaf(2, proof.vdf));
    assert_eq!(ours.meta_leaf, leaf(3, &[&[proof.version][..], &model].concat()));
    assert_eq!(ours.rest_leaf, leaf(4, &canonical_to_vec(&proof).unwrap()));
    let left = double(&[ours.tick_leaf, ours.vdf_leaf].concat());
    let right = double(&[ours.meta_leaf, ours.rest_leaf].concat());
    assert_eq!(ours.root.as_bytes(), &double(&[left, right].concat()));
}
