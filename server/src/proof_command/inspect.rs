//! `tensorpow proof inspect`: what a proof claims, each check of the node with the value it saw, and
//! where every draw lies in its interval.

use super::input::{self, Form, Input};
use super::judge::{ChainArgs, Judgement, Unjudged};
use super::{Outcome, ProofCommandError, plot, print, print_json, progress};
use crate::report::{Line, claim, claims, reuse, text};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use tensorpow_core::archive;
use tensorpow_core::proof::{MiningResponseRef, canonical, commit};
use tensorpow_core::target::Target;
use tensorpow_core::verify::{Check, Detail, Workspace};

/// Flags of `proof inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// Proofs in any form; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    chain: ChainArgs,
    /// Show one line a step instead of one digit
    #[arg(long)]
    steps: bool,
    /// Draw the intervals and the draws to an SVG file; for one proof
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print one line of JSON a proof
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs) -> Result<Outcome, ProofCommandError> {
    if args.plot.is_some() && args.files.len() > 1 {
        return Err(ProofCommandError::Usage("--plot draws one proof; give one FILE"));
    }
    let mut workspace = Workspace::new();
    let mut outcome = Outcome::Good;
    for name in progress::over(&args.files) {
        let input = match input::read(name) {
            Ok(input) => input,
            Err(error) => {
                eprintln!("tensorpow: {}", ProofCommandError::input(name, error));
                outcome = Outcome::Unreadable;
                continue;
            }
        };
        let judged = args.chain.judge(&input.proof, &mut workspace);
        if args.json {
            print_json(&as_json(&input, &judged))?;
        } else {
            print(&report(&input, &judged, args))?;
        }
        if let (Some(path), Ok(judgement)) = (&args.plot, &judged) {
            let title = format!("u in its interval, {}", text(&input.proof.model_identifier));
            let picture = plot::svg(&judgement.steps, &title);
            let failed = |error| ProofCommandError::Output { path: path.clone(), error };
            std::fs::write(path, picture).map_err(failed)?;
        }
    }
    Ok(outcome)
}

type Judged = Result<Judgement, Unjudged>;

/// The claims of the proof, and of the message it came in.
fn all_claims(input: &Input) -> Vec<Line> {
    let proof = input.proof.as_ref();
    let mut lines = match &input.form {
        Form::MiningResponse(message) => {
            let message: MiningResponseRef<'_> = message.with(proof);
            let mut lines = claims(&proof, Some(&message));
            lines.push(claim("difficulty", message.difficulty));
            lines
        }
        Form::ValidationRequest { difficulty } => {
            let mut lines = claims(&proof, None);
            lines.push(claim("difficulty", difficulty));
            lines
        }
        Form::Flat | Form::Json | Form::Compact => claims(&proof, None),
    };
    lines.push(claim("window", format_args!("{} tokens", proof.chosen_tokens.len())));
    lines.push(claim("extra flags", text(proof.extra_flags)));
    if let Ok(commitment) = commit(&proof) {
        lines.push(claim("commitment", format_args!("{:x}", commitment.root)));
    }
    if let Ok(key) = archive::key(&proof) {
        lines.push(claim("BLAKE3 key", format_args!("{key:x}")));
    }
    lines
}

/// What the judgement computed.
fn figures(input: &Input, judgement: &Judgement, chain: &ChainArgs) -> Vec<Line> {
    let report = &judgement.verdict.report;
    let params = chain.network().params();
    let mut lines = Vec::new();
    if let Some(hash) = &report.header_hash {
        lines.push(claim("header hash", hash.display()));
        if let Ok(target) = input.proof.target.as_slice().try_into().map(Target::from_be_bytes) {
            let relation = if target.is_met_by(hash) { "met" } else { "missed" };
            lines.push(claim("target", format_args!("{target:x}, {relation}")));
        }
    }
    let steps = judgement.steps.len();
    let inside = judgement.steps.iter().filter(|step| step.interval.inside).count();
    lines.push(claim("u in interval", format_args!("{inside} of {steps} steps")));
    if let Some(margin) = report.least_margin {
        lines.push(claim("smallest margin", format_args!("{margin:.2e}")));
    }
    if !judgement.steps.is_empty() {
        let (credit, tier) = judgement.credited(&params);
        let value = format!(
            "{} units = {:.3} bits of {steps} steps, tier {tier} (floor {}, free {})",
            credit.0,
            credit.bits(),
            params.floor_bits,
            params.free_bits
        );
        lines.push(claim("credited", value));
    }
    if report.steps > 0 {
        let score = format!("{:.6} of at most 57.716742", reuse(report.reuse_score));
        lines.push(claim("reuse score", score));
    }
    if let Some(nonce) = &report.nonce {
        lines.push(claim("admission nonce", format_args!("{nonce:x}")));
    }
    lines
}

