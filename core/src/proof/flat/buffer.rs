//! Bounds-checked loads from untrusted bytes. Positions are `u64` so that sums of 32-bit offsets
//! cannot wrap on any platform.

use super::error::{Fault, FlatError};

/// Untrusted bytes.
#[derive(Clone, Copy)]
pub(super) struct Buffer<'a>(&'a [u8]);

impl<'a> Buffer<'a> {
    /// Rule 1: at least 12 bytes. spec: proof-encoding §7
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, FlatError> {
        match bytes.len() {
            0..12 => Err(FlatError { fault: Fault::TooShort, at: bytes.len() as u64 }),
            _ => Ok(Self(bytes)),
        }
    }

    /// `range(at, len)`: true when the bytes lie inside. A value as long as the whole buffer does
    /// not count as inside. spec: proof-encoding §7
    fn holds(self, at: u64, len: u64) -> bool {
        let all = self.0.len() as u64;
        len < all && at <= all - len
    }

    /// Requires `len` bytes at `at`.
    pub(super) fn need(self, at: u64, len: u64) -> Result<(), FlatError> {
        if self.holds(at, len) { Ok(()) } else { Err(FlatError { fault: Fault::OutOfBounds, at }) }
    }

    /// Requires a value of `width` bytes at `at`, aligned to its width.
    pub(super) fn need_aligned(self, at: u64, width: u64) -> Result<(), FlatError> {
        if at % width != 0 {
            return Err(FlatError { fault: Fault::Misaligned, at });
        }
        self.need(at, width)
    }

    /// The `len` bytes at `at`.
    pub(super) fn bytes(self, at: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.0.get(start..end)
    }

    /// The `N` bytes at `at`.
    pub(super) fn load<const N: usize>(self, at: u64) -> Option<[u8; N]> {
        self.0.get(usize::try_from(at).ok()?..)?.first_chunk().copied()
    }

    /// The u16 at `at`.
    pub(super) fn u16(self, at: u64) -> Option<u16> {
        self.load(at).map(u16::from_le_bytes)
    }

    /// The u32 at `at`.
    pub(super) fn u32(self, at: u64) -> Option<u32> {
        self.load(at).map(u32::from_le_bytes)
    }

    /// Where the vtable of the table at `table` begins, if that is a position at all.
    pub(super) fn vtable(self, table: u64) -> Option<u64> {
        let back = i32::from_le_bytes(self.load(table)?);
        table.checked_add_signed(-i64::from(back))
    }

    /// Where field `slot` (0, 1, 2, …) of the table at `table` lies, if it is present: its two
    /// bytes lie inside the vtable and are not zero. spec: proof-encoding §7 rule 3
    pub(super) fn field(self, table: u64, vtable: u64, slot: u16) -> Option<u64> {
        let entry = 4 + 2 * u64::from(slot);
        if entry >= u64::from(self.u16(vtable)?) {
            return None;
        }
        match self.u16(vtable + entry)? {
            0 => None,
            distance => table.checked_add(u64::from(distance)),
        }
    }
}
