//! `tensorpow proof`: proofs in the hand. Inspecting, judging, comparing and converting have a file
//! each; what they share, reading any form of a proof (`input`) and judging it as a node does
//! (`judge`), stands beside them. Results go to standard output, progress to standard error.

mod convert;
mod diff;
mod input;
mod inspect;
mod json_form;
mod judge;
pub(crate) mod plot;
mod progress;
mod verify;

use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum ProofCommand {
    /// Say what proofs claim and how they fare, check by check
    ///
    /// FILE is a FlatBuffer (a proof, a mining result or a validation request), hex digits of one,
    /// JSON or the compact form; `-` is standard input. Exit code 2 if a file cannot be read.
    Inspect(inspect::InspectArgs),
    /// Judge proofs as a node does: exit code 0 accepted, 1 rejected, 2 unreadable
    ///
    /// Of several files, 2 if one cannot be read, else 1 if one is rejected.
    Verify(verify::VerifyArgs),
    /// Show which fields of two proofs differ: exit code 0 none, 1 some, 2 unreadable
    Diff(diff::DiffArgs),
    /// Write a proof in another form
    Convert(convert::ConvertArgs),
}

/// Why a subcommand gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofCommandError {
    /// An input gives no proof.
    #[error("{name} {error}")]
    Input {
        /// Its name on the command line.
        name: String,
        /// What is wrong.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A result cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Output {
        /// Where to.
        path: PathBuf,
        /// What is wrong.
        error: std::io::Error,
    },
    /// Standard output failed.
    #[error("cannot write the result: {0}")]
    Stdout(#[from] std::io::Error),
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(&'static str),
    /// The proof has no such form.
    #[error("{name} cannot be written as {form}: {error}")]
    Form {
        /// The input's name.
        name: String,
        /// The form.
        form: &'static str,
        /// Why not.
        error: String,
    },
}

impl ProofCommandError {
    fn input(name: &str, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Input { name: name.to_owned(), error: Box::new(error) }
    }
}

/// How a subcommand ended; the numbers are the exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Read, accepted, the same, converted.
    Good = 0,
    /// Rejected or different.
    Bad = 1,
    /// Something could not be read.
    Unreadable = 2,
}

/// Runs a subcommand to its end and says how it went.
#[must_use]
pub fn run(command: &ProofCommand) -> ExitCode {
    let outcome = match command {
        ProofCommand::Inspect(args) => inspect::run(args),
        ProofCommand::Verify(args) => verify::run(args),
        ProofCommand::Diff(args) => diff::run(args),
        ProofCommand::Convert(args) => convert::run(args),
    };
    let outcome = outcome.unwrap_or_else(|error| {
        eprintln!("tensorpow: {error}");
        Outcome::Unreadable
    });
    ExitCode::from(outcome as u8)
}

/// Prints text as it stands.
fn print(text: &str) -> Result<(), ProofCommandError> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a value on one line.
fn print_json(value: &serde_json::Value) -> Result<(), ProofCommandError> {
    print(&format!("{value}\n"))
}
