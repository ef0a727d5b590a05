//! The checks that look at single fields: registration, sizes, parameters, closing digest, header.
//! Each of them is one function; who calls them in which order is said by the entry points.

use super::context::{Chain, Context, Registry, Vdf};
use super::network::Params;
use super::report::{NoVerdict, Observer, Report};
use super::{Check, Detail, Failure};
use crate::admission;
use crate::classify::{HeaderTestError, judge, node_header_test};
use crate::header::header_hash;
use crate::proof::{ProofRef, TooLong, canonical};
use crate::replay;
use crate::target::Target;
use crate::units::{AdmissionNonce, Digest, HeaderPrefix};

/// What a proof is judged as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A block solution: the header hash meets the proof's target.
    Solution,
    /// A share: the header hash meets this target.
    Share(&'a Target),
    /// An audit record: no header test, wider parameters.
    Audit,
}

/// Why a verification ends early.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stop {
    /// A check does not hold.
    Failed(Failure),
    /// There will be no verdict.
    NoVerdict(NoVerdict),
}

impl From<Failure> for Stop {
    fn from(why: Failure) -> Self {
        Self::Failed(why)
    }
}

impl From<NoVerdict> for Stop {
    fn from(why: NoVerdict) -> Self {
        Self::NoVerdict(why)
    }
}

/// One verification under way.
pub(crate) struct Engine<'e, 'p> {
    pub(super) proof: &'e ProofRef<'p>,
    pub(super) context: &'e Context<'e>,
    pub(super) purpose: Purpose<'e>,
    /// The smaller of both credit sums counts, as for a self-check.
    pub(super) cautious: bool,
    pub(super) observer: &'e mut dyn Observer,
    pub(crate) report: Report,
}

impl<'e, 'p> Engine<'e, 'p> {
    /// Begins. The v3 preparation happens here as far as it cannot fail: whether the rules are on,
    /// and which nonce is claimed. spec: verification §8.1
    ///
    /// # Errors
    /// [`NoVerdict::TooLong`] bounds the work of everything that follows.
    pub(crate) fn new(
        proof: &'e ProofRef<'p>,
        context: &'e Context<'e>,
        purpose: Purpose<'e>,
        cautious: bool,
        observer: &'e mut dyn Observer,
    ) -> Result<Self, NoVerdict> {
        fits(proof)?;
        let active = context.chain.is_some_and(|chain| chain.is_v3_active_for(proof.version));
        let report = Report {
            v3_active: active,
            nonce: if active { admission::extract(proof.extra_flags) } else { None },
            header_hash: prefix(proof)
                .zip(proof.hash.first_chunk())
                .map(|(prefix, nonce)| header_hash(&prefix, *nonce)),
            ..Report::default()
        };
        Ok(Self { proof, context, purpose, cautious, observer, report })
    }

    /// The report, once the checks are through or stopped.
    ///
    /// # Errors
    /// [`NoVerdict`] when that stopped them.
    pub(crate) fn finish(mut self, outcome: Result<(), Stop>) -> Result<Report, NoVerdict> {
        match outcome {
            Ok(()) => {}
            Err(Stop::Failed(failure)) => self.report.failure = Some(failure),
            Err(Stop::NoVerdict(why)) => return Err(why),
        }
        Ok(self.report)
    }

    /// The proof under judgement.
    pub(crate) fn proof(&self) -> &'e ProofRef<'p> {
        self.proof
    }

    /// The claimed nonce, which every digest of the window then ends with.
    pub(crate) fn nonce(&self) -> Option<AdmissionNonce> {
        self.report.nonce
    }

    /// The chain's parameters; without a chain those every network shares.
    pub(super) fn params(&self) -> Params {
        self.context.chain.map_or(Params::REGTEST, |chain| chain.params)
    }

    /// Notes a check that holds, or stops.
    pub(crate) fn demand(
        &mut self,
        holds: bool,
        check: Check,
        detail: Detail,
    ) -> Result<(), Failure> {
        if holds {
            self.observer.passed(check, detail);
            Ok(())
        } else {
            Err(Failure { check, step: None, detail })
        }
    }

