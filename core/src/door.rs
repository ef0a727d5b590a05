//! The door a request passes before it is mined: the payload's values, validated once, and the
//! decision whether this request is mined at all. Whatever fails here is a reason to count; the
//! text is generated all the same. Reading a payload from JSON is in [`json`].

#[cfg(feature = "json")]
pub mod json;

use crate::preimage::StepHasher;
use crate::row::{Grid, MIN_VOCAB};
use crate::sampler::Params;
use crate::target::{Difficulty, Target};
use crate::units::{BlockHash, HeaderPrefix, Tick, VdfBlob};
use crate::window::{Label, Sequence};
use core::fmt;

/// The mining context of one request, with its values in their types. spec: sampler §1
///
/// Strings stay with the caller, which keeps them as long as the sequence lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<S> {
    /// Parent hash, the VDF challenge.
    pub block_hash: BlockHash,
    /// VDF proof blob.
    pub vdf: VdfBlob,
    /// VDF ticks.
    pub tick: u32,
    /// Model-adjusted block target.
    pub target: Target,
    /// Model-adjusted share target; none = no share tier.
    pub share_target: Option<Target>,
    /// A share target was there and could not be read: the share tier is off, which is counted.
    pub share_target_unreadable: bool,
    /// Header without its nonce.
    pub header_prefix: HeaderPrefix,
    /// Copied to the proof.
    pub ipfs_cid: S,
    /// Mining job.
    pub request_id: u32,
    /// Registered model difficulty.
    pub difficulty: Difficulty,
    /// The sender's proof version.
    pub proof_version: Option<u64>,
    /// Emit an audit record of every window, nothing else.
    pub audit_emit: bool,
    /// `name@commit` of the model.
    pub model_identifier: Option<S>,
    /// Precision label.
    pub compute_precision: Option<S>,
}

/// What the engine itself knows or was told by its operator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Engine<'a> {
    /// Own proof version; none adopts the payload's.
    pub proof_version: Option<u8>,
    /// `name@commit` of the loaded model.
    pub model_identifier: Option<&'a str>,
    /// Precision label of its logits.
    pub compute_precision: Option<&'a str>,
}

/// The request's own sampling fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requested {
    /// Temperature.
    pub temperature: f32,
    /// Top-k as the engine holds it; 0 or below means off.
    pub top_k: i64,
    /// Top-p.
    pub top_p: f32,
    /// Repetition penalty.
    pub repetition_penalty: f32,
}

impl Default for Requested {
    /// What absent fields count as. spec: sampler §1, §9.1
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 50, top_p: 1.0, repetition_penalty: 1.0 }
    }
}

/// The terms a request is mined on.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms<'a> {
    /// Version the proof will carry; 1 for audits.
    pub proof_version: u8,
    /// Sampling parameters.
    pub params: Params,
    /// `name@commit` the proof will carry.
    pub model_identifier: &'a str,
    /// Precision label the proof will carry.
    pub compute_precision: &'a str,
    label: Label,
    grid: Grid,
}

/// Why a request is not mined. Each reason has a label for counters and a sentence that names the
/// value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The vocabulary is too small for evidence. spec: sampler §5.3
    Vocabulary {
        /// Logits per row.
        found: usize,
    },
    /// There is no prompt. spec: sampler §7
    EmptyPrompt,
    /// Own version and the sender's differ. spec: sampler §9.4
    VersionMismatch {
        /// Own version.
        own: u8,
        /// The payload's stamp.
        stamp: u64,
    },
    /// No own version, and the stamp is none that can be adopted. spec: sampler §9.4
    VersionUnknown {
        /// The payload's stamp.
        stamp: u64,
    },
    /// Neither the payload nor the engine names the model.
    IdentityUnknown,
    /// Payload and engine name different models.
    IdentityMismatch,
    /// Neither the payload nor the engine gives a precision label.
    PrecisionUnknown,
    /// Payload and engine give different labels.
    PrecisionMismatch,
    /// A label that full verification refuses. spec: sampler §5.1
    PrecisionUnsupported,
    /// The temperature is outside the profile.
    Temperature {
        /// The request's value.
        found: f32,
    },
    /// Top-k is outside the profile.
    TopK {
        /// The request's value.
        found: i64,
    },
    /// Top-p is outside the profile.
    TopP {
        /// The request's value.
        found: f32,
    },
    /// The repetition penalty is not 1.
    RepetitionPenalty {
        /// The request's value.
        found: f32,
    },
}

