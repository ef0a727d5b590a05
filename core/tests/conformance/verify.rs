//! Groups of `verify.json`: every case through the node's quick verification, with the real VDF
//! check. What only the verification service says is compared in the one direction that can be:
//! see [`service`].

mod mutations;
mod proofs;
mod service;

use crate::report::{Group, Report, same};
use crate::source::{array, bits32, bytes, flag, get, list, text, uint};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;
use tensorpow_core::proof::Proof;
use tensorpow_core::units::{BlockHash, Digest, Draw};
use tensorpow_core::vdf;
use tensorpow_core::verify::{
    Chain, Context, Observer, Params, Registry, Report as Judged, Step, Vdf, Verdict, Workspace,
    consensus_v2_observed, final_hash_only, quick_observed,
};

/// Members of the file that describe it.
const ABOUT: [&str; 5] = ["source", "encoding", "mutation_ops", "entries", "check"];

pub fn run(vectors: &Value, report: &mut Report) {
    let bases = proofs::bases(get(vectors, "bases"));
    let mut bench = Bench::default();
    for (name, group) in vectors.as_object().expect("verify.json is an object") {
        match name.as_str() {
            about if ABOUT.contains(&about) => {}
            "digest_to_u" => cases(name, group, report, |_, case| digest_to_u(case)),
            "bases" => report.group(name, |counter| {
                for (label, base) in group.as_object().expect("bases") {
                    counter.case(label, bench.base(&bases[label], base));
                }
            }),
            "cases" => {
                cases(name, group, report, |_, case| bench.case(&case.proof(&bases), case));
                service::quick(group, &bases, &mut bench, report);
            }
            "must_reject" => {
                cases(name, group, report, |_, case| bench.must_reject(&case.proof(&bases)));
            }
            "service_cases" => service::cases(group, &bases, &mut bench, report),
            unknown => report.unknown(unknown),
        }
    }
}

/// Runs every element of a list as a case.
fn cases(
    name: &str,
    group: &Value,
    report: &mut Report,
    mut run: impl FnMut(usize, &Value) -> Result<(), String>,
) {
    report.group(name, |counter: &mut Group| {
        for (number, case) in group.as_array().expect("a list of cases").iter().enumerate() {
            let id = case.get("id").and_then(Value::as_str).unwrap_or_default();
            counter.case(format!("{number} {id}"), run(number, case));
        }
    });
}

/// A case that changes a base proof.
trait Changed {
    fn proof(&self, bases: &HashMap<String, Proof>) -> Proof;
}

impl Changed for Value {
    fn proof(&self, bases: &HashMap<String, Proof>) -> Proof {
        let mut proof = bases[text(self, "base")].clone();
        for mutation in list(self, "mutations") {
            mutations::apply(&mut proof, mutation);
        }
        proof
    }
}

fn digest_to_u(case: &Value) -> Result<(), String> {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&array::<4>(text(case, "digest_first4")));
    let u = Draw::from_digest(&Digest::from_bytes(digest)).get();
    same("u", u.to_bits(), bits32(text(get(case, "u"), "f32")))
}

/// What all cases share: the scratch, and the answers on VDF proofs, few of which differ.
#[derive(Default)]
struct Bench {
    workspace: Workspace,
    vdf: RefCell<HashMap<Asked, bool>>,
}

/// Challenge, tick and blob.
type Asked = (BlockHash, u64, Vec<u8>);

/// Keeps all steps that were judged.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Observer for Steps {
    fn step(&mut self, step: &Step) {
        self.0.push(*step);
    }
}

impl Steps {
    /// SHA-256 of all lower bounds, then all upper bounds.
    fn bounds_sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.0.iter().for_each(|step| hash.update(step.interval.lower.to_le_bytes()));
        self.0.iter().for_each(|step| hash.update(step.interval.upper.to_le_bytes()));
        hex::encode(hash.finalize())
    }
}

impl Bench {
    /// Judges with the context of a case, under the entry named.
    fn judge(&mut self, proof: &Proof, context: &Value, entry: &str) -> (Judged, Steps) {
        let vdf = |challenge: &BlockHash, tick: u64, blob: &[u8]| {
            let key = (*challenge, tick, blob.to_vec());
            let verify = || vdf::verify(challenge, tick, blob).is_ok();
            Some(*self.vdf.borrow_mut().entry(key).or_insert_with(verify))
        };
        let chain = chain(context);
        let context = Context { chain, registry: registry(context), vdf: Vdf::Ask(&vdf) };
        let proof = proof.as_ref();
        let mut scratch = self.workspace.scratch(&proof, chain.as_ref());
        let mut steps = Steps::default();
        let judged = match entry {
            "quick" => quick_observed(&proof, &context, &mut scratch, &mut steps),
            "consensus_v2" => consensus_v2_observed(&proof, &context, &mut scratch, &mut steps),
            "final_hash_only" => final_hash_only(&proof, &context),
            unknown => panic!("unknown entry {unknown}"),
        };
        (judged.expect("a verdict"), steps)
    }