    /// Q01. spec: verification §8.1
    pub(crate) fn preparation(&mut self) -> Result<(), Failure> {
        let same = self.params().admission_is_compiled_in();
        self.demand(!self.report.v3_active || same, Check::Preparation, Detail::None)
    }

    /// Q02–Q05. spec: verification §4
    pub(crate) fn registration(&mut self) -> Result<(), Failure> {
        let registry = self.context.registry;
        if registry == Registry::Absent {
            return Ok(());
        }
        self.demand(self.proof.model_identifier.contains(&b'@'), Check::ModelCommit, Detail::None)?;
        self.demand(registry != Registry::Unknown, Check::ModelKnown, Detail::None)?;
        let Registry::Registered(difficulty) = registry else {
            return self.demand(false, Check::ModelRecord, Detail::None);
        };
        self.demand(true, Check::ModelRecord, Detail::None)?;
        self.demand(difficulty > 0, Check::ModelDifficulty, Detail::Difficulty(difficulty))
    }

    /// Q10–Q18. spec: verification §4
    pub(crate) fn shape(&mut self) -> Result<(), Stop> {
        let proof = self.proof;
        for (check, field) in [
            (Check::HashPresent, proof.hash),
            (Check::ModelPresent, proof.model_identifier),
            (Check::VdfPresent, proof.vdf),
        ] {
            let found = field.len() as u64;
            self.demand(found > 0, check, Detail::AtLeast { found, least: 1 })?;
        }
        self.count(Check::PrefixLength, proof.header_prefix.len(), HeaderPrefix::LEN)?;
        self.vdf()?;
        let window = proof.chosen_tokens.len();
        let found = window as u64;
        self.demand(window > 0, Check::TokensPresent, Detail::AtLeast { found, least: 1 })?;
        if let Some(Chain { params: Params { window: Some(wanted), .. }, .. }) = self.context.chain
        {
            self.count(Check::WindowSize, window, wanted as usize)?;
        }
        self.count(Check::LogitRows, proof.topk_logits.len(), window)?;
        self.count(Check::IdRows, proof.topk_indices.len(), window)?;
        Ok(())
    }

    /// Exactly so many.
    pub(crate) fn count(
        &mut self,
        check: Check,
        found: usize,
        wanted: usize,
    ) -> Result<(), Failure> {
        let detail = Detail::Count { found: found as u64, wanted: wanted as u64 };
        self.demand(found == wanted, check, detail)
    }

    /// Q14. spec: verification §4, vdf §9
    fn vdf(&mut self) -> Result<(), Stop> {
        let Some(prefix) = prefix(self.proof) else { return Ok(()) };
        let (challenge, tick, blob) = (prefix.parent(), self.proof.tick, self.proof.vdf);
        let holds = match self.context.vdf {
            Vdf::Skip => return Ok(()),
            Vdf::Verify => crate::vdf::verify(&challenge, tick, blob).is_ok(),
            Vdf::Ask(oracle) => oracle(&challenge, tick, blob).ok_or(NoVerdict::Vdf)?,
        };
        Ok(self.demand(holds, Check::Vdf, Detail::None)?)
    }

    /// Q20–Q27, and for audits what the service's logits tier asks instead.
    /// spec: verification §4, §4.2, §11
    pub(crate) fn parameters(&mut self) -> Result<(), Failure> {
        /// The f32 nearest to 0.1.
        const LEAST_TOP_P: f32 = 0.1;
        let proof = self.proof;
        let (temperature, top_p, top_k) = (proof.temperature, proof.top_p, proof.top_k);
        let penalty = proof.repetition_penalty;
        // "Above 0" is "at least the smallest positive number".
        let above_zero = f32::from_bits(1);
        let (least_t, least_p, least_k) = match self.purpose {
            Purpose::Audit => (above_zero, above_zero, 1),
            Purpose::Solution | Purpose::Share(_) => (0.25, LEAST_TOP_P, 5),
        };
        self.number(Check::TemperatureFinite, Check::Temperature, temperature, least_t, 2.0)?;
        self.number(Check::TopPFinite, Check::TopP, top_p, least_p, 1.0)?;
        let detail = Detail::Between { found: top_k.into(), least: least_k, limit: 50 };
        self.demand((least_k..=50).contains(&top_k.into()), Check::TopK, detail)?;
        self.count(Check::DrawCount, proof.sampling_u.len(), proof.chosen_tokens.len())?;
        // A NaN is neither, and left to Q54.
        let outside = |u: f32| !u.is_nan() && !(0.0..1.0).contains(&u);
        if let Some((step, found)) =
            (0..).zip(proof.sampling_u.iter_f32()).find(|(_, u)| outside(*u))
        {
            let detail = Detail::Draw(found);
            return Err(Failure { check: Check::DrawRange, step: Some(step), detail });
        }
        self.demand(true, Check::DrawRange, Detail::None)?;
        let detail = Detail::Profile { temperature, top_p, top_k, repetition_penalty: penalty };
        if self.report.v3_active {
            let fixed = temperature == 1.0 && top_p == 1.0 && top_k == 50 && penalty == 1.0;
            self.demand(fixed, Check::V3Profile, detail)?;
        }
        self.demand(penalty.is_finite(), Check::PenaltyFinite, Detail::Finite(penalty))
    }

