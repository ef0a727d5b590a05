//! The groups of `vdf.json`: hash to prime, the partial gcd of the encoding, forms and their
//! bytes, class group arithmetic, proofs and the node's verdicts on whole and damaged ones.

use crate::report::{Group, Report, same};
use crate::source::{array, bytes, flag, get, list, text, uint, unhex};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::{
    Discriminant, Form, Integer, fiat_shamir_prime, hash_prime, magnitude_from_challenge,
    partial_gcd, prover, verify, verify_from, verify_proof, verify_with,
};

type Case = fn(&Value) -> Result<(), String>;

pub fn run(vectors: &Value, report: &mut Report) {
    for (name, group) in vectors.as_object().expect("vdf.json is an object") {
        let case: Case = match name.as_str() {
            "source" | "encoding" => continue,
            "discriminants" => discriminants,
            "hash_prime_264" => hash_prime_264,
            "partial_xgcd" => partial_xgcd,
            "forms" => forms,
            "reduce" => reduce,
            "compose" => compose,
            "square" => square,
            "overshoot" => overshoot,
            "proofs" => proofs,
            "n_wesolowski" => n_wesolowski,
            "node_cases" => node_cases,
            "deserialize" => deserialize,
            "streaming" => streaming,
            unknown => {
                report.unknown(unknown);
                continue;
            }
        };
        let cases = group.as_array().map_or_else(|| std::slice::from_ref(group), Vec::as_slice);
        report.group(name, |counter: &mut Group| {
            for (number, vector) in cases.iter().enumerate() {
                counter.case(number, case(vector));
            }
        });
    }
}

/// Hex digits, most significant first, with an optional minus.
fn integer(text: &str) -> Integer {
    let digits = text.trim_start_matches('-');
    let even = if digits.len() % 2 == 0 { digits.to_owned() } else { format!("0{digits}") };
    let magnitude = Integer::from_be_bytes(&unhex(&even)).expect("fits an integer");
    if text.starts_with('-') { -magnitude } else { magnitude }
}

fn number(v: &Value, key: &str) -> Integer {
    integer(text(v, key))
}

fn numbers(v: &Value, key: &str) -> Vec<Integer> {
    list(v, key).iter().map(|n| integer(n.as_str().expect("a hex number"))).collect()
}

fn u32_of(v: &Value, key: &str) -> u32 {
    u32::try_from(uint(v, key)).unwrap_or_else(|e| panic!("{key}: {e}"))
}

fn discriminant(v: &Value) -> Discriminant {
    Discriminant::from_value(&number(v, "D")).expect("D is a discriminant")
}

/// Deriving a discriminant is slow without optimisation and the vectors repeat their challenges.
fn derived(challenge: &[u8], bits: u32) -> Discriminant {
    type Known = HashMap<(Vec<u8>, u32), Discriminant>;
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    let mut known = KNOWN.lock().expect("one thread");
    *known.get_or_insert_default().entry((challenge.to_vec(), bits)).or_insert_with(|| {
        Discriminant::from_challenge(challenge, bits).expect("the vectors' challenges serve")
    })
}

fn form(v: &Value, key: &str, d: &Discriminant) -> Form {
    let numbers = numbers(v, key);
    Form::from_ab(&numbers[0], &numbers[1], d).expect("the vectors' forms exist")
}

fn coefficients(form: &Form) -> Vec<Integer> {
    vec![*form.a(), *form.b(), *form.c()]
}

/// Runs every comparison of a case in turn; the first difference is the answer.
fn all<const N: usize>(results: [Result<(), String>; N]) -> Result<(), String> {
    results.into_iter().collect()
}

fn discriminants(v: &Value) -> Result<(), String> {
    let (challenge, bits) = (bytes(v, "challenge"), u32_of(v, "bits"));
    let magnitude = magnitude_from_challenge(&challenge, bits).map_err(|e| e.to_string())?;
    same("D", -magnitude, number(v, "D"))?;
    let usable = Discriminant::from_challenge(&challenge, bits).map(|d| d.value());
    same("usable up to 1024 bits", usable.is_ok(), bits <= 1024)?;
    usable.map_or(Ok(()), |d| same("discriminant", d, number(v, "D")))
}

