//! `tensorpow vdf` as a process: what it prints where, and how it exits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const CHALLENGE: &str = "91c34482498d77f1fc76bf37f825573a68dbe7e43755744999da94ab8dba8963";

fn vdf(arguments: &[&str]) -> Output {
    vdf_with_input(arguments, "")
}

fn vdf_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tensorpow"))
        .arg("vdf")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", err(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_proof_is_made_and_judged() {
    let proved = vdf(&["prove", "--challenge", CHALLENGE, "--ticks", "200"]);
    assert!(proved.status.success(), "{}", err(&proved));
    let blob = out(&proved).to_owned();
    assert_eq!((blob.len(), err(&proved)), (400, ""));

    let verify =
        |tick, blob| vdf(&["verify", "--challenge", CHALLENGE, "--tick", tick, "--blob", blob]);
    let good = verify("200", &blob);
    assert_eq!(good.status.code(), Some(0));
    assert!(out(&good).starts_with("valid: 200 squarings"), "{}", out(&good));
    let piped = ["verify", "--challenge", CHALLENGE, "--tick", "200", "--blob", "-", "--json"];
    assert_eq!(json(&vdf_with_input(&piped, &format!("{blob}\n")))["valid"], true);

    let bad = verify("201", &blob);
    assert_eq!(bad.status.code(), Some(1));
    assert!(out(&bad).starts_with("invalid: "), "{}", out(&bad));
    let short = verify("200", &blob[2..]);
    assert_eq!(out(&short), "invalid: a VDF proof of this depth has 200 bytes, not 199");
    assert_eq!(short.status.code(), Some(1));
    let other = vdf(&["verify", "--challenge", &"00".repeat(32), "--tick", "200", "--blob", &blob]);
    assert_eq!(other.status.code(), Some(1));
}

#[test]
fn a_watched_proof_verifies_too() {
    let arguments =
        ["prove", "--challenge", CHALLENGE, "--ticks", "33000", "--chunk", "4000", "--json"];
    let proved = vdf(&arguments);
    let value = json(&proved);
    assert_eq!(value["tick"], 33_000);
    assert!(value["ticks_per_second"].as_f64().unwrap() > 0.0);
    for line in err(&proved).lines() {
        assert!(line.contains(" of 33000 ticks, ") && line.contains("ticks/s"), "{line}");
    }
    let blob = value["blob"].as_str().unwrap();
    let judged = vdf(&["verify", "--challenge", CHALLENGE, "--tick", "33000", "--blob", blob]);
    assert!(judged.status.success(), "{}", out(&judged));
}

#[test]
fn what_cannot_be_read_exits_with_2_and_is_named() {
    let cases: [(&[&str], &str); 6] = [
        (&["verify", "--challenge", "ab", "--tick", "1", "--blob", ""], "--challenge has 1 bytes"),
        (&["verify", "--challenge", CHALLENGE, "--tick", "1", "--blob", "xy"], "--blob is not hex"),
        (&["verify", "--challenge", CHALLENGE, "--tick", "-", "--blob", ""], "--tick"),
        (&["prove", "--challenge", "zz", "--ticks", "1"], "--challenge is not hex"),
        (&["prove", "--challenge", CHALLENGE, "--ticks", "4294967296"], "--ticks"),
        (&["discriminant", "--challenge", CHALLENGE, "--bits", "12"], "a prime of 12 bits"),
    ];
    for (arguments, says) in cases {
        let output = vdf(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).contains(says), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "");
    }
}

#[test]
fn the_discriminant_is_the_networks() {
    let arguments = ["discriminant", "--challenge", CHALLENGE, "--bits", "256"];
    let expected = "-b89e6a96767c692007b51d262c9bf9b7c86c991a1a1e76e44b8025a7959563e7";
    assert_eq!(out(&vdf(&arguments)), expected);
    let value = json(&vdf(&[&arguments[..], &["--json"]].concat()));
    assert_eq!((&value["discriminant"], &value["bits"]), (&expected.into(), &256.into()));
}

#[test]
fn the_bench_measures_everything() {
    let value = json(&vdf(&["bench", "--seconds", "1", "--threads", "2", "--json"]));
    for name in [
        "squarings_per_second",
        "discriminant_seconds",
        "verify_seconds",
        "construct_one_thread_seconds",
        "construct_threads_seconds",
    ] {
        assert!(value[name].as_f64().unwrap() > 0.0, "{name} in {value}");
    }
    assert_eq!(value["construct_threads"], 2);
}
