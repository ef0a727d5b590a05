//! The token ids of the evidence. The same few thousand ids come back in row after row, so a row
//! names them by their place in a dictionary that stands before the rows. Frequent ids come first:
//! a small index is a short code.

use super::number::{FlatNumber, Number};
use super::range::Coder;
use alloc::vec::Vec;

/// Groups of ids that occur about equally often; within a group they ascend.
const GROUPS: usize = 32;

/// The distinct ids of the evidence.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    /// Ids, group by group.
    ids: Vec<u32>,
    /// Ids in each group.
    sizes: [u32; GROUPS],
}

/// The group of ids that occur `count` times: exact below 8, then four groups to a doubling.
/// Group 0 is the most frequent.
fn group(count: usize) -> usize {
    let length = count.checked_ilog2().unwrap_or(0) as usize;
    let rank = match length {
        0..3 => count,
        _ => 4 * (length - 1) + (count >> (length - 2) & 3),
    };
    GROUPS - 1 - rank.min(GROUPS - 1)
}

/// Sorts entries whose upper half is an id and whose lower halves ascend: by eleven bits of the id
/// at a time, which for ids of vocabularies is two passes and faster than comparing.
fn sort_by_id(entries: &mut Vec<u64>) {
    const BITS: u32 = 11;
    let most = entries.iter().copied().max().unwrap_or(0) >> 32;
    let mut sorted = alloc::vec![0; entries.len()];
    let mut shift = 32;
    while shift < 64 && most >> (shift - 32) > 0 {
        let digit = |entry: u64| (entry >> shift) as usize & ((1 << BITS) - 1);
        let mut next = [0_u32; 1 << BITS];
        entries.iter().for_each(|entry| next[digit(*entry)] += 1);
        let mut before = 0;
        for count in &mut next {
            (*count, before) = (before, before + *count);
        }
        for entry in entries.iter() {
            let place = &mut next[digit(*entry)];
            sorted[*place as usize] = *entry;
            *place += 1;
        }
        core::mem::swap(entries, &mut sorted);
        shift += BITS;
    }
}

impl Dictionary {
    /// The dictionary of some ids, and the index of each of them.
    pub(super) fn of(ids: &[u32]) -> (Self, Vec<u32>) {
        // Sorted with their positions, equal ids stand together and know where they came from.
        let mut sorted: Vec<u64> =
            (0..).zip(ids).map(|(at, id): (u64, _)| u64::from(*id) << 32 | at).collect();
        sort_by_id(&mut sorted);
        let runs = || sorted.chunk_by(|a, b| a >> 32 == b >> 32);
        let mut sizes = [0; GROUPS];
        for run in runs() {
            sizes[group(run.len())] += 1;
        }
        let mut next = [0_u32; GROUPS];
        let mut distinct = 0;
        for (start, size) in next.iter_mut().zip(sizes) {
            *start = distinct;
            distinct += size;
        }
        let mut dictionary = Self { ids: alloc::vec![0; distinct as usize], sizes };
        let mut indices = alloc::vec![0; ids.len()];
        for run in runs() {
            let index = &mut next[group(run.len())];
            for entry in run {
                // The entry's halves: the id, and its position.
                let (id, at) = ((entry >> 32) as u32, *entry as u32);
                indices[at as usize] = *index;
                dictionary.ids[*index as usize] = id;
            }
            *index += 1;
        }
        (dictionary, indices)
    }

    /// Codes the dictionary, of at most `limit` ids. In a group each id is written as its distance
    /// from the one before.
    pub(super) fn code(mut self, coder: &mut impl Coder, limit: usize) -> Self {
        let mut size_model: Number = Number::new();
        let mut read = Vec::new();
        let mut given = self.ids.iter();
        for size in &mut self.sizes {
            *size = size_model.code(coder, *size);
            let room = limit - read.len();
            let size = usize::try_from(*size).unwrap_or(room).min(room);
            let mut gap = FlatNumber::new();
            let mut before = 0_u32;
            for _ in 0..size {
                let id = given.next().copied().unwrap_or(0);
                before = before.wrapping_add(gap.code(coder, id.wrapping_sub(before)));
                read.push(before);
            }
        }
        self.ids = read;
        self
    }

    /// The id at an index; 0 behind the end, which only hostile bytes ask for.
    pub(super) fn id(&self, index: u32) -> u32 {
        self.ids.get(index as usize).copied().unwrap_or(0)
    }
}
