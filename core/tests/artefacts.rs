//! Real proofs of the network: both genesis proofs and an old version-1 proof, decoded, hashed,
//! encoded by our writer and hashed again; the mainnet one yields the published genesis block.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod real_proofs;

use real_proofs::folder;
use serde_json::Value;
use tensorpow_core::admission::{Memory, extract, judge, merge_to_vec, message_len};
use tensorpow_core::header::BlockHeader;
use tensorpow_core::proof::canonical::{canonical_len, canonical_to_vec};
use tensorpow_core::proof::commitment::{legacy_hash, model_hash};
use tensorpow_core::proof::{
    Commitment, Encode, MiningResponseRef, Proof, ProofRef, RequestRef, ValidationRequestRef,
    commit,
};
use tensorpow_core::target::{CompactTarget, Target};
use tensorpow_core::units::{AdmissionNonce, Digest, HeaderPrefix};

fn load(folder: &std::path::Path, file: &str) -> Vec<u8> {
    let path = folder.join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All hashes of a proof against the list beside the files.
fn assert_hashes(proof: &ProofRef<'_>, listed: &Value, what: &str) -> Commitment {
    let commitment = commit(proof).expect("a proof of the network is within the limit");
    for (key, ours) in [
        ("legacy_hash", hex::encode(legacy_hash(proof).expect("within the limit"))),
        ("model_hash", hex::encode(model_hash(proof.model_identifier))),
        ("leaf_tick", hex::encode(commitment.tick_leaf)),
        ("leaf_vdf", hex::encode(commitment.vdf_leaf)),
        ("leaf_meta", hex::encode(commitment.meta_leaf)),
        ("leaf_rest", hex::encode(commitment.rest_leaf)),
        ("merkle_root", format!("{:x}", commitment.root)),
    ] {
        assert_eq!(Some(ours.as_str()), listed[key].as_str(), "{what}: {key}");
    }
    assert_eq!(Some(canonical_len(proof)), listed["canonical_len"].as_u64(), "{what}");
    commitment
}

#[test]
fn real_proofs_keep_their_commitment_through_every_form() {
    let Some(folder) = folder("real_proofs_keep_their_commitment_through_every_form") else {
        return;
    };
    let index: Value = serde_json::from_slice(&load(&folder, "proof_artifacts.json")).unwrap();
    for name in ["genesis_mainnet", "genesis_tensor_test", "v1_roundtrip"] {
        let listed = &index[name];
        let file = load(&folder, listed["file"].as_str().unwrap());
        let proof = ProofRef::read(&file).unwrap();
        let commitment = assert_hashes(&proof, listed, name);

        let standalone = proof.encode_to_vec().unwrap();
        assert_hashes(&ProofRef::read(&standalone).unwrap(), listed, "standalone");

        let owned = Proof::try_from(&proof).unwrap();
        assert_hashes(&owned.as_ref(), listed, "owned");
        assert_eq!(owned.as_ref().encode_to_vec().unwrap(), standalone, "{name}");

        let response = MiningResponseRef {
            req_id: 1,
            pow_blob_hash: commitment.root.as_ref(),
            pow_blob: Some(owned.as_ref()),
            ..MiningResponseRef::default()
        };
        let message = response.encode_to_vec().unwrap();
        let carried = MiningResponseRef::read(&message).unwrap().pow_blob.unwrap();
        assert_hashes(&carried, listed, "mining response");
        assert_eq!(canonical_to_vec(&carried).unwrap(), canonical_to_vec(&proof).unwrap());
    }
}

#[test]
fn the_mainnet_genesis_proof_yields_the_genesis_block() {
    let Some(folder) = folder("the_mainnet_genesis_proof_yields_the_genesis_block") else { return };
    let file = load(&folder, "proof_genesis_mainnet.bin");
    let proof = ProofRef::read(&file).unwrap();
    let root = commit(&proof).unwrap().root;
    assert_eq!(
        format!("{root:x}"),
        "87c9af60a903ffcd9081d3df3f91b1532b46018e710fd7edbfc47385759d9fab"
    );

    let prefix = HeaderPrefix::from_bytes(proof.header_prefix.try_into().unwrap());
    let digest = Digest::from_bytes(proof.hash.try_into().unwrap());
    let header = BlockHeader {
        prefix,
        nonce: digest.nonce(),
        bits: CompactTarget::from_bits(0x1f5b_05b0),
        hash_pow: root,
        flags: 0,
    };
    assert_eq!(header.nonce, 3_079_144_202);
    assert_eq!(prefix.parent().as_bytes(), proof.block_hash);
    assert_eq!(
        header.short_hash().display().to_string(),
        "003cc9fa1f68393b99e0687057b841ebd6998680aa1a21a47db441374551f39b"
    );
    assert_eq!(
        header.long_hash().display().to_string(),
        "8fe43be4634dc48def074fa840e25a71bbdc32576eb29abf3ce2458605343720"
    );
    let target = Target::from_be_bytes(proof.target.try_into().unwrap());
    assert_eq!(prefix.bits().expand().target, target);
    assert!(target.is_met_by(&header.short_hash()));
}

#[test]
fn a_real_block_fits_a_validation_request() {
    let Some(folder) = folder("a_real_block_fits_a_validation_request") else { return };
    let file = load(&folder, "proof_genesis_tensor_test.bin");
    let proof = ProofRef::read(&file).unwrap();
    let request = ValidationRequestRef {
        hash_id: &[7; 32],
        validation_type: 0,
        request: Some(RequestRef::Block(tensorpow_core::proof::BlockValidationRef {
            prev_block_hash: proof.block_hash,
            pow_blob: Some(proof),
            difficulty: i64::MAX,
            ..Default::default()
        })),
    };
    let message = request.encode_to_vec().unwrap();
    let Some(RequestRef::Block(block)) = ValidationRequestRef::read(&message).unwrap().request
    else {
        panic!("the request is a block");
    };
    assert_eq!(block.difficulty, i64::MAX);
    assert_eq!(commit(&block.pow_blob.unwrap()), commit(&proof));
}

#[test]
fn genesis_proofs_claim_no_nonce_and_a_claim_on_them_is_judged() {
    let test = "genesis_proofs_claim_no_nonce_and_a_claim_on_them_is_judged";
    let Some(folder) = folder(test) else { return };
    let mut memory = Memory::new();
    for file in ["proof_genesis_mainnet.bin", "proof_genesis_tensor_test.bin"] {
        let file = load(&folder, file);
        let proof = ProofRef::read(&file).unwrap();
        assert_eq!(extract(proof.extra_flags), None);
        let nonce = AdmissionNonce::from_bytes([1; 32]);
        let merged = merge_to_vec(proof.extra_flags, &nonce).unwrap();
        assert_eq!(extract(&merged), Some(nonce));
        // One try is expected at the greatest difficulty value, 60 million at the smallest.
        for (difficulty, solved) in [(i64::MAX, true), (1, false)] {
            let mut scratch = memory.scratch(message_len(&proof));
            assert_eq!(judge(&proof, &nonce, difficulty, &mut scratch), Ok(solved));
        }
    }
}
