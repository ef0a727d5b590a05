//! An engine on trial, and what a rollback brings back.

use super::engines::{EngineConfig, pow_key};
use super::section::sections;
use super::sections::Settings;
use super::value::SettingValue;
use crate::http::engine::EngineUrl;
use crate::mining::payload::{Dialect, EngineKind};
use crate::rollout::judge::Tolerance;
use crate::rollout::probe::ProbeMode;
use crate::rollout::trial::TrialSettings;
use std::path::{Path, PathBuf};
use std::time::Duration;

sections! {
    /// An engine on trial beside the one that serves.
    CanarySection "canary" {
        /// Its URL; without one there is no trial
        url: Option<EngineUrl> = "" [TENSORPOW_CANARY] --canary;
        /// Which engine it is; by default the same as `engine.kind`
        kind: Option<EngineKind> = "" [TENSORPOW_CANARY_KIND];
        /// It stands beside the engine of this model; by default beside `engine.url`
        model: String = "" [TENSORPOW_CANARY_MODEL];
        /// Part of the users' requests that goes there, in percent
        percent: f64 = "5" [TENSORPOW_CANARY_PERCENT] --canary-percent;
        /// Names of API keys whose requests all go there, separated by commas
        keys: Vec<String> = "" [TENSORPOW_CANARY_KEYS];
        /// Time over which both engines are compared
        window: Duration = "600" [TENSORPOW_CANARY_WINDOW];
        /// Requests of each before their times and errors are compared
        least_requests: u64 = "50" [TENSORPOW_CANARY_LEAST_REQUESTS];
        /// It may be slower by this factor (19 of 20 first tokens, time a token)
        slower: f64 = "1.5" [TENSORPOW_CANARY_SLOWER];
        /// And fail in so many more of its requests, as a share
        errors: f64 = "0.02" [TENSORPOW_CANARY_ERRORS];
        /// And leave so many proofs fewer for its windows, or have so many more refused, as a share
        proofs: f64 = "0.2" [TENSORPOW_CANARY_PROOFS];
    }

    /// What is brought in and taken back.
    RolloutSection "rollout" {
        /// An engine is asked for a completion and a proof before its model is mined
        probe: ProbeMode = "auto" [TENSORPOW_PROBE];
        /// Limit on that
        probe_timeout: Duration = "120" [TENSORPOW_PROBE_TIMEOUT];
        /// The image this deployment runs, as its supervisor knows it; the one before is remembered
        image: String = "" [TENSORPOW_IMAGE];
        /// What a rollback of the image runs in a shell; TENSORPOW_PREVIOUS_IMAGE names the image
        rollback_command: String = "" [TENSORPOW_ROLLBACK_COMMAND];
    }
}

impl SettingValue for ProbeMode {
    const FORM: &'static str = "auto, off, completion or proof";

    fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            "completion" => Some(Self::Completion),
            "proof" => Some(Self::Proof),
            _ => None,
        }
    }
}

/// An engine on trial.
#[derive(Debug, Clone)]
pub struct CanaryConfig {
    /// Where it is.
    pub url: EngineUrl,
    /// How it wants to be told what to mine.
    pub dialect: Dialect,
    /// The model whose engine it stands beside.
    pub model: Option<String>,
    /// Which requests it gets and what ends that.
    pub trial: TrialSettings,
}

/// What is brought in and taken back.
#[derive(Debug, Clone, Default)]
pub struct RolloutConfig {
    /// How an engine is probed before its model is mined.
    pub probe: ProbeMode,
    /// Limit on a probe.
    pub probe_limit: Duration,
    /// The deployment's image; empty where nobody names it.
    pub image: String,
    /// What brings the previous one back.
    pub rollback_command: Option<String>,
    /// What is remembered over restarts.
    pub file: Option<PathBuf>,
}

pub(super) fn canary(
    settings: &Settings,
    engine: &EngineConfig,
    problems: &mut Vec<String>,
) -> Option<CanaryConfig> {
    let canary = &settings.canary;
    let url = canary.url.clone()?;
    if url == engine.url || engine.routes.iter().any(|route| route.url == url) {
        problems.push(format!(
            "TENSORPOW_CANARY (canary.url): {url} serves already; the engine on trial is another one"
        ));
    }
    if canary.percent > 100.0 {
        let percent = canary.percent;
        problems.push(format!("canary.percent: {percent} is not between 0 and 100"));
    }
    if canary.slower < 1.0 {
        problems.push(format!("canary.slower: {} is below 1", canary.slower));
    }
    for (name, share) in [("canary.errors", canary.errors), ("canary.proofs", canary.proofs)] {
        if share > 1.0 {
            problems.push(format!("{name}: {share} is not a share between 0 and 1"));
        }
    }
    let kind = canary.kind.unwrap_or(engine.dialect.kind);
    let key = pow_key(kind, settings.engine.use_vllm_xargs);
    Some(CanaryConfig {
        url,
        dialect: Dialect { kind, key, ..engine.dialect },
        model: Some(canary.model.clone()).filter(|model| !model.is_empty()),
        trial: TrialSettings {
            percent: canary.percent,
            keys: canary.keys.iter().cloned().collect(),
            tolerance: Tolerance {
                window: canary.window.max(Duration::from_secs(1)),
                least_requests: canary.least_requests.max(1),
                slower: canary.slower,
                errors: canary.errors,
                proofs: canary.proofs,
            },
        },
    })
}

pub(super) fn rollout(settings: &Settings, data_dir: Option<&Path>) -> RolloutConfig {
    let rollout = &settings.rollout;
    let command = rollout.rollback_command.clone();
    RolloutConfig {
        probe: rollout.probe,
        probe_limit: rollout.probe_timeout,
        image: rollout.image.clone(),
        rollback_command: Some(command).filter(|command| !command.is_empty()),
        file: data_dir.map(|folder| folder.join("rollout.json")),
    }
}
