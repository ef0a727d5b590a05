//! Conformance: runs the groups of `proxy-examples.json` (recordings of the reference proxy) and of
//! `frames.json` (recordings of the reference's broker worker) against this one and prints how many
//! cases ran per group. Where the specification replaces what the reference does, the replacement
//! stands in one table for each file, [`overrides`] and [`frames::overrides`].
//!
//! The files are looked for in every entry of `TENSORPOW_VECTORS` (separated like `PATH`): in the
//! folder itself, in a `spec` folder beside or under it, or the entry is the file. By default the
//! project's own copies are run. A group nobody knows fails loudly.

// Without the libtest harness Clippy does not see that these files are tests.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used, unreachable_pub)]

mod backfill;
mod collector;
mod engine;
mod environment;
mod examples;
mod frames;
mod http;
mod injection;
mod json;
mod overrides;
mod proof_cache;
mod pure;
mod registry;
#[path = "../../../core/tests/conformance/report.rs"]
mod report;
mod targets;
mod vdf_service;

use report::{Group, Report};
use serde_json::Value;
use std::process::ExitCode;

/// Runs one group: the whole file (for what groups share), the group, and the counter.
type Runner = fn(&Value, &Value, &mut Group);

const GROUPS: &[(&str, Runner)] = &[
    ("injection", injection::run),
    ("block_target", targets::block_target),
    ("share_target", targets::share_target),
    ("header_prefix_bits", targets::header_prefix_bits),
    ("normalize_model_identifier", targets::normalize_model_identifier),
    ("proof_cache", proof_cache::run),
    ("collector", collector::run),
    ("registry", registry::run),
    ("vdf_service", vdf_service::run),
    ("sampler_rebound_v2", pure::sampler_rebound_v2),
    ("sampler_rebound_v3", pure::sampler_rebound_v3),
    ("usage_from_json", pure::usage_from_json),
    ("usage_from_sse", pure::usage_from_sse),
    ("throughput", pure::throughput),
    ("dummy_id_to_req_id", pure::dummy_id_to_req_id),
    ("proof_cache", proof_cache::run),
    ("collector", collector::run),
    ("backfill", backfill::run),
    ("env", environment::run),
    ("http", http::run),
];

/// Members that are no groups: provenance, and what other groups refer to.
const NO_GROUPS: &[&str] =
    &["source", "conventions", "registry_default", "env_default", "http_env"];

/// Groups that are read but not compared, with the reason.
const INFORMATIVE: &[(&str, &str)] =
    &[("priority", "informative: the specification replaces its rules (14.4)")];

fn main() -> ExitCode {
    let mut report = Report::default();
    for (place, file, examples) in examples::all(&mut report) {
        report.file(&place, file);
        let (groups, skipped, others) = match file {
            "frames.json" => (frames::GROUPS, frames::SKIPPED, frames::NO_GROUPS),
            _ => (GROUPS, INFORMATIVE, NO_GROUPS),
        };
        for (name, cases) in examples.as_object().expect("the file holds an object") {
            if let Some((name, runner)) = groups.iter().find(|(known, _)| known == name) {
                report.group(name, |group| runner(&examples, cases, group));
            } else if let Some((name, why)) = skipped.iter().find(|(known, _)| known == name) {
                report.skipped(name, why);
            } else if !others.contains(&name.as_str()) {
                report.unknown(name);
            }
        }
    }
    report.finish()
}
