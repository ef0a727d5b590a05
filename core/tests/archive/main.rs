//! The compact form: every proof comes back with the identical canonical bytes, whatever it is like;
//! hostile bytes are refused; real proofs shrink as far as is promised.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // a test fails by panicking

mod any_proof;
mod hostile;
#[path = "../conformance/proof/object.rs"]
#[allow(dead_code)] // shared with the conformance runner, which uses all of it
mod object;
#[path = "../real_proofs/mod.rs"]
mod real_proofs;
#[allow(dead_code)] // as above
#[path = "../conformance/source.rs"]
mod source;
#[allow(dead_code)] // as above
#[path = "../conformance/verify/proofs.rs"]
mod verify_proofs;
mod window;

use std::io::Write as _;
use std::path::Path;
use tensorpow_core::archive::{decode, encode, key, key_of};
use tensorpow_core::proof::canonical::canonical_to_vec;
use tensorpow_core::proof::{Encode, ProofRef, commit};

/// Asserts that a proof survives, and returns its archive.
fn round_trip(proof: &ProofRef<'_>, what: &str) -> Vec<u8> {
    let archive = encode(proof).expect(what);
    let back = decode(&archive).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(
        canonical_to_vec(&back.as_ref()).unwrap(),
        canonical_to_vec(proof).unwrap(),
        "{what}"
    );
    assert_eq!(commit(&back.as_ref()), commit(proof), "{what}");
    assert_eq!(key_of(&archive), Ok(key(proof).unwrap()), "{what}");
    archive
}

/// One line past the capture of the test harness.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr");
}

/// Prints a size and returns it as a share of the FlatBuffer's.
fn share(proof: &ProofRef<'_>, archive: &[u8], what: &str) -> f64 {
    let flat = proof.encode_to_vec().unwrap().len();
    let share = archive.len() as f64 / flat as f64;
    say(&format!("{what}: {} of {flat} bytes, {:.2} %", archive.len(), 100.0 * share));
    share
}

#[test]
fn every_proof_of_the_vectors_comes_back() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"));
    let vectors = source::load(folder, "proof.json").unwrap().expect("the project's own copy");
    for case in source::list(&vectors, "proofs") {
        let what = source::text(case, "name");
        round_trip(&object::described(source::get(case, "object")).as_ref(), what);
        for (builder, layout) in source::get(case, "flatbuffers").as_object().unwrap() {
            let layout = source::unhex(layout.as_str().unwrap());
            round_trip(&ProofRef::read(&layout).unwrap(), &format!("{what} by {builder}"));
        }
    }
    for case in source::list(&vectors, "size_limit") {
        let mut proof = object::described(source::get(case, "base_object"));
        let len = usize::try_from(source::uint(case, "extra_flags_len")).unwrap();
        proof.extra_flags = vec![b'a'; len];
        match canonical_to_vec(&proof.as_ref()) {
            Ok(_) => drop(round_trip(&proof.as_ref(), "at the limit")),
            Err(too_long) => assert_eq!(encode(&proof.as_ref()), Err(too_long)),
        }
    }
}

#[test]
fn real_proofs_shrink_below_31_percent() {
    let Some(folder) = real_proofs::folder("real_proofs_shrink_below_31_percent") else { return };
    for name in ["genesis_mainnet", "genesis_tensor_test", "v1_roundtrip"] {
        let file = std::fs::read(folder.join(format!("proof_{name}.bin"))).unwrap();
        let proof = ProofRef::read(&file).unwrap();
        let archive = round_trip(&proof, name);
        assert!(share(&proof, &archive, name) <= 0.31, "{name}");
    }
}

#[test]
fn every_base_of_the_verifier_comes_back() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"));
    let vectors = source::load(folder, "verify.json").unwrap().expect("the project's own copy");
    for (name, proof) in verify_proofs::bases(source::get(&vectors, "bases")) {
        round_trip(&proof.as_ref(), &name);
    }
}

/// A window that the patched llama-server mined with SmolLM2-135M-Instruct.
#[test]
fn a_proof_of_llama_cpp_shrinks_below_31_percent() {
    let proof = decode(include_bytes!("llama_cpp.tpwa")).unwrap();
    let archive = round_trip(&proof.as_ref(), "llama.cpp");
    assert!(share(&proof.as_ref(), &archive, "llama.cpp") <= 0.31);
}

/// Archives outlive programs: this one was written when version 1 of the form was made.
#[test]
fn an_archive_of_version_1_stays_readable() {
    let archive = source::unhex(include_str!("version_1.hex").trim());
    let proof = decode(&archive).unwrap();
    assert_eq!(proof.chosen_tokens.len(), 3);
    assert_eq!(round_trip(&proof.as_ref(), "version 1"), archive, "it is also written like this");
}
