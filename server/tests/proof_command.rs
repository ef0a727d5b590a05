//! `tensorpow proof` as a process: every form it reads and writes, what it prints where, and how it
//! exits. The two proofs are windows of the published vectors in the compact form; the second has
//! an admission nonce.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tensorpow_core::archive;
use tensorpow_core::proof::{
    BlockValidationRef, Encode as _, MiningResponseRef, Proof, ProofRef, RequestRef,
    ValidationRequestRef, canonical, commit,
};

const V1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proofs/full_v1.tpwa");
const V3: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/quickstart/another_miner.tpwa");
/// The chain for which the second proof was made.
const V3_CHAIN: [&str; 4] = ["--height", "8000", "--difficulty", "10000000"];

fn proof(arguments: &[&str]) -> Output {
    proof_with_input(arguments, b"")
}

fn proof_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tensorpow"))
        .arg("proof")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", err(output)))
}

fn load(path: &str) -> Proof {
    archive::decode(&std::fs::read(path).unwrap()).unwrap()
}

/// A folder with the first proof in every form, and the files' names.
fn every_form() -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let owned = load(V1);
    let proof = owned.as_ref();
    let flat = proof.encode_to_vec().unwrap();
    let root = commit(&proof).unwrap().root;
    let response = MiningResponseRef {
        req_id: 7,
        pow_blob_hash: root.as_ref(),
        pow_blob: Some(proof),
        completion_id: b"cmpl-1",
        ..MiningResponseRef::default()
    };
    let request = ValidationRequestRef {
        hash_id: &[1; 32],
        validation_type: 0,
        request: Some(RequestRef::Block(BlockValidationRef {
            prev_block_hash: proof.block_hash,
            pow_blob: Some(proof),
            ..BlockValidationRef::default()
        })),
    };
    let mut names = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        names.push(path.to_str().unwrap().to_owned());
    };
    put("proof.bin", &flat);
    put("response.bin", &response.encode_to_vec().unwrap());
    put("request.bin", &request.encode_to_vec().unwrap());
    put("proof.hex", format!("0x{}\n", hex::encode(&flat)).as_bytes());
    put("compact.hex", hex::encode(std::fs::read(V1).unwrap()).as_bytes());
    put("proof.tpwa", &std::fs::read(V1).unwrap());
    let text = self::proof(&["convert", V1, "--to", "json"]);
    put("proof.json", &text.stdout);
    (folder, names)
}

fn path_in(folder: &tempfile::TempDir, name: &str) -> (PathBuf, String) {
    let path = folder.path().join(name);
    let name = path.to_str().unwrap().to_owned();
    (path, name)
}

#[test]
fn every_form_is_read_and_accepted() {
    let (_folder, names) = every_form();
    for name in &names {
        let output = proof(&["verify", name]);
        assert_eq!(code(&output), 0, "{name}: {}{}", out(&output), err(&output));
        assert!(out(&output).contains("accepted: Quick_OK"), "{}", out(&output));
        let same = proof(&["diff", V1, name]);
        assert_eq!((code(&same), out(&same)), (0, "the proofs are the same\n"), "{name}");
        let piped = proof_with_input(&["verify", "-"], &std::fs::read(name).unwrap());
        assert_eq!(code(&piped), 0, "{name} by standard input: {}", err(&piped));
    }
}

#[test]
fn every_form_is_written_and_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let original = canonical::canonical_to_vec(&load(V3).as_ref()).unwrap();
    for (form, extension) in
        [("flatbuffer", "bin"), ("compact", "tpwa"), ("json", "json"), ("canonical", "canonical")]
    {
        let (path, name) = path_in(&folder, &format!("another_miner.{extension}"));
        let into = folder.path().to_str().unwrap();
        let output = proof(&["convert", V3, "--to", form, "-o", into]);
        assert_eq!(code(&output), 0, "{}", err(&output));
        let piped = proof(&["convert", V3, "--to", form]);
        assert_eq!(piped.stdout, std::fs::read(&path).unwrap(), "{form}");
        if form == "canonical" {
            assert_eq!(piped.stdout, original);
            continue;
        }
        let same = proof(&["diff", V3, &name, "--json"]);
        assert_eq!((code(&same), &json(&same)["same"]), (0, &Value::Bool(true)), "{form}");
        // A name that the command makes up writes over nothing.
        let again = proof(&["convert", V3, "--to", form, "-o", into]);
        assert_eq!(code(&again), 2, "{form}");
        assert!(err(&again).contains("cannot write"), "{}", err(&again));
    }
    let flat = std::fs::read(folder.path().join("another_miner.bin")).unwrap();
    let read = ProofRef::read(&flat).unwrap();
    assert_eq!(canonical::canonical_to_vec(&read).unwrap(), original);
}

