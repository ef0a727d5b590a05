//! Rows of a received matrix: a vector of one-field tables that the reader has verified, opened
//! row by row without copying.

use super::buffer::Buffer;
use crate::proof::words::Words;
use core::fmt;

/// Verified rows of a received matrix. Only the reader makes them.
#[derive(Clone, Copy)]
pub struct TableRows<'a> {
    buffer: Buffer<'a>,
    /// Position of the first element of the vector.
    first: u64,
    len: usize,
}

impl<'a> TableRows<'a> {
    /// Rows whose vector, tables and values have all been verified.
    pub(super) fn verified(buffer: Buffer<'a>, first: u64, len: usize) -> Self {
        Self { buffer, first, len }
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True for a matrix without rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Row `i`. A row table without values reads as none. spec: proof-encoding §6 item 8
    #[must_use]
    pub fn row(&self, i: usize) -> Option<Words<'a>> {
        if i >= self.len {
            return None;
        }
        let element = self.first + 4 * i as u64;
        let table = element + u64::from(self.buffer.u32(element)?);
        let field = self.buffer.field(table, self.buffer.vtable(table)?, 0)?;
        let vector = field + u64::from(self.buffer.u32(field)?);
        let count = u64::from(self.buffer.u32(vector)?);
        self.buffer.bytes(vector + 4, 4 * count).map(Words::LittleEndian)
    }
}

impl fmt::Debug for TableRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableRows").field("len", &self.len).finish_non_exhaustive()
    }
}
