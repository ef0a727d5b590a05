//! The pool of rows that live sequences occupy. A row is never taken from a living sequence: when
//! all are busy, the newcomer runs unmined.

/// Rows 0 to `N` − 1 with a first-in, first-out free list.
#[derive(Debug, Clone)]
pub struct Rows<const N: usize> {
    /// Free rows, a ring of `len` entries from `head`.
    free: [u16; N],
    head: usize,
    len: usize,
    busy: [bool; N],
}

impl<const N: usize> Default for Rows<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Rows<N> {
    /// All rows free. `N` is at most 65 535.
    #[must_use]
    pub fn new() -> Self {
        const { assert!(N > 0 && N <= u16::MAX as usize, "1 to 65 535 rows") };
        let mut free = [0; N];
        for (slot, row) in free.iter_mut().zip(0..) {
            *slot = row;
        }
        Self { free, head: 0, len: N, busy: [false; N] }
    }

    /// Takes the row that has been free longest; `None` when every row is busy.
    /// spec: sampler §7
    pub fn take(&mut self) -> Option<u16> {
        if self.len == 0 {
            return None;
        }
        let row = self.free[self.head];
        self.head = (self.head + 1) % N;
        self.len -= 1;
        self.busy[usize::from(row)] = true;
        Some(row)
    }

    /// Gives a row back; giving back a free or unknown row changes nothing and says `false`.
    pub fn release(&mut self, row: u16) -> bool {
        match self.busy.get_mut(usize::from(row)) {
            Some(busy) if *busy => {
                *busy = false;
                self.free[(self.head + self.len) % N] = row;
                self.len += 1;
                true
            }
            _ => false,
        }
    }

    /// Rows in use.
    #[must_use]
    pub fn busy(&self) -> usize {
        N - self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_refuses_and_evicts_nobody() {
        let mut rows = Rows::<2>::new();
        assert_eq!((rows.take(), rows.take(), rows.take()), (Some(0), Some(1), None));
        assert_eq!(rows.busy(), 2);
        assert!(rows.release(0));
        assert!(!rows.release(0), "a second release must not free somebody else's row");
        assert!(!rows.release(9));
        assert_eq!((rows.take(), rows.take()), (Some(0), None));
    }

    #[test]
    fn freed_rows_go_to_the_back() {
        let mut rows = Rows::<3>::new();
        rows.take();
        rows.release(0);
        assert_eq!((rows.take(), rows.take(), rows.take()), (Some(1), Some(2), Some(0)));
    }
}
