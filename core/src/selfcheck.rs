//! The judgement every window passes before it leaves the engine: what the node would check on it
//! without the model and without its VDF, and the bindings the node leaves open. A window that
//! fails is dead work; it is counted by the check that failed and sent nowhere.
//!
//! Checks are named as in `verification.md` §4 (`Q61`), those of §17 that the node does not make
//! as `S…`. Not here: the VDF (Q14), the registry (Q02–Q05) and the admission of version 3
//! (Q70–Q76).

use crate::classify::{HeaderTestError, judge, node_header_test};
use crate::interval::{ReuseScore, TOLERANCE};
use crate::proof::{ProofRef, canonical};
use crate::replay;
use crate::target::Target;
use crate::units::{
    AdmissionNonce, Digest, EVIDENCE_SLOTS, HeaderHash, HeaderPrefix, STATS, WINDOW,
};
use core::fmt;

/// Largest difference between a claimed and a recomputed draw. spec: verification §5.4
const DRAW_TOLERANCE: f32 = f32::from_bits(0x33D6_BF95);
/// Largest difference between `chosen_probs` and the recomputed upper bound. spec: verification §17
const EDGE_TOLERANCE: f32 = 0.005;

/// What a proof is about to be sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A block solution: the header hash meets the proof's target.
    Solution,
    /// A share: the header hash meets this target.
    Share(&'a Target),
    /// An audit record: no header test, wider parameters.
    Audit,
}

/// What the proof is held against.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The job's prefix, with the adjusted compact target; `None` takes the proof's own.
    pub header_prefix: Option<&'a HeaderPrefix>,
    /// The window's admission nonce.
    pub nonce: Option<&'a AdmissionNonce>,
    /// The chain is held to have version 3 active, which fixes the sampling profile.
    pub v3_active: bool,
}

/// What was seen on a proof that passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passed {
    /// Steps whose draw lies in its interval: all of them.
    pub steps: usize,
    /// Smallest distance of a draw from an edge of its interval widened by the tolerance.
    pub least_margin: f32,
    /// The closing digest.
    pub digest: Digest,
    /// The header hash.
    pub header_hash: HeaderHash,
    /// The reuse-entropy score, in units of 2^-32.
    pub reuse_score: u64,
    /// Canonical length in bytes.
    pub canonical_len: u64,
}

