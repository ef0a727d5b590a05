//! What the operator says about the admission of version-3 windows: whether to grind, how long, on
//! how many threads. spec: admission §10.3

use super::{Environment, Problem, SettingsError};

/// Attempts per expected attempt when nobody says otherwise. spec: admission §10.1
const MAX_TRIES_FACTOR: u32 = 16;

/// Threads at most: each holds 8 MiB.
const MAX_THREADS: usize = 1024;

/// Which windows get a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionMode {
    /// None: a version-3 window counts only if its credited entropy reaches the free tier.
    Off,
    /// Every version-3 window. It says that version 3 is active on the chain, whose height an
    /// engine cannot see; below it, a window with a nonce is invalid.
    Always,
}

/// The grinder's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// `POW_V3_ADMISSION_MODE`.
    pub mode: AdmissionMode,
    /// `POW_V3_GRIND_MAX_TRIES_FACTOR`: most attempts of a window as a multiple of the expected
    /// number.
    pub max_tries_factor: u32,
    /// `POW_V3_GRIND_THREADS`; `None` takes one less than there are processors.
    pub threads: Option<usize>,
}

impl AdmissionSettings {
    pub(super) fn read(env: &mut Environment<'_>) -> Result<Self, SettingsError> {
        let mode = mode(env)?;
        let max_tries_factor = number(env, "POW_V3_GRIND_MAX_TRIES_FACTOR", "16")?;
        let threads = number(env, "POW_V3_GRIND_THREADS", "one less than there are processors")?;
        if env.switch("POW_V3_ADMISSION_DEV_CRASH")? {
            env.warnings.push(
                "POW_V3_ADMISSION_DEV_CRASH has no effect: a grinder's error is counted, its \
                 window mined without a nonce"
                    .to_owned(),
            );
        }
        Ok(Self {
            mode,
            max_tries_factor: max_tries_factor.unwrap_or(MAX_TRIES_FACTOR).max(1),
            threads: threads
                .map(|n| usize::try_from(n).unwrap_or(usize::MAX).clamp(1, MAX_THREADS)),
        })
    }
}

/// `off` or `always`, in any case; what is neither refuses the start. spec: admission §10.3
fn mode(env: &Environment<'_>) -> Result<AdmissionMode, SettingsError> {
    const NAME: &str = "POW_V3_ADMISSION_MODE";
    let Some(mode) = env.get(NAME)? else {
        return Ok(AdmissionMode::Off);
    };
    match mode.trim().to_ascii_lowercase().as_str() {
        "off" => Ok(AdmissionMode::Off),
        "always" => Ok(AdmissionMode::Always),
        _ => Err(env.refuse(NAME, Problem::UnknownWord { found: mode, allowed: "off or always" })),
    }
}

/// A whole number; what is none takes the default, with a warning. spec: admission §10.3
fn number(
    env: &mut Environment<'_>,
    name: &'static str,
    default: &str,
) -> Result<Option<u32>, SettingsError> {
    let Some(text) = env.text(name)? else {
        return Ok(None);
    };
    let number = text.parse::<i64>().ok();
    if number.is_none() {
        env.warnings.push(format!("{name}={text} is no whole number; {default} is taken"));
    }
    // The caller takes what is below 1 as 1.
    Ok(number.map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX)))
}