fn hash_prime_264(v: &Value) -> Result<(), String> {
    let set: Vec<u32> =
        list(v, "set_bits").iter().map(|bit| bit.as_u64().expect("a bit") as u32).collect();
    let prime =
        hash_prime(&bytes(v, "seed"), u32_of(v, "bits"), &set).map_err(|e| e.to_string())?;
    same("prime", prime, number(v, "prime"))
}

fn partial_xgcd(v: &Value) -> Result<(), String> {
    let ours = partial_gcd(&number(v, "r2"), &number(v, "r1"), &number(v, "L"));
    all([
        same("C2", ours.c2, number(v, "out_co2")),
        same("C1", ours.c1, number(v, "out_co1")),
        same("r2", ours.r2, number(v, "out_r2")),
        same("r1", ours.r1, number(v, "out_r1")),
    ])
}

fn forms(v: &Value) -> Result<(), String> {
    let d = discriminant(v);
    let given = [number(v, "a"), number(v, "b"), number(v, "c")];
    let form = Form::from_ab(&given[0], &given[1], &d).map_err(|e| e.to_string())?;
    let encoded = form.encode(&d).map_err(|e| e.to_string())?;
    let decoded = Form::decode(&bytes(v, "bytes"), &d).map_err(|e| e.to_string())?;
    all([
        same("reduced", coefficients(&form), given.to_vec()),
        same("bytes", hex::encode(encoded).as_str(), text(v, "bytes")),
        same("decoded", coefficients(&decoded), given.to_vec()),
        match v.get("plain_euclid_would_give").and_then(Value::as_str) {
            Some(wrong) => {
                same("wrong bytes accepted", Form::decode(&unhex(wrong), &d).is_ok(), false)
            }
            None => Ok(()),
        },
    ])
}

fn reduce(v: &Value) -> Result<(), String> {
    let given = numbers(v, "in");
    let reduced = Form::reduce(&given[0], &given[1], &given[2]).map_err(|e| e.to_string())?;
    same("reduced", coefficients(&reduced), numbers(v, "out"))
}

fn compose(v: &Value) -> Result<(), String> {
    let d = discriminant(v);
    let (f, g) = (form(v, "f", &d), form(v, "g", &d));
    let expected = numbers(v, "fg");
    all([
        same("product", coefficients(&f.compose(&g, &d)), expected.clone()),
        same("swapped", coefficients(&g.compose(&f, &d)), expected.clone()),
        same("textbook", coefficients(&f.compose_plain(&g, &d)), expected),
    ])
}

fn square(v: &Value) -> Result<(), String> {
    let d = discriminant(v);
    let (mut fast, mut plain) = (form(v, "f", &d), form(v, "f", &d));
    for step in 0..uint(v, "n") {
        fast = fast.square(&d);
        if step < 50 {
            plain = plain.compose_plain(&plain, &d);
            same("textbook", plain, fast)?;
        }
    }
    same("square", coefficients(&fast), numbers(v, "out"))
}

/// The counts at which the output's encoding differs from what plain Euclid would give, found by
/// comparing the partial gcd with one that stops at the first remainder below the root.
fn overshoot(v: &Value) -> Result<(), String> {
    let d = derived(&bytes(v, "challenge"), u32_of(v, "bits"));
    let mut y = Form::generator(&d);
    let mut found = Vec::new();
    for count in 1..=uint(v, "scanned_up_to") {
        y = y.square(&d);
        let root = y.a().square_root();
        let partial = partial_gcd(y.a(), &y.b().abs(), &root);
        // An overshot pair has both remainders at or below the root.
        if partial.r2 <= root && y.b().abs() > root {
            found.push(count);
        }
    }
    let expected: Vec<u64> = list(v, "iterations_where_y_overshoots")
        .iter()
        .map(|n| n.as_u64().expect("a count"))
        .collect();
    same("counts", found, expected)
}

