//! A matrix of a proof: a list of rows, each a list of words. Rows may have any lengths when they
//! were received; a sampling window hands a flat array and its width.

use super::flat::TableRows;
use super::words::Words;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

/// Borrowed rows of 32-bit words.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Rows<'a> {
    /// Rows of equal width behind one another; words after the last whole row do not count, and
    /// width 0 means no rows.
    Flat {
        /// All words, row by row.
        words: Words<'a>,
        /// Words per row.
        width: usize,
    },
    /// Rows of a received buffer, already verified.
    Tables(TableRows<'a>),
    /// Rows of integers.
    #[cfg(feature = "alloc")]
    Native(&'a [Vec<u32>]),
    /// Rows of floats.
    #[cfg(feature = "alloc")]
    Floats(&'a [Vec<f32>]),
}

impl Default for Rows<'_> {
    fn default() -> Self {
        Self::Flat { words: Words::default(), width: 0 }
    }
}

impl<'a> Rows<'a> {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Flat { words, width } => words.len().checked_div(*width).unwrap_or(0),
            Self::Tables(rows) => rows.len(),
            #[cfg(feature = "alloc")]
            Self::Native(rows) => rows.len(),
            #[cfg(feature = "alloc")]
            Self::Floats(rows) => rows.len(),
        }
    }

    /// True for a matrix without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `i`; empty behind the end.
    #[must_use]
    pub fn row(&self, i: usize) -> Words<'a> {
        let row = match self {
            Self::Flat { words, width } => {
                i.checked_mul(*width).and_then(|start| words.slice(start, *width))
            }
            Self::Tables(rows) => rows.row(i),
            #[cfg(feature = "alloc")]
            Self::Native(rows) => rows.get(i).map(|row| Words::Native(row)),
            #[cfg(feature = "alloc")]
            Self::Floats(rows) => rows.get(i).map(|row| Words::Floats(row)),
        };
        row.unwrap_or_default()
    }

    /// All rows in order.
    #[must_use]
    pub fn iter(&self) -> RowsIter<'a> {
        RowsIter { rows: *self, next: 0, len: self.len() }
    }

    /// The first row whose length differs from that of row 0.
    #[must_use]
    pub fn first_ragged(&self) -> Option<usize> {
        let width = self.row(0).len();
        self.iter().position(|row| row.len() != width)
    }
}

/// Equal when the rows are, wherever they lie.
impl PartialEq for Rows<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Rows<'_> {}

impl<'a> IntoIterator for Rows<'a> {
    type Item = Words<'a>;
    type IntoIter = RowsIter<'a>;

    fn into_iter(self) -> RowsIter<'a> {
        self.iter()
    }
}

/// Iterator over [`Rows`].
#[derive(Debug, Clone)]
pub struct RowsIter<'a> {
    rows: Rows<'a>,
    next: usize,
    len: usize,
}

impl<'a> Iterator for RowsIter<'a> {
    type Item = Words<'a>;

    fn next(&mut self) -> Option<Words<'a>> {
        if self.next == self.len {
            return None;
        }
        let row = self.rows.row(self.next);
        self.next += 1;
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for RowsIter<'_> {}

#[cfg(test)]
mod tests {
    use super::{Rows, Words};

    #[test]
    fn a_flat_array_is_cut_into_whole_rows() {
        let words = [1, 2, 3, 4, 5];
        let rows = Rows::Flat { words: Words::Native(&words), width: 2 };
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.row(1), Words::Native(&[3, 4]));
        assert!(rows.row(2).is_empty());
        assert_eq!(rows.first_ragged(), None);
        assert!(Rows::Flat { words: Words::Native(&words), width: 0 }.is_empty());
    }
}
