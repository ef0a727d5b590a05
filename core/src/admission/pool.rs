//! Searches on several threads. Each thread has its own 8 MiB; the attempts of the oldest search
//! are shared out one by one among all that are idle, in counter order.
//!
//! A lock is held while an attempt is handed out or its result is noted, never while one is made.

use super::argon2id::argon2id;
use super::grind::{Search, Solution, State, next_nonce};
use super::memory::Memory;
use super::message::Message;
use super::puzzle::PuzzleTarget;
use super::schedule::Grinder;
use crate::units::{AdmissionNonce, PuzzleDigest};
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec::Vec;

/// Threads to grind with unless told otherwise: all processors but one, at least one.
/// spec: admission §10.2
#[must_use]
pub fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, |all| all.get().saturating_sub(1).max(1))
}

/// A nonce to begin a search at, from the operating system's randomness. spec: admission §10.1
///
/// # Errors
/// What the operating system says when it has none.
pub fn random_nonce() -> io::Result<AdmissionNonce> {
    let mut bytes = [0; AdmissionNonce::LEN];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(AdmissionNonce::from_bytes(bytes))
}

/// What the pool has done since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Searches taken.
    pub submitted: u64,
    /// Searches that found a nonce.
    pub found: u64,
    /// Searches that used up their attempts.
    pub exhausted: u64,
    /// Searches whose ticket was dropped before their end.
    pub cancelled: u64,
    /// Searches given up because an attempt could not be made, or none could be begun.
    pub failed: u64,
    /// Attempts made.
    pub tries: u64,
}

#[derive(Default)]
struct Counters {
    submitted: AtomicU64,
    found: AtomicU64,
    exhausted: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
    tries: AtomicU64,
}

/// What is shared by the threads, the pool and its tickets.
struct Shared {
    queue: Mutex<Queue>,
    /// There is an attempt to be made, or the pool closes.
    work: Condvar,
    counters: Counters,
}

#[derive(Default)]
struct Queue {
    /// Searches that have not ended, oldest first.
    jobs: VecDeque<Job>,
    next_id: u64,
    closing: bool,
}

struct Job {
    id: u64,
    message: Arc<[u8]>,
    target: PuzzleTarget,
    next: AdmissionNonce,
    /// Attempts not handed out.
    left: u64,
    /// Attempts handed out and not answered.
    in_flight: u64,
    place: Arc<Place>,
}

/// Where a search's result is put.
struct Place {
    state: Mutex<State>,
    changed: Condvar,
}

impl Place {
    fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn put(&self, nonce: Option<AdmissionNonce>) {
        *lock(&self.state) = State::Ready(nonce);
        self.changed.notify_all();
    }
}

/// One attempt, handed to one thread.
struct Attempt {
    id: u64,
    message: Arc<[u8]>,
    target: PuzzleTarget,
    nonce: AdmissionNonce,
}

/// How an attempt went.
enum Answer {
    Solved(Solution),
    Missed,
    Failed,
}

/// A thread that panicked left nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn hand_out(&mut self) -> Option<Attempt> {
        let job = self.jobs.iter_mut().find(|job| job.left > 0)?;
        let nonce = job.next;
        job.next = next_nonce(&nonce);
        job.left -= 1;
        job.in_flight += 1;
        Some(Attempt { id: job.id, message: job.message.clone(), target: job.target, nonce })
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == id)
    }

    fn remove(&mut self, id: u64) -> Option<Job> {
        self.position(id).and_then(|at| self.jobs.remove(at))
    }
}

impl Shared {
    /// Waits for an attempt; none when the pool closes.
    fn next_attempt(&self) -> Option<Attempt> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closing {
                return None;
            }
            if let Some(attempt) = queue.hand_out() {
                return Some(attempt);
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes an answer. The first solution ends its search; without one it ends with its last
    /// attempt. Answers to a search that has ended count for nothing.
    fn note(&self, id: u64, answer: &Answer) {
        let mut queue = lock(&self.queue);
        let Some(job) = queue.position(id).and_then(|at| queue.jobs.get_mut(at)) else { return };
        job.in_flight -= 1;
        let (counter, nonce) = match answer {
            Answer::Solved(solution) => (&self.counters.found, Some(solution.nonce)),
            Answer::Failed => (&self.counters.failed, None),
            Answer::Missed if job.left == 0 && job.in_flight == 0 => {
                (&self.counters.exhausted, None)
            }
            Answer::Missed => return,
        };
        let ended = queue.remove(id);
        drop(queue);
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(job) = ended {
            job.place.put(nonce);
        }
    }
}

/// Threads that search. Dropping the pool ends every search without a nonce.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads.len())
            .field("counts", &self.counts())
            .finish()
    }
}

