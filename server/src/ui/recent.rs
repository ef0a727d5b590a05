//! The last proofs with what became of them, newest first, and a small picture of each: one
//! character a step, made when somebody looks.

use crate::mining::sink::ReceivedProof;
use crate::outbox::Judged;
use crate::proof_command::plot;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;
use tensorpow_core::admission::extract;
use tensorpow_core::proof::{MiningResponseRef, ProofRef};
use tensorpow_core::verify::{self, Step, Workspace};

/// Proofs kept.
const MOST: usize = 60;
/// Bytes of messages kept; a proof has about 150 kB.
const MOST_BYTES: usize = 16 << 20;

/// A proof and what became of it.
#[derive(Debug)]
pub(super) struct Entry {
    number: u64,
    judged: Judged,
    strip: OnceLock<String>,
}

impl Entry {
    /// The proof.
    pub(super) fn proof(&self) -> &Arc<ReceivedProof> {
        &self.judged.proof
    }

    /// One line of the list. Replays the proof the first time.
    pub(super) fn line(&self, v3_active: bool) -> Value {
        let Judged { proof, verdict } = &self.judged;
        let at = proof.received_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let strip = self.strip.get_or_init(|| {
            let steps = steps_of(proof, v3_active).unwrap_or_default();
            steps.iter().map(plot::digit).collect()
        });
        json!({
            "id": self.number.to_string(),
            "completion_id": proof.completion_id,
            "at": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            "tier": proof.tier.as_str(),
            "request_id": proof.request_id,
            "model": proof.model_identifier,
            "bytes": proof.message.len(),
            "digest": proof.digest.as_ref().map(|digest| format!("{digest:x}")),
            "verdict": verdict.label(),
            "accepted": verdict.is_accepted(),
            "detail": verdict.to_string(),
            "strip": strip,
        })
    }
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    last: u64,
}

impl Recent {
    /// Adds the newest; the oldest leave when there is no room.
    pub(super) fn add(&mut self, judged: Judged) {
        self.last += 1;
        self.bytes += judged.proof.message.len();
        let entry = Entry { number: self.last, judged, strip: OnceLock::new() };
        self.entries.push_front(Arc::new(entry));
        while self.entries.len() > MOST || (self.bytes > MOST_BYTES && self.entries.len() > 1) {
            if let Some(oldest) = self.entries.pop_back() {
                self.bytes -= oldest.proof().message.len();
            }
        }
    }

    /// Number of the newest proof; 0 before there is one. A change says that the list has changed.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// The newest proofs.
    pub(super) fn newest(&self, most: usize) -> Vec<Arc<Entry>> {
        self.entries.iter().take(most).cloned().collect()
    }

    /// The proof with this number.
    pub(super) fn find(&self, number: &str) -> Option<Arc<Entry>> {
        let number: u64 = number.parse().ok()?;
        self.entries.iter().find(|entry| entry.number == number).cloned()
    }
}

/// Replays a proof: every step with its draw and its interval.
///
/// # Errors
/// In words, when the message holds no proof that can be replayed.
pub(super) fn steps_of(received: &ReceivedProof, v3_active: bool) -> Result<Vec<Step>, String> {
    let message = MiningResponseRef::read(&received.message).map_err(|error| error.to_string())?;
    let proof = message.pow_blob.ok_or("the message carries no proof")?;
    steps(&proof, v3_active)
}

fn steps(proof: &ProofRef<'_>, v3_active: bool) -> Result<Vec<Step>, String> {
    let nonce = extract(proof.extra_flags).filter(|_| v3_active && proof.version >= 3);
    let mut workspace = Workspace::new();
    let mut scratch = workspace.scratch(proof, None);
    let mut steps = Vec::new();
    verify::steps(proof, nonce.as_ref(), &mut scratch, |step| steps.push(*step))
        .map_err(|error| error.to_string())?;
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mining::sink::Verdict;
    use bytes::Bytes;
    use std::time::SystemTime;
    use tensorpow_core::classify::Tier;

    fn judged(size: usize) -> Judged {
        let proof = Arc::new(ReceivedProof {
            message: Bytes::from(vec![0; size]),
            completion_id: "cmpl-1".to_owned(),
            tier: Tier::Share,
            request_id: 1,
            nonce: 0,
            parent: None,
            digest: None,
            model_identifier: String::new(),
            received_at: SystemTime::now(),
        });
        Judged { proof, verdict: Verdict::Share }
    }

    #[test]
    fn the_newest_proofs_stay() {
        let mut recent = Recent::default();
        for _ in 0..100 {
            recent.add(judged(1));
        }
        assert_eq!((recent.last(), recent.entries.len(), recent.bytes), (100, MOST, MOST));
        assert_eq!(recent.newest(1)[0].number, 100);
        assert!(recent.find("100").is_some() && recent.find("40").is_none());
        assert!(recent.find("x").is_none());
        recent.add(judged(MOST_BYTES));
        assert_eq!(recent.entries.len(), 1, "a large one alone");
    }

    #[test]
    fn what_cannot_be_replayed_has_no_strip() {
        let mut recent = Recent::default();
        recent.add(judged(4));
        let line = recent.newest(9)[0].line(true);
        assert_eq!((&line["strip"], &line["verdict"]), (&json!(""), &json!("share")));
    }
}
