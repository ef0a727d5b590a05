//! Proofs by completion id, in memory: a list per id, newest last, bounded in bytes and age, the
//! least recently used id dropped first. It stands in front of the spool ([`crate::store`]) and
//! carries on alone when the disk fails. Every operation that depends on time takes the moment as an
//! argument. spec: proxy §6, §15

use crate::mining::sink::ReceivedProof;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What an entry costs beside the proof's own bytes and its key (counted twice: it stands in two
/// maps).
const ENTRY_OVERHEAD: usize = 256;

/// Limits of a cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Proofs older than this are dropped.
    pub ttl: Duration,
    /// Budget in bytes, overhead included.
    pub max_bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(900), max_bytes: 500 * 1024 * 1024 }
    }
}

#[derive(Debug)]
struct Stored {
    proof: Arc<ReceivedProof>,
    /// Number in the spool, unless the disk failed.
    seq: Option<u64>,
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
pub struct Cached {
    /// The proof.
    pub proof: Arc<ReceivedProof>,
    /// Number in the spool, unless the disk failed.
    pub seq: Option<u64>,
    /// The id it is filed under.
    pub completion_id: String,
    /// Time until it expires, never negative.
    pub ttl_remaining: Duration,
}

/// Size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
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

/// The cache.
#[derive(Debug)]
pub struct ProofCache {
    limits: CacheLimits,
    inner: Mutex<Inner>,
}

impl ProofCache {
    /// An empty cache.
    #[must_use]
    pub fn new(limits: CacheLimits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> &CacheLimits {
        &self.limits
    }

    /// Files a proof that arrived at `at` under a completion id. Expired proofs go first, then the
    /// ids that were used least recently, until the budget holds; a proof larger than the budget is
    /// not kept. A proof that is there already, by its number in the spool, stays as it is.
    pub fn put(
        &self,
        completion_id: &str,
        proof: Arc<ReceivedProof>,
        seq: Option<u64>,
        at: Instant,
        now: Instant,
    ) {
        let mut inner = self.lock();
        inner.insert(completion_id, Stored { proof, seq, at });
        inner.sweep(now, self.limits.ttl);
        while inner.cost() > self.limits.max_bytes && inner.drop_least_recent() {}
    }

    /// The proofs of a completion id in order of arrival. Ids are resolved both ways: `x-0` finds
    /// the proofs of `x`, and `x` those of `x-<digits>`. A hit counts as a use, not as a new
    /// arrival. spec: proxy §6
    #[must_use]
    pub fn get(&self, id: &str, now: Instant) -> Vec<Cached> {
        let mut inner = self.lock();
        inner.sweep(now, self.limits.ttl);
        let keys = inner.resolve(id);
        let mut of_id: Vec<(&String, &Stored)> = keys
            .iter()
            .filter_map(|key| Some((key, inner.entries.get(key)?)))
            .flat_map(|(key, entry)| entry.proofs.iter().map(move |stored| (key, stored)))
            .collect();
        of_id.sort_by_key(|(_, stored)| stored.at);
        let cached = |(key, stored): (&String, &Stored)| Cached {
            proof: stored.proof.clone(),
            seq: stored.seq,
            completion_id: key.clone(),
            ttl_remaining: self.limits.ttl.saturating_sub(now.saturating_duration_since(stored.at)),
        };
        let found = of_id.into_iter().map(cached).collect();
        keys.iter().for_each(|key| inner.touch(key));
        found
    }

    /// The first `limit` completion ids, least recently used first, and how many there are.
    #[must_use]
    pub fn keys(&self, limit: usize) -> (usize, Vec<String>) {
        let inner = self.lock();
        (inner.entries.len(), inner.recency.values().take(limit).cloned().collect())
    }

    /// Size of the cache.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let inner = self.lock();
        CacheStats { items: inner.entries.len(), proofs: inner.proofs, bytes: inner.bytes }
    }

    /// Drops what has expired. Called now and then, so that an idle cache gives its memory back.
    pub fn sweep(&self, now: Instant) {
        self.lock().sweep(now, self.limits.ttl);
    }

    /// Every change leaves the maps consistent before anything can panic, so a poisoned lock still
    /// guards a usable cache.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn cost(&self) -> usize {
        self.bytes + self.keys_cost + self.proofs * ENTRY_OVERHEAD
    }

