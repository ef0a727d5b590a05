//! Argon2id with the puzzle's fixed parameters, over memory that the caller lends.

use super::puzzle::PuzzleDigest;
use argon2::{Algorithm, Argon2, Params, Version};
use core::fmt;

pub use argon2::Block;

/// Passes over the memory. spec: admission §1
pub const TIME_COST: u32 = 1;
/// Memory of one try in KiB, which is its number of blocks. spec: admission §1
pub const MEMORY_KIB: u32 = 8192;
/// Lanes. spec: admission §1
pub const LANES: u32 = 1;
/// Blocks of 1024 bytes that a try needs.
pub const MEMORY_BLOCKS: usize = MEMORY_KIB as usize;
/// The salt. spec: admission §1
pub const SALT: &[u8; 16] = b"TC_V3_ADMISSION!";

/// Why a message was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashError {
    /// The lent memory is too small.
    Memory {
        /// Blocks there.
        found: usize,
    },
    /// The message is longer than Argon2 takes, 2^32 − 1 bytes.
    TooLong {
        /// Bytes of the message.
        found: usize,
    },
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { found } => {
                write!(f, "a try needs {MEMORY_BLOCKS} blocks of memory, {found} were lent")
            }
            Self::TooLong { found } => write!(f, "a message of {found} bytes is too long"),
        }
    }
}

impl core::error::Error for HashError {}

/// One try. What the memory held before does not matter. spec: admission §8
///
/// # Errors
/// [`HashError`] when less than [`MEMORY_BLOCKS`] are lent or the message is too long.
pub fn argon2id(message: &[u8], memory: &mut [Block]) -> Result<PuzzleDigest, HashError> {
    let found = memory.len();
    let memory = memory.get_mut(..MEMORY_BLOCKS).ok_or(HashError::Memory { found })?;
    let too_long = HashError::TooLong { found: message.len() };
    let mut digest = [0; 32];
    let params =
        Params::new(MEMORY_KIB, TIME_COST, LANES, Some(digest.len())).map_err(|_| too_long)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(message, SALT, &mut digest, memory)
        .map_err(|_| too_long)?;
    Ok(PuzzleDigest::from_bytes(digest))
}