/// A check and where it failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failed {
    /// The check.
    pub check: Check,
    /// The step, for checks that are made per step.
    pub step: Option<u32>,
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        /// The checks, in the order they are made.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Check { $($(#[$doc])* $name,)* }

        impl Check {
            /// All checks, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The check's identifier, for counters and reports.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What the check demands, in words.
            #[must_use]
            pub const fn demand(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

checks! {
    /// `hash` is there.
    HashPresent = "Q10", "hash is present";
    /// `model_identifier` is there.
    ModelPresent = "Q11", "model_identifier is present";
    /// `vdf` is there.
    VdfPresent = "Q12", "vdf is present";
    /// The prefix has 76 bytes.
    PrefixLength = "Q13", "header_prefix has 76 bytes";
    /// There are tokens.
    TokensPresent = "Q15", "chosen_tokens are present";
    /// The window has 256 tokens.
    WindowSize = "Q16", "the window has 256 tokens";
    /// One row of logits per token.
    LogitRows = "Q17", "one evidence row of logits per token";
    /// One row of ids per token.
    IdRows = "Q18", "one evidence row of ids per token";
    /// The temperature is in its range.
    Temperature = "Q21", "temperature is finite and in range";
    /// Top-p is in its range.
    TopP = "Q23", "top_p is finite and in range";
    /// Top-k is in its range.
    TopK = "Q24", "top_k is in range";
    /// One draw per token.
    DrawCount = "Q25", "one sampling_u per token";
    /// Every claimed draw is in `[0, 1)`.
    DrawRange = "Q26", "every sampling_u lies in [0, 1)";
    /// The version-3 profile.
    V3Profile = "Q27", "version 3 fixes temperature 1, top_p 1, top_k 50, repetition_penalty 1";
    /// `hash` has 32 bytes.
    HashLength = "Q30", "hash has 32 bytes";
    /// The closing digest.
    ClosingDigest = "Q31", "hash is the closing digest of the window";
    /// `target` has 32 bytes.
    TargetLength = "Q41", "target has 32 bytes";
    /// The prefix's compact target is one.
    CompactBits = "Q43", "the prefix's compact target is neither negative nor too large";
    /// `target` is the prefix's.
    TargetMatches = "Q44", "target is the expansion of the prefix's compact target";
    /// The header test.
    HeaderHash = "Q45", "the header hash meets the target";
    /// Logits and ids of a step pair up.
    RowsPair = "Q50", "logits and ids of a step have the same number";
    /// Evidence logits are finite.
    LogitsFinite = "Q51", "every evidence logit is finite";
    /// Recorded edges are finite.
    EdgesFinite = "Q52", "chosen_probs are finite";
    /// Recorded edges are in their range.
    EdgesRange = "Q53", "chosen_probs lie in [0, 1] within 1e-6";
    /// Statistics are finite.
    StatsFinite = "Q55", "logsumexp_stats are finite";
    /// Claimed draws are the recomputed ones.
    Draws = "Q60", "every sampling_u is the recomputed draw";
    /// Draws lie in their intervals.
    Intervals = "Q61", "every draw lies in the interval of its token";
    /// The bounds make a range.
    ReuseBounds = "Q80", "interval bounds are finite and ordered";
    /// The reuse-entropy cap.
    ReuseScore = "Q81", "the reuse-entropy score is within the cap";
    /// The prefix is the job's.
    JobPrefix = "S01", "header_prefix is the job's";
    /// `block_hash` is the parent of the prefix.
    Parent = "S02", "block_hash is the parent in the prefix";
    /// The penalty is neutral, whatever the version.
    Penalty = "S03", "repetition_penalty is 1";
    /// The prompt is not empty.
    Prompt = "S04", "the prompt is not empty";
    /// The mask covers the prompt.
    Mask = "S05", "pad_mask is as long as the prompt";
    /// The tick fits the verifier.
    Tick = "S06", "tick fits 32 bits";
    /// The identifier is `name@commit`.
    Identifier = "S07", "model_identifier has exactly one @";
    /// Rows have the network's widths.
    Widths = "S08", "rows have 70 evidence entries and 6 statistics";
    /// Per-token lists are complete.
    Lists = "S09", "chosen_probs, softmax_normalizers and statistics have one entry per token";
    /// The logits lie on the declared grid.
    Grid = "S10", "evidence logits lie on the grid of compute_precision";
    /// Recorded edges are near the recomputed ones.
    Edges = "S11", "chosen_probs are within 0.005 of the recomputed edge";
    /// The canonical form is small enough.
    Size = "S12", "the canonical form has at most 1 000 000 bytes";
    /// A recomputed draw below 1.
    DrawBelowOne = "S13", "no recomputed draw is 1";
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.check.id())?;
        if let Some(step) = self.step {
            write!(f, " at step {step}")?;
        }
        write!(f, ": {}", self.check.demand())
    }
}

impl core::error::Error for Failed {}

/// `Ok` or the failed check.
fn demand(holds: bool, check: Check) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(Failed { check, step: None }) }
}

/// [`demand`] of one step.
fn demand_at(holds: bool, check: Check, step: u32) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(Failed { check, step: Some(step) }) }
}

/// Judges a proof before it is sent. spec: verification §17, sampler §11
///
/// # Errors
/// [`Failed`] names the first check that does not hold.
pub fn selfcheck(
    proof: &ProofRef<'_>,
    expected: &Expected<'_>,
    purpose: Purpose<'_>,
) -> Result<Passed, Failed> {
    let shape = shape(proof, expected)?;
    parameters(proof, expected, purpose)?;
    let digest = closing(proof, expected)?;
    let header_hash = header(proof, &shape.prefix, &digest, purpose)?;
    evidence(proof)?;
    let replayed = sequence(proof, expected, purpose)?;
    let canonical_len = canonical::canonical_len(proof);
    demand(canonical_len <= canonical::MAX_CANONICAL_LEN, Check::Size)?;
    Ok(Passed {
        steps: proof.chosen_tokens.len(),
        least_margin: replayed.least_margin,
        digest,
        header_hash,
        reuse_score: replayed.reuse.get(),
        canonical_len,
    })
}

struct Shape {
    prefix: HeaderPrefix,
}

