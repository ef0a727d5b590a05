//! The one thread that writes. Whatever has queued up while the disk was busy becomes one commit, so
//! a burst of proofs costs a few fsyncs and a lone one is not held back. Nobody gets an answer before
//! the commit that holds his change is on disk. When the disk fails everybody gets the error at once,
//! and the file is opened anew every few seconds until it works again.

use super::backend::guarded;
use super::entry::{Delivery, DeliveryState, Entry, Mark, micros};
use super::form::{self, Form};
use super::handle::{Put, Shared, SpoolHealth};
use super::retention::Ledger;
use super::tables::{Inserted, Rows, Standing};
use super::view::Selection;
use super::{SpoolError, SpoolSettings};
use crate::mining::sink::ReceivedProof;
use redb::Database;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};
use tensorpow_core::proof::{MiningResponseRef, commit};
use tokio::sync::oneshot;

/// Changes of one commit at most.
const BATCH: usize = 512;
/// Their bytes.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How often an idle spool looks for what is too old.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Of a message that is no proof so much is kept.
const UNDECODABLE_BYTES: usize = 64 * 1024;

/// A proof ready to be written: making it takes milliseconds of computation and no disk.
#[derive(Debug)]
pub struct Prepared {
    entry: Entry,
    body: Vec<u8>,
    deliveries: Vec<(&'static str, Delivery)>,
}

impl Prepared {
    /// Packs a proof and finds its identity.
    #[must_use]
    pub fn of(proof: &ReceivedProof, deliveries: Vec<(&'static str, Delivery)>) -> Self {
        let (identity, form, body) = match MiningResponseRef::read(&proof.message) {
            Ok(response) => {
                let commitment = response.pow_blob.as_ref().and_then(|proof| commit(proof).ok());
                let identity = commitment.map_or_else(
                    || Sha256::digest(&proof.message).into(),
                    |commitment| *commitment.root.as_bytes(),
                );
                let (form, body) = form::pack(&proof.message, &response);
                (identity, form, body)
            }
            Err(_) => (Sha256::digest(&proof.message).into(), Form::Raw, proof.message.to_vec()),
        };
        Self::new(Entry::of(proof, identity), form, body, deliveries)
    }

    /// A message that is no proof: its first bytes, a dead letter of the intake.
    #[must_use]
    pub fn undecodable(message: &[u8], reason: &str, detail: String) -> Self {
        let entry = Entry::of_junk(message, Sha256::digest(message).into(), SystemTime::now());
        let body = message.get(..UNDECODABLE_BYTES).unwrap_or(message).to_vec();
        let deliveries = vec![(super::INTAKE, Delivery::dead(0, reason, detail))];
        Self::new(entry, Form::Raw, body, deliveries)
    }

    /// A refused proof is not found by its completion id.
    #[must_use]
    pub fn without_completion_id(mut self) -> Self {
        self.entry.completion_id.clear();
        self
    }

    /// What makes two proofs the same one: the commitment.
    #[must_use]
    pub const fn identity(&self) -> &[u8; 32] {
        &self.entry.identity
    }

    /// Bytes to be stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// True without a body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Form of the body.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.entry.form
    }

    fn new(
        mut entry: Entry,
        form: Form,
        body: Vec<u8>,
        deliveries: Vec<(&'static str, Delivery)>,
    ) -> Self {
        entry.form = form;
        entry.stored_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        Self { entry, body, deliveries }
    }
}

/// A change, and who waits for it.
pub(super) enum Op {
    Put(Box<Prepared>, oneshot::Sender<Result<Put, SpoolError>>),
    Mark(Vec<Mark>, oneshot::Sender<Result<(), SpoolError>>),
    Replay(Selection, oneshot::Sender<Result<Vec<(u64, String)>, SpoolError>>),
    Sweep(oneshot::Sender<Result<(), SpoolError>>),
}

impl Op {
    fn refuse(self, error: SpoolError) {
        // Whoever has gone need not know.
        match self {
            Self::Put(_, reply) => drop(reply.send(Err(error))),
            Self::Mark(_, reply) | Self::Sweep(reply) => drop(reply.send(Err(error))),
            Self::Replay(_, reply) => drop(reply.send(Err(error))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(prepared, _) => prepared.body.len(),
            _ => 0,
        }
    }
}

/// The answer to a change, kept until its commit is on disk.
enum Answer {
    Put(Put, oneshot::Sender<Result<Put, SpoolError>>),
    Done(oneshot::Sender<Result<(), SpoolError>>),
    Replayed(Vec<(u64, String)>, oneshot::Sender<Result<Vec<(u64, String)>, SpoolError>>),
}

pub(super) struct Writer {
    pub(super) settings: SpoolSettings,
    pub(super) shared: Arc<Shared>,
    pub(super) database: Option<Arc<Database>>,
    pub(super) ledger: Ledger,
    /// Entries whose depositor did not wait for the commit: he has handed them over by himself.
    orphans: Vec<u64>,
    /// Entries whose standing in the ledger must be looked up anew.
    touched: BTreeSet<u64>,
    retry_at: Instant,
    sweep_at: Instant,
}

impl Writer {
    pub(super) fn new(settings: SpoolSettings, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            settings,
            shared,
            database: None,
            ledger: Ledger::default(),
            orphans: Vec::new(),
            touched: BTreeSet::new(),
            retry_at: now,
            sweep_at: now,
        }
    }

