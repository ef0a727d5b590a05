//! Proofs by completion id as the `/v1/proof` routes and the broker see them: the spool says which
//! there are, the cache in front of it holds the bytes of those used last. Proofs that the disk did
//! not take are found as well, for as long as the cache has them. spec: proxy §6, §15

use crate::cache::{CacheLimits, CacheStats, ProofCache};
use crate::mining::sink::ReceivedProof;
use crate::spool::{self, Spool, SpoolError};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// Time until it is no longer served, never negative.
    pub ttl_remaining: Duration,
}

impl Found {
    /// Arrival in whole seconds since 1970.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.proof.received_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

/// One proof of an id: on disk, in memory, or both.
struct Candidate {
    completion_id: String,
    arrived_us: u64,
    seq: Option<u64>,
    proof: Option<Arc<ReceivedProof>>,
}

/// The store.
#[derive(Debug)]
pub struct ProofStore {
    cache: ProofCache,
    spool: Spool,
}

impl ProofStore {
    /// A store over a spool.
    #[must_use]
    pub fn new(limits: CacheLimits, spool: Spool) -> Self {
        Self { cache: ProofCache::new(limits), spool }
    }

    /// The limits of the cache; its time to live counts for the spool's proofs as well.
    #[must_use]
    pub const fn limits(&self) -> &CacheLimits {
        self.cache.limits()
    }

    /// The spool.
    #[must_use]
    pub const fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Makes a proof known that the spool has, or cannot take.
    pub fn put(&self, completion_id: &str, proof: Arc<ReceivedProof>, seq: Option<u64>) {
        let now = Instant::now();
        self.cache.put(completion_id, proof, seq, now, now);
    }

    /// The proof of a completion id, the newest unless an index (in order of arrival) is given.
    /// spec: proxy §6
    pub async fn find(&self, id: &str, index: Option<usize>) -> Option<Found> {
        let ttl = self.limits().ttl;
        let now_us = spool::entry::micros(SystemTime::now());
        let oldest_us = now_us.saturating_sub(micros(ttl));
        let of_id = id.to_owned();
        let stored = self.spool.read(move |view| view.find(&of_id, oldest_us)).await;
        let stored = stored.unwrap_or_else(|error| {
            tracing::debug!(%error, "proofs are looked up in memory only");
            Vec::new()
        });
        let mut candidates = merge(id, stored, self.cache.get(id, Instant::now()));
        let count = candidates.len();
        let index = index.or(count.checked_sub(1))?;
        if index >= count {
            return None;
        }
        let chosen = candidates.swap_remove(index);
        let proof = match (chosen.proof, chosen.seq) {
            (Some(proof), _) => proof,
            (None, Some(seq)) => self.load(&chosen.completion_id, seq, now_us).await?,
            (None, None) => return None,
        };
        let age = Duration::from_micros(now_us.saturating_sub(chosen.arrived_us));
        Some(Found {
            proof,
            aliased: chosen.completion_id != id,
            canonical_id: chosen.completion_id,
            index,
            count,
            ttl_remaining: ttl.saturating_sub(age),
        })
    }

    /// Reads a proof back and keeps it at hand.
    async fn load(&self, completion_id: &str, seq: u64, now_us: u64) -> Option<Arc<ReceivedProof>> {
        let proof = match load(&self.spool, seq).await {
            Ok(proof) => Arc::new(proof?),
            Err(error) => {
                tracing::error!(%error, seq, "a stored proof cannot be read");
                return None;
            }
        };
        let now = Instant::now();
        let age = now_us.saturating_sub(spool::entry::micros(proof.received_at));
        if let Some(arrived) = now.checked_sub(Duration::from_micros(age)) {
            self.cache.put(completion_id, proof.clone(), Some(seq), arrived, now);
        }
        Some(proof)
    }

    /// The first `limit` completion ids, least recently used first, and how many there are. What is
    /// not in memory was used before everything that is.
    pub async fn keys(&self, limit: usize) -> (usize, Vec<String>) {
        let oldest_us =
            spool::entry::micros(SystemTime::now()).saturating_sub(micros(self.limits().ttl));
        let stored = self.spool.read(move |view| view.completion_ids(oldest_us)).await;
        let (_, in_memory) = self.cache.keys(usize::MAX);
        let known: HashSet<&String> = in_memory.iter().collect();
        let mut keys: Vec<String> = stored.unwrap_or_default();
        keys.retain(|key| !known.contains(key));
        keys.extend(in_memory.iter().cloned());
        let count = keys.len();
        keys.truncate(limit);
        (count, keys)
    }

    /// Size of the cache.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Drops from memory what has expired. Called now and then, so that an idle cache gives its
    /// memory back.
    pub fn sweep(&self) {
        self.cache.sweep(Instant::now());
    }
}

/// Reads a stored proof.
///
/// # Errors
/// [`SpoolError`] when it cannot be read.
pub async fn load(spool: &Spool, seq: u64) -> Result<Option<ReceivedProof>, SpoolError> {
    spool
        .read(move |view| {
            let Some(entry) = view.entry(seq)? else { return Ok(None) };
            let message = view.message(seq, &entry)?;
            Ok(entry.into_proof(message.into()))
        })
        .await
}

/// What the spool and the cache have for an id, in order of arrival, each proof once. The two resolve
/// an id on their own; an exact match in either hides aliases in the other.
fn merge(id: &str, stored: Vec<spool::Found>, cached: Vec<crate::cache::Cached>) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = stored
        .into_iter()
        .map(|found| Candidate {
            completion_id: found.completion_id,
            arrived_us: found.arrived_us,
            seq: Some(found.seq),
            proof: None,
        })
        .collect();
    for found in cached {
        let same = |candidate: &&mut Candidate| found.seq.is_some() && candidate.seq == found.seq;
        match candidates.iter_mut().find(same) {
            Some(candidate) => candidate.proof = Some(found.proof),
            None => candidates.push(Candidate {
                completion_id: found.completion_id,
                arrived_us: spool::entry::micros(found.proof.received_at),
                seq: found.seq,
                proof: Some(found.proof),
            }),
        }
    }
    if candidates.iter().any(|candidate| candidate.completion_id == id) {
        candidates.retain(|candidate| candidate.completion_id == id);
    }
    candidates.sort_by_key(|candidate| (candidate.arrived_us, candidate.seq));
    candidates
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