    fn insert(&mut self, completion_id: &str, new: Stored) {
        let key = completion_id;
        if !self.entries.contains_key(key) {
            self.keys_cost += 2 * key.len();
            self.entries.insert(key.to_owned(), Entry { proofs: Vec::new(), used: 0 });
        }
        if let Some(entry) = self.entries.get_mut(key) {
            let known = |stored: &Stored| new.seq.is_some() && stored.seq == new.seq;
            if !entry.proofs.iter().any(known) {
                self.proofs += 1;
                self.bytes += new.proof.message.len();
                // A proof read back from the spool may be older than what is here.
                let place = entry.proofs.partition_point(|stored| stored.at <= new.at);
                entry.proofs.insert(place, new);
            }
        }
        self.touch(key);
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
                let kept = now.saturating_duration_since(stored.at) <= ttl;
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
        if let Some((base, suffix)) = id.rsplit_once('-')
            && is_digits(suffix)
            && self.entries.contains_key(base)
        {
            return vec![base.to_owned()];
        }
        prompts_of(&self.entries, id)
    }
}

/// Ids of single prompts, `x-<digits>`, of a completion `x`.
pub(crate) fn prompts_of<K: Borrow<str> + Ord + Clone, V>(
    by_id: &BTreeMap<K, V>,
    id: &str,
) -> Vec<K> {
    let prefix = format!("{id}-");
    let following = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    let keys = by_id.range::<str, _>(following).map(|(key, _)| key);
    keys.map_while(|key| Some((key, key.borrow().strip_prefix(&prefix)?)))
        .filter(|(_, prompt)| is_digits(prompt))
        .map(|(key, _)| key.clone())
        .collect()
}

/// At least one ASCII digit and nothing else.
pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::SystemTime;
    use tensorpow_core::classify::Tier;

    fn proof(size: usize) -> Arc<ReceivedProof> {
        Arc::new(ReceivedProof {
            message: Bytes::from(vec![0; size]),
            completion_id: String::new(),
            tier: Tier::Share,
            request_id: 1,
            nonce: 0,
            parent: None,
            digest: None,
            model_identifier: String::new(),
            received_at: SystemTime::now(),
        })
    }

    fn cache(ttl: u64, max_bytes: usize) -> ProofCache {
        ProofCache::new(CacheLimits { ttl: Duration::from_secs(ttl), max_bytes })
    }

    #[test]
    fn the_budget_drops_the_least_recently_used_id() {
        let (cache, start) = (cache(900, 1_048_576), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let put = |id, size, second| cache.put(id, proof(size), None, at(second), at(second));
        let left = |id, second| {
            cache.get(id, at(second)).last().map(|found| found.ttl_remaining.as_secs())
        };
        put("a", 400_000, 0);
        put("b", 400_000, 1);
        assert_eq!(left("a", 2), Some(898));
        put("c", 400_000, 3);
        assert_eq!(left("b", 4), None);
        assert_eq!(cache.keys(500), (2, vec!["a".to_owned(), "c".to_owned()]));
        assert_eq!(left("a", 900), Some(0));
        assert_eq!(left("a", 901), None, "older than the ttl");
        assert_eq!(cache.stats(), CacheStats { items: 1, proofs: 1, bytes: 400_000 });
        put("big", 2_000_000, 902);
        assert_eq!(cache.stats(), CacheStats { items: 0, proofs: 0, bytes: 0 });
    }

    #[test]
    fn an_id_keeps_all_its_proofs_in_order_of_arrival() {
        let (cache, start) = (cache(10, 1 << 20), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // The last one is read back from the spool; once only.
        for (second, size, seq) in [(4, 7, Some(1)), (8, 9, None), (0, 5, Some(0)), (0, 5, Some(0))]
        {
            cache.put("x", proof(size), seq, at(second), at(8));
        }
        let sizes = |second| {
            let found = cache.get("x", at(second));
            found.iter().map(|found| found.proof.message.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(8), [5, 7, 9]);
        assert_eq!(sizes(12), [7, 9], "the oldest has expired");
        assert_eq!(cache.stats().bytes, 16);
    }

    #[test]
    fn ids_resolve_both_ways_over_a_numeric_suffix() {
        let (cache, now) = (cache(900, 1 << 20), Instant::now());
        for (seconds, id) in (0..).zip(["cmpl-a", "cmpl-b-0", "cmpl-b-1", "cmpl-b-x"]) {
            let at = now + Duration::from_secs(seconds);
            cache.put(id, proof(1), None, at, at);
        }
        let find = |id: &str| -> Vec<String> {
            let found = cache.get(id, now + Duration::from_secs(5));
            found.into_iter().map(|found| found.completion_id).collect()
        };
        for (id, expected) in [
            ("cmpl-a", &["cmpl-a"][..]),
            ("cmpl-a-0", &["cmpl-a"]),
            ("cmpl-a-12", &["cmpl-a"]),
            ("cmpl-a-x", &[]),
            ("cmpl-a-0-0", &[]),
            ("cmpl-b", &["cmpl-b-0", "cmpl-b-1"]),
            ("cmpl", &[]),
            ("", &[]),
        ] {
            assert_eq!(find(id), expected, "{id:?}");
        }
    }
}
