//! What the mining context has for a request: a payload, or the reason why there is none.

use std::sync::Arc;

/// Why a request is forwarded without `pow`. Every reason is a label of
/// `tensorpow_inference_uninjected_total`. spec: proxy §8.6
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotMined {
    /// No job has arrived yet.
    NoJob,
    /// The job is older than the stale threshold: the source is gone.
    JobStale,
    /// No VDF proof for the job's parent yet.
    NoVdf,
    /// The engine is being switched to another model.
    ModelSwitch,
    /// Mining pauses after a solution or for a forced switch.
    Paused,
    /// The registry has not been heard of yet.
    RegistryNotLoaded,
    /// The pinned model is not registered.
    ModelNotRegistered,
    /// The adjusted target cannot be mined.
    Unminable,
    /// The client opted out.
    OptOut,
    /// A request parameter shapes the distribution outside the mined profile; the parameter.
    OffProfile(&'static str),
}

impl NotMined {
    /// The reason's label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoJob => "no_job",
            Self::JobStale => "job_stale",
            Self::NoVdf => "no_vdf",
            Self::ModelSwitch => "model_switch",
            Self::Paused => "paused",
            Self::RegistryNotLoaded => "registry_not_loaded",
            Self::ModelNotRegistered => "model_not_registered",
            Self::Unminable => "unminable",
            Self::OptOut => "opt_out",
            Self::OffProfile(_) => "off_profile",
        }
    }

    /// True when the request itself asks for it, false when mining is not possible.
    #[must_use]
    pub const fn is_the_clients_choice(self) -> bool {
        matches!(self, Self::OptOut | Self::OffProfile(_))
    }

    /// The request parameter behind the reason, empty for the others.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::OffProfile(parameter) => parameter,
            _ => "",
        }
    }
}

/// What a snapshot offers to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Mine: the value of `pow`.
    Mine(Arc<str>),
    /// Leave an audit proof: the value of `pow`.
    Audit(Arc<str>),
    /// Forward without `pow`.
    Nothing(NotMined),
}
