//! The rows of the spool's file and the few operations on them, all within one transaction.
//!
//! | table | key | value |
//! |---|---|---|
//! | `about` | name | the file's format, the next entry's number |
//! | `entries` | number | [`Entry`] |
//! | `bodies` | number, part | a piece of the stored body |
//! | `identities` | commitment | number |
//! | `completions` | completion id, arrival, number | |
//! | `deliveries` | number, sink | [`Delivery`] |

use super::SpoolError;
use super::entry::{Delivery, Entry, FORMAT};
use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
pub(super) const BODIES: TableDefinition<'_, (u64, u16), &[u8]> = TableDefinition::new("bodies");
pub(super) const IDENTITIES: TableDefinition<'_, &[u8; 32], u64> =
    TableDefinition::new("identities");
pub(super) const COMPLETIONS: TableDefinition<'_, (&str, u64, u64), ()> =
    TableDefinition::new("completions");
pub(super) const DELIVERIES: TableDefinition<'_, (u64, &str), &[u8]> =
    TableDefinition::new("deliveries");

const FORMAT_KEY: &str = "format";
const NEXT_KEY: &str = "next";
/// A value takes a power of two of pages. Pieces of this size, with their key, fill one exactly, so
/// that a body wastes less than a page instead of up to half its size.
pub(super) const PIECE: usize = 16 * 1024 - 128;
/// Further completion ids a proof may have.
const MAX_ALSO: usize = 16;

pub(super) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    // The stored structures hold nothing that postcard cannot write.
    postcard::to_stdvec(value).unwrap_or_default()
}

pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SpoolError> {
    postcard::from_bytes(bytes).map_err(|error| SpoolError::Damaged(format!("a row: {error}")))
}

impl From<StorageError> for SpoolError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(what) => Self::Damaged(what),
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<TableError> for SpoolError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for SpoolError {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<redb::CommitError> for SpoolError {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => error.into(),
            other => Self::Storage(other.to_string()),
        }
    }
}

/// What became of a proof that was to be inserted.
pub(super) enum Inserted {
    /// A new entry.
    New(u64),
    /// The same proof is there already.
    Known {
        /// Its entry.
        seq: u64,
        /// It came under another completion id, which now finds it too.
        new_id: bool,
    },
}

/// All tables, open for writing.
pub(super) struct Rows<'t> {
    about: Table<'t, &'static str, u64>,
    entries: Table<'t, u64, &'static [u8]>,
    bodies: Table<'t, (u64, u16), &'static [u8]>,
    identities: Table<'t, &'static [u8; 32], u64>,
    completions: Table<'t, (&'static str, u64, u64), ()>,
    deliveries: Table<'t, (u64, &'static str), &'static [u8]>,
}

impl<'t> Rows<'t> {
    pub(super) fn open(txn: &'t WriteTransaction) -> Result<Self, SpoolError> {
        Ok(Self {
            about: txn.open_table(ABOUT)?,
            entries: txn.open_table(ENTRIES)?,
            bodies: txn.open_table(BODIES)?,
            identities: txn.open_table(IDENTITIES)?,
            completions: txn.open_table(COMPLETIONS)?,
            deliveries: txn.open_table(DELIVERIES)?,
        })
    }

    /// Writes the format into a new file, or checks that of an old one.
    pub(super) fn check_format(&mut self) -> Result<(), SpoolError> {
        let found = self.about.get(FORMAT_KEY)?.map(|found| found.value());
        match found {
            None => {
                self.about.insert(FORMAT_KEY, u64::from(FORMAT))?;
                Ok(())
            }
            Some(found) if found == u64::from(FORMAT) => Ok(()),
            Some(found) => Err(SpoolError::Format {
                found: u32::try_from(found).unwrap_or(u32::MAX),
                known: FORMAT,
            }),
        }
    }

