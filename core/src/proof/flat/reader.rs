//! The strict reader. A message asks for its fields one after the other, in declaration order;
//! each field is verified before it is handed out, so a message that was read is verified as a
//! whole and its borrowed parts stay valid without further checks.
//!
//! No allocation, no recursion over the input: the deepest message nests four tables, which keeps
//! the depth limit of 64 without counting, and the number of tables is counted, which bounds the
//! time. spec: proof-encoding §7

use super::buffer::Buffer;
use super::error::{Fault, FlatError};
use super::rows::TableRows;
use crate::proof::mask::PadMask;
use crate::proof::rows::Rows;
use crate::proof::words::Words;

/// Tables in one message, a table referenced twice counted twice. spec: proof-encoding §7 rule 8
const MAX_TABLES: u32 = 1_000_000;
/// Bytes a vector may span. spec: proof-encoding §7 rule 5
const MAX_SPAN: u64 = (1 << 31) - 1;

/// Reads the message whose root table is described by `read`. spec: proof-encoding §7 rules 1, 2
pub(in crate::proof) fn read_root<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut Fields<'a, '_>) -> Result<T, FlatError>,
) -> Result<T, FlatError> {
    let buffer = Buffer::new(bytes)?;
    let mut tables = 0;
    let root = follow(buffer, 0)?;
    read(&mut Fields::open(buffer, &mut tables, root)?)
}

/// The fields of one table, taken in declaration order.
pub(in crate::proof) struct Fields<'a, 'v> {
    buffer: Buffer<'a>,
    tables: &'v mut u32,
    table: u64,
    vtable: u64,
    slot: u16,
}

impl<'a, 'v> Fields<'a, 'v> {
    /// Verifies the head of a table. spec: proof-encoding §7 rules 3, 8
    fn open(buffer: Buffer<'a>, tables: &'v mut u32, table: u64) -> Result<Self, FlatError> {
        buffer.need_aligned(table, 4)?;
        let outside = FlatError { fault: Fault::OutOfBounds, at: table };
        let vtable = buffer.vtable(table).ok_or(outside)?;
        *tables += 1;
        if *tables > MAX_TABLES {
            return Err(FlatError { fault: Fault::TooManyTables, at: table });
        }
        buffer.need_aligned(vtable, 2)?;
        let len = buffer.u16(vtable).ok_or(outside)?;
        if len % 2 != 0 {
            return Err(FlatError { fault: Fault::OddVtable, at: vtable });
        }
        buffer.need(vtable, u64::from(len))?;
        Ok(Self { buffer, tables, table, vtable, slot: 0 })
    }

    /// Position of the next field, if it is present.
    fn next(&mut self) -> Option<u64> {
        let slot = self.slot;
        self.slot += 1;
        self.buffer.field(self.table, self.vtable, slot)
    }

    /// The next field as a scalar; zeros when absent. spec: proof-encoding §7 rule 4
    fn scalar<const N: usize>(&mut self) -> Result<[u8; N], FlatError> {
        let Some(at) = self.next() else {
            return Ok([0; N]);
        };
        self.buffer.need_aligned(at, N as u64)?;
        self.buffer.load(at).ok_or(FlatError { fault: Fault::OutOfBounds, at })
    }

    /// The next field as a byte.
    pub(in crate::proof) fn u8(&mut self) -> Result<u8, FlatError> {
        self.scalar().map(u8::from_le_bytes)
    }

    /// The next field as a truth value: any byte but zero is true.
    pub(in crate::proof) fn bool(&mut self) -> Result<bool, FlatError> {
        Ok(self.u8()? != 0)
    }

    /// The next field as a u32.
    pub(in crate::proof) fn u32(&mut self) -> Result<u32, FlatError> {
        self.scalar().map(u32::from_le_bytes)
    }

    /// The next field as an i32.
    pub(in crate::proof) fn i32(&mut self) -> Result<i32, FlatError> {
        self.scalar().map(i32::from_le_bytes)
    }

    /// The next field as a u64.
    pub(in crate::proof) fn u64(&mut self) -> Result<u64, FlatError> {
        self.scalar().map(u64::from_le_bytes)
    }

    /// The next field as an i64.
    pub(in crate::proof) fn i64(&mut self) -> Result<i64, FlatError> {
        self.scalar().map(i64::from_le_bytes)
    }

    /// The next field as a float, bits untouched.
    pub(in crate::proof) fn f32(&mut self) -> Result<f32, FlatError> {
        self.scalar().map(f32::from_le_bytes)
    }

