//! The judgement every window passes before it leaves the engine: the node's quick verification,
//! and the bindings and conditions the node leaves open to the chain and to the verification
//! service. A window that fails is dead work; it is counted by the check that failed and sent
//! nowhere.
//!
//! The checks are [`crate::verify`]'s own; this file adds those named `S…`.

use crate::admission::extract;
use crate::credit::{CreditUnits, Tier};
use crate::interval::ReuseScore;
use crate::proof::{ProofRef, canonical};
use crate::units::{Digest, EVIDENCE_SLOTS, HeaderHash, HeaderPrefix, STATS, WINDOW};
use crate::verify::{
    Chain, Context, Detail, Engine, NoVerdict, Observer, Registry, Report, Scratch, Step, Stop, Vdf,
};
pub use crate::verify::{Check, Failure, Purpose};
use core::fmt;

/// Largest difference between `chosen_probs` and the recomputed upper bound. spec: verification §17
const EDGE_TOLERANCE: f32 = 0.005;
/// Units a sum must be clear of a tier's threshold: the service's f32 arithmetic moves the credit
/// of single steps by one. spec: admission §5
const CREDIT_MARGIN: u64 = 8;
/// What the reuse score must be clear of its cap: one step. The service widens masses by another
/// constant. spec: verification §10.1
const REUSE_MARGIN: u64 = 1 << 32;

/// What the proof is held against besides itself.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The job's prefix, with the adjusted compact target; `None` takes the proof's own.
    pub header_prefix: Option<&'a HeaderPrefix>,
    /// The chain, with the registered difficulty; [`Chain::assumed`] where nobody knows a height.
    /// Audits are held against none.
    pub chain: Chain,
    /// The registry's answer, where there is one.
    pub registry: Registry,
    /// The check of the VDF proof: an engine leaves it to whoever keeps the answers.
    pub vdf: Vdf<'a>,
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
    /// Credited entropy: the smaller of the exact and the node's sum.
    pub credit: CreditUnits,
    /// The admission tier of the window, whether or not version 3 is active.
    pub tier: Tier,
    /// Canonical length in bytes.
    pub canonical_len: u64,
}

/// Why a proof is not sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unsent {
    /// A check does not hold: nobody would accept it.
    Failed(Failure),
    /// The proof could not be judged, which says nothing about it.
    NoVerdict(NoVerdict),
}

impl Unsent {
    /// A short name for counters: the check's, or `no_verdict`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.check.id(),
            Self::NoVerdict(_) => "no_verdict",
        }
    }

    /// The check that failed.
    #[must_use]
    pub const fn check(&self) -> Option<Check> {
        match self {
            Self::Failed(failure) => Some(failure.check),
            Self::NoVerdict(_) => None,
        }
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::NoVerdict(why) => write!(f, "no verdict: {why}"),
        }
    }
}

impl core::error::Error for Unsent {}

impl From<Stop> for Unsent {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed(failure) => Self::Failed(failure),
            // For a miner a proof that no block can hold is a bad proof.
            Stop::NoVerdict(NoVerdict::TooLong(why)) => {
                let detail = Detail::AtMost { found: why.len, limit: why.limit };
                Self::Failed(Failure { check: Check::Size, step: None, detail })
            }
            Stop::NoVerdict(why) => Self::NoVerdict(why),
        }
    }
}

