//! Why bytes are not an archive.

use crate::proof::MAX_CANONICAL_LEN;
use core::fmt;

/// Why an archive was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not begin like an archive.
    NoArchive,
    /// An archive of another version of the form.
    Version {
        /// Its version.
        found: u8,
    },
    /// The record is cut off, followed by other bytes, or says what no encoder writes.
    Record,
    /// The proof would be longer than a block may carry.
    TooLong {
        /// The canonical bytes declared.
        len: u64,
    },
    /// The coded lists are cut off, too long, or more than the record allows.
    Code,
    /// The proof is not the one whose key the archive has: it was damaged.
    Key,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArchive => f.write_str("the bytes do not begin like a compact proof"),
            Self::Version { found } => {
                write!(f, "a compact proof of version {found}; this program reads version 1")
            }
            Self::Record => f.write_str("the record of the compact proof is cut off or not valid"),
            Self::TooLong { len } => {
                write!(f, "a proof of {len} bytes, at most {MAX_CANONICAL_LEN} are allowed")
            }
            Self::Code => f.write_str("the lists of the compact proof are cut off or not valid"),
            Self::Key => f.write_str("the compact proof is damaged: its key is another proof's"),
        }
    }
}

impl core::error::Error for DecodeError {}
