//! The prover that runs beside everything else: one thread squares without pause, another proves
//! the newest finished chunk, and whoever asks gets the latest proof together with the challenge
//! it belongs to.

use super::checkpoints::Checkpoints;
use super::construct::{Plan, ProveError, construct};
use crate::units::BlockHash;
use crate::vdf::discriminant::Discriminant;
use crate::vdf::form::Form;
use crate::vdf::wesolowski::{DISCRIMINANT_BITS, PROOF_BYTES, verify_proof};
use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::vec::Vec;

/// Squarings between two looks at the orders: about a millisecond.
const SLICE: u64 = 240;

/// How a [`Prover`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Proofs are made for multiples of this many squarings. spec: vdf §1
    pub chunk: u64,
    /// Squarings after which a challenge's work ends; at most 2^32 − 1, because samplers take the
    /// tick as a u32. spec: vdf §9
    pub limit: u32,
    /// Threads that construct a proof. The squaring thread is not among them.
    pub threads: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { chunk: 32_768, limit: u32::MAX, threads: 1 }
    }
}

/// A proof that has been verified, and what it proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The previous block's hash in header order.
    pub challenge: BlockHash,
    /// Squarings proved.
    pub tick: u64,
    /// y and π.
    pub blob: [u8; PROOF_BYTES],
}

/// What a [`Prover`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Squarings done for the current challenge.
    pub ticks: u64,
    /// Proofs published since the start, for all challenges.
    pub proofs: u64,
    /// Proofs that failed their own verification, or could not be made: dropped, and a sign of
    /// faulty hardware.
    pub faults: u64,
}

/// A running prover. Dropping it stops it.
#[derive(Debug)]
pub struct Prover {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    orders: Mutex<Orders>,
    changed: Condvar,
    /// Raised with every change of orders, and read without the lock.
    era: AtomicU64,
    ticks: AtomicU64,
    proofs: AtomicU64,
    faults: AtomicU64,
}

#[derive(Debug)]
struct Orders {
    challenge: BlockHash,
    stopped: bool,
    /// The newest finished chunk that nobody has begun to prove.
    newest: Option<Box<Chunk>>,
    latest: Option<Published>,
}

/// A finished chunk: a consistent copy of where squaring stood.
#[derive(Debug)]
struct Chunk {
    era: u64,
    discriminant: Discriminant,
    checkpoints: Checkpoints,
}

