//! The judgement on one result whose work unit is known, in the node's order: model, version, VDF,
//! targets, header, evidence, size. spec: targets §8, verification §17

use super::chain::{ChainSettings, WorkUnit};
use crate::mining::vdf::VdfSource;
use tensorpow_core::header::BlockHeader;
use tensorpow_core::proof::accept::Refusal;
use tensorpow_core::proof::{MiningResponseRef, ProofRef, TooLong, commit};
use tensorpow_core::selfcheck::{Expected, Passed, Purpose, Unsent, selfcheck};
use tensorpow_core::target::{
    AdjustError, CompactTarget, RatioError, ShareTargetError, Target, adjust_for_model,
    check_adjusted_ratio, share_target,
};
use tensorpow_core::units::{HeaderPrefix, Tick};
use tensorpow_core::verify::{Registry, Vdf, Workspace};

/// Why a result is refused. spec: targets §8
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The message itself is not acceptable.
    #[error("{0}")]
    Message(Refusal),
    /// No open work unit has this request id.
    #[error("request id {0} belongs to no open work unit")]
    UnknownReqId(u32),
    /// A block was already made of this work unit.
    #[error("work unit {0} already became a block")]
    AlreadySubmitted(u32),
    /// The very same share was credited before.
    #[error("this share was credited before")]
    DuplicateShare,
    /// The tip has moved since the work unit was handed out.
    #[error("work unit {request_id} builds on block {parent_height}, the tip is at {tip_height}")]
    StaleParent {
        /// The work unit.
        request_id: u32,
        /// Height of its parent.
        parent_height: u64,
        /// Height of the tip.
        tip_height: u64,
    },
    /// The proof's model is not registered.
    #[error("model {found:?} is not registered on this chain")]
    UnregisteredModel {
        /// What the proof says.
        found: String,
    },
    /// The proof's version is below what the chain demands.
    #[error("proof version {found}, this chain demands {wanted} or more")]
    Version {
        /// The proof's version.
        found: u8,
        /// The least one allowed.
        wanted: u8,
    },
    /// The VDF proof does not verify for the parent. spec: vdf §9
    #[error("the VDF proof does not verify for the parent block with tick {0}")]
    Vdf(u64),
    /// The nonce field is not the digest's first four bytes.
    #[error("nonce is {found}, the digest says {wanted}")]
    Nonce {
        /// The field.
        found: u32,
        /// Little-endian u32 of `hash[0..4]`.
        wanted: u32,
    },
    /// The adjusted bits field is not what the prefix holds.
    #[error("adjusted_bits is {found:#010x}, the header prefix holds {wanted:#010x}")]
    AdjustedBits {
        /// The field.
        found: u32,
        /// The prefix's last four bytes.
        wanted: u32,
    },
    /// Another target than the model's was mined.
    #[error("{0}: nBits and adjusted bits do not fit the registered difficulty")]
    Ratio(RatioError),
    /// The job cannot be mined with this model at all.
    #[error(transparent)]
    Adjust(#[from] AdjustError),
    /// The chain takes no shares.
    #[error(transparent)]
    NoShares(#[from] ShareTargetError),
    /// A check on proof or evidence failed.
    #[error("{0}")]
    Proof(Unsent),
    /// The canonical form is too long.
    #[error("{0}")]
    Size(TooLong),
}

impl Rejection {
    /// Label for counters: the node's status where it has one.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Message(_) => "invalid_payload",
            Self::UnknownReqId(_) => "unknown_req_id",
            Self::AlreadySubmitted(_) => "already_submitted",
            Self::DuplicateShare => "duplicate_share",
            Self::StaleParent { .. } => "stale",
            Self::UnregisteredModel { .. } => "unreg-model",
            Self::Version { .. } => "bad-proof-version",
            Self::Vdf(_) => "bad-vdf-proof",
            Self::Nonce { .. } => "bad-nonce",
            Self::AdjustedBits { .. } => "bad-adjbits",
            Self::Ratio(error) => error.as_str(),
            Self::Adjust(_) => "unminable",
            Self::NoShares(_) => "shares_disabled",
            Self::Proof(unsent) => unsent.label(),
            Self::Size(_) => "bad-pow-blob-size",
        }
    }
}

