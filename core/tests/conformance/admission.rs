//! The groups of `admission.json` that concern the nonce: carrier, messages, puzzle, grinder. The
//! groups of credited entropy are in another file.

mod carrier;
mod messages;
mod puzzle;
mod scheduler;

use crate::credit;
use crate::report::{Group, Report, same};
use crate::source::{array, get, list, text, uint, unhex};
use serde_json::Value;
use std::cell::RefCell;
use tensorpow_core::admission::{
    Block, LANES, MAX_CARRIER, MAX_DEPTH, MEMORY_BLOCKS, MEMORY_KIB, PuzzleParams, SALT, TIME_COST,
};
use tensorpow_core::context::Context;
use tensorpow_core::units::{AdmissionNonce, WINDOW};

type Case = fn(&Value) -> Result<(), String>;

/// Groups of the credited entropy.
const CREDIT: [&str; 8] =
    ["table", "q63", "mass", "mass_custom_atol", "credit", "b_cred", "tier", "evidence"];

pub fn run(vectors: &Value, report: &mut Report) {
    let groups = vectors.as_object().expect("admission.json is an object");
    for (name, group) in groups {
        let case: Case = match name.as_str() {
            "source" | "conventions" | "name" | "set" => continue,
            credit if CREDIT.contains(&credit) => continue,
            "constants" => constants,
            "carrier" => carrier::extracted,
            "merge" => carrier::merged,
            "step_message" => messages::step_message,
            "window" => messages::window,
            "prompt_commitment" => messages::commitment,
            "admission_message" => messages::admission_message,
            "argon2id_raw" => puzzle::argon2id_raw,
            "target" => puzzle::targets,
            "target_custom_params" => puzzle::custom_params,
            "validity" => puzzle::validity,
            "grind" => puzzle::grind,
            "scheduler" => scheduler::scheduler,
            unknown => {
                report.unknown(unknown);
                continue;
            }
        };
        let one = std::slice::from_ref(group);
        let cases = group.as_array().map_or(one, Vec::as_slice);
        let (cases, left_out): (Vec<_>, Vec<_>) =
            cases.iter().partition(|v| not_ours(name, v).is_none());
        for vector in left_out {
            let why = not_ours(name, vector).unwrap_or_default();
            report.skipped(&format!("{name}.{}", text(vector, "name")), why);
        }
        report.group(name, |counter: &mut Group| {
            for (number, vector) in cases.into_iter().enumerate() {
                let label = vector.get("name").and_then(Value::as_str).unwrap_or_default();
                counter.case(format!("{number} {label}"), case(vector));
            }
        });
    }
    credit::run(vectors, report);
}

/// Why a case is left out, if it is.
fn not_ours(group: &str, v: &Value) -> Option<&'static str> {
    if group == "scheduler" { scheduler::not_ours(v) } else { None }
}

/// Runs every comparison of a case in turn; the first difference is the answer.
fn all<const N: usize>(results: [Result<(), String>; N]) -> Result<(), String> {
    results.into_iter().collect()
}

/// A decimal string.
fn decimal<T: std::str::FromStr<Err: std::fmt::Display>>(v: &Value, key: &str) -> T {
    text(v, key).parse().unwrap_or_else(|e| panic!("{key}: {e}"))
}

/// Member `key` as a list of token ids.
fn tokens(v: &Value, key: &str) -> Vec<u32> {
    let token = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok()).expect("a token");
    list(v, key).iter().map(token).collect()
}

fn nonce(digits: &str) -> AdmissionNonce {
    AdmissionNonce::from_bytes(array(digits))
}

/// The context that a window of the network has before these tokens' successor.
fn context(tokens: &[u32]) -> Context {
    Context::of_prompt(tokens)
}

/// Runs with the memory of a try, which is allocated once.
fn with_memory<T>(work: impl FnOnce(&mut [Block]) -> T) -> T {
    thread_local! {
        static MEMORY: RefCell<Vec<Block>> = RefCell::new(vec![Block::default(); MEMORY_BLOCKS]);
    }
    MEMORY.with(|memory| work(&mut memory.borrow_mut()))
}

/// The constants that concern the nonce; those of the credit are tested with it.
fn constants(v: &Value) -> Result<(), String> {
    let number = |key| usize::try_from(uint(v, key)).expect("a small number");
    let params = PuzzleParams::NETWORK;
    all([
        same("window", WINDOW, number("POW_WINDOW_SIZE")),
        same("nonce", AdmissionNonce::LEN, number("ADMISSION_NONCE_BYTES")),
        same("carrier bytes", MAX_CARRIER, number("EXTRA_FLAGS_MAX_BYTES")),
        same("carrier depth", usize::from(MAX_DEPTH), number("EXTRA_FLAGS_MAX_DEPTH")),
        same("alpha numerator", params.alpha_num, uint(v, "ELIG_ALPHA_NUM")),
        same("alpha denominator", params.alpha_den, uint(v, "ELIG_ALPHA_DEN")),
        same("decoding time", params.decode_us, uint(v, "DECODE_US_AT_NORMALIZER")),
        same("time of a try", params.argon_ref_us, uint(v, "ARGON_REF_US")),
        same("normalizer", params.normalizer, uint(v, "MODEL_DIFFICULTY_NORMALIZER")),
        same("passes", u64::from(TIME_COST), uint(v, "ARGON2_TIME_COST")),
        same("memory", u64::from(MEMORY_KIB), uint(v, "ARGON2_MEMORY_KIB")),
        same("lanes", u64::from(LANES), uint(v, "ARGON2_LANES")),
        same("digest", 32, uint(v, "ARGON2_HASH_LEN")),
        same("salt", &SALT[..], text(v, "ARGON2_SALT").as_bytes()),
    ])
}

/// Member `key` as bytes, or none for null.
fn optional_bytes(v: &Value, key: &str) -> Option<Vec<u8>> {
    get(v, key).as_str().map(unhex)
}