#[test]
fn the_chain_decides_and_the_exit_code_says_it() {
    let v3 = |chain: &[&str]| proof(&[&["verify", V3], chain].concat());
    assert_eq!(code(&v3(&V3_CHAIN)), 0, "{}", out(&v3(&V3_CHAIN)));
    // Below its height version 3 does not bind, the nonce is not hashed, and nothing fits.
    let early = v3(&["--height", "7999"]);
    assert_eq!(code(&early), 1);
    assert!(out(&early).contains("rejected: Q31 failed"), "{}", out(&early));
    // A harder model wants another nonce.
    let harder = v3(&["--height", "8000", "--difficulty", "10000"]);
    assert!(code(&harder) == 1 && out(&harder).contains("Q75"), "{}", out(&harder));
    // Nobody can say without a difficulty: no verdict is no reject.
    let unknown = v3(&["--height", "8000"]);
    assert_eq!((code(&unknown), out(&unknown)), (2, ""));
    assert!(err(&unknown).contains("--difficulty"), "{}", err(&unknown));
    // Version 1 passes every check and is too old from height 1500 on.
    let v1 = |height| proof(&["verify", V1, "--height", height, "--json"]);
    assert_eq!((code(&v1("1499")), code(&v1("1500"))), (0, 1));
    assert_eq!(json(&v1("1500"))["check"], "bad-proof-version");
    let regtest = proof(&["verify", V1, "--network", "regtest", "--height", "9000"]);
    assert_eq!(code(&regtest), 0);
    assert_eq!(code(&proof(&["verify", V1, "--network", "nonet"])), 2);
    assert_eq!(code(&proof(&["verify", V1, "--difficulty", "-1"])), 2);
    let unregistered = proof(&["verify", V1, "--difficulty", "0", "--json"]);
    assert_eq!(code(&unregistered), 1);
    assert_eq!(json(&unregistered)["verdict"], "Quick_Fail_Model_Unregistered");
}

#[test]
fn of_many_files_the_worst_decides() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bad) = path_in(&folder, "bad.bin");
    let mut altered = load(V1);
    altered.sampling_u[9] += 0.001;
    std::fs::write(path, altered.as_ref().encode_to_vec().unwrap()).unwrap();
    let (path, broken) = path_in(&folder, "broken.bin");
    std::fs::write(path, b"no proof at all").unwrap();

    let good = proof(&["verify", V1, V1]);
    assert_eq!(code(&good), 0);
    let mixed = proof(&["verify", V1, &bad]);
    assert_eq!(code(&mixed), 1);
    let lines: Vec<&str> = out(&mixed).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("file") && lines[1].contains("accepted"), "{lines:?}");
    assert!(lines[2].contains("rejected") && lines[2].contains("Q60"), "{lines:?}");
    let worst = proof(&["verify", &broken, V1, &bad, "/nowhere/at/all"]);
    assert_eq!(code(&worst), 2);
    assert_eq!(out(&worst).matches("unreadable").count(), 2, "{}", out(&worst));
    assert_eq!(err(&worst).matches("tensorpow: ").count(), 2, "{}", err(&worst));

    let values = proof(&["verify", &broken, V1, &bad, "--json"]);
    assert_eq!(code(&values), 2);
    let values: Vec<Value> =
        out(&values).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(values[0]["error"].as_str().unwrap().contains("holds no proof"));
    assert_eq!(values[1]["accepted"], true);
    assert_eq!((&values[2]["check"], &values[2]["step"]), (&"Q60".into(), &9.into()));
}

