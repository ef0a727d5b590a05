//! The forward writer: a parent before its children, each byte once, straight from the lists of a
//! record into the caller's buffer. Offsets are patched when the child's place is known.
//!
//! The same code runs twice, first only counting: so the announced length is exact by construction
//! and the second run cannot meet a buffer that is too small. Every vector and string is written,
//! empty ones included; scalars equal to zero are left out. spec: proof-encoding §2, §3

use crate::proof::canonical::TooLong;
use crate::proof::mask::PadMask;
use crate::proof::rows::Rows;
use crate::proof::words::Words;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

/// Bytes of the longest message that is written: no transport of the network takes more. It also
/// keeps hostile records, whose rows may overlap in the buffer they came from, from growing without
/// bound. spec: proof-encoding §8
pub const MAX_MESSAGE_LEN: u64 = 50 << 20;

/// Where counting stops, far above the limit and far below what sums of positions could overflow.
const FAR: u64 = 1 << 62;

/// Why a message is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// It would be longer than [`MAX_MESSAGE_LEN`].
    TooLong(TooLong),
    /// The caller's buffer is too small.
    BufferTooSmall {
        /// Bytes the message needs.
        needed: usize,
        /// Bytes the buffer has.
        found: usize,
    },
    /// A field that readers take for granted is absent or empty.
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A row of a matrix is not as long as its first row.
    Ragged {
        /// The field's name.
        field: &'static str,
        /// The row.
        row: usize,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(why) => write!(f, "message refused: {why}"),
            Self::BufferTooSmall { needed, found } => {
                write!(f, "the message needs {needed} bytes, the buffer has {found}")
            }
            Self::Missing { field } => write!(f, "{field} must not be empty"),
            Self::Ragged { field, row } => {
                write!(f, "row {row} of {field} is not as long as row 0")
            }
        }
    }
}

impl core::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::TooLong(why) => Some(why),
            _ => None,
        }
    }
}

/// A message that can be written. The messages are those of the specification: nothing outside
/// this module can implement the trait.
pub trait Encode: WriteTable {
    /// File identifier, for the message that carries one.
    const IDENTIFIER: Option<[u8; 4]> = None;

    /// The rules about content that readers of the message depend on.
    ///
    /// # Errors
    /// [`WriteError::Missing`] or [`WriteError::Ragged`].
    fn check(&self) -> Result<(), WriteError> {
        Ok(())
    }

    /// Exact length in bytes.
    ///
    /// # Errors
    /// [`WriteError`] when the message may not be written at all.
    fn encoded_len(&self) -> Result<usize, WriteError> {
        self.check()?;
        let mut count = Out { buffer: None, at: 0 };
        count.root(self);
        let too_long = TooLong { len: count.at, limit: MAX_MESSAGE_LEN };
        match usize::try_from(count.at) {
            Ok(len) if count.at <= MAX_MESSAGE_LEN => Ok(len),
            _ => Err(WriteError::TooLong(too_long)),
        }
    }

    /// Writes the message to the front of `out` and returns its length.
    ///
    /// # Errors
    /// [`WriteError`]; then `out` is as it was.
    fn encode(&self, out: &mut [u8]) -> Result<usize, WriteError> {
        let len = self.encoded_len()?;
        let too_small = WriteError::BufferTooSmall { needed: len, found: out.len() };
        let buffer = out.get_mut(..len).ok_or(too_small)?;
        Out { buffer: Some(buffer), at: 0 }.root(self);
        Ok(len)
    }

    /// The message in a new buffer of its exact length.
    ///
    /// # Errors
    /// [`WriteError`] when the message may not be written at all.
    #[cfg(feature = "alloc")]
    fn encode_to_vec(&self) -> Result<Vec<u8>, WriteError> {
        let mut message = alloc::vec![0; self.encoded_len()?];
        Out { buffer: Some(&mut message), at: 0 }.root(self);
        Ok(message)
    }