impl Refusal {
    /// A short name for counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Vocabulary { .. } => "vocabulary",
            Self::EmptyPrompt => "empty_prompt",
            Self::VersionMismatch { .. } => "version_mismatch",
            Self::VersionUnknown { .. } => "version_unknown",
            Self::IdentityUnknown => "identity_unknown",
            Self::IdentityMismatch => "identity_mismatch",
            Self::PrecisionUnknown => "precision_unknown",
            Self::PrecisionMismatch => "precision_mismatch",
            Self::PrecisionUnsupported => "precision_unsupported",
            Self::Temperature { .. } => "temperature",
            Self::TopK { .. } => "top_k",
            Self::TopP { .. } => "top_p",
            Self::RepetitionPenalty { .. } => "repetition_penalty",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vocabulary { found } => {
                write!(f, "a vocabulary of {found} is below {MIN_VOCAB}")
            }
            Self::EmptyPrompt => f.write_str("the prompt is empty"),
            Self::VersionMismatch { own, stamp } => {
                write!(f, "proof_version {stamp} of the request is not this engine's {own}")
            }
            Self::VersionUnknown { stamp } => {
                write!(f, "proof_version {stamp} is neither 2 nor 3")
            }
            Self::IdentityUnknown => {
                f.write_str("neither the request nor the engine names the model")
            }
            Self::IdentityMismatch => f.write_str("request and engine name different models"),
            Self::PrecisionUnknown => {
                f.write_str("neither the request nor the engine gives a compute_precision")
            }
            Self::PrecisionMismatch => {
                f.write_str("request and engine give different compute_precision")
            }
            Self::PrecisionUnsupported => {
                f.write_str("compute_precision is none of bf16, fp16, fp8")
            }
            Self::Temperature { found } => write!(f, "temperature {found} is not mined"),
            Self::TopK { found } => write!(f, "top_k {found} is not mined"),
            Self::TopP { found } => write!(f, "top_p {found} is not mined"),
            Self::RepetitionPenalty { found } => {
                write!(f, "repetition_penalty {found} is not mined")
            }
        }
    }
}

impl core::error::Error for Refusal {}

impl<S: AsRef<str>> Payload<S> {
    /// Decides whether a request is mined and on which terms. `vocab` is the width of the engine's
    /// logits rows, `prompt_len` the number of token ids the model was fed. spec: sampler §1
    ///
    /// # Errors
    /// [`Refusal`]: serve the request with the engine's own sampler and count the reason.
    pub fn admit<'a>(
        &'a self,
        engine: &Engine<'a>,
        requested: &Requested,
        vocab: usize,
        prompt_len: usize,
    ) -> Result<Terms<'a>, Refusal> {
        if vocab < MIN_VOCAB {
            return Err(Refusal::Vocabulary { found: vocab });
        }
        if prompt_len == 0 {
            return Err(Refusal::EmptyPrompt);
        }
        let proof_version =
            if self.audit_emit { 1 } else { version(engine.proof_version, self.proof_version)? };
        let model_identifier = agree(
            self.model_identifier.as_ref().map(AsRef::as_ref),
            engine.model_identifier,
            Refusal::IdentityUnknown,
            Refusal::IdentityMismatch,
        )?;
        let compute_precision = agree(
            self.compute_precision.as_ref().map(AsRef::as_ref),
            engine.compute_precision,
            Refusal::PrecisionUnknown,
            Refusal::PrecisionMismatch,
        )?;
        let (label, grid) = grid(compute_precision)?;
        let profile = if self.audit_emit {
            Profile::Audit
        } else if proof_version >= 3 {
            Profile::Fixed
        } else {
            Profile::Bounded
        };
        let params = profile.check(requested)?;
        Ok(Terms { proof_version, params, model_identifier, compute_precision, label, grid })
    }

    /// Begins the sequence: the context is frozen here. spec: sampler §1
    #[must_use]
    pub fn begin(&self, terms: &Terms<'_>, vocab: usize, prompt: &[u32]) -> Sequence {
        let hasher = StepHasher::new(
            self.header_prefix.as_bytes(),
            self.vdf.as_bytes(),
            Tick(u64::from(self.tick)),
        );
        Sequence::new(hasher, terms.label, terms.grid, terms.params, vocab, prompt)
    }
}