    pub(super) fn insert(
        &mut self,
        entry: &Entry,
        body: &[u8],
        deliveries: &[(&'static str, Delivery)],
    ) -> Result<Inserted, SpoolError> {
        let known = self.identities.get(&entry.identity)?.map(|seq| seq.value());
        if let Some(seq) = known {
            let new_id = self.add_id(seq, entry)?;
            return Ok(Inserted::Known { seq, new_id });
        }
        let seq = self.about.get(NEXT_KEY)?.map_or(0, |next| next.value());
        self.about.insert(NEXT_KEY, seq + 1)?;
        self.entries.insert(seq, &*to_bytes(entry))?;
        for (part, piece) in (0..).zip(body.chunks(PIECE)) {
            self.bodies.insert((seq, part), piece)?;
        }
        self.identities.insert(&entry.identity, seq)?;
        if !entry.completion_id.is_empty() {
            self.completions.insert((&*entry.completion_id, entry.arrived_us, seq), ())?;
        }
        for (sink, delivery) in deliveries {
            self.mark(seq, sink, delivery)?;
        }
        Ok(Inserted::New(seq))
    }

    /// Files a known proof under one more completion id. False when it has it, or has too many.
    fn add_id(&mut self, seq: u64, again: &Entry) -> Result<bool, SpoolError> {
        let Some(mut entry) = self.entry(seq)? else { return Ok(false) };
        let id = &again.completion_id;
        // What was refused at the door is not served by completion id.
        let unfit = id.is_empty() || entry.completion_id.is_empty() || entry.tier.is_none();
        if unfit || entry.completion_id == *id || entry.also.contains(id) {
            return Ok(false);
        }
        if entry.also.len() == MAX_ALSO {
            return Ok(false);
        }
        entry.also.push(id.clone());
        self.entries.insert(seq, &*to_bytes(&entry))?;
        self.completions.insert((&**id, entry.arrived_us, seq), ())?;
        Ok(true)
    }

    pub(super) fn entry(&self, seq: u64) -> Result<Option<Entry>, SpoolError> {
        self.entries.get(seq)?.map(|row| from_bytes(row.value())).transpose()
    }

    pub(super) fn delivery(&self, seq: u64, sink: &str) -> Result<Option<Delivery>, SpoolError> {
        self.deliveries.get((seq, sink))?.map(|row| from_bytes(row.value())).transpose()
    }

    /// All deliveries of an entry.
    pub(super) fn deliveries(&self, seq: u64) -> Result<Vec<(String, Delivery)>, SpoolError> {
        let mut found = Vec::new();
        for row in self.deliveries.range((seq, "")..(seq + 1, ""))? {
            let (key, value) = row?;
            found.push((key.value().1.to_owned(), from_bytes(value.value())?));
        }
        Ok(found)
    }

    pub(super) fn mark(
        &mut self,
        seq: u64,
        sink: &str,
        delivery: &Delivery,
    ) -> Result<(), SpoolError> {
        self.deliveries.insert((seq, sink), &*to_bytes(delivery))?;
        Ok(())
    }

    pub(super) fn remove(&mut self, seq: u64) -> Result<(), SpoolError> {
        let Some(entry) = self.entry(seq)? else { return Ok(()) };
        self.entries.remove(seq)?;
        for part in 0.. {
            if self.bodies.remove((seq, part))?.is_none() {
                break;
            }
        }
        self.identities.remove(&entry.identity)?;
        for id in std::iter::once(&entry.completion_id).chain(&entry.also) {
            self.completions.remove((&**id, entry.arrived_us, seq))?;
        }
        for (sink, _) in self.deliveries(seq)? {
            self.deliveries.remove((seq, &*sink))?;
        }
        Ok(())
    }

    /// Every entry in order of arrival, with whether it has a delivery that is open.
    pub(super) fn each(
        &self,
        mut see: impl FnMut(u64, &Entry, Standing),
    ) -> Result<(), SpoolError> {
        for row in self.entries.iter()? {
            let (key, value) = row?;
            let entry: Entry = from_bytes(value.value())?;
            let standing = Standing::of(&self.deliveries(key.value())?);
            see(key.value(), &entry, standing);
        }
        Ok(())
    }
}

/// The deliveries of one entry, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Some delivery is not settled.
    pub(super) open: bool,
    /// Some delivery is dead.
    pub(super) dead: bool,
}

impl Standing {
    pub(super) fn of<S>(deliveries: &[(S, Delivery)]) -> Self {
        use super::entry::DeliveryState;
        Self {
            open: deliveries.iter().any(|(_, delivery)| delivery.state.is_open()),
            dead: deliveries.iter().any(|(_, delivery)| delivery.state == DeliveryState::Dead),
        }
    }
}