/// Sizes and bindings. spec: verification §4 Q10–Q18, §10.1, §17
fn shape(proof: &ProofRef<'_>, expected: &Expected<'_>) -> Result<Shape, Failed> {
    demand(!proof.hash.is_empty(), Check::HashPresent)?;
    demand(!proof.model_identifier.is_empty(), Check::ModelPresent)?;
    demand(!proof.vdf.is_empty(), Check::VdfPresent)?;
    let prefix = proof.header_prefix.try_into().map(HeaderPrefix::from_bytes);
    let prefix = prefix.map_err(|_| Failed { check: Check::PrefixLength, step: None })?;
    let tokens = proof.chosen_tokens.len();
    demand(tokens > 0, Check::TokensPresent)?;
    demand(tokens == WINDOW, Check::WindowSize)?;
    demand(proof.topk_logits.len() == tokens, Check::LogitRows)?;
    demand(proof.topk_indices.len() == tokens, Check::IdRows)?;
    demand(expected.header_prefix.is_none_or(|job| *job == prefix), Check::JobPrefix)?;
    demand(proof.block_hash == prefix.parent().as_bytes(), Check::Parent)?;
    demand(!proof.prompt_tokens.is_empty(), Check::Prompt)?;
    demand(proof.pad_mask.len() == proof.prompt_tokens.len(), Check::Mask)?;
    demand(u32::try_from(proof.tick).is_ok(), Check::Tick)?;
    let ats = proof.model_identifier.iter().filter(|b| **b == b'@').count();
    demand(ats == 1, Check::Identifier)?;
    let lists = [proof.chosen_probs.len(), proof.softmax_normalizers.len()];
    demand(lists == [tokens; 2] && proof.logsumexp_stats.len() == tokens, Check::Lists)?;
    Ok(Shape { prefix })
}

/// Sampling numbers. spec: verification §4 Q20–Q27, §11 for audits
fn parameters(
    proof: &ProofRef<'_>,
    expected: &Expected<'_>,
    purpose: Purpose<'_>,
) -> Result<(), Failed> {
    let (t, p, k) = (proof.temperature, proof.top_p, proof.top_k);
    let audit = purpose == Purpose::Audit;
    let (t_ok, p_ok, k_ok) = if audit {
        (t > 0.0 && t <= 2.0, p > 0.0 && p <= 1.0, (1..=50).contains(&k))
    } else {
        ((0.25..=2.0).contains(&t), (0.1..=1.0).contains(&p), (5..=50).contains(&k))
    };
    demand(t_ok, Check::Temperature)?;
    demand(p_ok, Check::TopP)?;
    demand(k_ok, Check::TopK)?;
    demand(proof.sampling_u.len() == proof.chosen_tokens.len(), Check::DrawCount)?;
    for (step, u) in (0..).zip(proof.sampling_u.iter_f32()) {
        demand_at((0.0..1.0).contains(&u), Check::DrawRange, step)?;
    }
    demand(proof.repetition_penalty == 1.0, Check::Penalty)?;
    let fixed = expected.v3_active && proof.version >= 3 && !audit;
    demand(!fixed || (t == 1.0 && p == 1.0 && k == 50), Check::V3Profile)
}

/// The closing digest. spec: verification §4 Q30–Q31
fn closing(proof: &ProofRef<'_>, expected: &Expected<'_>) -> Result<Digest, Failed> {
    let claimed = proof.hash.try_into().map(Digest::from_bytes);
    let claimed = claimed.map_err(|_| Failed { check: Check::HashLength, step: None })?;
    let digest = replay::closing_digest(proof, expected.nonce);
    demand(claimed == digest, Check::ClosingDigest)?;
    Ok(digest)
}

/// The header test, for shares against their own target. spec: verification §4 Q41–Q45, §17
fn header(
    proof: &ProofRef<'_>,
    prefix: &HeaderPrefix,
    digest: &Digest,
    purpose: Purpose<'_>,
) -> Result<HeaderHash, Failed> {
    let target = proof.target.try_into().map(Target::from_be_bytes);
    let target = target.map_err(|_| Failed { check: Check::TargetLength, step: None })?;
    let verdict = judge(prefix, digest, &target, None);
    if purpose == Purpose::Audit {
        return Ok(verdict.header_hash);
    }
    match (node_header_test(prefix, digest, &target), purpose) {
        (Ok(()), Purpose::Solution) => {}
        (Ok(()) | Err(HeaderTestError::HighHash), Purpose::Share(share)) => {
            demand(share.is_met_by(&verdict.header_hash), Check::HeaderHash)?;
        }
        (Err(HeaderTestError::InvalidBits), _) => demand(false, Check::CompactBits)?,
        (Err(HeaderTestError::TargetMismatch), _) => demand(false, Check::TargetMatches)?,
        _ => demand(false, Check::HeaderHash)?,
    }
    Ok(verdict.header_hash)
}

