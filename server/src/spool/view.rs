//! Reading: one snapshot of the spool, which no later commit changes.

use super::SpoolError;
use super::entry::{Delivery, DeliveryState, Entry};
use super::form::unpack;
use super::tables::{BODIES, COMPLETIONS, DELIVERIES, ENTRIES, from_bytes};
use redb::{Database, ReadTransaction, ReadableTable};
use std::ops::Bound;

/// A snapshot of the spool.
#[derive(Debug)]
pub struct View {
    txn: ReadTransaction,
}

/// A proof found by completion id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The id it is filed under.
    pub completion_id: String,
    /// Arrival in microseconds since 1970.
    pub arrived_us: u64,
    /// Its number.
    pub seq: u64,
}

/// Some of the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these numbers; all when empty.
    pub seqs: Vec<u64>,
    /// Only of this completion id.
    pub completion_id: Option<String>,
    /// Only with a delivery in this state.
    pub state: Option<DeliveryState>,
    /// Only with a delivery of this reason.
    pub reason: Option<String>,
}

impl Selection {
    pub(super) fn takes_entry(&self, seq: u64, entry: &Entry) -> bool {
        let id = self.completion_id.as_ref();
        (self.seqs.is_empty() || self.seqs.contains(&seq))
            && id.is_none_or(|id| entry.completion_id == *id || entry.also.contains(id))
    }

    pub(super) fn takes_reason(&self, reason: &str) -> bool {
        self.reason.as_ref().is_none_or(|wanted| wanted == reason)
    }

    fn takes(&self, seq: u64, entry: &Entry, deliveries: &[(String, Delivery)]) -> bool {
        let any = self.state.is_none() && self.reason.is_none();
        self.takes_entry(seq, entry)
            && (any
                || deliveries.iter().any(|(_, delivery)| {
                    self.state.is_none_or(|state| delivery.state == state)
                        && self.takes_reason(&delivery.reason)
                }))
    }
}

/// An entry with its deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub seq: u64,
    /// What is known of it.
    pub entry: Entry,
    /// By sink.
    pub deliveries: Vec<(String, Delivery)>,
}

impl View {
    pub(super) fn of(database: &Database) -> Result<Self, SpoolError> {
        Ok(Self { txn: database.begin_read()? })
    }

    /// What is known of an entry.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be read.
    pub fn entry(&self, seq: u64) -> Result<Option<Entry>, SpoolError> {
        let entries = self.txn.open_table(ENTRIES)?;
        entries.get(seq)?.map(|row| from_bytes(row.value())).transpose()
    }

    /// An entry's message, byte for byte as it arrived; the first bytes of one that is no proof.
    ///
    /// # Errors
    /// [`SpoolError`] when it cannot be read or was damaged.
    pub fn message(&self, seq: u64, entry: &Entry) -> Result<Vec<u8>, SpoolError> {
        let mut body = Vec::with_capacity(entry.stored_len as usize);
        for row in self.txn.open_table(BODIES)?.range((seq, 0)..=(seq, u16::MAX))? {
            body.extend_from_slice(row?.1.value());
        }
        if body.len() != entry.stored_len as usize {
            let (found, wanted) = (body.len(), entry.stored_len);
            return Err(SpoolError::Damaged(format!("proof {seq} has {found} bytes of {wanted}")));
        }
        unpack(entry.form, &body)
            .map_err(|error| SpoolError::Damaged(format!("proof {seq}: {error}")))
    }

    /// An entry's deliveries by sink.
    ///
    /// # Errors
    /// [`SpoolError`] when they cannot be read.
    pub fn deliveries(&self, seq: u64) -> Result<Vec<(String, Delivery)>, SpoolError> {
        let mut found = Vec::new();
        for row in self.txn.open_table(DELIVERIES)?.range((seq, "")..(seq + 1, ""))? {
            let (key, value) = row?;
            found.push((key.value().1.to_owned(), from_bytes(value.value())?));
        }
        Ok(found)
    }

