//! Properties of proofs and messages: whatever is written reads back the same, and no bytes at all
//! make the reader, or anything that works on what it accepted, panic or run away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use proptest::collection::vec;
use proptest::prelude::*;
use tensorpow_core::proof::canonical::canonical_to_vec;
use tensorpow_core::proof::{
    BlockHeaderMessage, BlockValidationRef, Encode, MiningResponseRef, ModelValidationRef, Proof,
    ProofRef, RequestRef, ValidationRequestRef, ValidationResponseRef, commit,
};

/// Any bit pattern, with the troublemakers more often than chance has them.
fn float() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        prop::sample::select(vec![0.0, -0.0, 1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE]),
        Just(f32::from_bits(0x7f80_0001)),
        Just(f32::from_bits(1)),
    ]
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 250..256)]
}

fn floats() -> impl Strategy<Value = Vec<f32>> {
    vec(float(), 0..12)
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    vec(any::<u32>(), 0..12)
}

prop_compose! {
    fn proof()(
        (version, tick, timestamp, is_solution, top_k) in
            any::<(u8, u64, u64, bool, u32)>(),
        (target, vdf, hash, block_hash, header_prefix) in
            (blob(), blob(), blob(), blob(), blob()),
        (model_identifier, compute_precision, ipfs_cid, extra_flags) in
            (blob(), blob(), blob(), blob()),
        (temperature, top_p, repetition_penalty) in (float(), float(), float()),
        (chosen_tokens, prompt_tokens, pad_mask) in (tokens(), tokens(), blob()),
        (chosen_probs, sampling_u, softmax_normalizers) in (floats(), floats(), floats()),
        topk_logits in vec(floats(), 0..6),
        topk_indices in vec(tokens(), 0..6),
        logsumexp_stats in vec(floats(), 0..6),
    ) -> Proof {
        Proof {
            version, tick, timestamp, target, vdf, hash, block_hash, header_prefix, is_solution,
            model_identifier, compute_precision, ipfs_cid, extra_flags, temperature, top_p, top_k,
            repetition_penalty, chosen_tokens, chosen_probs, sampling_u, softmax_normalizers,
            prompt_tokens, pad_mask, topk_logits, topk_indices, logsumexp_stats,
        }
    }
}

/// Canonical bytes and root, which together are the whole content.
fn content(proof: &ProofRef<'_>) -> (Vec<u8>, String) {
    let bytes = canonical_to_vec(proof).expect("small");
    (bytes, format!("{:x}", commit(proof).expect("small").root))
}

/// Whatever a reader accepted can be worked on: hashed, copied, encoded, and the encoding means the
/// same.
fn work_on(proof: &ProofRef<'_>) {
    if let Ok(canonical) = canonical_to_vec(proof) {
        assert_eq!(commit(proof).is_ok(), canonical.len() <= 1_000_000);
        let message = proof.encode_to_vec().expect("within the limit");
        let again = ProofRef::read(&message).expect("own encoding");
        assert_eq!(content(&again), content(&proof.as_transported()));
    }
    if let Ok(owned) = Proof::try_from(proof) {
        assert_eq!(canonical_to_vec(&owned.as_ref()), canonical_to_vec(proof));
    }
}

/// Reads the bytes as every message there is and works on what is accepted.
fn read_as_everything(bytes: &[u8]) {
    if let Ok(proof) = ProofRef::read(bytes) {
        work_on(&proof);
    }
    if let Ok(response) = MiningResponseRef::read(bytes) {
        response.pow_blob.iter().for_each(work_on);
        // The proof may hold rows that overlap, so the encoding may be refused, never fail.
        if let Ok(message) = response.encode_to_vec() {
            assert!(MiningResponseRef::read(&message).is_ok());
        }
        let _ = (response.effective_completion_id(), response.is_audit());
    }
    if let Ok(request) = ValidationRequestRef::read(bytes) {
        if let Some(RequestRef::Block(block)) = request.request {
            block.pow_blob.iter().for_each(work_on);
        }
        if let Ok(message) = request.encode_to_vec() {
            assert!(ValidationRequestRef::read(&message).is_ok());
        }
    }
    if let Ok(job) = BlockHeaderMessage::read(bytes) {
        assert_eq!(BlockHeaderMessage::read(&job.encode_to_vec().expect("small")), Ok(job));
    }
    if let Ok(verdict) = ValidationResponseRef::read(bytes) {
        let message = verdict.encode_to_vec().expect("small");
        assert_eq!(ValidationResponseRef::read(&message), Ok(verdict));
    }
}