    /// Opens the file, or notes why it cannot be opened.
    pub(super) fn open(&mut self) -> Result<(), SpoolError> {
        match self.settings.location.open() {
            Ok((database, ledger)) => {
                self.ledger = ledger;
                let database = Arc::new(database);
                self.database = Some(database.clone());
                self.shared.opened(database, self.settings.location.file().is_some());
                self.shared.account(&self.ledger);
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn fail(&mut self, error: &SpoolError) {
        let first = !matches!(self.shared.health(), SpoolHealth::Degraded { .. });
        if first {
            tracing::error!(
                "the spool is out of service: {error}; proofs are forwarded from memory until it is back"
            );
        }
        self.database = None;
        self.shared.failed(error);
        self.retry_at = Instant::now() + self.settings.retry_every;
    }

    /// Works until every handle is gone.
    pub(super) fn run(mut self, ops: &Receiver<Op>) {
        loop {
            let wake = if self.database.is_some() { self.sweep_at } else { self.retry_at };
            let batch = match ops.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(first) => gather(first, ops),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.reopen_if_due();
            if batch.is_empty() && (self.database.is_none() || Instant::now() < self.sweep_at) {
                continue;
            }
            self.write(batch);
        }
    }

    fn reopen_if_due(&mut self) {
        if self.database.is_none() && Instant::now() >= self.retry_at && self.open().is_ok() {
            tracing::info!("the spool is back in service");
        }
    }

    fn write(&mut self, batch: Vec<Op>) {
        let Some(database) = self.database.clone() else {
            let error = SpoolError::Degraded(self.shared.health().to_string());
            return batch.into_iter().for_each(|op| op.refuse(error.clone()));
        };
        let started = Instant::now();
        let mut waiting = batch;
        match guarded(|| self.commit(&database, &mut waiting)) {
            Ok(answers) => {
                self.shared.committed(started.elapsed());
                self.shared.account(&self.ledger);
                self.answer(answers);
            }
            Err(error) => {
                drop(database);
                self.fail(&error);
                waiting.into_iter().for_each(|op| op.refuse(error.clone()));
            }
        }
    }

    /// All changes in one transaction. What is left in `batch` on an error gets the error.
    fn commit(
        &mut self,
        database: &Database,
        batch: &mut Vec<Op>,
    ) -> Result<Vec<Answer>, SpoolError> {
        let txn = database.begin_write()?;
        let mut rows = Rows::open(&txn)?;
        self.touched.clear();
        for seq in std::mem::take(&mut self.orphans) {
            self.disown(&mut rows, seq)?;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for op in batch.iter_mut() {
            outcomes.push(self.apply(&mut rows, op)?);
        }
        for seq in std::mem::take(&mut self.touched) {
            if let Some(entry) = rows.entry(seq)? {
                self.ledger.add(seq, &entry, Standing::of(&rows.deliveries(seq)?));
            }
        }
        self.shrink(&mut rows)?;
        drop(rows);
        txn.commit()?;
        let answers =
            batch.drain(..).zip(outcomes).filter_map(|(op, outcome)| match (op, outcome) {
                (Op::Put(_, reply), Outcome::Put(put)) => Some(Answer::Put(put, reply)),
                (Op::Mark(_, reply) | Op::Sweep(reply), Outcome::Done) => Some(Answer::Done(reply)),
                (Op::Replay(_, reply), Outcome::Replayed(all)) => {
                    Some(Answer::Replayed(all, reply))
                }
                _ => None,
            });
        Ok(answers.collect())
    }

    fn apply(&mut self, rows: &mut Rows<'_>, op: &mut Op) -> Result<Outcome, SpoolError> {
        Ok(match op {
            Op::Put(prepared, _) => {
                let Prepared { entry, body, deliveries } = &**prepared;
                Outcome::Put(match rows.insert(entry, body, deliveries)? {
                    Inserted::New(seq) => {
                        self.touched.insert(seq);
                        Put::New { seq }
                    }
                    Inserted::Known { seq, new_id } => Put::Known { seq, new_id },
                })
            }
            Op::Mark(marks, _) => {
                for Mark { seq, sink, delivery } in marks.iter() {
                    // What has been evicted meanwhile is not marked.
                    if rows.delivery(*seq, sink)?.is_some() {
                        rows.mark(*seq, sink, delivery)?;
                        self.touched.insert(*seq);
                    }
                }
                Outcome::Done
            }
            Op::Replay(selection, _) => Outcome::Replayed(self.replay(rows, selection)?),
            Op::Sweep(_) => {
                self.sweep_at = Instant::now();
                Outcome::Done
            }
        })
    }

    /// Opens dead deliveries again.
    fn replay(
        &mut self,
        rows: &mut Rows<'_>,
        selection: &Selection,
    ) -> Result<Vec<(u64, String)>, SpoolError> {
        let mut entries = Vec::new();
        rows.each(|seq, entry, standing| {
            if standing.dead && selection.takes_entry(seq, entry) {
                entries.push(seq);
            }
        })?;
        let mut replayed = Vec::new();
        for seq in entries {
            for (sink, delivery) in rows.deliveries(seq)? {
                let dead = delivery.state == DeliveryState::Dead && sink != super::INTAKE;
                if dead && selection.takes_reason(&delivery.reason) {
                    // After an attempt it may have arrived: it goes out as a repetition.
                    let again = match delivery.attempts {
                        0 => Delivery::pending(0),
                        attempts => Delivery::sent(attempts),
                    };
                    rows.mark(seq, &sink, &again)?;
                    self.touched.insert(seq);
                    replayed.push((seq, sink));
                }
            }
        }
        Ok(replayed)
    }

    /// The depositor gave up waiting and handed the proof over from memory: if it is ever replayed,
    /// then as a repetition.
    fn disown(&mut self, rows: &mut Rows<'_>, seq: u64) -> Result<(), SpoolError> {
        for (sink, delivery) in rows.deliveries(seq)? {
            if delivery.state == DeliveryState::Pending {
                rows.mark(seq, &sink, &Delivery::sent(1))?;
                self.touched.insert(seq);
            }
        }
        Ok(())
    }

    fn shrink(&mut self, rows: &mut Rows<'_>) -> Result<(), SpoolError> {
        self.sweep_at = Instant::now() + SWEEP_EVERY;
        for evicted in self.ledger.shrink(&self.settings.retention, micros(SystemTime::now())) {
            rows.remove(evicted.seq)?;
            self.shared.evicted(evicted.open);
            if evicted.open {
                tracing::warn!(
                    seq = evicted.seq,
                    "the spool's limits removed a proof before it was delivered"
                );
            }
        }
        Ok(())
    }

    fn answer(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Put(put, reply) => {
                    if let (Put::New { seq }, Err(_)) = (put, reply.send(Ok(put))) {
                        self.orphans.push(seq);
                    }
                }
                Answer::Done(reply) => drop(reply.send(Ok(()))),
                Answer::Replayed(all, reply) => drop(reply.send(Ok(all))),
            }
        }
        if !self.orphans.is_empty() {
            // With the next commit, which must not wait for the next proof.
            self.sweep_at = Instant::now();
        }
    }
}

/// What a change came to.
enum Outcome {
    Put(Put),
    Done,
    Replayed(Vec<(u64, String)>),
}

/// The first change and whatever has queued up behind it.
fn gather(first: Op, ops: &Receiver<Op>) -> Vec<Op> {
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Ok(op) = ops.try_recv() else { break };
        bytes += op.bytes();
        batch.push(op);
    }
    batch
}