impl From<Failure> for Unsent {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Judges a proof before it is sent. spec: verification §17, sampler §11
///
/// # Errors
/// [`Unsent`] names the first check that does not hold, or why there is no judgement.
pub fn selfcheck(
    proof: &ProofRef<'_>,
    expected: &Expected<'_>,
    purpose: Purpose<'_>,
    scratch: &mut Scratch<'_>,
) -> Result<Passed, Unsent> {
    let audit = purpose == Purpose::Audit;
    // Audit records are version 1 and know no chain. The copy of a mined window that is marked as
    // one keeps its version, and its draws were made with its nonce. spec: sampler §9.1
    let copy = audit && proof.version >= 3 && extract(proof.extra_flags).is_some();
    let context = match audit && !copy {
        true => {
            Context { chain: Some(Chain::assumed(false, 0)), vdf: Vdf::Skip, ..Context::default() }
        }
        false => {
            let Expected { chain, registry, vdf, .. } = *expected;
            Context { chain: Some(chain), registry, vdf }
        }
    };
    let mut edges = Edges { proof, far: None };
    let mut engine = Engine::new(proof, &context, purpose, true, &mut edges).map_err(Stop::from)?;
    engine.preparation()?;
    engine.registration()?;
    engine.shape()?;
    bindings(&mut engine, expected, audit)?;
    engine.parameters()?;
    let (found, low, high) = (proof.repetition_penalty, 1.0, 1.0);
    engine.demand(found == 1.0, Check::Penalty, Detail::Range { found, low, high })?;
    let digest = engine.closing()?;
    engine.header(&digest)?;
    engine.evidence()?;
    records(proof)?;
    engine.draws(scratch)?;
    if let Some((step, draw)) = (0..)
        .zip(scratch.draws.iter().take(engine.proof().chosen_tokens.len()))
        .find(|(_, draw)| **draw >= 1.0)
    {
        let detail = Detail::Draw(*draw);
        return Err(Failure { check: Check::DrawBelowOne, step: Some(step), detail }.into());
    }
    engine.sequence(scratch)?;
    margins(&mut engine, &context, audit)?;
    let report = engine.report;
    edges.far.map_or(Ok(()), Err)?;
    passed(proof, &report, digest).ok_or(Unsent::NoVerdict(NoVerdict::Incomplete))
}

/// The figures of a proof that passed; all of them are there by then.
fn passed(proof: &ProofRef<'_>, report: &Report, digest: Digest) -> Option<Passed> {
    Some(Passed {
        steps: report.steps as usize,
        least_margin: report.least_margin?,
        digest,
        header_hash: report.header_hash?,
        reuse_score: report.reuse_score,
        credit: report.credit.least(),
        tier: report.tier?,
        canonical_len: canonical::canonical_len(proof),
    })
}

/// What the node leaves to the chain, and what the service wants. spec: verification §10.1, §17
fn bindings(
    engine: &mut Engine<'_, '_>,
    expected: &Expected<'_>,
    audit: bool,
) -> Result<(), Failure> {
    let proof = engine.proof();
    let tokens = proof.chosen_tokens.len();
    engine.count(Check::WindowSize, tokens, WINDOW)?;
    let job = expected.header_prefix.is_none_or(|job| job.as_bytes() == proof.header_prefix);
    engine.demand(job, Check::JobPrefix, Detail::None)?;
    let parent = proof.header_prefix.get(4..36) == Some(proof.block_hash);
    engine.demand(parent, Check::Parent, Detail::None)?;
    let prompt = proof.prompt_tokens.len();
    let detail = Detail::AtLeast { found: prompt as u64, least: 1 };
    engine.demand(prompt > 0, Check::Prompt, detail)?;
    engine.count(Check::Mask, proof.pad_mask.len(), prompt)?;
    let detail = Detail::AtMost { found: proof.tick, limit: u32::MAX.into() };
    engine.demand(u32::try_from(proof.tick).is_ok(), Check::Tick, detail)?;
    let ats = proof.model_identifier.iter().filter(|b| **b == b'@').count();
    engine.count(Check::Identifier, ats, 1)?;
    for list in
        [proof.chosen_probs.len(), proof.softmax_normalizers.len(), proof.logsumexp_stats.len()]
    {
        engine.count(Check::Lists, list, tokens)?;
    }
    let least = match audit {
        true => 0,
        false => expected.chain.params.least_version(expected.chain.height),
    };
    let detail = Detail::AtLeast { found: proof.version.into(), least: least.into() };
    engine.demand(proof.version >= least, Check::Version, detail)
}

/// Widths of the records and the precision grid. spec: verification §13.1, §17
fn records(proof: &ProofRef<'_>) -> Result<(), Failure> {
    let fraction_bits = fraction_bits(proof.compute_precision);
    for (step, at) in (0..).zip(0..proof.chosen_tokens.len()) {
        let refuse = |check, detail| Err(Failure { check, step: Some(step), detail });
        let (logits, stats) = (proof.topk_logits.row(at), proof.logsumexp_stats.row(at));
        for (found, wanted) in [(logits.len(), EVIDENCE_SLOTS), (stats.len(), STATS)] {
            if found != wanted {
                let (found, wanted) = (found as u64, wanted as u64);
                return refuse(Check::Widths, Detail::Count { found, wanted });
            }
        }
        let on_grid = |l: &f32| fraction_bits.is_some_and(|bits| on_grid(*l, bits));
        if let Some(off) = logits.iter_f32().find(|l| !on_grid(l)) {
            return refuse(Check::Grid, Detail::Finite(off));
        }
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

/// Sums close to a threshold are left to luck by no one. spec: verification §17 item 5
fn margins(engine: &mut Engine<'_, '_>, context: &Context<'_>, audit: bool) -> Result<(), Failure> {
    let report = engine.report;
    if let Some(chain) = context.chain.filter(|_| report.v3_active) {
        let params = chain.params;
        let bits = if report.nonce.is_some() { params.floor_bits } else { params.free_bits };
        let least = CreditUnits(CreditUnits::from_bits(bits).0.saturating_add(CREDIT_MARGIN));
        let found = report.credit.least();
        engine.demand(found >= least, Check::CreditMargin, Detail::Credit { found, least })?;
    }
    if engine.proof().version < 2 || audit {
        return Ok(());
    }
    let (found, limit) = (report.reuse_score, ReuseScore::CAP - REUSE_MARGIN);
    engine.demand(found <= limit, Check::ReuseMargin, Detail::Score { found, limit })
}

/// Compares recorded with recomputed edges as the steps pass by. spec: verification §17 item 4
struct Edges<'a> {
    proof: &'a ProofRef<'a>,
    /// The first that is too far off.
    far: Option<Failure>,
}

impl Observer for Edges<'_> {
    fn step(&mut self, step: &Step) {
        let found = self.proof.chosen_probs.f32_at(step.j as usize).unwrap_or(f32::NAN);
        let (wanted, within) = (step.interval.upper, EDGE_TOLERANCE);
        let distance = (found - wanted).abs();
        if self.far.is_none() && (distance.is_nan() || distance > within) {
            let detail = Detail::Near { found, wanted, within };
            self.far = Some(Failure { check: Check::Edges, step: Some(step.j), detail });
        }
    }
}