#[test]
fn what_cannot_be_read_is_named_and_exits_with_2() {
    for (input, words) in [
        (&b""[..], "is empty"),
        (b"{\"format\": 1}", "no proof in JSON"),
        (b"TPWA\x02", "version 2"),
        (b"deadbeef", "as a FlatBuffer"),
    ] {
        for command in ["verify", "inspect"] {
            let output = proof_with_input(&[command, "-"], input);
            assert_eq!((code(&output), out(&output)), (2, ""), "{command} {words}");
            assert!(err(&output).contains(words), "{}", err(&output));
        }
        let convert = proof_with_input(&["convert", "-", "--to", "json"], input);
        assert_eq!((code(&convert), out(&convert)), (2, ""));
    }
    let long = vec![b' '; (16 << 20) + 1];
    let output = proof_with_input(&["verify", "-"], &long);
    assert!(code(&output) == 2 && err(&output).contains("longer than 16 MiB"), "{}", err(&output));
    assert_eq!(code(&proof(&["diff", V1, "/nowhere/at/all"])), 2);
    assert_eq!(code(&proof(&["diff", "-", "-"])), 2);
    assert_eq!(code(&proof(&["verify"])), 2);
    assert_eq!(code(&proof(&["convert", V1, V3, "--to", "json"])), 2);
}

#[test]
fn a_difference_is_shown_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = path_in(&folder, "other.bin");
    let mut altered = load(V1);
    altered.tick += 1;
    altered.topk_logits[3][5] = 0.5;
    altered.chosen_tokens.pop();
    std::fs::write(path, altered.as_ref().encode_to_vec().unwrap()).unwrap();
    let output = proof(&["diff", V1, &other]);
    assert_eq!(code(&output), 1);
    let lines: Vec<&str> = out(&output).lines().collect();
    assert!(lines[0].starts_with("tick: "), "{lines:?}");
    assert!(lines[1].starts_with("chosen_tokens at 255: "), "{lines:?}");
    assert!(lines[1].ends_with("ends after 255 entries"), "{lines:?}");
    assert!(lines[2].starts_with("topk_logits at 3[5]: "), "{lines:?}");
    assert!(lines[2].ends_with("0.5 (3f000000)"), "{lines:?}");
    let value = json(&proof(&["diff", V1, &other, "--json"]));
    assert_eq!(value["differences"].as_array().unwrap().len(), 3);
    assert_eq!(value["same"], false);
}

#[test]
fn an_inspection_shows_claims_checks_and_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let (picture, name) = path_in(&folder, "plot.svg");
    let arguments = [&["inspect", V3, "--plot", &name][..], &V3_CHAIN].concat();
    let output = proof(&arguments);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    for words in
        ["a compact proof", "proof version      3", "ok   Q75", "tier ", "ACCEPTED", "256 of 256"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_well_formed(&picture);

    let lines = proof(&[&["inspect", V3, "--steps"][..], &V3_CHAIN].concat());
    assert_eq!(out(&lines).lines().filter(|line| line.contains("  token ")).count(), 256);
    let value = json(&proof(&[&["inspect", V3, "--json"][..], &V3_CHAIN].concat()));
    assert_eq!(value["steps"].as_array().unwrap().len(), 256);
    assert_eq!(value["accepted"], true);
    assert!(value["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true));
    assert_eq!(value["claims"]["proof_version"], "3");

    // Rejected, but still shown; not judged, but still described.
    let rejected = proof(&["inspect", V3]);
    assert_eq!(code(&rejected), 0);
    assert!(out(&rejected).contains("FAIL Q31") && out(&rejected).contains("REJECTED"));
    let unjudged = proof(&["inspect", V3, "--height", "8000"]);
    assert_eq!(code(&unjudged), 0);
    assert!(out(&unjudged).contains("NOT JUDGED") && out(&unjudged).contains("commitment"));
    assert_eq!(code(&proof(&["inspect", V1, V3, "--plot", &name])), 2);
}

/// Every tag of the picture is closed, and there is a mark for each step.
fn assert_well_formed(picture: &Path) {
    let text = std::fs::read_to_string(picture).unwrap();
    assert_eq!(text.matches("<circle").count(), 256);
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag.split_whitespace().next().unwrap();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}
