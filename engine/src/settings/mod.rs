//! The operator's settings: everything the engine side reads from the environment, once, at start.
//! A value that cannot be honoured refuses the start and says which variable and why; a value that
//! merely looks mistaken becomes a warning.

mod admission;
mod egress;
mod error;

use std::path::PathBuf;

pub use admission::{AdmissionMode, AdmissionSettings};
pub use egress::{EgressMode, EgressSettings, Endpoint};
pub use error::{Problem, SettingsError};

/// Where proofs are stored when `POW_SAVE_TO_DISK` asks for files without naming a folder.
/// spec: sampler §9.3, §13
const DEFAULT_SAVE_DIR: &str = "/data/pow_proofs";
/// Proofs waiting for the sockets. spec: node §3.2
const PROOF_QUEUE: usize = 100;

/// Everything the runtime can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `POW_PROOF_VERSION`; `None` takes each payload's stamp. spec: sampler §9.4
    pub proof_version: Option<u8>,
    /// The admission of version-3 windows.
    pub admission: AdmissionSettings,
    /// `TENSORPOW_MODEL_IDENTIFIER`: the model's `name@commit`, when the payload may omit it.
    pub model_identifier: Option<String>,
    /// `TENSORPOW_COMPUTE_PRECISION`: the precision label, when the payload may omit it.
    pub compute_precision: Option<String>,
    /// Destinations of proofs.
    pub egress: EgressSettings,
    /// Folder that receives a file per proof; `None` writes none. spec: sampler §9.3
    pub save_dir: Option<PathBuf>,
    /// `TENSORPOW_MAX_SEQUENCES`: sequences mined at the same time; further ones run unmined.
    pub max_sequences: Option<usize>,
    /// `TENSORPOW_WINDOW_QUEUE`: finished windows waiting to be closed. By default one for each
    /// sequence, so that a batch whose windows end in the same step loses none.
    pub window_queue: Option<usize>,
    /// `TENSORPOW_PROOF_QUEUE`: proofs waiting for the sockets.
    pub proof_queue: usize,
    /// Remarks on values that are accepted but look mistaken, for the log.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads the process environment.
    ///
    /// # Errors
    /// [`SettingsError`] names the variable that refuses the start.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_lookup(&|name| std::env::var_os(name))
    }

    /// Reads variables through `lookup`, which answers `None` for one that is unset.
    ///
    /// # Errors
    /// [`SettingsError`] names the variable that refuses the start.
    pub fn from_lookup(
        lookup: &dyn Fn(&'static str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, SettingsError> {
        let mut env = Environment { lookup, warnings: Vec::new() };
        let proof_version = proof_version(&env)?;
        let admission = AdmissionSettings::read(&mut env)?;
        let egress = EgressSettings::read(&mut env)?;
        let save_dir = save_dir(&mut env)?;
        if admission.mode == AdmissionMode::Always && proof_version.is_some_and(|own| own < 3) {
            env.warnings.push(
                "POW_V3_ADMISSION_MODE=always has no effect below POW_PROOF_VERSION=3".to_owned(),
            );
        }
        Ok(Self {
            proof_version,
            admission,
            model_identifier: env.text("TENSORPOW_MODEL_IDENTIFIER")?,
            compute_precision: env.text("TENSORPOW_COMPUTE_PRECISION")?,
            egress,
            save_dir,
            max_sequences: env.count("TENSORPOW_MAX_SEQUENCES")?,
            window_queue: env.count("TENSORPOW_WINDOW_QUEUE")?,
            proof_queue: env.count("TENSORPOW_PROOF_QUEUE")?.unwrap_or(PROOF_QUEUE),
            warnings: env.warnings,
        })
    }
}

/// The engine's own proof version; unset (or empty, as container files write it) adopts each
/// payload's stamp. spec: sampler §9.4
fn proof_version(env: &Environment<'_>) -> Result<Option<u8>, SettingsError> {
    const NAME: &str = "POW_PROOF_VERSION";
    match env.text(NAME)?.as_deref() {
        None => Ok(None),
        Some("1") => Ok(Some(1)),
        Some("2") => Ok(Some(2)),
        Some("3") => Ok(Some(3)),
        Some(other) => {
            Err(env
                .refuse(NAME, Problem::UnknownWord { found: other.into(), allowed: "1, 2 or 3" }))
        }
    }
}

/// Files are written iff `PROOF_SAVE_DIR` names a folder or `POW_SAVE_TO_DISK` is truthy.
/// spec: sampler §9.3
fn save_dir(env: &mut Environment<'_>) -> Result<Option<PathBuf>, SettingsError> {
    let by_default = env.switch("POW_SAVE_TO_DISK")?.then(|| PathBuf::from(DEFAULT_SAVE_DIR));
    // A folder's name need not be UTF-8, so it does not pass through `text`.
    let named = (env.lookup)("PROOF_SAVE_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    Ok(named.or(by_default))
}

/// Variables as typed values, with the remarks made on the way.
struct Environment<'a> {
    lookup: &'a dyn Fn(&'static str) -> Option<std::ffi::OsString>,
    warnings: Vec<String>,
}

impl Environment<'_> {
    fn refuse(&self, variable: &'static str, problem: Problem) -> SettingsError {
        SettingsError { variable, problem }
    }

    /// The value as it stands.
    fn get(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        match (self.lookup)(name).map(std::ffi::OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(self.refuse(name, Problem::NotUtf8)),
        }
    }

    /// The value without outer blanks; an empty one counts as unset.
    fn text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        let value = self.get(name)?.map(|v| v.trim().to_owned());
        Ok(value.filter(|v| !v.is_empty()))
    }

    /// True for exactly `1`, `true` and `True`; a warning for what only looks true.
    /// spec: node §3.2
    fn switch(&mut self, name: &'static str) -> Result<bool, SettingsError> {
        let Some(value) = self.get(name)? else {
            return Ok(false);
        };
        if matches!(value.as_str(), "1" | "true" | "True") {
            return Ok(true);
        }
        let looks_true = ["1", "true", "yes", "on", "y", "t"]
            .contains(&value.trim().to_ascii_lowercase().as_str());
        if looks_true {
            self.warnings.push(format!(
                "{name}={value} looks true but counts as false; only 1, true and True switch it on"
            ));
        }
        Ok(false)
    }

    /// A number of 1 to 2^20.
    fn count(&self, name: &'static str) -> Result<Option<usize>, SettingsError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        match value.parse() {
            Ok(n @ 1..=1_048_576) => Ok(Some(n)),
            _ => Err(self.refuse(name, Problem::Count { found: value })),
        }
    }
}
