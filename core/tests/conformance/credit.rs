//! The groups of `admission.json` that concern credited entropy, from the evidence row to the tier.

use crate::report::{Group, Report, same};
use crate::source::{bits32, flag, get, list, text, uint};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorpow_core::credit::{
    ATOL, Arithmetic, BCred, CreditUnits, MAX_STEP_UNITS, Q63, Tier, UNITS_PER_BIT, credit, mass,
    mass_widened, q63_ceil, q63_floor, threshold, tier,
};
use tensorpow_core::interval::{Recorded, Slot, interval};
use tensorpow_core::proof::Words;
use tensorpow_core::verify::Params;

type Case = fn(&Value) -> Result<(), String>;

/// The groups, and the constants among those of the file.
const GROUPS: [(&str, Case); 9] = [
    ("constants", constants),
    ("table", table),
    ("q63", q63),
    ("mass", masses),
    ("mass_custom_atol", masses),
    ("credit", credits),
    ("b_cred", b_cred),
    ("tier", tiers),
    ("evidence", evidence),
];

pub fn run(vectors: &Value, report: &mut Report) {
    for (name, case) in GROUPS {
        let Some(group) = vectors.get(name) else { continue };
        let one = std::slice::from_ref(group);
        let cases = group.as_array().map_or(one, Vec::as_slice);
        let shown = if name == "constants" { "constants of credit" } else { name };
        report.group(shown, |counter: &mut Group| {
            for (number, vector) in cases.iter().enumerate() {
                let label = vector.get("name").and_then(Value::as_str).unwrap_or_default();
                counter.case(format!("{number} {label}"), case(vector));
            }
        });
    }
}

fn constants(v: &Value) -> Result<(), String> {
    same("units per bit", u64::from(UNITS_PER_BIT), uint(v, "BCRED_R"))?;
    same("largest index", u64::from(MAX_STEP_UNITS), uint(v, "BCRED_N_MAX"))?;
    let limits = [Params::MAINNET.floor_bits, Params::MAINNET.free_bits];
    same("tiers", limits.map(u64::from), [uint(v, "B_FLOOR_BITS"), uint(v, "B_FREE_BITS")])?;
    let units = limits.map(|bits| CreditUnits::from_bits(bits).0);
    same("units", units, [uint(v, "B_FLOOR_UNITS"), uint(v, "B_FREE_UNITS")])?;
    same("widening", Some(ATOL), decimal(v, "ATOL_Q63_CEIL"))
}

fn table(v: &Value) -> Result<(), String> {
    let digest = |count| {
        let mut hash = Sha256::new();
        (0..count).for_each(|n| hash.update(threshold(n).to_le_bytes()));
        hex::encode(hash.finalize())
    };
    same("length", u64::from(MAX_STEP_UNITS + 1), uint(v, "len"))?;
    let [whole, base] = [MAX_STEP_UNITS + 1, UNITS_PER_BIT].map(digest);
    same("digest", whole.as_str(), text(v, "sha256_of_le_u64"))?;
    same("base digest", base.as_str(), text(v, "sha256_of_first_1024_le_u64"))?;
    list(v, "spots").iter().try_for_each(|spot| {
        let n = u32::try_from(uint(spot, "n")).expect("an index");
        same(&format!("T[{n}]"), Some(threshold(n)), decimal(spot, "value"))
    })
}

/// A decimal string, or null.
fn decimal(v: &Value, key: &str) -> Option<u64> {
    get(v, key).as_str().map(|digits| digits.parse().expect("a decimal number"))
}

/// A number or null.
fn number(v: &Value, key: &str) -> Option<u64> {
    get(v, key).as_u64()
}

fn double(bits: &str) -> f64 {
    f64::from_bits(u64::from_str_radix(bits, 16).expect("16 hex digits"))
}

/// Runs a case in both arithmetics: the node's own results stand beside the exact ones.
fn in_both(
    v: &Value,
    case: impl Fn(Arithmetic, &Value) -> Result<(), String>,
) -> Result<(), String> {
    case(Arithmetic::Exact, v)?;
    case(Arithmetic::Node, v.get("node_x86_64").unwrap_or(v)).map_err(|why| format!("node: {why}"))
}

fn q63(v: &Value) -> Result<(), String> {
    let x = double(text(get(v, "x"), "bits"));
    in_both(v, |arithmetic, wanted| {
        same("floor", Some(q63_floor(x, arithmetic).get()), decimal(wanted, "floor"))?;
        same("ceil", Some(q63_ceil(x, arithmetic).get()), decimal(wanted, "ceil"))
    })
}

