//! Groups of `sampler.json`: the units here, the traces in [`crate::traces`].

use crate::report::{Group, Report, same};
use crate::source::{array, bits32, bytes, flag, get, list, text, uint, unhex};
use crate::traces;
use serde_json::Value;
use tensorpow_core::classify;
use tensorpow_core::context::Context;
use tensorpow_core::plain::{self, TopK};
use tensorpow_core::precision::Snap;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::sampler::Params;
use tensorpow_core::target::Target;
use tensorpow_core::units::{AdmissionNonce, Digest, Draw, HeaderHash, HeaderPrefix, Tick, WINDOW};

/// Members of the file that describe it.
const ABOUT: [&str; 3] = ["format", "source", "note"];

pub fn run(vectors: &Value, report: &mut Report) {
    for (name, value) in vectors.as_object().expect("the file is an object") {
        match name.as_str() {
            "units" => units(value, report),
            "traces" => traces::run(value, report),
            about if ABOUT.contains(&about) => {}
            unknown => report.unknown(unknown),
        }
    }
}

fn units(vectors: &Value, report: &mut Report) {
    for (name, value) in vectors.as_object().expect("units is an object") {
        let run: fn(&Value) -> Result<(), String> = match name.as_str() {
            "digest_to_u" => digest_to_u,
            "step_message" => step_message,
            "cdf_search" => cdf_search,
            "mask" => mask,
            "target_check" => target_check,
            "classify" => classify_window,
            "snap" => {
                report.group("units.snap", |group| snap(value, group));
                continue;
            }
            "rows" => {
                report.skipped(
                    "units.rows",
                    "a model of the reference's evicting pool; ours never evicts (sampler.md §7)",
                );
                continue;
            }
            unknown => {
                report.unknown(unknown);
                continue;
            }
        };
        report.group(&format!("units.{name}"), |group| {
            for (i, case) in value.as_array().expect("a list of cases").iter().enumerate() {
                group.case(i, run(case));
            }
        });
    }
}

/// A float given as `[decimal, bits]`.
pub fn float(v: &Value) -> f32 {
    f32::from_bits(bits32(v[1].as_str().expect("[decimal, bits]")))
}

/// A list of 8-digit bit patterns.
pub fn floats(v: &[Value]) -> Vec<f32> {
    v.iter().map(|b| f32::from_bits(bits32(b.as_str().expect("bits")))).collect()
}

/// A list of token ids.
pub fn ids(v: &[Value]) -> Vec<u32> {
    v.iter().map(|id| u32::try_from(id.as_u64().expect("id")).expect("u32 id")).collect()
}

fn digest_to_u(case: &Value) -> Result<(), String> {
    let draw = Draw::from_digest(&Digest::from_bytes(array(text(case, "digest"))));
    same("u", draw.get().to_bits(), float(get(case, "u")).to_bits())
}

fn step_message(case: &Value) -> Result<(), String> {
    let prefix = bytes(case, "header_prefix");
    let header = if prefix.is_empty() { bytes(case, "block_hash") } else { prefix };
    let vdf = bytes(case, "vdf");
    let context = Context::<WINDOW>::of_prompt(&ids(list(case, "context")));
    let precision = text(case, "precision").as_bytes();
    let nonce = case
        .get("nonce")
        .or_else(|| case.get("admission_nonce"))
        .and_then(Value::as_str)
        .map(|n| AdmissionNonce::from_bytes(array(n)));
    let step = u32::try_from(uint(case, "step")).expect("u32 step");
    let digest = StepHasher::new(&header, &vdf, Tick(uint(case, "tick"))).step(
        step,
        &context,
        precision,
        nonce.as_ref(),
    );
    let length = header.len() + vdf.len() + 8 + WINDOW * 8 + precision.len();
    let length = length + nonce.map_or(0, |_| AdmissionNonce::LEN);
    same("message_len", length as u64, uint(case, "message_len"))?;
    same("digest", digest, Digest::from_bytes(array(text(case, "digest"))))?;
    same("u", Draw::from_digest(&digest).get().to_bits(), float(get(case, "u")).to_bits())
}

/// The raw lower bound over a full list of edges; the first- and last-survivor rules are the
/// sampler's own and tested there.
fn cdf_search(case: &Value) -> Result<(), String> {
    let cdf = floats(list(case, "cdf"));
    let u = float(get(case, "u"));
    let index = cdf.partition_point(|edge| *edge < u);
    same("index", index as u64, uint(case, "index"))
}

fn mask(case: &Value) -> Result<(), String> {
    let params = Params {
        temperature: 1.0,
        top_k: u32::try_from(uint(case, "top_k")).expect("u32"),
        top_p: get(case, "top_p").as_f64().map_or_else(|| float(get(case, "top_p")), |p| p as f32),
    };
    let kept = plain::survivors(&floats(list(case, "logits")), params, TopK::Clamped);
    same("survivors", kept.into_iter().map(|s| s.0).collect(), ids(list(case, "survivors")))
}

fn target_check(case: &Value) -> Result<(), String> {
    let hash = HeaderHash::from_bytes(array(text(case, "hash_raw")));
    let target = Target::from_be_bytes(array(text(case, "target_be")));
    same("meets", target.is_met_by(&hash), flag(case, "meets"))
}

fn classify_window(case: &Value) -> Result<(), String> {
    let share = match text(case, "share_target") {
        "" => None,
        share => Some(Target::from_hex_padded(share).map_err(|e| e.to_string())?),
    };
    let target = Target::from_hex_padded(text(case, "target")).map_err(|e| e.to_string())?;
    let verdict = classify::judge(
        &HeaderPrefix::from_bytes(array(text(case, "header_prefix"))),
        &Digest::from_bytes(array(text(case, "digest"))),
        &target,
        share.as_ref(),
    );
    let raw = text(case, "header_hash_raw");
    same("header hash", &verdict.header_hash.as_bytes()[..], &unhex(raw)[..])?;
    let shown = verdict.header_hash.display().to_string();
    same("displayed", shown.as_str(), text(case, "header_hash_display"))?;
    same("is_solution", verdict.is_solution, flag(case, "is_solution"))?;
    same("is_share", verdict.is_share, flag(case, "is_share"))
}

fn snap(labels: &Value, group: &mut Group) {
    for (label, pairs) in labels.as_object().expect("labels") {
        let snap = Snap::for_label(label);
        for pair in pairs.as_array().expect("pairs") {
            let [input, output] = [0, 1].map(|i| bits32(pair[i].as_str().expect("bits")));
            let ours = snap.apply(f32::from_bits(input)).to_bits();
            let result = same(label, format!("{ours:08x}"), format!("{output:08x}"));
            group.case(format!("{label} {input:08x}"), result);
        }
    }
}
