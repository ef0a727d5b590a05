//! How long after a completion's last token its proof is stored. The end of an answer is seen where
//! it is relayed, a proof where it is filed, and either may come first: both are remembered under
//! the completion id until the other comes. spec: proxy §25

use super::{Labels, latency};
use crate::cache::{is_digits, prompts_of};
use crate::rollout::trial::Trial;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Completions, and proofs, that wait for each other; of more the oldest are forgotten.
const REMEMBERED: usize = 8192;
/// Longer ids are not remembered.
const LONGEST_ID: usize = 256;

/// Whose completion it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// A label of [`super::names`].
    pub model: &'static str,
    /// `user` or `backfill`.
    pub class: &'static str,
    /// The engine, by its URL.
    pub engine: &'static str,
}

/// The last of something by completion id.
#[derive(Debug)]
struct Remembered<T> {
    /// Ordered, so that `x-<digits>` can be looked up by prefix.
    by_id: BTreeMap<Arc<str>, T>,
    /// In the order in which they came; an id that was taken out may still stand here.
    order: VecDeque<Arc<str>>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> Remembered<T> {
    /// The value of an id, made if there is none.
    fn entry(&mut self, id: &str, new: impl FnOnce() -> T) -> Option<&mut T> {
        if id.is_empty() || id.len() > LONGEST_ID {
            return None;
        }
        if !self.by_id.contains_key(id) {
            let id: Arc<str> = id.into();
            self.by_id.insert(id.clone(), new());
            self.order.push_back(id);
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_id.remove(&oldest);
            }
        }
        self.by_id.get_mut(id)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Completions that have ended.
    ended: Remembered<(Origin, Instant)>,
    /// Proofs that came before the end of their completion, by number.
    early: Remembered<u64>,
}

impl Waiting {
    /// The completion of a proof, also of one that names a single prompt of it.
    fn ended_of(&self, id: &str) -> Option<(Origin, Instant)> {
        let ended = &self.ended.by_id;
        let of_prompt = || match id.rsplit_once('-') {
            Some((whole, prompt)) if is_digits(prompt) => ended.get(whole),
            _ => None,
        };
        ended.get(id).or_else(of_prompt).copied()
    }
}

/// The histogram and what waits to be counted in it.
#[derive(Debug)]
pub struct ProofLatency {
    seconds: Family<Labels<3>, Histogram, fn() -> Histogram>,
    waiting: Mutex<Waiting>,
    /// Proofs whose completion was seen.
    met: AtomicU64,
    trial: Option<Arc<Trial>>,
}

impl ProofLatency {
    /// Nothing has come; `trial` is told of proofs of users' answers.
    #[must_use]
    pub fn new(trial: Option<Arc<Trial>>) -> Self {
        Self {
            seconds: Family::new_with_constructor(latency),
            waiting: Mutex::default(),
            met: AtomicU64::new(0),
            trial,
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "proof_latency_seconds",
            "Time from the end of a mined answer, as the proxy saw it, to its proof in the store; 0 \
             for a proof that came before that end, as those of all windows but the last do",
            self.seconds.clone(),
        );
    }

    /// The last byte of a mined answer has come.
    pub fn ended(&self, id: &str, origin: Origin) {
        self.ended_at(id, origin, Instant::now());
    }

    /// A proof is in the store.
    pub fn stored(&self, id: &str) {
        self.stored_at(id, Instant::now());
    }

    fn ended_at(&self, id: &str, origin: Origin, now: Instant) {
        let mut waiting = self.lock();
        if let Some(ended) = waiting.ended.entry(id, || (origin, now)) {
            // An engine that uses an id again means the newer one.
            *ended = (origin, now);
        }
        let mut early = waiting.early.by_id.remove(id).unwrap_or(0);
        for key in prompts_of(&waiting.early.by_id, id) {
            early += waiting.early.by_id.remove(&key).unwrap_or(0);
        }
        drop(waiting);
        for _ in 0..early {
            self.observe(origin, 0.0);
        }
    }

