//! Proofs by completion id, in memory: a list per id, newest last, bounded in bytes and age, the
//! least recently used id dropped first. The doors are few on purpose, so that a durable spool can
//! take its place. spec: proxy §6, §15

use crate::mining::sink::ReceivedProof;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What an entry costs beside the proof's own bytes and its key (counted twice: it stands in two
/// maps).
const ENTRY_OVERHEAD: usize = 256;

/// Limits of a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Proofs older than this are dropped.
    pub ttl: Duration,
    /// Budget in bytes, overhead included.
    pub max_bytes: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(900), max_bytes: 500 * 1024 * 1024 }
    }
}

#[derive(Debug)]
struct Stored {
    proof: Arc<ReceivedProof>,
    at: Instant,
}

#[derive(Debug)]
struct Entry {
    /// In order of arrival.
    proofs: Vec<Stored>,
    /// Key into the recency map.
    used: u64,
}

/// A proof found by completion id.
#[derive(Debug, Clone)]
pub struct Found {
    /// The proof.
    pub proof: Arc<ReceivedProof>,
    /// The id it is filed under.
    pub canonical_id: String,
    /// The canonical id is not the id that was asked for.
    pub aliased: bool,
    /// Position among the id's proofs, in order of arrival.
    pub index: usize,
    /// Proofs of the id.
    pub count: usize,
    /// Time until it expires, never negative.
    pub ttl_remaining: Duration,
}

impl Found {
    /// Arrival in whole seconds since 1970.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        seconds(self.proof.received_at)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Size of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStats {
    /// Completion ids.
    pub items: usize,
    /// Proofs.
    pub proofs: usize,
    /// Bytes of the proofs.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// By completion id; ordered, so that `x-<digits>` can be looked up by prefix.
    entries: BTreeMap<String, Entry>,
    /// Completion ids by last use.
    recency: BTreeMap<u64, String>,
    clock: u64,
    proofs: usize,
    bytes: usize,
    keys_cost: usize,
}

/// The store.
#[derive(Debug)]
pub struct ProofStore {
    limits: StoreLimits,
    inner: Mutex<Inner>,
}

impl ProofStore {
    /// An empty store.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// Files a proof under its completion id. Expired proofs go first, then the ids that were used
    /// least recently, until the budget holds; a proof larger than the budget is not kept.
    pub fn put(&self, proof: Arc<ReceivedProof>) {
        self.put_at(proof, Instant::now());
    }

    fn put_at(&self, proof: Arc<ReceivedProof>, now: Instant) {
        let mut inner = self.lock();
        inner.insert(proof, now);
        inner.sweep(now, self.limits.ttl);
        while inner.cost() > self.limits.max_bytes && inner.drop_least_recent() {}
    }

    /// The proof of a completion id, the newest unless an index (in order of arrival) is given.
    /// Ids are resolved both ways: `x-0` finds the proofs of `x`, and `x` those of `x-<digits>`.
    /// A hit counts as a use, not as a new arrival. spec: proxy §6
    #[must_use]
    pub fn get(&self, id: &str, index: Option<usize>) -> Option<Found> {
        self.get_at(id, index, Instant::now())
    }

    fn get_at(&self, id: &str, index: Option<usize>, now: Instant) -> Option<Found> {
        let mut inner = self.lock();
        inner.sweep(now, self.limits.ttl);
        let keys = inner.resolve(id);
        let mut of_id: Vec<(&String, &Stored)> = keys
            .iter()
            .filter_map(|key| Some((key, inner.entries.get(key)?)))
            .flat_map(|(key, entry)| entry.proofs.iter().map(move |stored| (key, stored)))
            .collect();
        of_id.sort_by_key(|(_, stored)| stored.at);
        let count = of_id.len();
        let index = index.or(count.checked_sub(1))?;
        let (canonical_id, stored) = *of_id.get(index)?;
        let found = Found {
            proof: stored.proof.clone(),
            aliased: canonical_id != id,
            canonical_id: canonical_id.clone(),
            index,
            count,
            ttl_remaining: self.limits.ttl.saturating_sub(now.duration_since(stored.at)),
        };
        keys.iter().for_each(|key| inner.touch(key));
        Some(found)
    }

    /// The first `limit` completion ids, least recently used first, and how many there are.
    #[must_use]
    pub fn keys(&self, limit: usize) -> (usize, Vec<String>) {
        let inner = self.lock();
        (inner.entries.len(), inner.recency.values().take(limit).cloned().collect())
    }