    fn case(&mut self, proof: &Proof, case: &Value) -> Result<(), String> {
        let entry = text(case, "entry");
        let (judged, steps) = self.judge(proof, get(case, "context"), entry);
        let wanted = get(case, "node");
        let verdict = match (entry, judged.verdict()) {
            ("quick", verdict) => verdict.as_str(),
            (_, Verdict::Ok) => "pass",
            (_, _) => "fail",
        };
        let check = judged.failure.map(|failure| failure.check.id());
        same("check", check, get(wanted, "check").as_str())?;
        same("verdict", verdict, text(wanted, "verdict"))?;
        for key in wanted.as_object().expect("an object").keys() {
            match key.as_str() {
                "verdict" | "check" => Ok(()),
                "step" => {
                    let step = judged.failure.and_then(|failure| failure.step).map(u64::from);
                    same("step", step, Some(uint(wanted, key)))
                }
                "bounds_sha256" => same(key, steps.bounds_sha256().as_str(), text(wanted, key)),
                "steps_evaluated" => same(key, u64::from(judged.steps), uint(wanted, key)),
                "b_cred_units" => same(key, judged.credit.node().0, uint(wanted, key)),
                "reuse_score_q32" => same(key, judged.reuse_score, uint(wanted, key)),
                "lower" | "upper" | "u" => {
                    let step = steps.0.last().ok_or("no step was judged")?;
                    let ours = match key.as_str() {
                        "lower" => step.interval.lower,
                        "upper" => step.interval.upper,
                        _ => step.draw,
                    };
                    same(key, ours.to_bits(), bits32(text(get(wanted, key), "f32")))
                }
                unknown => Err(format!("unknown member {unknown}")),
            }?;
        }
        Ok(())
    }

    /// The draws and bounds of a base proof, step by step; none for those made to fail before.
    fn base(&mut self, proof: &Proof, base: &Value) -> Result<(), String> {
        // Without header test, tier and gates every base gets as far as its bounds; those with a
        // nonce only where version 3 is active, those without its profile only where it is not.
        let proof = Proof { version: proof.version.max(2), ..proof.clone() };
        let active = serde_json::json!({
            "chain_context": true, "height": 5, "v3_activation_height": 5, "enforced_window": 0,
            "b_floor_bits": 0, "b_free_bits": 0, "registered_difficulty": 1_000_000_000,
            "model_db": "absent",
        });
        let inactive = serde_json::json!({"chain_context": false, "model_db": "absent"});
        let wanted = ["u", "lower", "upper"].map(|key| bytes(get(base, key), "f32le"));
        let (_, mut steps) = self.judge(&proof, &active, "consensus_v2");
        if steps.0.is_empty() {
            steps = self.judge(&proof, &inactive, "consensus_v2").1;
        }
        let ours = |of: fn(&Step) -> f32| -> Vec<u8> {
            steps.0.iter().flat_map(|step| of(step).to_le_bytes()).collect()
        };
        let ours = [ours(|s| s.draw), ours(|s| s.interval.lower), ours(|s| s.interval.upper)];
        for (what, (ours, wanted)) in ["u", "lower", "upper"].iter().zip(ours.iter().zip(&wanted)) {
            if !wanted.is_empty() {
                same(what, hex::encode(ours), hex::encode(wanted))?;
            }
        }
        Ok(())
    }

    fn must_reject(&mut self, proof: &Proof) -> Result<(), String> {
        let context = serde_json::json!({"chain_context": false, "model_db": "absent"});
        let (judged, _) = self.judge(proof, &context, "quick");
        judged.failure.map(|_| ()).ok_or_else(|| "was accepted".to_owned())
    }
}

/// The chain of a context, if it has one.
fn chain(context: &Value) -> Option<Chain> {
    let integer = |key| get(context, key).as_i64().expect("an integer");
    let height = |key| get(context, key).as_i64().and_then(|height| u32::try_from(height).ok());
    flag(context, "chain_context").then(|| {
        let params = Params {
            v3_height: height("v3_activation_height"),
            window: height("enforced_window").filter(|window| *window > 0),
            floor_bits: u32::try_from(integer("b_floor_bits")).expect("bits"),
            free_bits: u32::try_from(integer("b_free_bits")).expect("bits"),
            ..Params::REGTEST
        };
        Chain { params, height: height("height"), difficulty: integer("registered_difficulty") }
    })
}

fn registry(context: &Value) -> Registry {
    match text(context, "model_db") {
        "absent" => Registry::Absent,
        "present, model unknown" => Registry::Unknown,
        registered => {
            let difficulty = registered.strip_prefix("model registered with difficulty ");
            let difficulty = difficulty.and_then(|digits| digits.parse().ok());
            Registry::Registered(difficulty.unwrap_or_else(|| panic!("model_db {registered}")))
        }
    }
}
