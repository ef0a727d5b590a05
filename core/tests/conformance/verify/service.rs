//! Verdicts of the verification service alone: another program, in f32, without the node's checks
//! on target and lists. The core does not imitate it. What must hold is that the self-check, which
//! stands before everything we send, is stricter than both: what it passes, the service passes.

use super::{Bench, Changed, chain, registry};
use crate::report::Report;
use crate::source::{get, text};
use serde_json::Value;
use std::collections::HashMap;
use tensorpow_core::proof::Proof;
use tensorpow_core::selfcheck::{Expected, Purpose, Unsent, selfcheck};
use tensorpow_core::target::Target;
use tensorpow_core::verify::{Chain, Registry, Vdf};

/// How a group of the service's verdicts divides.
#[derive(Default)]
struct Tally {
    /// The self-check passes, and so does the service.
    both: usize,
    /// The self-check refuses, whatever the service says: nothing to compare.
    refused: usize,
}

impl Tally {
    fn report(&self, name: &str, report: &mut Report) {
        report.skipped(
            &format!("{name}, {} cases", self.refused),
            "verdicts of the service on proofs our self-check never sends",
        );
    }
}

/// The `python` verdicts beside the node's.
pub fn quick(
    group: &Value,
    bases: &HashMap<String, Proof>,
    bench: &mut Bench,
    report: &mut Report,
) {
    let mut tally = Tally::default();
    report.group("cases, sent implies service OK", |counter| {
        for case in group.as_array().expect("a list of cases") {
            let Some(python) = case.get("python") else { continue };
            let context = get(case, "context");
            let expected = Expected {
                header_prefix: None,
                chain: chain(context).unwrap_or(Chain::assumed(false, 0)),
                registry: registry(context),
                vdf: Vdf::Skip,
            };
            let ours = bench.selfcheck(&case.proof(bases), &expected, Purpose::Solution);
            if ours.is_err() {
                tally.refused += 1;
                continue;
            }
            tally.both += 1;
            counter.case(text(case, "id"), accepted(text(python, "verdict"), "Quick_OK"));
        }
        counter.case("some cases are comparable", some(&tally));
    });
    tally.report("cases.python", report);
}

/// `service_cases`: audits, share targets, the request's difficulty.
pub fn cases(
    group: &Value,
    bases: &HashMap<String, Proof>,
    bench: &mut Bench,
    report: &mut Report,
) {
    let mut tally = Tally::default();
    report.group("service_cases, sent implies OK", |counter| {
        for case in group.as_array().expect("a list of cases") {
            let proof = case.proof(bases);
            let share = case.get("target_override").and_then(Value::as_str).map(|hex| {
                let digits = hex.trim();
                let digits = digits.strip_prefix("0x").unwrap_or(digits);
                Target::from_hex_padded(digits).expect("a target")
            });
            let (purpose, wanted) = match (text(case, "tier"), &share) {
                ("logits", _) => (Purpose::Audit, "Logits_OK"),
                ("quick", Some(share)) => (Purpose::Share(share), "Quick_OK"),
                ("quick", None) => (Purpose::Solution, "Quick_OK"),
                (unknown, _) => panic!("unknown tier {unknown}"),
            };
            // The request's difficulty is both the signal that version 3 is active and the
            // puzzle's input.
            let difficulty = case.get("request_difficulty").and_then(Value::as_i64).unwrap_or(0);
            let expected = Expected {
                header_prefix: None,
                chain: Chain::assumed(difficulty > 0, difficulty),
                registry: Registry::Absent,
                vdf: Vdf::Skip,
            };
            if bench.selfcheck(&proof, &expected, purpose).is_err() {
                tally.refused += 1;
                continue;
            }
            tally.both += 1;
            counter.case(text(case, "id"), accepted(text(case, "verdict"), wanted));
        }
        counter.case("some cases are comparable", some(&tally));
    });
    tally.report("service_cases", report);
}

fn accepted(verdict: &str, wanted: &str) -> Result<(), String> {
    match verdict == wanted {
        true => Ok(()),
        false => Err(format!("we would send it, the service says {verdict}")),
    }
}

/// The comparison must not be empty.
fn some(tally: &Tally) -> Result<(), String> {
    if tally.both > 0 { Ok(()) } else { Err("the self-check refuses every proof".to_owned()) }
}

impl Bench {
    fn selfcheck(
        &mut self,
        proof: &Proof,
        expected: &Expected<'_>,
        purpose: Purpose<'_>,
    ) -> Result<(), Unsent> {
        let proof = proof.as_ref();
        let mut scratch = self.workspace.scratch(&proof, Some(&expected.chain));
        selfcheck(&proof, expected, purpose, &mut scratch).map(drop)
    }
}