impl Prover {
    /// Starts squaring for a challenge, the previous block's hash in header order.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(challenge: BlockHash, settings: Settings) -> std::io::Result<Self> {
        let settings = Settings { chunk: settings.chunk.max(1), ..settings };
        let orders = Orders { challenge, stopped: false, newest: None, latest: None };
        let shared = Arc::new(Shared {
            settings,
            orders: Mutex::new(orders),
            changed: Condvar::new(),
            era: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            proofs: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });
        let mut prover = Self { shared, threads: Vec::new() };
        for (name, work) in
            [("vdf-square", Shared::square as fn(&Shared)), ("vdf-prove", Shared::prove)]
        {
            let shared = Arc::clone(&prover.shared);
            let thread = thread::Builder::new().name(name.into()).spawn(move || work(&shared))?;
            prover.threads.push(thread);
        }
        Ok(prover)
    }

    /// The latest proof of the current challenge; none before the first. Its tick never falls
    /// while the challenge stays.
    #[must_use]
    pub fn latest(&self) -> Option<Published> {
        self.shared.lock().latest
    }

    /// Turns to another challenge: returns at once, work for the old one ends within milliseconds,
    /// and [`Self::latest`] never shows it again. The current challenge is not started over.
    pub fn reset(&self, challenge: BlockHash) {
        let mut orders = self.shared.lock();
        if orders.challenge != challenge {
            orders.challenge = challenge;
            self.shared.new_era(&mut orders);
        }
    }

    /// What has been done so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            ticks: read(&self.shared.ticks),
            proofs: read(&self.shared.proofs),
            faults: read(&self.shared.faults),
        }
    }

    /// Ends all work and waits for it, some milliseconds.
    pub fn stop(&mut self) {
        let mut orders = self.shared.lock();
        orders.stopped = true;
        self.shared.new_era(&mut orders);
        drop(orders);
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_era(&self, orders: &mut Orders) {
        orders.newest = None;
        orders.latest = None;
        self.ticks.store(0, Ordering::Relaxed);
        self.era.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    fn is_current(&self, era: u64) -> bool {
        self.era.load(Ordering::Acquire) == era
    }

    fn wait<'a>(&self, orders: MutexGuard<'a, Orders>) -> MutexGuard<'a, Orders> {
        self.changed.wait(orders).unwrap_or_else(PoisonError::into_inner)
    }

    /// The squaring thread: one challenge after another.
    fn square(&self) {
        let mut done = None;
        loop {
            let mut orders = self.lock();
            while !orders.stopped && done.is_some_and(|era| self.is_current(era)) {
                orders = self.wait(orders);
            }
            if orders.stopped {
                return;
            }
            let (era, challenge) = (self.era.load(Ordering::Acquire), orders.challenge);
            drop(orders);
            match Discriminant::from_challenge(challenge.as_bytes(), DISCRIMINANT_BITS) {
                Ok(d) => self.square_challenge(&d, era),
                Err(_) => drop(self.faults.fetch_add(1, Ordering::Relaxed)),
            }
            done = Some(era);
        }
    }

    /// Squares until the limit or until the orders change, handing over every chunk.
    fn square_challenge(&self, d: &Discriminant, era: u64) {
        let mut checkpoints = Checkpoints::new(Form::generator(d));
        let limit = u64::from(self.settings.limit);
        while checkpoints.tick() < limit {
            let end = checkpoints.tick().saturating_add(self.settings.chunk).min(limit);
            while checkpoints.tick() < end {
                if !self.is_current(era) {
                    return;
                }
                checkpoints.square_to((checkpoints.tick() + SLICE).min(end), d);
                // Under a newer era the count is not ours to set.
                let orders = self.lock();
                if self.is_current(era) {
                    self.ticks.store(checkpoints.tick(), Ordering::Relaxed);
                }
                drop(orders);
            }
            let chunk = Chunk { era, discriminant: *d, checkpoints: checkpoints.clone() };
            let mut orders = self.lock();
            if !self.is_current(era) {
                return;
            }
            orders.newest = Some(Box::new(chunk));
            self.changed.notify_all();
        }
    }

    /// The proving thread: always the newest chunk.
    fn prove(&self) {
        loop {
            let mut orders = self.lock();
            let chunk = loop {
                if orders.stopped {
                    return;
                }
                match orders.newest.take() {
                    Some(chunk) => break chunk,
                    None => orders = self.wait(orders),
                }
            };
            drop(orders);
            self.prove_chunk(&chunk);
        }
    }

    fn prove_chunk(&self, chunk: &Chunk) {
        let Chunk { era, discriminant: d, checkpoints } = chunk;
        let cancelled = || !self.is_current(*era);
        let tick = checkpoints.tick();
        let made = construct_in_parallel(d, checkpoints, self.settings.threads, &cancelled);
        match made {
            Ok(blob) if verify_proof(d, tick, &blob).is_ok() => {
                let mut orders = self.lock();
                if self.is_current(*era) {
                    let challenge = orders.challenge;
                    orders.latest = Some(Published { challenge, tick, blob });
                    self.proofs.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(ProveError::Cancelled) => {}
            Ok(_) | Err(_) => drop(self.faults.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// The proof for where the checkpoints stand, its passes spread over threads. The same bytes as
/// [`construct`]. `cancelled` is asked every few milliseconds.
///
/// # Errors
/// [`ProveError`].
pub fn construct_in_parallel(
    d: &Discriminant,
    checkpoints: &Checkpoints,
    threads: u32,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<[u8; PROOF_BYTES], ProveError> {
    if threads <= 1 {
        return construct(d, checkpoints, cancelled);
    }
    let plan = Plan::new(d, checkpoints, threads.into())?;
    let passes: Vec<Mutex<Option<Form>>> = (0..plan.passes()).map(|_| Mutex::new(None)).collect();
    let next = AtomicU64::new(0);
    let work = || {
        while let Some(slot) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
            .ok()
            .and_then(|pass| passes.get(pass).map(|slot| (pass as u64, slot)))
        {
            let product = plan.pass(slot.0, cancelled);
            *slot.1.lock().unwrap_or_else(PoisonError::into_inner) = product;
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does the work alone.
            let _ = thread::Builder::new().name("vdf-pass".into()).spawn_scoped(scope, work);
        }
        work();
    });
    let products =
        passes.into_iter().map(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner));
    plan.finish(&products.collect::<Option<Vec<Form>>>().ok_or(ProveError::Cancelled)?)
}