/// A result that holds.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What the evidence check saw.
    pub passed: Passed,
    /// The block header it makes.
    pub header: BlockHeader,
}

/// Everything after the work unit has been found. A solution is held against the block target, a
/// share against the share target; the proof itself is bound to the block target either way.
/// spec: targets §5.3, §8 stages B–D
///
/// # Errors
/// The first [`Rejection`].
pub fn result(
    response: &MiningResponseRef<'_>,
    proof: &ProofRef<'_>,
    unit: &WorkUnit,
    settings: &ChainSettings,
    vdf: &dyn VdfSource,
) -> Result<Accepted, Rejection> {
    let difficulty = settings.model.difficulty;
    if proof.model_identifier != settings.model.id.to_string().as_bytes() {
        let found = String::from_utf8_lossy(proof.model_identifier).into_owned();
        return Err(Rejection::UnregisteredModel { found });
    }
    let wanted = settings.proof_version;
    if proof.version < wanted {
        return Err(Rejection::Version { found: proof.version, wanted });
    }
    if !vdf.verify(&unit.prefix.parent(), Tick(proof.tick), proof.vdf) {
        return Err(Rejection::Vdf(proof.tick));
    }
    let bits = unit.prefix.bits();
    let adjusted_bits = CompactTarget::from_bits(response.adjusted_bits);
    mined_bits(proof).map_or(Ok(()), |mined| match (response.adjusted_bits, mined.to_bits()) {
        (found, wanted) if found != wanted => Err(Rejection::AdjustedBits { found, wanted }),
        _ => Ok(()),
    })?;
    let limit = &Target::POW_LIMIT_TENSOR;
    check_adjusted_ratio(bits, adjusted_bits, difficulty.get(), settings.normalizer, limit)
        .map_err(Rejection::Ratio)?;
    let share = match (proof.is_solution, &unit.base_share_target) {
        (true, _) => None,
        (false, Some(base)) => Some(share_target(base, difficulty, settings.normalizer)?),
        (false, None) => return Err(Rejection::NoShares(ShareTargetError::Disabled)),
    };
    let purpose = share.as_ref().map_or(Purpose::Solution, Purpose::Share);
    // A harder target than the model's is legal, so the prefix is the template's with whatever
    // adjusted bits passed the ratio rule.
    let prefix = unit.prefix.with_bits(adjusted_bits);
    let expected = Expected {
        header_prefix: Some(&prefix),
        chain: settings.chain_at(unit.height),
        registry: Registry::Registered(difficulty.get()),
        // Verified above.
        vdf: Vdf::Skip,
    };
    let mut workspace = Workspace::new();
    let mut scratch = workspace.scratch(proof, Some(&expected.chain));
    let passed = selfcheck(proof, &expected, purpose, &mut scratch).map_err(Rejection::Proof)?;
    let found = response.nonce;
    let wanted = passed.digest.nonce();
    if found != wanted {
        return Err(Rejection::Nonce { found, wanted });
    }
    let hash_pow = commit(proof).map_err(Rejection::Size)?.root;
    let header = BlockHeader { prefix, nonce: found, bits, hash_pow, flags: 0 };
    Ok(Accepted { passed, header })
}

/// The bits a proof's prefix holds; a prefix of another length is left to the later checks.
fn mined_bits(proof: &ProofRef<'_>) -> Option<CompactTarget> {
    let prefix: [u8; HeaderPrefix::LEN] = proof.header_prefix.try_into().ok()?;
    Some(HeaderPrefix::from_bytes(prefix).bits())
}

/// The block target of a chain's own template, for what is printed at the start.
///
/// # Errors
/// [`Rejection::Adjust`] when the settings leave nothing to mine.
pub fn block_target(settings: &ChainSettings) -> Result<Target, Rejection> {
    let adjusted = adjust_for_model(
        settings.block_bits,
        settings.model.difficulty,
        settings.normalizer,
        &Target::POW_LIMIT_TENSOR,
    )?;
    Ok(adjusted.target)
}
