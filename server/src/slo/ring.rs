//! A count over a rolling window in constant memory: a ring of buckets, each for one slice of time,
//! and their sum. What it costs does not depend on how many requests it has seen.

use serde::{Deserialize, Serialize};

/// What one bucket counts.
pub const KINDS: usize = 6;

/// Counts by kind.
pub type Counts = [u64; KINDS];

/// A rolling window of `buckets.len()` slices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Seconds of one slice.
    slice: u64,
    /// Number of the slice that is being filled: unix seconds over `slice`.
    current: u64,
    buckets: Vec<Counts>,
    sum: Counts,
}

impl Ring {
    /// An empty window of `slices` times `slice` seconds; both at least 1.
    #[must_use]
    pub fn new(slices: usize, slice: u64) -> Self {
        let buckets = vec![[0; KINDS]; slices.max(1)];
        Self { slice: slice.max(1), current: 0, buckets, sum: [0; KINDS] }
    }

    /// Adds to the slice of `now` (unix seconds). A clock that went back adds to the newest slice.
    pub fn add(&mut self, now: u64, counts: Counts) {
        self.advance(now);
        let index = self.index(self.current);
        if let Some(bucket) = self.buckets.get_mut(index) {
            for ((bucket, sum), count) in bucket.iter_mut().zip(&mut self.sum).zip(counts) {
                *bucket = bucket.saturating_add(count);
                *sum = sum.saturating_add(count);
            }
        }
    }

    /// The counts of the window that ends now.
    pub fn sum(&mut self, now: u64) -> Counts {
        self.advance(now);
        self.sum
    }

    /// True when this ring has the shape of `other`, so that it can take its place.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.slice == other.slice && self.buckets.len() == other.buckets.len()
    }

    /// Computes the sum anew, for a ring that was read from a file.
    pub fn recount(&mut self) {
        self.sum = [0; KINDS];
        for bucket in &self.buckets {
            for (sum, count) in self.sum.iter_mut().zip(bucket) {
                *sum = sum.saturating_add(*count);
            }
        }
    }

    fn advance(&mut self, now: u64) {
        let slice = now / self.slice;
        let passed = slice.saturating_sub(self.current).min(self.buckets.len() as u64);
        for step in 1..=passed {
            // After a long pause only the last round of slices matters, and all of them are empty.
            let index = self.index(self.current.saturating_add(step));
            if let Some(bucket) = self.buckets.get_mut(index) {
                for (sum, count) in self.sum.iter_mut().zip(std::mem::take(bucket)) {
                    *sum = sum.saturating_sub(count);
                }
            }
        }
        self.current = self.current.max(slice);
    }

    fn index(&self, slice: u64) -> usize {
        usize::try_from(slice % self.buckets.len() as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_leave_with_their_slice() {
        let mut ring = Ring::new(3, 10);
        let one = [1, 0, 0, 0, 0, 0];
        ring.add(1_000, one);
        ring.add(1_009, one);
        ring.add(1_010, one);
        assert_eq!(ring.sum(1_029)[0], 3);
        assert_eq!(ring.sum(1_030)[0], 1, "the first slice has left");
        assert_eq!(ring.sum(1_039)[0], 1);
        assert_eq!(ring.sum(1_040)[0], 0);
        ring.add(5_000_000, one);
        assert_eq!(ring.sum(5_000_000)[0], 1);
        ring.add(4_000_000, one);
        assert_eq!(ring.sum(5_000_000)[0], 2, "a clock that went back loses nothing");
    }

    #[test]
    fn it_agrees_with_a_list_of_everything() {
        let mut ring = Ring::new(6, 10);
        let mut all = Vec::new();
        let mut now = 12_345;
        for step in 0..2_000_u64 {
            now += step * 7919 % 13;
            ring.add(now, [step % 3, 1, 0, 0, 0, 0]);
            all.push((now / 10, step % 3));
            let begin = now / 10 - 5;
            let expected: u64 =
                all.iter().filter(|(slice, _)| *slice >= begin).map(|(_, count)| count).sum();
            assert_eq!(ring.sum(now)[0], expected, "step {step}");
        }
    }
}