    /// The proofs of a completion id that are not older than `oldest_us`, in order of arrival. Ids
    /// are resolved both ways: `x-0` finds the proofs of `x`, and `x` those of `x-<digits>`.
    /// spec: proxy §6
    ///
    /// # Errors
    /// [`SpoolError`] when they cannot be read.
    pub fn find(&self, id: &str, oldest_us: u64) -> Result<Vec<Found>, SpoolError> {
        let exact = self.filed_under(id, oldest_us)?;
        if !exact.is_empty() {
            return Ok(exact);
        }
        if let Some((base, suffix)) = id.rsplit_once('-')
            && crate::cache::is_digits(suffix)
        {
            let base = self.filed_under(base, oldest_us)?;
            if !base.is_empty() {
                return Ok(base);
            }
        }
        let prefix = format!("{id}-");
        let mut found = Vec::new();
        let start = (Bound::Included((&*prefix, 0, 0)), Bound::Unbounded);
        for row in self.txn.open_table(COMPLETIONS)?.range::<(&str, u64, u64)>(start)? {
            let (key, _) = row?;
            let (completion_id, arrived_us, seq) = key.value();
            let Some(suffix) = completion_id.strip_prefix(&prefix) else { break };
            if crate::cache::is_digits(suffix) && arrived_us >= oldest_us {
                found.push(Found { completion_id: completion_id.to_owned(), arrived_us, seq });
            }
        }
        found.sort_by_key(|found| (found.arrived_us, found.seq));
        Ok(found)
    }

    fn filed_under(&self, id: &str, oldest_us: u64) -> Result<Vec<Found>, SpoolError> {
        let mut found = Vec::new();
        let range = (id, oldest_us, 0)..=(id, u64::MAX, u64::MAX);
        for row in self.txn.open_table(COMPLETIONS)?.range::<(&str, u64, u64)>(range)? {
            let (key, _) = row?;
            let (_, arrived_us, seq) = key.value();
            found.push(Found { completion_id: id.to_owned(), arrived_us, seq });
        }
        Ok(found)
    }

    /// The completion ids of proofs not older than `oldest_us`, each once, oldest first.
    ///
    /// # Errors
    /// [`SpoolError`] when they cannot be read.
    pub fn completion_ids(&self, oldest_us: u64) -> Result<Vec<String>, SpoolError> {
        let mut ids = std::collections::HashSet::new();
        let mut found = Vec::new();
        for row in self.txn.open_table(ENTRIES)?.iter()?.rev() {
            let (_, value) = row?;
            let entry: Entry = from_bytes(value.value())?;
            if entry.arrived_us < oldest_us {
                break;
            }
            let names = entry.also.into_iter().rev().chain([entry.completion_id]);
            for id in names.filter(|id| !id.is_empty()) {
                if ids.insert(id.clone()) {
                    found.push(id);
                }
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The deliveries to a sink that are not settled, in the order in which they were stored.
    ///
    /// # Errors
    /// [`SpoolError`] when they cannot be read.
    pub fn open_deliveries(&self, sink: &str) -> Result<Vec<(u64, Delivery)>, SpoolError> {
        let mut found = Vec::new();
        for row in self.txn.open_table(DELIVERIES)?.iter()? {
            let (key, value) = row?;
            let (seq, of) = key.value();
            if of != sink {
                continue;
            }
            let delivery: Delivery = from_bytes(value.value())?;
            if delivery.state.is_open() {
                found.push((seq, delivery));
            }
        }
        Ok(found)
    }

    /// The newest entries of a selection, newest first.
    ///
    /// # Errors
    /// [`SpoolError`] when they cannot be read.
    pub fn list(&self, selection: &Selection, limit: usize) -> Result<Vec<Listed>, SpoolError> {
        let mut found = Vec::new();
        for row in self.txn.open_table(ENTRIES)?.iter()?.rev() {
            if found.len() == limit {
                break;
            }
            let (key, value) = row?;
            let (seq, entry) = (key.value(), from_bytes::<Entry>(value.value())?);
            if !selection.takes_entry(seq, &entry) {
                continue;
            }
            let deliveries = self.deliveries(seq)?;
            if selection.takes(seq, &entry, &deliveries) {
                found.push(Listed { seq, entry, deliveries });
            }
        }
        Ok(found)
    }
}