    /// The next field as a byte vector; empty when absent.
    pub(in crate::proof) fn bytes(&mut self) -> Result<&'a [u8], FlatError> {
        let vector = self.next().map(|at| Vector::at(self.buffer, at, 1)).transpose()?;
        Ok(vector.map_or(&[], |vector| vector.bytes))
    }

    /// The next field as a string's bytes, without the terminator. spec: proof-encoding §7 rule 6
    pub(in crate::proof) fn text(&mut self) -> Result<&'a [u8], FlatError> {
        let Some(at) = self.next() else {
            return Ok(&[]);
        };
        let text = Vector::at(self.buffer, at, 1)?;
        let end = text.first + text.bytes.len() as u64;
        self.buffer.need(end, 1)?;
        match self.buffer.load(end) {
            Some([0]) => Ok(text.bytes),
            _ => Err(FlatError { fault: Fault::Unterminated, at: text.first }),
        }
    }

    /// The next field as a padding mask.
    pub(in crate::proof) fn mask(&mut self) -> Result<PadMask<'a>, FlatError> {
        self.bytes().map(PadMask::Bytes)
    }

    /// The next field as a vector of 32-bit words; empty when absent.
    pub(in crate::proof) fn words(&mut self) -> Result<Words<'a>, FlatError> {
        let vector = self.next().map(|at| Vector::at(self.buffer, at, 4)).transpose()?;
        Ok(vector.map_or_else(Words::default, |vector| Words::LittleEndian(vector.bytes)))
    }

    /// The next field as a matrix: a vector of tables with one vector of words each.
    /// spec: proof-encoding §7 rule 7
    pub(in crate::proof) fn rows(&mut self) -> Result<Rows<'a>, FlatError> {
        let Some(at) = self.next() else {
            return Ok(Rows::default());
        };
        let Vector { first, bytes } = Vector::at(self.buffer, at, 4)?;
        let offsets = Words::LittleEndian(bytes);
        for (element, offset) in (first..).step_by(4).zip(offsets) {
            Fields::open(self.buffer, self.tables, element + u64::from(offset))?.words()?;
        }
        Ok(Rows::Tables(TableRows::verified(self.buffer, first, offsets.len())))
    }

    /// The next field as a table, read by `read`; none when absent.
    pub(in crate::proof) fn table<T>(
        &mut self,
        read: impl FnOnce(&mut Fields<'a, '_>) -> Result<T, FlatError>,
    ) -> Result<Option<T>, FlatError> {
        let Some(at) = self.next() else {
            return Ok(None);
        };
        let table = follow(self.buffer, at)?;
        read(&mut Fields::open(self.buffer, self.tables, table)?).map(Some)
    }

    /// The next field as a table nobody knows: where it lies is verified, what it holds is not.
    /// spec: proof-encoding §7 rule 9
    pub(in crate::proof) fn unknown_table(&mut self) -> Result<(), FlatError> {
        self.next().map_or(Ok(()), |at| follow(self.buffer, at).map(drop))
    }
}

/// A verified vector.
struct Vector<'a> {
    /// Position of the first element.
    first: u64,
    /// All elements.
    bytes: &'a [u8],
}

impl<'a> Vector<'a> {
    /// Verifies the vector of `width`-byte elements that the offset at `at` leads to.
    /// spec: proof-encoding §7 rule 5
    fn at(buffer: Buffer<'a>, at: u64, width: u64) -> Result<Self, FlatError> {
        let vector = follow(buffer, at)?;
        buffer.need_aligned(vector, 4)?;
        let outside = FlatError { fault: Fault::OutOfBounds, at: vector };
        let count = u64::from(buffer.u32(vector).ok_or(outside)?);
        if count >= MAX_SPAN / width {
            return Err(FlatError { fault: Fault::HugeVector, at: vector });
        }
        buffer.need(vector, 4 + width * count)?;
        let first = vector + 4;
        let bytes = buffer.bytes(first, width * count).ok_or(outside)?;
        Ok(Self { first, bytes })
    }
}

/// Follows the offset at `at`. spec: proof-encoding §7 rule 2
fn follow(buffer: Buffer<'_>, at: u64) -> Result<u64, FlatError> {
    buffer.need_aligned(at, 4)?;
    let offset = buffer.u32(at).ok_or(FlatError { fault: Fault::OutOfBounds, at })?;
    if offset == 0 || u64::from(offset) > MAX_SPAN {
        return Err(FlatError { fault: Fault::BadOffset, at });
    }
    let target = at + u64::from(offset);
    buffer.need(target, 1)?;
    Ok(target)
}
