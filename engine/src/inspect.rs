//! Looking at a finished proof, from bytes that may come from anywhere: a message as engines send
//! it or a bare proof file, its commitment, and the self-check's verdict on it.

use std::fmt;

use tensorpow_core::proof::{FlatError, MiningResponseRef, ProofRef, TooLong, commit, extra_flags};
use tensorpow_core::selfcheck::{Expected, Passed, Purpose, Unsent, selfcheck};
use tensorpow_core::target::Target;
use tensorpow_core::units::HashPow;
use tensorpow_core::verify::{Chain, Registry, Vdf, Workspace};

/// A proof, with the message it came in if there was one.
#[derive(Debug, Clone, Copy)]
pub struct Inspected<'a> {
    /// The message around the proof.
    pub response: Option<MiningResponseRef<'a>>,
    /// The proof.
    pub proof: ProofRef<'a>,
}

impl<'a> Inspected<'a> {
    /// Reads a `MiningResponse` with a proof in it, or else a bare `Proof`. The file identifier
    /// tells nothing: writers put `PROF` on either. spec: proof-encoding §2, §7
    ///
    /// # Errors
    /// [`FlatError`] of the bare proof when the bytes are neither.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlatError> {
        let response = MiningResponseRef::read(bytes).ok();
        let inner = response.and_then(|response| Some((response, response.pow_blob?)));
        // A proof read as a message has no tokens where a message's proof has them.
        match inner.filter(|(_, proof)| !proof.chosen_tokens.is_empty()) {
            Some((response, proof)) => Ok(Self { response: Some(response), proof }),
            None => Ok(Self { response: None, proof: ProofRef::read(bytes)? }),
        }
    }

    /// The commitment the node computes. spec: proof-encoding §6
    ///
    /// # Errors
    /// [`TooLong`] when the proof exceeds what a block may hold.
    pub fn commitment(&self) -> Result<HashPow, TooLong> {
        commit(&self.proof).map(|commitment| commitment.root)
    }

    /// True when the proof is marked as an audit record. spec: proof-encoding §4
    #[must_use]
    pub fn is_audit(&self) -> bool {
        extra_flags::proof_purpose(self.proof.extra_flags).as_deref() == Some(extra_flags::AUDIT)
    }

    /// Self-checks the proof as what it claims to be: a block solution, an audit record, or a
    /// share against `share`, without which a share's header is not judged. The rules of version 3
    /// are held to be active for a proof of that version, with the difficulty of its message; its
    /// VDF proof is not looked at. spec: verification §17
    ///
    /// # Errors
    /// [`Unsent`] names the first check that does not hold.
    pub fn check(&self, share: Option<&Target>) -> Result<Verdict, Unsent> {
        let purpose = match (self.is_audit(), self.proof.is_solution, share) {
            (false, true, _) => Purpose::Solution,
            (false, false, Some(share)) => Purpose::Share(share),
            (true, ..) | (false, false, None) => Purpose::Audit,
        };
        let difficulty = self.response.map_or(0, |response| response.difficulty.into());
        let expected = Expected {
            header_prefix: None,
            chain: Chain::assumed(self.proof.version >= 3, difficulty),
            registry: Registry::Absent,
            vdf: Vdf::Skip,
        };
        let mut workspace = Workspace::new();
        let mut scratch = workspace.scratch(&self.proof, Some(&expected.chain));
        let passed = selfcheck(&self.proof, &expected, purpose, &mut scratch)?;
        Ok(Verdict { passed, header_judged: purpose != Purpose::Audit })
    }
}

/// What was seen on a proof that passed. Its text is a report of a few lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The self-check's figures.
    pub passed: Passed,
    /// The header hash was compared with a target.
    pub header_judged: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Passed { steps, least_margin, digest, header_hash, canonical_len, .. } = &self.passed;
        let Passed { reuse_score, credit, tier, .. } = &self.passed;
        let met = if self.header_judged { "meets its target" } else { "not judged" };
        writeln!(f, "steps in their interval: {steps} of {steps}, least margin {least_margin:e}")?;
        writeln!(f, "closing digest: {digest:x}")?;
        writeln!(f, "header hash: {} ({met})", header_hash.display())?;
        writeln!(f, "reuse score: {reuse_score} / 2^32")?;
        writeln!(f, "credited entropy: {:.3} bits, tier {tier}", credit.bits())?;
        write!(f, "canonical length: {canonical_len} bytes")
    }
}
