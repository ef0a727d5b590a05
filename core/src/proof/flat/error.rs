//! Why a buffer is refused.

use core::fmt;

/// The rule a buffer breaks. spec: proof-encoding §7
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Fewer than 12 bytes.
    TooShort,
    /// A value does not lie on a multiple of its width.
    Misaligned,
    /// A value, or what an offset leads to, lies outside the buffer.
    OutOfBounds,
    /// An offset is zero or at least 2^31.
    BadOffset,
    /// The length of a vtable is odd.
    OddVtable,
    /// The element count of a vector is above what any buffer can hold.
    HugeVector,
    /// A string's last character is not followed by a zero byte.
    Unterminated,
    /// More than 1 000 000 tables.
    TooManyTables,
}

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlatError {
    /// The rule they break.
    pub fault: Fault,
    /// Position of the offending value, in bytes from the start.
    pub at: u64,
}

impl fmt::Display for FlatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.fault {
            Fault::TooShort => write!(f, "a message has at least 12 bytes, this one has {at}"),
            Fault::Misaligned => write!(f, "the value at byte {at} is not aligned to its width"),
            Fault::OutOfBounds => write!(f, "the value at byte {at} reaches outside the buffer"),
            Fault::BadOffset => write!(f, "the offset at byte {at} is zero or above 2^31 - 1"),
            Fault::OddVtable => write!(f, "the vtable at byte {at} has an odd length"),
            Fault::HugeVector => write!(f, "the vector at byte {at} counts too many elements"),
            Fault::Unterminated => write!(f, "the string at byte {at} does not end in a zero byte"),
            Fault::TooManyTables => {
                write!(f, "the table at byte {at} is one more than the allowed 1000000")
            }
        }
    }
}

impl core::error::Error for FlatError {}
