//! What goes first when proofs are too old or too many: the ledger of what the file holds, kept in
//! memory, and the order in which it shrinks. Settled proofs go first, oldest first, dead letters
//! among them; then shares that were not delivered; solutions that were not delivered last. Messages
//! that are no proofs have a small room of their own, so that garbage displaces no work.

use super::entry::{Entry, StoredTier};
use super::tables::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Proofs older than this go.
    pub max_age: Duration,
    /// Bytes of the file's content.
    pub max_bytes: u64,
    /// Messages kept that are no proofs.
    pub max_undecodable: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(7 * 24 * 3600),
            max_bytes: 1024 * 1024 * 1024,
            max_undecodable: 256,
        }
    }
}

/// In which order entries go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Undecodable,
    Settled,
    OpenShare,
    OpenSolution,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    arrived_us: u64,
    cost: u32,
    class: Class,
    dead: bool,
}

/// Why an entry went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evicted {
    pub(super) seq: u64,
    /// It was still to be delivered.
    pub(super) open: bool,
}

/// What the file holds.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    all: BTreeMap<u64, Kept>,
    undecodable: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    open_shares: BTreeSet<u64>,
    open_solutions: BTreeSet<u64>,
    bytes: u64,
    dead: usize,
}

/// Rows beside the body, in bytes.
const ROWS: u32 = 512;

impl Ledger {
    fn set(&mut self, class: Class) -> &mut BTreeSet<u64> {
        match class {
            Class::Undecodable => &mut self.undecodable,
            Class::Settled => &mut self.settled,
            Class::OpenShare => &mut self.open_shares,
            Class::OpenSolution => &mut self.open_solutions,
        }
    }

    pub(super) fn add(&mut self, seq: u64, entry: &Entry, standing: Standing) {
        let class = match (entry.tier, standing.open) {
            (None, _) => Class::Undecodable,
            (_, false) => Class::Settled,
            (Some(StoredTier::Solution), true) => Class::OpenSolution,
            (Some(_), true) => Class::OpenShare,
        };
        let ids: usize = entry.completion_id.len() + entry.model_identifier.len();
        let cost = entry
            .stored_len
            .saturating_add(ROWS)
            .saturating_add(u32::try_from(2 * ids).unwrap_or(u32::MAX));
        let kept = Kept { arrived_us: entry.arrived_us, cost, class, dead: standing.dead };
        self.remove(seq);
        self.all.insert(seq, kept);
        self.set(class).insert(seq);
        self.bytes += u64::from(cost);
        self.dead += usize::from(standing.dead);
    }

    pub(super) fn remove(&mut self, seq: u64) {
        if let Some(kept) = self.all.remove(&seq) {
            self.set(kept.class).remove(&seq);
            self.bytes -= u64::from(kept.cost);
            self.dead -= usize::from(kept.dead);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn entries(&self) -> usize {
        self.all.len()
    }

    pub(super) fn open(&self) -> usize {
        self.open_shares.len() + self.open_solutions.len()
    }

    pub(super) fn dead(&self) -> usize {
        self.dead
    }

    /// The entries to remove now, already taken out of the ledger.
    pub(super) fn shrink(&mut self, retention: &Retention, now_us: u64) -> Vec<Evicted> {
        let mut gone = Vec::new();
        let age = u64::try_from(retention.max_age.as_micros()).unwrap_or(u64::MAX);
        let oldest = now_us.saturating_sub(age);
        while let Some((&seq, kept)) = self.all.first_key_value() {
            if kept.arrived_us >= oldest {
                break;
            }
            self.evict(seq, &mut gone);
        }
        while self.undecodable.len() > retention.max_undecodable {
            let Some(&seq) = self.undecodable.first() else { break };
            self.evict(seq, &mut gone);
        }
        while self.bytes > retention.max_bytes {
            let order = [&self.undecodable, &self.settled, &self.open_shares, &self.open_solutions];
            let Some(&seq) = order.into_iter().find_map(BTreeSet::first) else { break };
            self.evict(seq, &mut gone);
        }
        gone
    }

    fn evict(&mut self, seq: u64, gone: &mut Vec<Evicted>) {
        let open = self.open_shares.contains(&seq) || self.open_solutions.contains(&seq);
        self.remove(seq);
        gone.push(Evicted { seq, open });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::form::Form;

    fn entry(arrived_us: u64, tier: Option<StoredTier>, stored_len: u32) -> Entry {
        Entry {
            arrived_us,
            tier,
            request_id: 1,
            nonce: 0,
            parent: None,
            digest: None,
            identity: [0; 32],
            completion_id: String::new(),
            also: Vec::new(),
            model_identifier: String::new(),
            message_len: 0,
            stored_len,
            form: Form::Raw,
        }
    }

    fn seqs(gone: &[Evicted]) -> Vec<u64> {
        gone.iter().map(|evicted| evicted.seq).collect()
    }

    #[test]
    fn size_takes_the_settled_then_open_shares_then_open_solutions() {
        let mut ledger = Ledger::default();
        let open = Standing { open: true, dead: false };
        let dead = Standing { open: false, dead: true };
        let (share, solution) = (Some(StoredTier::Share), Some(StoredTier::Solution));
        ledger.add(0, &entry(0, solution, 1000), open);
        ledger.add(1, &entry(1, share, 1000), open);
        ledger.add(2, &entry(2, share, 1000), dead);
        ledger.add(3, &entry(3, share, 1000), Standing::default());
        ledger.add(4, &entry(4, None, 1000), dead);
        assert_eq!((ledger.entries(), ledger.open(), ledger.dead()), (5, 2, 2));
        let cost = ledger.bytes() / 5;
        let mut left = 5;
        for (expected, is_open) in [(4, false), (2, false), (3, false), (1, true), (0, true)] {
            left -= 1;
            let limits = Retention { max_bytes: left * cost, ..Retention::default() };
            assert_eq!(ledger.shrink(&limits, 10), [Evicted { seq: expected, open: is_open }]);
        }
        assert_eq!((ledger.entries(), ledger.bytes(), ledger.dead()), (0, 0, 0));
    }

    #[test]
    fn age_takes_the_oldest_whatever_they_are() {
        let mut ledger = Ledger::default();
        let open = Standing { open: true, dead: false };
        for seq in 0..4 {
            ledger.add(seq, &entry(seq * 1_000_000, Some(StoredTier::Solution), 1), open);
        }
        let limits = Retention { max_age: Duration::from_secs(2), ..Retention::default() };
        assert!(ledger.shrink(&limits, 2_000_000).is_empty());
        assert_eq!(seqs(&ledger.shrink(&limits, 4_500_000)), [0, 1, 2]);
        assert_eq!(ledger.open(), 1);
    }

    #[test]
    fn garbage_has_a_room_of_its_own() {
        let mut ledger = Ledger::default();
        for seq in 0..10 {
            let tier = (seq == 0).then_some(StoredTier::Share);
            ledger.add(seq, &entry(seq, tier, 1), Standing::default());
        }
        let limits = Retention { max_undecodable: 3, ..Retention::default() };
        assert_eq!(seqs(&ledger.shrink(&limits, 10)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ledger.entries(), 4);
    }

    #[test]
    fn a_changed_standing_moves_an_entry() {
        let mut ledger = Ledger::default();
        let share = entry(0, Some(StoredTier::Share), 1);
        ledger.add(0, &share, Standing { open: true, dead: false });
        ledger.add(0, &share, Standing { open: false, dead: true });
        assert_eq!((ledger.entries(), ledger.open(), ledger.dead()), (1, 0, 1));
    }
}