    fn stored_at(&self, id: &str, now: Instant) {
        let mut waiting = self.lock();
        match waiting.ended_of(id) {
            Some((origin, at)) => {
                drop(waiting);
                self.observe(origin, now.saturating_duration_since(at).as_secs_f64());
            }
            None => {
                if let Some(early) = waiting.early.entry(id, || 0) {
                    *early += 1;
                }
            }
        }
    }

    /// Proofs so far that belong to completions of this proxy.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    /// Where a completion with this id came from, as far as it is remembered.
    #[must_use]
    pub fn origin_of(&self, id: &str) -> Option<Origin> {
        self.lock().ended_of(id).map(|(origin, _)| origin)
    }

    fn observe(&self, origin: Origin, seconds: f64) {
        let Origin { model, class, engine } = origin;
        let labels = [("model", model), ("class", class), ("engine", engine)];
        self.seconds.get_or_create(&labels).observe(seconds);
        self.met.fetch_add(1, Ordering::Relaxed);
        if let (Some(trial), "user") = (&self.trial, class) {
            trial.proof(engine);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What is remembered stays usable whatever happened to whoever held it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const USER: Origin = Origin { model: "org/model", class: "user", engine: "e" };
    const BACKFILL: Origin = Origin { model: "org/model", class: "backfill", engine: "e" };

    fn text(latency: &ProofLatency) -> String {
        let mut registry = Registry::default();
        latency.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn has(latency: &ProofLatency, class: &str, count: u64, sum: &str) {
        let text = text(latency);
        for (part, value) in [("count", count.to_string()), ("sum", sum.to_owned())] {
            let line = format!(
                "proof_latency_seconds_{part}{{model=\"org/model\",class=\"{class}\",engine=\"e\"}} {value}\n"
            );
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }

    #[test]
    fn proofs_before_and_after_the_end_meet_their_completion() {
        let latency = ProofLatency::new(None);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        latency.stored_at("a", at(0));
        latency.stored_at("a", at(1));
        latency.stored_at("nobody's", at(1));
        assert!(!text(&latency).contains("_count"), "nothing has ended");
        latency.ended_at("a", USER, at(2));
        has(&latency, "user", 2, "0.0");
        latency.stored_at("a", at(5));
        has(&latency, "user", 3, "3.0");
        latency.ended_at("b", BACKFILL, at(5));
        latency.stored_at("b", at(6));
        has(&latency, "backfill", 1, "1.0");
        // The same id again: its proofs belong to the newer answer.
        latency.ended_at("a", USER, at(10));
        latency.stored_at("a", at(12));
        has(&latency, "user", 4, "5.0");
    }

    #[test]
    fn the_proofs_of_single_prompts_belong_to_the_whole_completion() {
        let latency = ProofLatency::new(None);
        let now = Instant::now();
        latency.stored_at("cmpl-x-0", now);
        latency.stored_at("cmpl-x-yz", now);
        latency.ended_at("cmpl-x", USER, now);
        has(&latency, "user", 1, "0.0");
        latency.stored_at("cmpl-x-1", now + Duration::from_secs(2));
        has(&latency, "user", 2, "2.0");
    }

    #[test]
    fn what_never_meets_costs_no_memory() {
        let latency = ProofLatency::new(None);
        let now = Instant::now();
        for n in 0..REMEMBERED + 100 {
            latency.ended_at(&format!("ended {n}"), USER, now);
            latency.stored_at(&format!("stored {n}"), now);
            // What met leaves its place behind.
            latency.stored_at(&format!("met {n}"), now);
            latency.ended_at(&format!("met {n}"), USER, now);
        }
        latency.ended_at(&"x".repeat(LONGEST_ID + 1), USER, now);
        latency.ended_at("", USER, now);
        let waiting = latency.lock();
        for (ids, order) in [
            (waiting.ended.by_id.len(), waiting.ended.order.len()),
            (waiting.early.by_id.len(), waiting.early.order.len()),
        ] {
            assert!(ids <= REMEMBERED && order <= REMEMBERED, "{ids} {order}");
        }
        assert!(waiting.ended.by_id.contains_key(&*format!("ended {}", REMEMBERED + 99)));
    }
}