fn proofs(v: &Value) -> Result<(), String> {
    let (challenge, bits) = (bytes(v, "challenge"), u32_of(v, "bits"));
    let (blob, tick) = (bytes(v, "proof"), uint(v, "iterations"));
    let d = derived(&challenge, bits);
    let (y, pi) = (form(v, "y_form", &d), form(v, "pi_form", &d));
    let prime = fiat_shamir_prime(&Form::generator(&d), &y, &d).map_err(|e| format!("{e:?}"))?;
    let verdict = match (bits, flag(v, "node_verify")) {
        (1024, true) => verify(&BlockHash::from_bytes(array(text(v, "challenge"))), tick, &blob),
        _ => verify_with(&challenge, bits, 0, tick, &blob),
    };
    let encoded = |form: &Form| form.encode(&d).map(hex::encode).map_err(|e| e.to_string());
    all([
        same("verdict", verdict.is_ok(), flag(v, "node_verify")),
        same("known discriminant", verify_proof(&d, tick, &blob), verdict),
        same("y", encoded(&y)?.as_str(), text(v, "y")),
        same("pi", encoded(&pi)?.as_str(), text(v, "pi")),
        same("B", prime, number(v, "B")),
        same("y and pi", format!("{}{}", text(v, "y"), text(v, "pi")).as_str(), text(v, "proof")),
        same(
            "our proof",
            hex::encode(prover::prove(&d, tick).map_err(|e| e.to_string())?).as_str(),
            text(v, "proof"),
        ),
    ])
}

fn n_wesolowski(v: &Value) -> Result<(), String> {
    let d = derived(&bytes(v, "challenge"), u32_of(v, "bits"));
    let verdict = verify_from(
        &d,
        &bytes(v, "x"),
        u32_of(v, "depth"),
        uint(v, "iterations"),
        &bytes(v, "proof"),
    );
    same(text(v, "kind"), verdict.is_ok(), text(v, "result") == "true")
}

fn node_cases(v: &Value) -> Result<(), String> {
    let (challenge, bits, depth) =
        (bytes(v, "challenge"), u32_of(v, "bits"), u32_of(v, "recursion"));
    let (tick, blob) = (uint(v, "tick"), bytes(v, "proof"));
    let verdict = verify_with(&challenge, bits, depth, tick, &blob);
    same(text(v, "kind"), verdict.is_ok(), flag(v, "node_verify"))?;
    match (challenge.try_into(), bits, depth) {
        (Ok(hash), 1024, 0) => {
            same("block", verify(&BlockHash::from_bytes(hash), tick, &blob), verdict)
        }
        _ => Ok(()),
    }
}

fn deserialize(v: &Value) -> Result<(), String> {
    let d = discriminant(v);
    let given = bytes(v, "bytes");
    match Form::decode(&given, &d) {
        Err(_) => same("accepted", false, flag(v, "accepted")),
        Ok(form) => {
            let again = form.encode(&d).map_err(|e| e.to_string())?;
            all([
                same("accepted", true, flag(v, "accepted")),
                same("form", coefficients(&form), numbers(v, "form")),
                same("canonical", again[..] == given, flag(v, "canonical")),
            ])
        }
    }
}

/// Which counts appear is timing; that each proof is the one-shot proof of its count is not.
fn streaming(v: &Value) -> Result<(), String> {
    let d = derived(&bytes(v, "challenge"), 1024);
    let step = uint(v, "checkpoint_n");
    for snapshot in list(v, "snapshots") {
        let tick = uint(snapshot, "iterations");
        if tick == 0 {
            same("no proof yet", text(snapshot, "blob"), "")?;
            continue;
        }
        let ours = prover::prove(&d, tick).map_err(|e| e.to_string())?;
        all([
            same("multiple", tick % step == 0 || tick == uint(v, "max_iters"), true),
            same("blob", hex::encode(ours).as_str(), text(snapshot, "blob")),
            same(
                "verifies",
                verify_proof(&d, tick, &ours).is_ok(),
                flag(snapshot, "verify_from_hash"),
            ),
        ])?;
    }
    get(v, "final_iterations").as_u64().map_or(Err("no final count".into()), |_| Ok(()))
}