/// Finite values, widths and the precision grid. spec: verification §4 Q50–Q55, §17
fn evidence(proof: &ProofRef<'_>) -> Result<(), Failed> {
    let fraction_bits = fraction_bits(proof.compute_precision);
    for (step, _) in (0..).zip(proof.chosen_tokens.iter()) {
        let at = step as usize;
        let (logits, ids) = (proof.topk_logits.row(at), proof.topk_indices.row(at));
        let stats = proof.logsumexp_stats.row(at);
        demand_at(logits.len() == ids.len(), Check::RowsPair, step)?;
        demand_at(logits.iter_f32().all(f32::is_finite), Check::LogitsFinite, step)?;
        let edge = proof.chosen_probs.f32_at(at).unwrap_or(f32::NAN);
        demand_at(edge.is_finite(), Check::EdgesFinite, step)?;
        demand_at((-1e-6..=1.0 + 1e-6).contains(&edge), Check::EdgesRange, step)?;
        demand_at(stats.iter_f32().all(f32::is_finite), Check::StatsFinite, step)?;
        let widths = (logits.len(), stats.len());
        demand_at(widths == (EVIDENCE_SLOTS, STATS), Check::Widths, step)?;
        let on_grid = |l| fraction_bits.is_some_and(|bits| on_grid(l, bits));
        demand_at(logits.iter_f32().all(on_grid), Check::Grid, step)?;
    }
    Ok(())
}

/// Fraction bits of a label's type; none for labels that full replay turns RED.
/// spec: verification §13.1
fn fraction_bits(label: &[u8]) -> Option<i32> {
    match label {
        b"fp16" => Some(10),
        b"bf16" | b"fp8" => Some(7),
        _ => None,
    }
}

/// The replay's grid rule: within 1e-6 + 1e-5·|l| of a multiple of the type's spacing at `l`, which
/// is 2^(exponent − fraction bits) with the exponent of a normal f32. spec: verification §13.1
fn on_grid(logit: f32, fraction_bits: i32) -> bool {
    // Zero and subnormals count as exponent −126.
    let biased = (logit.to_bits() >> 23 & 0xFF).max(1);
    let exponent = i32::try_from(biased).unwrap_or(1) - 127;
    let spacing = libm::ldexp(1.0, exponent - fraction_bits);
    let x = f64::from(logit);
    let snapped = spacing * libm::rint(x / spacing);
    (snapped - x).abs() <= 1e-6 + 1e-5 * x.abs()
}

struct Replayed {
    least_margin: f32,
    reuse: ReuseScore,
}

/// Draws, intervals and the reuse gate. spec: verification §4 Q60–Q61, Q80–Q81, §17
fn sequence(
    proof: &ProofRef<'_>,
    expected: &Expected<'_>,
    purpose: Purpose<'_>,
) -> Result<Replayed, Failed> {
    let mut least_margin = f32::INFINITY;
    let mut reuse = ReuseScore::default();
    for step in replay::steps(proof, expected.nonce) {
        let u = step.draw.get();
        demand_at(u < 1.0, Check::DrawBelowOne, step.j)?;
        demand_at((u - step.claimed).abs() <= DRAW_TOLERANCE, Check::Draws, step.j)?;
        let Ok(interval) = step.interval else {
            return Err(Failed { check: Check::RowsPair, step: Some(step.j) });
        };
        demand_at(interval.inside, Check::Intervals, step.j)?;
        let edge = proof.chosen_probs.f32_at(step.j as usize).unwrap_or(f32::NAN);
        demand_at((edge - interval.upper).abs() <= EDGE_TOLERANCE, Check::Edges, step.j)?;
        let margin = (u - (interval.lower - TOLERANCE)).min(interval.upper + TOLERANCE - u);
        least_margin = least_margin.min(margin);
        // The gate belongs to versions 2 and up; audits are written as version 1.
        if proof.version >= 2 && purpose != Purpose::Audit {
            let added = reuse.add(interval.lower, interval.upper);
            demand_at(added.is_ok(), Check::ReuseBounds, step.j)?;
            demand_at(!reuse.exceeds_cap(), Check::ReuseScore, step.j)?;
        }
    }
    Ok(Replayed { least_margin, reuse })
}
