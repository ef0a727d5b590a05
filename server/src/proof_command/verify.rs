//! `tensorpow proof verify`: the node's verdict, as an exit code, a line, a table or JSON.

use super::input::{self, Input};
use super::judge::{ChainArgs, Judgement};
use super::{Outcome, ProofCommandError, print, print_json, progress};
use clap::Args;
use serde_json::json;
use tensorpow_core::verify::Workspace;

/// Flags of `proof verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Proofs in any form; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    chain: ChainArgs,
    /// Print one line of JSON a file
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &VerifyArgs) -> Result<Outcome, ProofCommandError> {
    let mut workspace = Workspace::new();
    let mut worst = Outcome::Good;
    let mut rows = Vec::new();
    for name in progress::over(&args.files) {
        let judged = judged(name, &args.chain, &mut workspace);
        worst = worst.max(match &judged {
            Ok((_, judgement)) if judgement.verdict.is_accepted() => Outcome::Good,
            Ok(_) => Outcome::Bad,
            Err(_) => Outcome::Unreadable,
        });
        if args.json {
            print_json(&as_json(name, &judged))?;
        } else if args.files.len() == 1 {
            print_one(&judged?)?;
        } else {
            if let Err(error) = &judged {
                eprintln!("tensorpow: {error}");
            }
            rows.push(row(name, &judged));
        }
    }
    if !rows.is_empty() {
        print(&table(&rows))?;
    }
    Ok(worst)
}

type Judged = Result<(Input, Judgement), ProofCommandError>;

fn judged(name: &str, chain: &ChainArgs, workspace: &mut Workspace) -> Judged {
    let input = input::read(name).map_err(|e| ProofCommandError::input(name, e))?;
    let judgement = chain.judge(&input.proof, workspace);
    let judgement = judgement.map_err(|e| ProofCommandError::input(name, e))?;
    Ok((input, judgement))
}

fn print_one((input, judgement): &(Input, Judgement)) -> Result<(), ProofCommandError> {
    let report = &judgement.verdict.report;
    let tier = report.tier.map_or_else(String::new, |tier| format!(", tier {tier}"));
    let credit = report.credit.node();
    let name = &input.name;
    let line = match judgement.verdict.reason().map(ToString::to_string) {
        None => format!(
            "{name}: accepted: {}, {} credit units ({:.3} bits){tier}\n",
            report.verdict(),
            credit.0,
            credit.bits()
        ),
        Some(reason) => {
            // A share is everything but this.
            let share = judgement.verdict.check_id() == Some("Q45") && !input.proof.is_solution;
            let note = if share { "; it does not claim to be a block solution" } else { "" };
            format!("{name}: rejected: {reason}{note}\n")
        }
    };
    print(&line)
}

fn as_json(name: &str, judged: &Judged) -> serde_json::Value {
    let (input, judgement) = match judged {
        Ok(judged) => judged,
        Err(error) => return json!({ "file": name, "error": error.to_string() }),
    };
    let report = &judgement.verdict.report;
    json!({
        "file": name,
        "accepted": judgement.verdict.is_accepted(),
        "verdict": report.verdict().as_str(),
        "check": judgement.verdict.check_id(),
        "step": report.failure.and_then(|failure| failure.step),
        "reason": judgement.verdict.reason().map(ToString::to_string),
        "version": input.proof.version,
        "is_solution": input.proof.is_solution,
        "v3_active": report.v3_active,
        "credit_units": report.credit.node().0,
        "tier": report.tier.map(|tier| tier.as_str()),
        "reuse_score": report.reuse_score,
        "least_margin": report.least_margin,
        "header_hash": report.header_hash.map(|hash| hash.display().to_string()),
    })
}

/// Columns of the table.
const COLUMNS: [&str; 6] = ["file", "verdict", "check", "version", "bits", "tier"];

fn row(name: &str, judged: &Judged) -> [String; COLUMNS.len()] {
    let dash = || "-".to_owned();
    match judged {
        Ok((input, judgement)) => {
            let report = &judgement.verdict.report;
            let verdict = if judgement.verdict.is_accepted() { "accepted" } else { "rejected" };
            [
                name.to_owned(),
                verdict.to_owned(),
                judgement.verdict.check_id().map_or_else(dash, str::to_owned),
                input.proof.version.to_string(),
                format!("{:.3}", report.credit.node().bits()),
                report.tier.map_or_else(dash, |tier| tier.to_string()),
            ]
        }
        Err(_) => [name.to_owned(), "unreadable".to_owned(), dash(), dash(), dash(), dash()],
    }
}

/// Left-aligned columns, two blanks apart.
fn table(rows: &[[String; COLUMNS.len()]]) -> String {
    let head = COLUMNS.map(str::to_owned);
    let lines: Vec<_> = std::iter::once(&head).chain(rows).collect();
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let mut cells = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            cells.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(cells.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = ["a.bin", "accepted", "-", "2", "204.601", "free"].map(str::to_owned);
        let text = table(&[row]);
        assert_eq!(
            text,
            "file   verdict   check  version  bits     tier\n\
             a.bin  accepted  -      2        204.601  free\n"
        );
    }
}
