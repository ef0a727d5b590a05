//! What a finished window is: the header test against the block and share thresholds, the tier
//! that follows from it, and the node's stricter form of the test. Where a tier is sent, and
//! whether it is sent at all in a given egress mode, is decided by the caller.

use crate::header::header_hash;
use crate::target::Target;
use crate::units::{Digest, HeaderHash, HeaderPrefix};
use core::fmt;

/// The header test of one window. The two flags are independent: a share threshold need not be
/// the easier one. spec: targets §5
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The header's nonce, as `MiningResponse.nonce` holds it.
    pub nonce: u32,
    /// The proof-of-work hash of the header.
    pub header_hash: HeaderHash,
    /// The hash meets the block target.
    pub is_solution: bool,
    /// There is a share target and the hash meets it.
    pub is_share: bool,
}

/// Hashes the header that a window's final digest completes and compares it with the thresholds.
/// One digest gives exactly one header: there is no nonce to search. spec: targets §5.1, §5.3
#[must_use]
pub fn judge(
    prefix: &HeaderPrefix,
    digest: &Digest,
    target: &Target,
    share: Option<&Target>,
) -> Verdict {
    let header_hash = header_hash(prefix, digest.nonce_bytes());
    Verdict {
        nonce: digest.nonce(),
        header_hash,
        is_solution: target.is_met_by(&header_hash),
        is_share: share.is_some_and(|share| share.is_met_by(&header_hash)),
    }
}

/// What a complete window is emitted as. spec: targets §5.3
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// A block solution; the broker credits it as a share too, it is sent once.
    Solution,
    /// A share: for a broker only.
    Share,
    /// An audit record, never a solution or a share.
    Audit,
    /// Nothing to emit.
    Nothing,
}

impl Tier {
    /// The tier's name in logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Solution => "solution",
            Self::Share => "share",
            Self::Audit => "audit",
            Self::Nothing => "none",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tier of a window. A requested audit (`audit_emit`) goes before everything else, even below
/// the block target. spec: targets §5.3, sampler §9.1
#[must_use]
pub const fn tier(verdict: &Verdict, audit_emit: bool) -> Tier {
    if audit_emit {
        Tier::Audit
    } else if verdict.is_solution {
        Tier::Solution
    } else if verdict.is_share {
        Tier::Share
    } else {
        Tier::Nothing
    }
}

/// Why the node's header test fails. spec: targets §8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderTestError {
    /// The prefix's compact target is negative or exceeds 256 bits.
    InvalidBits,
    /// `Proof.target` is not the expansion of the prefix's compact target.
    TargetMismatch,
    /// The header hash is above the target.
    HighHash,
}

impl fmt::Display for HeaderTestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidBits => "the header prefix holds invalid compact bits",
            Self::TargetMismatch => "the proof's target is not that of the header prefix",
            Self::HighHash => "the header hash is above the target",
        })
    }
}

impl core::error::Error for HeaderTestError {}

/// The node's header test of a proof: the target is the one the prefix's bits stand for, and the
/// header hash meets it. spec: targets §8 stage B
///
/// # Errors
/// [`HeaderTestError`] names the first condition that fails, in the node's order.
pub fn node_header_test(
    prefix: &HeaderPrefix,
    digest: &Digest,
    proof_target: &Target,
) -> Result<(), HeaderTestError> {
    let expanded = prefix.bits().expand();
    if expanded.negative || expanded.overflow {
        return Err(HeaderTestError::InvalidBits);
    }
    if expanded.target != *proof_target {
        return Err(HeaderTestError::TargetMismatch);
    }
    if !judge(prefix, digest, proof_target, None).is_solution {
        return Err(HeaderTestError::HighHash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::tests::genesis;
    use crate::target::CompactTarget;

    fn verdict(is_solution: bool, is_share: bool) -> Verdict {
        Verdict { nonce: 0, header_hash: HeaderHash::from_bytes([0; 32]), is_solution, is_share }
    }

    fn genesis_digest() -> Digest {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&genesis().nonce.to_le_bytes());
        Digest::from_bytes(digest)
    }

    #[test]
    fn audit_precedes_solution_and_solution_precedes_share() {
        for (is_solution, is_share, audit_emit, expected) in [
            (false, false, false, Tier::Nothing),
            (false, true, false, Tier::Share),
            (true, false, false, Tier::Solution),
            (true, true, false, Tier::Solution),
            (false, false, true, Tier::Audit),
            (true, true, true, Tier::Audit),
        ] {
            assert_eq!(tier(&verdict(is_solution, is_share), audit_emit), expected);
        }
    }

    #[test]
    fn the_genesis_digest_is_a_solution_and_without_share_target_no_share() {
        let genesis = genesis();
        let target = genesis.bits.expand().target;
        let judged = judge(&genesis.prefix, &genesis_digest(), &target, None);
        assert_eq!(judged.nonce, genesis.nonce);
        assert_eq!(judged.header_hash, genesis.short_hash());
        assert!(judged.is_solution && !judged.is_share);
        let hard_share = judge(&genesis.prefix, &genesis_digest(), &target, Some(&Target::ZERO));
        assert!(hard_share.is_solution && !hard_share.is_share);
        let only_share = judge(&genesis.prefix, &genesis_digest(), &Target::ZERO, Some(&target));
        assert!(!only_share.is_solution && only_share.is_share);
    }

    #[test]
    fn the_node_wants_the_target_of_the_prefix() {
        let prefix = genesis().prefix;
        let target = prefix.bits().expand().target;
        let test = |bits: u32, target: &Target| {
            let prefix = prefix.with_bits(CompactTarget::from_bits(bits));
            node_header_test(&prefix, &genesis_digest(), target)
        };
        assert_eq!(test(0x1f5b_05b0, &target), Ok(()));
        assert_eq!(test(0x1f5b_05b0, &Target::MAX), Err(HeaderTestError::TargetMismatch));
        assert_eq!(test(0x0481_0000, &target), Err(HeaderTestError::InvalidBits));
        assert_eq!(test(0x2300_0001, &target), Err(HeaderTestError::InvalidBits));
        assert_eq!(test(0, &Target::ZERO), Err(HeaderTestError::HighHash));
    }
}