impl Pool {
    /// Starts so many threads, at least one; each takes 8 MiB with its first attempt.
    ///
    /// # Errors
    /// When the operating system gives no thread at all. With fewer than asked for the pool works.
    pub fn new(threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            counters: Counters::default(),
        });
        let mut pool = Self { shared, threads: Vec::new() };
        for number in 0..threads.max(1) {
            let shared = pool.shared.clone();
            let name = format!("tensorpow-grind-{number}");
            match thread::Builder::new().name(name).spawn(move || work(&shared)) {
                Ok(thread) => pool.threads.push(thread),
                Err(why) if pool.threads.is_empty() => return Err(why),
                Err(_) => break,
            }
        }
        Ok(pool)
    }

    /// Threads of the pool.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// What the pool has done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Counters { submitted, found, exhausted, cancelled, failed, tries } =
            &self.shared.counters;
        let [submitted, found, exhausted, cancelled, failed, tries] =
            [submitted, found, exhausted, cancelled, failed, tries]
                .map(|counter| counter.load(Ordering::Relaxed));
        Counts { submitted, found, exhausted, cancelled, failed, tries }
    }

    /// Takes a search that begins at `start`: a random nonce ([`random_nonce`]) except in tests.
    /// With one thread the attempts are made in the specified order; with several they begin in
    /// it, and the first to succeed counts. spec: admission §10.1
    #[must_use]
    pub fn submit(&self, search: Search, start: AdmissionNonce) -> Ticket {
        self.shared.counters.submitted.fetch_add(1, Ordering::Relaxed);
        if search.max_tries == 0 {
            self.shared.counters.exhausted.fetch_add(1, Ordering::Relaxed);
            return self.ended();
        }
        let place = Place::new(State::Pending);
        let mut queue = lock(&self.shared.queue);
        let id = queue.next_id;
        queue.next_id += 1;
        queue.jobs.push_back(Job {
            id,
            message: search.message.into(),
            target: search.target,
            next: start,
            left: search.max_tries,
            in_flight: 0,
            place: place.clone(),
        });
        drop(queue);
        self.shared.work.notify_all();
        Ticket { job: Some((self.shared.clone(), id)), place }
    }

    /// The ticket of a search that found nothing.
    fn ended(&self) -> Ticket {
        Ticket { job: None, place: Place::new(State::Ready(None)) }
    }
}

/// Begins at random nonces. Where the operating system has no randomness, windows are mined
/// without a nonce and counted as failed.
impl Grinder for Pool {
    type Ticket = Ticket;

    fn submit(&mut self, search: Search) -> Ticket {
        match random_nonce() {
            Ok(start) => Pool::submit(self, search, start),
            Err(_) => {
                self.shared.counters.submitted.fetch_add(1, Ordering::Relaxed);
                self.shared.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.ended()
            }
        }
    }

    fn poll(&self, ticket: &Ticket) -> State {
        ticket.poll()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closing = true;
        let jobs = core::mem::take(&mut queue.jobs);
        drop(queue);
        self.shared.work.notify_all();
        jobs.iter().for_each(|job| job.place.put(None));
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

/// A search in a pool. Dropping it cancels the search between two attempts.
pub struct Ticket {
    job: Option<(Arc<Shared>, u64)>,
    place: Arc<Place>,
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Ticket").field(&self.poll()).finish()
    }
}

impl Ticket {
    /// How the search stands; does not wait.
    #[must_use]
    pub fn poll(&self) -> State {
        *lock(&self.place.state)
    }

    /// Waits for the end of the search, at most so long.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> State {
        let state = lock(&self.place.state);
        let pending = |state: &mut State| *state == State::Pending;
        let (state, _) = self
            .place
            .changed
            .wait_timeout_while(state, timeout, pending)
            .unwrap_or_else(PoisonError::into_inner);
        *state
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some((shared, id)) = self.job.take() else { return };
        let removed = lock(&shared.queue).remove(id);
        if removed.is_some() {
            shared.counters.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a thread does.
fn work(shared: &Shared) {
    let mut memory: Option<Box<Memory>> = None;
    let mut loaded = None;
    while let Some(attempt) = shared.next_attempt() {
        let memory = memory.get_or_insert_with(Box::default);
        let answer = make(&attempt, memory, &mut loaded);
        shared.counters.tries.fetch_add(1, Ordering::Relaxed);
        shared.note(attempt.id, &answer);
        thread::yield_now();
    }
}

/// Makes one attempt. `loaded` is the search whose message the memory holds.
fn make(attempt: &Attempt, memory: &mut Memory, loaded: &mut Option<u64>) -> Answer {
    let length = attempt.message.len();
    let scratch = memory.scratch(length);
    let Some(room) = scratch.message.get_mut(..length) else { return Answer::Failed };
    if *loaded != Some(attempt.id) {
        room.copy_from_slice(&attempt.message);
        *loaded = Some(attempt.id);
    }
    let Some(mut message) = Message::again(room) else { return Answer::Failed };
    message.set_nonce(&attempt.nonce);
    let digest: PuzzleDigest = match argon2id(message.as_bytes(), scratch.memory) {
        Ok(digest) => digest,
        Err(_) => return Answer::Failed,
    };
    if attempt.target.is_met_by(&digest) {
        Answer::Solved(Solution { nonce: attempt.nonce, digest })
    } else {
        Answer::Missed
    }
}
