//! `tensorpow spool`: the proofs on disk, when no proxy runs on them. What is listed where stands in
//! `print`; a running proxy answers the same at `/v1/spool`.

mod print;

use crate::config::spool_location;
use crate::http::spool::{entry_json, state_named};
use crate::spool::{
    DeliveryState, Listed, Selection, Spool, SpoolError, SpoolHealth, SpoolSettings,
};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum SpoolCommand {
    /// List proofs, newest first
    Ls(ListArgs),
    /// List dead letters with their reasons, newest first
    Dead(ListArgs),
    /// Say everything about one proof
    Show(ShowArgs),
    /// Have dead letters delivered again when the proxy starts, if their parent is still the tip
    Replay(ReplayArgs),
    /// Write proofs as files, byte for byte as they came from the engine
    Export(ExportArgs),
}

/// Where the spool is.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// The proxy's data folder
    #[arg(long, env = "TENSORPOW_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Arguments of `ls` and `dead`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only deliveries in this state: pending, sent, confirmed or dead
    #[arg(long, value_parser = parse_state, value_name = "STATE")]
    state: Option<DeliveryState>,
    /// Only with this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only of this completion id
    #[arg(long, value_name = "ID")]
    completion: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Arguments of `show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Number or completion id of the proof
    proof: String,
}

/// Arguments of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Numbers of the proofs
    #[arg(required_unless_present_any = ["all", "reason"])]
    proofs: Vec<u64>,
    /// All dead letters
    #[arg(long, conflicts_with = "proofs")]
    all: bool,
    /// Only those with this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
}

/// Arguments of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Number or completion id of the proofs
    #[arg(required = true)]
    proofs: Vec<String>,
    /// Folder to write into; `-` is standard output, for one proof
    #[arg(long, short, default_value = ".", value_name = "FOLDER")]
    out: PathBuf,
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolCommandError {
    /// There is no such file.
    #[error("there is no spool at {}; name the proxy's --data-dir", .0.display())]
    Absent(PathBuf),
    /// No folder was named and none can be guessed.
    #[error("no data folder: give --data-dir")]
    NoFolder,
    /// The spool cannot be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A proxy has it.
    #[error("{0}; a running proxy shows it at /v1/spool")]
    InUse(SpoolError),
    /// No such proof.
    #[error("there is no proof {0:?}")]
    NoProof(String),
    /// More than one proof for standard output.
    #[error("{0} proofs match, standard output takes one; write them into a folder with --out")]
    Several(usize),
    /// A result cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Output {
        /// Where to.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The asynchronous part cannot start.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

fn parse_state(name: &str) -> Result<DeliveryState, String> {
    state_named(name).ok_or_else(|| format!("{name:?} is not pending, sent, confirmed or dead"))
}

/// Runs a subcommand: exit code 0 done, 1 failed.
#[must_use]
pub fn run(command: &SpoolCommand) -> ExitCode {
    match try_run(command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has read enough.
        Err(SpoolCommandError::System(error)) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tensorpow: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

fn try_run(command: &SpoolCommand) -> Result<(), SpoolCommandError> {
    let out = &mut std::io::stdout().lock();
    match command {
        SpoolCommand::Ls(args) => list(args, args.state, out),
        SpoolCommand::Dead(args) => list(args, Some(DeliveryState::Dead), out),
        SpoolCommand::Show(args) => {
            let spool = open(&args.place)?;
            let listed = find(&spool, &args.proof)?;
            listed.iter().try_for_each(|listed| print::whole(out, listed).map_err(Into::into))
        }
        SpoolCommand::Replay(args) => replay(args, out),
        SpoolCommand::Export(args) => export(args, out),
    }
}

fn open(place: &PlaceArgs) -> Result<Spool, SpoolCommandError> {
    let location = spool_location(place.data_dir.clone());
    let file = location.file().ok_or(SpoolCommandError::NoFolder)?;
    // Looking must not leave anything behind.
    if !file.is_file() {
        return Err(SpoolCommandError::Absent(file));
    }
    // Nothing is removed either: that is the proxy's.
    let mut settings = SpoolSettings { location, ..SpoolSettings::default() };
    settings.retention.max_age = std::time::Duration::MAX;
    settings.retention.max_bytes = u64::MAX;
    settings.retention.max_undecodable = usize::MAX;
    let spool = Spool::open(settings).map_err(|error| match error {
        SpoolError::InUse { .. } => SpoolCommandError::InUse(error),
        error => error.into(),
    })?;
    match spool.health() {
        SpoolHealth::Degraded { why } => Err(SpoolError::Degraded(why).into()),
        _ => Ok(spool),
    }
}

fn list(
    args: &ListArgs,
    state: Option<DeliveryState>,
    out: &mut impl Write,
) -> Result<(), SpoolCommandError> {
    let selection = Selection {
        seqs: Vec::new(),
        completion_id: args.completion.clone(),
        state,
        reason: args.reason.clone(),
    };
    let listed = open(&args.place)?.view()?.list(&selection, args.limit)?;
    for listed in &listed {
        if args.json {
            writeln!(out, "{}", entry_json(listed))?;
        } else {
            print::line(out, listed)?;
        }
    }
    Ok(())
}

/// The proofs of a number or a completion id, oldest first.
fn find(spool: &Spool, name: &str) -> Result<Vec<Listed>, SpoolCommandError> {
    let view = spool.view()?;
    let seqs: Vec<u64> = match name.parse() {
        Ok(seq) => vec![seq],
        Err(_) => view.find(name, 0)?.iter().map(|found| found.seq).collect(),
    };
    let mut listed = Vec::new();
    for seq in seqs {
        if let Some(entry) = view.entry(seq)? {
            listed.push(Listed { seq, entry, deliveries: view.deliveries(seq)? });
        }
    }
    if listed.is_empty() { Err(SpoolCommandError::NoProof(name.to_owned())) } else { Ok(listed) }
}

fn replay(args: &ReplayArgs, out: &mut impl Write) -> Result<(), SpoolCommandError> {
    let spool = open(&args.place)?;
    let selection = Selection {
        seqs: args.proofs.clone(),
        reason: args.reason.clone(),
        ..Selection::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let replayed = runtime.block_on(spool.replay(selection))?;
    for (seq, sink) in &replayed {
        writeln!(out, "{seq} goes to {sink} again")?;
    }
    writeln!(out, "{} deliveries are open again", replayed.len())?;
    Ok(())
}

fn export(args: &ExportArgs, out: &mut impl Write) -> Result<(), SpoolCommandError> {
    let spool = open(&args.place)?;
    let mut listed = Vec::new();
    for name in &args.proofs {
        listed.extend(find(&spool, name)?);
    }
    let view = spool.view()?;
    if args.out.as_os_str() == "-" {
        let [only] = listed.as_slice() else {
            return Err(SpoolCommandError::Several(listed.len()));
        };
        return Ok(out.write_all(&view.message(only.seq, &only.entry)?)?);
    }
    for Listed { seq, entry, .. } in &listed {
        let path = args.out.join(format!("proof_{seq}.bin"));
        let message = view.message(*seq, entry)?;
        std::fs::write(&path, message)
            .map_err(|error| SpoolCommandError::Output { path: path.clone(), error })?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
