//! The checks on what a window's intervals add up to: tier and admission of version 3, then the
//! reuse-entropy gate.

use super::context::Registry;
use super::engine::{Engine, Purpose, Stop};
use super::report::NoVerdict;
use super::scratch::Scratch;
use super::sequence::Sums;
use super::{Check, Detail, Failure};
use crate::admission::{self, AdmissionFault};
use crate::credit::{CreditUnits, Tier, tier};
use crate::interval::ReuseScore;
use crate::units::AdmissionNonce;

impl Engine<'_, '_> {
    /// Q61–Q81: the intervals, the tier with its puzzle, the reuse gate, in this order.
    /// spec: verification §4
    pub(crate) fn sequence(&mut self, scratch: &mut Scratch<'_>) -> Result<(), Stop> {
        let sums = self.intervals(scratch)?;
        self.admission(&sums, scratch)?;
        Ok(self.reuse(&sums)?)
    }

    /// Q70–Q76. spec: verification §8.2, admission §7
    fn admission(&mut self, sums: &Sums, scratch: &mut Scratch<'_>) -> Result<(), Stop> {
        let params = self.params();
        let floor = CreditUnits::from_bits(params.floor_bits);
        let free = CreditUnits::from_bits(params.free_bits);
        let credit = self.report.credit;
        if sums.bad_credit.is_none() {
            self.report.tier = Some(tier(credit.node(), floor, free));
        }
        if !self.report.v3_active {
            return Ok(());
        }
        if let Some((step, bounds)) = sums.bad_credit {
            let detail = Detail::Bounds { lower: bounds.lower, upper: bounds.upper };
            return Err(Failure { check: Check::CreditBounds, step: Some(step), detail }.into());
        }
        self.demand(true, Check::CreditBounds, Detail::None)?;
        let found = if self.cautious { credit.least() } else { credit.node() };
        let tier = tier(found, floor, free);
        let reaches_floor = tier != Tier::Invalid;
        self.demand(reaches_floor, Check::CreditFloor, Detail::Credit { found, least: floor })?;
        let nonce = self.nonce();
        let enough = tier == Tier::Free || nonce.is_some();
        self.demand(enough, Check::NonceClaimed, Detail::Credit { found, least: free })?;
        nonce.map_or(Ok(()), |nonce| self.puzzle(&nonce, scratch))
    }

    /// Q73–Q76: a claimed nonce is verified in every tier. spec: verification §8.2, admission §8
    fn puzzle(&mut self, nonce: &AdmissionNonce, scratch: &mut Scratch<'_>) -> Result<(), Stop> {
        let of_chain = self.context.chain.map_or(0, |chain| chain.difficulty);
        let difficulty = match self.context.registry {
            Registry::Registered(of_record) if of_chain <= 0 => of_record,
            _ => of_chain,
        };
        let detail = Detail::Difficulty(difficulty);
        self.demand(difficulty > 0, Check::PuzzleDifficulty, detail)?;
        let (mask, prompt) = (self.proof.pad_mask.len(), self.proof.prompt_tokens.len());
        let (found, wanted) = (mask as u64, prompt as u64);
        let covers = mask == 0 || mask == prompt;
        self.demand(covers, Check::PuzzleMask, Detail::Count { found, wanted })?;
        let lent = scratch.admission.as_mut().ok_or(NoVerdict::AdmissionMemory)?;
        match admission::judge(self.proof, nonce, difficulty, lent) {
            Ok(solved) => {
                // The encoding is judged first, but it is Q75 that the node names first.
                self.demand(solved, Check::Puzzle, detail)?;
                Ok(self.demand(true, Check::PuzzleEncoding, Detail::None)?)
            }
            Err(AdmissionFault::Scratch { message, .. }) => {
                let found = lent.message.len();
                Err(NoVerdict::Scratch { part: "the puzzle", needed: message, found }.into())
            }
            Err(fault) => {
                let detail = Detail::Words(words(&fault));
                Ok(self.demand(false, Check::PuzzleEncoding, detail)?)
            }
        }
    }

    /// Q80–Q81, for version 2 and up. Audits are written as version 1. spec: verification §7
    fn reuse(&mut self, sums: &Sums) -> Result<(), Failure> {
        if self.proof.version < 2 || self.purpose == Purpose::Audit {
            return Ok(());
        }
        if let Some((step, bounds)) = sums.bad_reuse {
            let detail = Detail::Bounds { lower: bounds.lower, upper: bounds.upper };
            return Err(Failure { check: Check::ReuseBounds, step: Some(step), detail });
        }
        self.demand(true, Check::ReuseBounds, Detail::None)?;
        let detail = Detail::Score { found: self.report.reuse_score, limit: ReuseScore::CAP };
        let within = sums.over_cap.is_none();
        self.demand(within, Check::ReuseScore, detail)
            .map_err(|failure| Failure { step: sums.over_cap, ..failure })
    }
}

/// What keeps a puzzle from being computed.
fn words(fault: &AdmissionFault) -> &'static str {
    match fault {
        AdmissionFault::MaskLength { .. } => "the mask has another length than the prompt",
        AdmissionFault::Prompt(_) => "the prompt is too long",
        AdmissionFault::ModelTooLong { .. } => "model_identifier has more than 65535 bytes",
        AdmissionFault::Tries(_) => "the difficulty stands for no number of tries",
        _ => "Argon2id does not take the message",
    }
}