    /// Finite, then in its range.
    fn number(
        &mut self,
        finite: Check,
        range: Check,
        found: f32,
        low: f32,
        high: f32,
    ) -> Result<(), Failure> {
        self.demand(found.is_finite(), finite, Detail::Finite(found))?;
        self.demand((low..=high).contains(&found), range, Detail::Range { found, low, high })
    }

    /// Q30–Q31. spec: verification §4, §5.3
    pub(crate) fn closing(&mut self) -> Result<Digest, Failure> {
        let claimed: Option<Digest> = self.proof.hash.try_into().ok().map(Digest::from_bytes);
        self.count(Check::HashLength, self.proof.hash.len(), Digest::LEN)?;
        let wanted = replay::closing_digest(self.proof, self.nonce().as_ref());
        self.report.digest = Some(wanted);
        let detail = Detail::Digest { found: claimed, wanted };
        self.demand(claimed == Some(wanted), Check::ClosingDigest, detail)?;
        Ok(wanted)
    }

    /// Q40–Q45; a share is held against its own threshold, an audit against none.
    /// spec: verification §4, §17
    pub(crate) fn header(&mut self, digest: &Digest) -> Result<(), Failure> {
        let proof = self.proof;
        if self.purpose == Purpose::Audit {
            return Ok(());
        }
        let found = proof.hash.len() as u64;
        self.demand(found >= 4, Check::NonceBytes, Detail::AtLeast { found, least: 4 })?;
        self.count(Check::TargetLength, proof.target.len(), 32)?;
        self.count(Check::HeaderLength, proof.header_prefix.len(), HeaderPrefix::LEN)?;
        let Some((prefix, target)) = prefix(proof).zip(proof.target.try_into().ok()) else {
            return Ok(()); // both lengths were just demanded
        };
        let target = Target::from_be_bytes(target);
        let (bits, wanted) = (prefix.bits(), prefix.bits().expand().target);
        let test = node_header_test(&prefix, digest, &target);
        let is = |fault| test == Err(fault);
        let valid = !is(HeaderTestError::InvalidBits);
        self.demand(valid, Check::CompactBits, Detail::Bits(bits))?;
        let matches = !is(HeaderTestError::TargetMismatch);
        self.demand(matches, Check::TargetMatches, Detail::Target { found: target, wanted })?;
        let threshold = match self.purpose {
            Purpose::Share(share) => *share,
            Purpose::Solution | Purpose::Audit => target,
        };
        let verdict = judge(&prefix, digest, &threshold, None);
        let detail = Detail::Hash { found: verdict.header_hash, target: threshold };
        self.demand(verdict.is_solution, Check::HeaderHash, detail)
    }
}

/// What no block can hold is not worked on. spec: verification §16
pub(super) fn fits(proof: &ProofRef<'_>) -> Result<(), NoVerdict> {
    let (len, limit) = (canonical::canonical_len(proof), canonical::MAX_CANONICAL_LEN);
    if len > limit { Err(NoVerdict::TooLong(TooLong { len, limit })) } else { Ok(()) }
}

/// The prefix, if it has its 76 bytes.
pub(crate) fn prefix(proof: &ProofRef<'_>) -> Option<HeaderPrefix> {
    proof.header_prefix.try_into().ok().map(HeaderPrefix::from_bytes)
}
