//! The VDF of the development chain: core's prover in the background, one proof for each parent
//! block, and core's verifier behind a memory of its answers. The proof is as real as the network's,
//! only short: the work for a parent ends with it, and no core runs hot for a chain without value.

use crate::mining::vdf::{VdfSource, VdfState};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tensorpow_core::units::{BlockHash, Tick, VdfBlob};
use tensorpow_core::vdf::prover::{Prover, Settings};
use tensorpow_core::vdf::{PROOF_BYTES, verify};

/// Squarings behind each parent's proof unless the flags say otherwise: the network's checkpoint,
/// a fraction of a second. spec: vdf §1
pub const DEFAULT_TICKS: u32 = 32_768;
/// Answers of the verifier that are remembered. Few proofs are current at a time.
const MOST_ANSWERS: usize = 64;

/// What a proof claims: challenge, tick, blob.
type Claim = (BlockHash, Tick, [u8; PROOF_BYTES]);

/// Prover and verifier of a development chain.
#[derive(Debug)]
pub struct DevVdf {
    ticks: u32,
    /// Started by the first question, turned to another parent by the first question about it.
    prover: Mutex<Option<Prover>>,
    /// The newest at the back.
    answers: Mutex<VecDeque<(Claim, bool)>>,
}

impl DevVdf {
    /// Proves `ticks` squarings of each parent and then rests; 0 is taken as 1.
    #[must_use]
    pub const fn new(ticks: u32) -> Self {
        let ticks = if ticks == 0 { 1 } else { ticks };
        Self { ticks, prover: Mutex::new(None), answers: Mutex::new(VecDeque::new()) }
    }

    fn remembered(&self, claim: &Claim) -> Option<bool> {
        let answers = lock(&self.answers);
        answers.iter().rev().find(|(known, _)| known == claim).map(|(_, answer)| *answer)
    }

    fn remember(&self, claim: Claim, answer: bool) {
        let mut answers = lock(&self.answers);
        if answers.len() >= MOST_ANSWERS {
            answers.pop_front();
        }
        answers.push_back((claim, answer));
    }
}

/// Neither value is ever left half-changed, so a poisoned lock guards a usable one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VdfSource for DevVdf {
    /// Begins to prove for `challenge` if that has not begun yet, and leaves any other challenge.
    fn latest(&self, challenge: &BlockHash) -> Option<VdfState> {
        let mut slot = lock(&self.prover);
        let prover = match &mut *slot {
            Some(prover) => prover,
            none => {
                let settings = Settings { chunk: self.ticks.into(), limit: self.ticks, threads: 1 };
                match Prover::start(*challenge, settings) {
                    Ok(prover) => none.insert(prover),
                    Err(error) => {
                        tracing::warn!(%error, "no thread for the VDF; asked again");
                        return None;
                    }
                }
            }
        };
        prover.reset(*challenge);
        let published = prover.latest().filter(|published| published.challenge == *challenge)?;
        let blob = VdfBlob::from_slice(&published.blob).ok()?;
        Some(VdfState { challenge: published.challenge, tick: Tick(published.tick), blob })
    }

    fn verify(&self, challenge: &BlockHash, tick: Tick, blob: &[u8]) -> bool {
        // A blob of another length fails at once; there is nothing to remember.
        let Ok(bytes) = <[u8; PROOF_BYTES]>::try_from(blob) else { return false };
        let claim = (*challenge, tick, bytes);
        if let Some(answer) = self.remembered(&claim) {
            return answer;
        }
        let verdict = verify(challenge, tick.0, blob);
        if let Err(error) = &verdict {
            tracing::debug!(%error, tick = tick.0, parent = %challenge.display(), "VDF refused");
        }
        self.remember(claim, verdict.is_ok());
        verdict.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const TICKS: u32 = 100;

    fn proof(vdf: &DevVdf, challenge: &BlockHash) -> VdfState {
        let started = Instant::now();
        loop {
            if let Some(state) = vdf.latest(challenge) {
                return state;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no proof");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_proof_verifies_for_its_parent_alone() {
        let vdf = DevVdf::new(TICKS);
        let (a, b) = (BlockHash::from_bytes([1; 32]), BlockHash::from_bytes([2; 32]));
        let state = proof(&vdf, &a);
        assert_eq!((state.challenge, state.tick), (a, Tick(TICKS.into())));
        let blob = state.blob.as_bytes();
        assert!(vdf.verify(&a, state.tick, blob));
        assert!(!vdf.verify(&b, state.tick, blob));
        assert!(!vdf.verify(&a, Tick(1), blob));
        assert!(!vdf.verify(&a, state.tick, &blob[1..]));
        assert_eq!(proof(&vdf, &b).challenge, b);
        assert_ne!(proof(&vdf, &b).blob, state.blob);
    }

    #[test]
    fn work_on_a_parent_ends() {
        let vdf = DevVdf::new(TICKS);
        let challenge = BlockHash::from_bytes([3; 32]);
        let first = proof(&vdf, &challenge);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(vdf.latest(&challenge), Some(first));
        let progress = lock(&vdf.prover).as_ref().unwrap().progress();
        assert_eq!((progress.ticks, progress.proofs), (TICKS.into(), 1));
    }

    #[test]
    fn answers_are_remembered_and_their_number_is_bounded() {
        let vdf = DevVdf::new(TICKS);
        let challenge = BlockHash::from_bytes([4; 32]);
        let claim = (challenge, Tick(5), [0; PROOF_BYTES]);
        assert!(!vdf.verify(&challenge, claim.1, &claim.2));
        assert_eq!(vdf.remembered(&claim), Some(false));
        assert_eq!(vdf.remembered(&(challenge, Tick(6), claim.2)), None);
        for tick in 0..1000 {
            vdf.remember((challenge, Tick(1000 + tick), claim.2), false);
        }
        assert_eq!(vdf.remembered(&claim), None, "the oldest answer went");
        assert_eq!(lock(&vdf.answers).len(), MOST_ANSWERS);
    }
}
