//! Lists that have no shape to make use of: words, one after the other, and rows of any lengths.

use super::number::{AnyWord, Number};
use super::range::Coder;
use alloc::vec::Vec;

/// Codes words as they are.
pub(super) fn words(coder: &mut impl Coder, words: &mut [u32]) {
    if words.is_empty() {
        return;
    }
    let mut model = AnyWord::new();
    for word in words {
        *word = model.code(coder, *word);
    }
}

/// Codes token ids, which are seldom large.
pub(super) fn token_ids(coder: &mut impl Coder, ids: &mut [u32]) {
    let mut model: Number = Number::new();
    for id in ids {
        *id = model.code(coder, *id);
    }
}

/// Codes rows: their lengths, then their words. Returns what is left of `room` words; `None` when
/// the rows do not fit.
pub(super) fn rows(
    coder: &mut impl Coder,
    rows: &mut [Vec<u32>],
    mut room: usize,
) -> Option<usize> {
    let mut length: Number = Number::new();
    for row in rows.iter_mut() {
        #[allow(clippy::cast_possible_truncation)] // a proof within its limit has fewer words
        let len = length.code(coder, row.len() as u32) as usize;
        room = room.checked_sub(len)?;
        row.resize(len, 0);
    }
    let mut model = AnyWord::new();
    for word in rows.iter_mut().flatten() {
        *word = model.code(coder, *word);
    }
    Some(room)
}