/// The proof version of a sequence. spec: sampler §9.4
fn version(own: Option<u8>, stamp: Option<u64>) -> Result<u8, Refusal> {
    match (own, stamp) {
        (Some(own), Some(stamp)) if u64::from(own) != stamp => {
            Err(Refusal::VersionMismatch { own, stamp })
        }
        (Some(own), _) => Ok(own),
        (None, None | Some(2)) => Ok(2),
        (None, Some(3)) => Ok(3),
        (None, Some(stamp)) => Err(Refusal::VersionUnknown { stamp }),
    }
}

/// The payload's value, else the engine's; both must agree. An empty text counts as absent.
/// spec: sampler §1
fn agree<'a>(
    payload: Option<&'a str>,
    engine: Option<&'a str>,
    unknown: Refusal,
    mismatch: Refusal,
) -> Result<&'a str, Refusal> {
    let known = |text: &&str| !text.is_empty();
    match (payload.filter(known), engine.filter(known)) {
        (Some(p), Some(e)) if p != e => Err(mismatch),
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Err(unknown),
    }
}

/// The grid a label stands for, of those that are mined. spec: sampler §5.1
fn grid(label: &str) -> Result<(Label, Grid), Refusal> {
    let grid = Grid::for_label(label).ok_or(Refusal::PrecisionUnsupported)?;
    let label = Label::new(label).map_err(|_| Refusal::PrecisionUnsupported)?;
    Ok((label, grid))
}

/// Which sampling parameters a sequence may have. spec: sampler §1, §9.1
#[derive(Clone, Copy)]
enum Profile {
    /// Versions 1 and 2.
    Bounded,
    /// Version 3.
    Fixed,
    /// Audit records.
    Audit,
}

impl Profile {
    fn check(self, requested: &Requested) -> Result<Params, Refusal> {
        let Requested { temperature, top_k, top_p, repetition_penalty } = *requested;
        let (t_ok, k_ok, p_ok) = match self {
            Self::Bounded => (
                (0.25..=2.0).contains(&temperature),
                (5..=50).contains(&top_k),
                (0.1..=1.0).contains(&top_p),
            ),
            Self::Fixed => (temperature == 1.0, top_k == 50, top_p == 1.0),
            Self::Audit => (
                temperature > 0.0 && temperature <= 2.0,
                (1..=50).contains(&top_k),
                top_p > 0.0 && top_p <= 1.0,
            ),
        };
        if !t_ok {
            return Err(Refusal::Temperature { found: temperature });
        }
        if !p_ok {
            return Err(Refusal::TopP { found: top_p });
        }
        if repetition_penalty != 1.0 {
            return Err(Refusal::RepetitionPenalty { found: repetition_penalty });
        }
        match u32::try_from(top_k) {
            Ok(top_k) if k_ok => Ok(Params { temperature, top_k, top_p }),
            _ => Err(Refusal::TopK { found: top_k }),
        }
    }
}