fn report(input: &Input, judged: &Judged, args: &InspectArgs) -> String {
    let mut out = String::new();
    let sizes = sizes(input);
    let _ = writeln!(out, "{}: {input}{sizes}\n", input.name);
    put_lines(&mut out, &all_claims(input));
    let judgement = match judged {
        Ok(judgement) => judgement,
        Err(error) => {
            let _ = writeln!(out, "\n  NOT JUDGED: {} {error}\n", input.name);
            return out;
        }
    };
    let _ = writeln!(out, "\n  judged for {}", args.chain.describe());
    for (check, detail) in &judgement.passed {
        put_check(&mut out, "ok  ", *check, detail);
    }
    if let Some(failure) = &judgement.verdict.report.failure {
        put_check(&mut out, "FAIL", failure.check, &failure.detail);
        if let Some(step) = failure.step {
            let _ = writeln!(out, "           at step {step}");
        }
        let _ = writeln!(out, "       the checks after it were not made");
    }
    if let Some(gate) = &judgement.verdict.gate {
        let _ = writeln!(out, "  FAIL {gate}");
    }
    out.push('\n');
    put_lines(&mut out, &figures(input, judgement, &args.chain));
    if args.steps {
        let _ = writeln!(out, "\n  step: the interval, and u in it (* inside, ! outside)");
        out.push_str(&plot::lines(&judgement.steps));
    } else if !judgement.steps.is_empty() {
        let _ = writeln!(out, "\n  step: u in tenths of its interval (! outside)");
        out.push_str(&plot::strip(&judgement.steps));
    }
    let verdict = if judgement.verdict.is_accepted() { "ACCEPTED" } else { "REJECTED" };
    let _ = writeln!(out, "\n  {verdict} ({})\n", judgement.verdict.report.verdict());
    out
}

/// Sizes of the forms that every proof has.
fn sizes(input: &Input) -> String {
    let proof = input.proof.as_ref();
    let canonical = canonical::canonical_len(&proof);
    match archive::encode(&proof) {
        Ok(compact) => format!("; canonical {canonical}, compact {}", compact.len()),
        Err(_) => format!("; canonical {canonical}"),
    }
}

fn put_lines(out: &mut String, lines: &[Line]) {
    for line in lines {
        let _ = writeln!(out, "  {:<18} {}", line.name, line.value);
    }
}

fn put_check(out: &mut String, mark: &str, check: Check, detail: &Detail) {
    let _ = write!(out, "  {mark} {} {}", check.id(), check.demand());
    let _ = match detail {
        Detail::None => writeln!(out),
        detail => writeln!(out, ": {detail}"),
    };
}

fn as_json(input: &Input, judged: &Judged) -> Value {
    let line = |line: &Line| (line.name.replace(' ', "_").to_lowercase(), json!(line.value));
    let claims: serde_json::Map<String, Value> = all_claims(input).iter().map(line).collect();
    let mut value = json!({
        "file": input.name,
        "form": input.to_string(),
        "claims": claims,
        "canonical_bytes": canonical::canonical_len(&input.proof.as_ref()),
    });
    let judgement = match judged {
        Ok(judgement) => judgement,
        Err(error) => {
            value["error"] = json!(error.to_string());
            return value;
        }
    };
    let report = &judgement.verdict.report;
    let passed = judgement.passed.iter().map(|(check, detail)| (*check, detail, true));
    let failed = report.failure.iter().map(|failure| (failure.check, &failure.detail, false));
    let checks: Vec<Value> = passed
        .chain(failed)
        .map(|(check, detail, passed)| {
            json!({
                "id": check.id(),
                "demand": check.demand(),
                "passed": passed,
                "detail": detail.to_string(),
            })
        })
        .collect();
    let steps: Vec<Value> = judgement
        .steps
        .iter()
        .map(|step| {
            json!({
                "step": step.j,
                "token": step.token,
                "u": step.draw,
                "lower": step.interval.lower,
                "upper": step.interval.upper,
                "inside": step.interval.inside,
            })
        })
        .collect();
    value["accepted"] = json!(judgement.verdict.is_accepted());
    value["verdict"] = json!(report.verdict().as_str());
    value["reason"] = json!(judgement.verdict.reason().map(ToString::to_string));
    value["checks"] = Value::Array(checks);
    value["credit_units"] = json!(report.credit.node().0);
    value["tier"] = json!(report.tier.map(|tier| tier.as_str()));
    value["reuse_score"] = json!(report.reuse_score);
    value["least_margin"] = json!(report.least_margin);
    value["header_hash"] = json!(report.header_hash.map(|hash| hash.display().to_string()));
    value["steps"] = Value::Array(steps);
    value
}
