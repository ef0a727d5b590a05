//! `tensorpow proof convert`: a proof in another form. The canonical bytes are the same before and
//! after, except that a FlatBuffer cannot hold a scalar of −0.0; then it is said.

use super::input::{self, Input};
use super::{Outcome, ProofCommandError, json_form, print, progress};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use tensorpow_core::archive;
use tensorpow_core::proof::Encode as _;
use tensorpow_core::proof::canonical::canonical_to_vec;

/// Flags of `proof convert`.
#[derive(Debug, Clone, Args)]
pub struct ConvertArgs {
    /// Proofs in any form; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The form to write
    #[arg(long, value_enum, value_name = "FORM")]
    to: Target,
    /// Where to: a file, a folder for several proofs, or `-` for standard output
    #[arg(short, long, default_value = "-", value_name = "OUT")]
    output: PathBuf,
}

/// A form to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The transport: a standalone proof file
    Flatbuffer,
    /// The bytes that are hashed; nothing reads them back
    Canonical,
    /// The form to keep: lossless, a fifth to a third of the size
    Compact,
    /// For people and scripts
    Json,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Flatbuffer => "FlatBuffer",
            Self::Canonical => "canonical bytes",
            Self::Compact => "compact proof",
            Self::Json => "JSON",
        }
    }

    /// What a file of the form is called behind the dot.
    const fn extension(self) -> &'static str {
        match self {
            Self::Flatbuffer => "bin",
            Self::Canonical => "canonical",
            Self::Compact => "tpwa",
            Self::Json => "json",
        }
    }

    fn write(self, input: &Input) -> Result<Vec<u8>, ProofCommandError> {
        let proof = input.proof.as_ref();
        let fail = |error: &dyn std::fmt::Display| ProofCommandError::Form {
            name: input.name.clone(),
            form: self.name(),
            error: error.to_string(),
        };
        match self {
            Self::Flatbuffer => {
                let sent = proof.as_transported();
                let settings = |p: &tensorpow_core::proof::ProofRef<'_>| {
                    [p.temperature, p.top_p, p.repetition_penalty].map(f32::to_bits)
                };
                if settings(&sent) != settings(&proof) {
                    eprintln!("tensorpow: {}: a scalar of -0.0 becomes 0.0", input.name);
                }
                proof.encode_to_vec().map_err(|e| fail(&e))
            }
            Self::Canonical => canonical_to_vec(&proof).map_err(|e| fail(&e)),
            Self::Compact => archive::encode(&proof).map_err(|e| fail(&e)),
            Self::Json => json_form::write(&input.proof).map(Into::into).map_err(|e| fail(&e)),
        }
    }
}

pub(super) fn run(args: &ConvertArgs) -> Result<Outcome, ProofCommandError> {
    let several = args.files.len() > 1;
    if several && !args.output.is_dir() {
        return Err(ProofCommandError::Usage("several proofs need a folder: -o FOLDER"));
    }
    for name in progress::over(&args.files) {
        let input = input::read(name).map_err(|e| ProofCommandError::input(name, e))?;
        let bytes = args.to.write(&input)?;
        put(&args.output, name, args.to, &bytes)?;
    }
    Ok(Outcome::Good)
}

fn put(output: &Path, name: &str, to: Target, bytes: &[u8]) -> Result<(), ProofCommandError> {
    if output == Path::new("-") {
        if to == Target::Json {
            return print(&String::from_utf8_lossy(bytes));
        }
        let mut out = std::io::stdout().lock();
        if out.is_terminal() {
            return Err(ProofCommandError::Usage("this form is not for a terminal: give -o FILE"));
        }
        out.write_all(bytes)?;
        return Ok(out.flush()?);
    }
    let (path, written) = if output.is_dir() {
        let path = output.join(file_name(name, to));
        // The name is ours: nothing that is there is written over.
        let created = std::fs::File::create_new(&path);
        let written = created.and_then(|mut file| file.write_all(bytes));
        (path, written)
    } else {
        (output.to_owned(), std::fs::write(output, bytes))
    };
    written.map_err(|error| ProofCommandError::Output { path, error })
}

/// The input's name with the form's extension.
fn file_name(name: &str, to: Target) -> OsString {
    let stem = Path::new(name).file_stem().filter(|_| name != "-");
    let mut file = stem.map_or_else(|| "proof".into(), OsString::from);
    file.push(".");
    file.push(to.extension());
    file
}