    /// The message in a buffer that is there already: it takes the message's length, and new memory
    /// only when it never had so much. What it held before is gone.
    ///
    /// # Errors
    /// [`WriteError`] when the message may not be written at all; then `message` is as it was.
    #[cfg(feature = "alloc")]
    fn encode_over(&self, message: &mut Vec<u8>) -> Result<(), WriteError> {
        message.resize(self.encoded_len()?, 0);
        Out { buffer: Some(message), at: 0 }.root(self);
        Ok(())
    }
}

/// A table that can be written.
pub trait WriteTable {
    /// Writes the table and everything behind it; returns the table's position.
    fn write_table(&self, out: &mut Out<'_>) -> u64;
}

/// One field of a table.
#[derive(Clone, Copy)]
pub(in crate::proof) enum Field<'a> {
    /// An integer or truth value of one byte.
    Byte(u8),
    /// An integer of four bytes, two's complement.
    Word(u32),
    /// An integer of eight bytes, two's complement.
    Long(u64),
    /// A float; -0.0 counts as zero and is left out.
    Float(f32),
    /// A byte vector.
    Bytes(&'a [u8]),
    /// A string.
    Text(&'a [u8]),
    /// A vector of words.
    Words(Words<'a>),
    /// A padding mask.
    Mask(PadMask<'a>),
    /// A vector of row tables.
    Rows(Rows<'a>),
    /// A table, or none.
    Table(Option<&'a dyn WriteTable>),
}

impl Field<'_> {
    /// Bytes inside the table; 0 when the field is left out. spec: proof-encoding §3 (scalars equal
    /// to the default are omitted)
    fn width(&self) -> u64 {
        match *self {
            Self::Byte(0) | Self::Word(0) | Self::Long(0) | Self::Table(None) => 0,
            // The pattern is a comparison: -0.0 is left out as well.
            Self::Float(0.0) => 0,
            Self::Byte(_) => 1,
            Self::Long(_) => 8,
            _ => 4,
        }
    }
}

/// The growing message, or only its length.
#[derive(Debug)]
pub struct Out<'b> {
    buffer: Option<&'b mut [u8]>,
    at: u64,
}

impl Out<'_> {
    fn root<T: Encode + ?Sized>(&mut self, message: &T) {
        let root = self.put(&[0; 4]);
        if let Some(identifier) = T::IDENTIFIER {
            self.put(&identifier);
        }
        let table = message.write_table(self);
        self.point(root, table);
    }

    /// Writes a vtable, its table and everything the table points to; returns the table's position.
    pub(in crate::proof) fn table<const N: usize>(&mut self, fields: &[Field<'_>; N]) -> u64 {
        // Inside the table the widest fields come first, behind the offset of the vtable, so that
        // no gaps are needed; the table itself is placed for its widest field.
        let mut places = [0_u16; N];
        let mut size = 4_u16;
        for class in [8, 4, 1] {
            for (place, _) in places.iter_mut().zip(fields).filter(|(_, f)| f.width() == class) {
                *place = size;
                size += class as u16;
            }
        }
        self.align(2, 0);
        let vtable = self.put(&(4 + 2 * N as u16).to_le_bytes());
        self.put(&size.to_le_bytes());
        for place in places {
            self.put(&place.to_le_bytes());
        }
        let wide = fields.iter().any(|field| field.width() == 8);
        self.align(if wide { 8 } else { 4 }, 4);
        let table = self.head(vtable);
        for class in [8, 4, 1] {
            fields.iter().filter(|f| f.width() == class).for_each(|field| self.inline(field));
        }
        for (field, place) in fields.iter().zip(places) {
            self.child(field, table + u64::from(place));
        }
        table
    }

    /// The first word of a table: the distance back to its vtable.
    fn head(&mut self, vtable: u64) -> u64 {
        let distance = low32(self.at - vtable);
        self.put(&distance.to_le_bytes())
    }

    /// The part of a field that stands inside the table; offsets stay zero until the child's place
    /// is known.
    fn inline(&mut self, field: &Field<'_>) {
        match field {
            Field::Byte(value) => self.put(&value.to_le_bytes()),
            Field::Word(value) => self.put(&value.to_le_bytes()),
            Field::Long(value) => self.put(&value.to_le_bytes()),
            Field::Float(value) => self.put(&value.to_le_bytes()),
            _ => self.put(&[0; 4]),
        };
    }

    /// The part of a field that stands behind the table.
    fn child(&mut self, field: &Field<'_>, offset: u64) {
        let child = match field {
            Field::Byte(_) | Field::Word(_) | Field::Long(_) | Field::Float(_) => return,
            Field::Table(None) => return,
            Field::Bytes(bytes) => {
                let vector = self.count(bytes.len());
                self.put(bytes);
                vector
            }
            Field::Text(bytes) => {
                let vector = self.count(bytes.len());
                self.put(bytes);
                self.put(&[0]);
                vector
            }
            Field::Words(words) => self.words(words),
            Field::Mask(mask) => self.mask(mask),
            Field::Rows(rows) => self.rows(rows),
            Field::Table(Some(table)) => table.write_table(self),
        };
        self.point(offset, child);
    }

    /// The length word of a vector; returns the vector's position.
    fn count(&mut self, len: usize) -> u64 {
        self.align(4, 0);
        self.put(&low32(len as u64).to_le_bytes())
    }

    fn words(&mut self, words: &Words<'_>) -> u64 {
        let vector = self.count(words.len());
        if let Some(room) = self.room(4 * words.len() as u64) {
            words.copy_le(room);
        }
        vector
    }

    fn mask(&mut self, mask: &PadMask<'_>) -> u64 {
        let vector = self.count(mask.len());
        if let Some(room) = self.room(mask.len() as u64) {
            room.iter_mut().zip(mask.iter()).for_each(|(room, byte)| *room = byte);
        }
        vector
    }

    /// A vector of row tables. All rows share one vtable, and each row's words follow its table.
    fn rows(&mut self, rows: &Rows<'_>) -> u64 {
        let vector = self.count(rows.len());
        let first = self.at;
        if let Some(offsets) = self.room(4 * rows.len() as u64) {
            offsets.fill(0);
        }
        // A row has one field, an offset that stands behind the head of the table.
        let vtable = self.put(&[6, 0, 8, 0, 4, 0]);
        for (element, row) in (first..).step_by(4).zip(rows.iter()) {
            self.align(4, 0);
            let table = self.head(vtable);
            let offset = self.put(&[0; 4]);
            let words = self.words(&row);
            self.point(offset, words);
            self.point(element, table);
        }
        vector
    }

    /// Appends bytes and returns their position.
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let start = self.at;
        if let Some(room) = self.room(bytes.len() as u64) {
            room.copy_from_slice(bytes);
        }
        start
    }

    /// Appends zeros up to the next position that is `phase` modulo `width`.
    fn align(&mut self, width: u64, phase: u64) {
        let gap = (width + phase % width - self.at % width) % width;
        if let Some(room) = self.room(gap) {
            room.fill(0);
        }
    }

    /// Moves on by `len` bytes and returns them, or none while only counting.
    fn room(&mut self, len: u64) -> Option<&mut [u8]> {
        let start = self.at;
        self.at = start.saturating_add(len).min(FAR);
        let span = usize::try_from(start).ok()?..usize::try_from(self.at).ok()?;
        self.buffer.as_mut()?.get_mut(span)
    }

    /// Sets the offset at `from` to lead to `target`, which lies behind it.
    fn point(&mut self, from: u64, target: u64) {
        let distance = low32(target - from).to_le_bytes();
        let place = usize::try_from(from)
            .ok()
            .and_then(|from| self.buffer.as_mut()?.get_mut(from..)?.first_chunk_mut());
        if let Some(place) = place {
            *place = distance;
        }
    }
}

/// Distances and counts of a message within [`MAX_MESSAGE_LEN`] fit; while only counting, a message
/// that is longer is not yet refused and the value is of no matter.
fn low32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