proptest! {
    #[test]
    fn a_proof_reads_back_as_it_was_written(proof in proof()) {
        let written = proof.as_ref();
        let message = written.encode_to_vec().unwrap();
        prop_assert_eq!(written.encoded_len(), Ok(message.len()));
        let read = ProofRef::read(&message).unwrap();
        prop_assert_eq!(content(&read), content(&written.as_transported()));
        prop_assert_eq!(read.topk_logits, written.topk_logits);
        prop_assert_eq!(read.chosen_probs, written.chosen_probs);
        prop_assert_eq!(read.pad_mask, written.pad_mask);
    }

    #[test]
    fn a_mining_response_reads_back_as_it_was_written(
        proof in prop::option::of(proof()),
        (req_id, nonce, adjusted_bits, difficulty) in any::<(u32, u32, u32, u32)>(),
        (hash, id) in (blob(), blob()),
    ) {
        let written = MiningResponseRef {
            req_id, nonce, adjusted_bits, difficulty,
            pow_blob_hash: &hash,
            pow_blob: proof.as_ref().map(Proof::as_ref),
            completion_id: &id,
        };
        let message = written.encode_to_vec().unwrap();
        let read = MiningResponseRef::read(&message).unwrap();
        prop_assert_eq!(
            (read.req_id, read.nonce, read.adjusted_bits, read.difficulty),
            (req_id, nonce, adjusted_bits, difficulty)
        );
        prop_assert_eq!((read.pow_blob_hash, read.completion_id), (&hash[..], &id[..]));
        prop_assert_eq!(
            read.pow_blob.as_ref().map(content),
            written.pow_blob.as_ref().map(|proof| content(&proof.as_transported()))
        );
    }

    #[test]
    fn a_model_reads_back_as_it_was_written(
        texts in (blob(), blob(), blob(), blob(), blob(), blob()),
        (difficulty, block_height, validation_type) in any::<(i64, i32, u8)>(),
    ) {
        let model = ModelValidationRef {
            model_name: &texts.0,
            model_commit: &texts.1,
            difficulty,
            cid: &texts.2,
            extra: &texts.3,
            txid: &texts.4,
            block_hash: &texts.5,
            block_height,
        };
        let request = ValidationRequestRef {
            hash_id: &[1],
            validation_type,
            request: Some(RequestRef::Model(model)),
        };
        let message = request.encode_to_vec().unwrap();
        let read = ValidationRequestRef::read(&message).unwrap();
        prop_assert_eq!((read.hash_id, read.validation_type), (&[1][..], validation_type));
        match read.request {
            Some(RequestRef::Model(read)) => prop_assert_eq!(read, model),
            _ => prop_assert!(false, "the request is a model"),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_as_everything(&bytes);
    }

    /// Small offsets point at one another far more often than random ones.
    #[test]
    fn arbitrary_small_offsets_never_panic(words in vec(0_u32..64, 3..64)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        read_as_everything(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(
        proof in proof(),
        kind in 0..3,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let proof = proof.as_ref();
        let response = MiningResponseRef { pow_blob: Some(proof), ..Default::default() };
        let block = BlockValidationRef {
            prev_block_hash: &[2; 32],
            pow_blob: Some(proof),
            ..Default::default()
        };
        let request = ValidationRequestRef {
            hash_id: &[1; 32],
            validation_type: 0,
            request: Some(RequestRef::Block(block)),
        };
        let message = match kind {
            0 => proof.encode_to_vec(),
            1 => response.encode_to_vec(),
            _ => request.encode_to_vec(),
        };
        // Rows of different lengths may not be sent to a verifier.
        let mut message = message.or_else(|_| response.encode_to_vec()).unwrap();
        for (place, value) in damage {
            let place = place.index(message.len());
            message[place] = value;
        }
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        read_as_everything(&message);
    }
}