fn masses(v: &Value) -> Result<(), String> {
    let [lower, upper] = ["lower", "upper"].map(|key| double(text(get(v, key), "bits")));
    let atol = v.get("atol_q63").map(|_| decimal(v, "atol_q63").expect("a number"));
    in_both(v, |arithmetic, wanted| {
        let ours = match atol {
            Some(atol) => mass_widened(lower, upper, atol, arithmetic),
            None => mass(lower, upper, arithmetic),
        };
        same("mass", ours.ok().map(Q63::get), decimal(wanted, "mass_q63"))?;
        let credited = ours.ok().and_then(credit).map(|units| units.0);
        same("credit", credited, number(wanted, "credit_units"))
    })
}

fn credits(v: &Value) -> Result<(), String> {
    let mass = Q63::saturating(decimal(v, "mass_q63").expect("a mass"));
    same("credit", credit(mass).map(|units| units.0), number(v, "credit_units"))
}

fn b_cred(v: &Value) -> Result<(), String> {
    let bounds = |side: &str| -> Vec<f64> {
        let single = |v: &Value| f64::from(f32::from_bits(bits32(v.as_str().expect("bits"))));
        let double = |v: &Value| double(v.as_str().expect("bits"));
        match v.get(format!("{side}_f32_bits")) {
            Some(list) => list.as_array().expect("a list").iter().map(single).collect(),
            None => list(v, &format!("{side}_f64_bits")).iter().map(double).collect(),
        }
    };
    let (lower, upper) = (bounds("lower"), bounds("upper"));
    let mut sum = BCred::default();
    // Lists of different lengths are no windows.
    let sums = (lower.len() == upper.len())
        .then(|| lower.iter().zip(&upper).try_for_each(|(lower, upper)| sum.add(*lower, *upper)))
        .is_some_and(|added| added.is_ok());
    in_both(v, |arithmetic, wanted| {
        let units = match arithmetic {
            Arithmetic::Exact => sum.exact(),
            Arithmetic::Node => sum.node(),
        };
        same("units", sums.then_some(units.0), number(wanted, "b_cred_units"))?;
        let [floor, free] =
            [Params::MAINNET.floor_bits, Params::MAINNET.free_bits].map(CreditUnits::from_bits);
        let ours = sums.then(|| name(tier(units, floor, free)));
        wanted.get("tier").map_or(Ok(()), |tier| same("tier", ours, tier.as_str()))
    })
}

fn tiers(v: &Value) -> Result<(), String> {
    let [units, floor, free] =
        ["units", "floor_units", "free_units"].map(|key| CreditUnits(uint(v, key)));
    same("tier", name(tier(units, floor, free)), text(v, "tier"))
}

/// The vectors' names of the tiers.
fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Invalid => "invalid",
        Tier::AdmissionRequired => "admission_required",
        Tier::Free => "free",
    }
}

fn evidence(v: &Value) -> Result<(), String> {
    let float = |v: &Value| f32::from_bits(bits32(v.as_str().expect("bits")));
    let logits: Vec<f32> = list(v, "topk_logits_bits").iter().map(float).collect();
    let id = |v: &Value| u32::try_from(v.as_u64().expect("an id")).expect("an id");
    let ids: Vec<u32> = list(v, "topk_indices").iter().map(id).collect();
    let profile = Recorded { temperature: 1.0, repetition_penalty: 1.0, top_k: 50, top_p: 1.0 };
    let draw = float(get(v, "u_bits"));
    let mut scratch = vec![Slot::default(); 2 * ids.len()];
    let (words, chosen) =
        ((Words::Floats(&logits), Words::Native(&ids)), id(get(v, "chosen_token")));
    let ours = interval(words.0, words.1, profile, chosen, draw, |_| false, &mut scratch);
    let ours = ours.map_err(|why| why.to_string())?;
    same("inside", ours.inside, flag(v, "in_bounds"))?;
    let [lower, upper] = ["lower", "upper"].map(|key| bits32(text(get(v, key), "bits")));
    same("lower", ours.lower.to_bits(), lower)?;
    same("upper", ours.upper.to_bits(), upper)?;
    in_both(v, |arithmetic, wanted| {
        let mass = mass(ours.lower.into(), ours.upper.into(), arithmetic).ok();
        same("mass", mass.map(Q63::get), decimal(wanted, "mass_q63"))?;
        let credited = mass.and_then(credit).map(|units| units.0);
        same("credit", credited, number(wanted, "credit_units"))
    })
}