    /// Size of the store.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let inner = self.lock();
        StoreStats { items: inner.entries.len(), proofs: inner.proofs, bytes: inner.bytes }
    }

    /// Drops what has expired. Called now and then, so that an idle store gives its memory back.
    pub fn sweep(&self) {
        self.lock().sweep(Instant::now(), self.limits.ttl);
    }

    /// Every change leaves the maps consistent before anything can panic, so a poisoned lock still
    /// guards a usable store.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn cost(&self) -> usize {
        self.bytes + self.keys_cost + self.proofs * ENTRY_OVERHEAD
    }

    fn insert(&mut self, proof: Arc<ReceivedProof>, now: Instant) {
        let key = proof.completion_id.clone();
        self.proofs += 1;
        self.bytes += proof.message.len();
        if !self.entries.contains_key(&key) {
            self.keys_cost += 2 * key.len();
            self.entries.insert(key.clone(), Entry { proofs: Vec::new(), used: 0 });
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.proofs.push(Stored { proof, at: now });
        }
        self.touch(&key);
    }

    /// Makes an id the most recently used one.
    fn touch(&mut self, key: &str) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.clock += 1;
        self.recency.remove(&entry.used);
        entry.used = self.clock;
        self.recency.insert(self.clock, key.to_owned());
    }

    fn sweep(&mut self, now: Instant, ttl: Duration) {
        let mut emptied = Vec::new();
        for (key, entry) in &mut self.entries {
            entry.proofs.retain(|stored| {
                let kept = now.duration_since(stored.at) <= ttl;
                if !kept {
                    self.proofs -= 1;
                    self.bytes -= stored.proof.message.len();
                }
                kept
            });
            if entry.proofs.is_empty() {
                emptied.push(key.clone());
            }
        }
        emptied.iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.recency.remove(&entry.used);
            self.keys_cost -= 2 * key.len();
            self.proofs -= entry.proofs.len();
            self.bytes -=
                entry.proofs.iter().map(|stored| stored.proof.message.len()).sum::<usize>();
        }
    }

    fn drop_least_recent(&mut self) -> bool {
        let Some(key) = self.recency.values().next().cloned() else { return false };
        self.remove(&key);
        true
    }

    /// The ids under which proofs for `id` are filed. spec: proxy §6
    fn resolve(&self, id: &str) -> Vec<String> {
        if self.entries.contains_key(id) {
            return vec![id.to_owned()];
        }
        if let Some((base, suffix)) = id.rsplit_once('-') {
            if is_digits(suffix) && self.entries.contains_key(base) {
                return vec![base.to_owned()];
            }
        }
        let prefix = format!("{id}-");
        self.entries
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(&prefix))
            .filter(|key| is_digits(&key[prefix.len()..]))
            .cloned()
            .collect()
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tensorpow_core::classify::Tier;

    fn proof(id: &str, size: usize) -> Arc<ReceivedProof> {
        Arc::new(ReceivedProof {
            message: Bytes::from(vec![0; size]),
            completion_id: id.to_owned(),
            tier: Tier::Share,
            request_id: 1,
            nonce: 0,
            parent: None,
            digest: None,
            model_identifier: String::new(),
            received_at: SystemTime::now(),
        })
    }

    fn store(ttl: u64, max_bytes: usize) -> ProofStore {
        ProofStore::new(StoreLimits { ttl: Duration::from_secs(ttl), max_bytes })
    }

    #[test]
    fn the_budget_drops_the_least_recently_used_id() {
        let (store, start) = (store(900, 1_048_576), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        store.put_at(proof("a", 400_000), at(0));
        store.put_at(proof("b", 400_000), at(1));
        assert_eq!(store.get_at("a", None, at(2)).unwrap().ttl_remaining.as_secs(), 898);
        store.put_at(proof("c", 400_000), at(3));
        assert!(store.get_at("b", None, at(4)).is_none());
        assert_eq!(store.keys(500), (2, vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(store.get_at("a", None, at(900)).unwrap().ttl_remaining.as_secs(), 0);
        assert!(store.get_at("a", None, at(901)).is_none(), "older than the ttl");
        assert_eq!(store.stats(), StoreStats { items: 1, proofs: 1, bytes: 400_000 });
        store.put_at(proof("big", 2_000_000), at(902));
        assert_eq!(store.stats(), StoreStats { items: 0, proofs: 0, bytes: 0 });
    }

    #[test]
    fn an_id_keeps_all_its_proofs_in_order_of_arrival() {
        let (store, start) = (store(10, 1 << 20), Instant::now());
        for (second, size) in [(0, 5), (4, 7), (8, 9)] {
            store.put_at(proof("x", size), start + Duration::from_secs(second));
        }
        let get = |index| {
            let found = store.get_at("x", index, start + Duration::from_secs(8))?;
            Some((found.proof.message.len(), found.index, found.count))
        };
        assert_eq!(get(None), Some((9, 2, 3)));
        assert_eq!(get(Some(0)), Some((5, 0, 3)));
        assert_eq!(get(Some(3)), None);
        let later = store.get_at("x", None, start + Duration::from_secs(12)).unwrap();
        assert_eq!((later.count, store.stats().bytes), (2, 16), "the oldest has expired");
    }

    #[test]
    fn ids_resolve_both_ways_over_a_numeric_suffix() {
        let store = store(900, 1 << 20);
        for id in ["cmpl-a", "cmpl-b-0", "cmpl-b-1", "cmpl-b-x"] {
            store.put(proof(id, 1));
        }
        let find = |id: &str| store.get(id, None).map(|found| (found.canonical_id, found.aliased));
        assert_eq!(find("cmpl-a"), Some(("cmpl-a".into(), false)));
        assert_eq!(find("cmpl-a-0"), Some(("cmpl-a".into(), true)));
        assert_eq!(find("cmpl-a-12"), Some(("cmpl-a".into(), true)));
        assert_eq!(find("cmpl-a-x"), None);
        assert_eq!(find("cmpl-a-0-0"), None, "one level only");
        assert_eq!(find("cmpl-b"), Some(("cmpl-b-1".into(), true)));
        assert_eq!(store.get("cmpl-b", Some(0)).unwrap().canonical_id, "cmpl-b-0");
        assert_eq!(store.get("cmpl-b", None).unwrap().count, 2);
        assert_eq!(find("cmpl"), None);
        assert_eq!(find(""), None);
    }
}
