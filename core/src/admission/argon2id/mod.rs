//! Argon2id (RFC 9106, version 0x13) with the puzzle's fixed parameters: one pass, one lane, 8 MiB,
//! 32 bytes of output, over memory that the caller lends. Fixed parameters leave out most of the
//! general algorithm: blocks are written once, in order, and refer to any earlier block.
//!
//! Here: the hashes before and after the memory is filled. `fill` decides which blocks are mixed,
//! `compress` mixes two, `avx2` does so faster, and `platform` chooses.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod compress;
mod fill;
mod platform;

use crate::units::PuzzleDigest;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest};
use core::fmt;

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

/// The version of Argon2.
const VERSION: u32 = 0x13;
/// Argon2id among the types of Argon2.
const TYPE: u32 = 2;
/// 64-bit words of a block.
const WORDS: usize = 128;
/// Bytes of a block.
const BLOCK_BYTES: usize = 8 * WORDS;

/// One KiB of a try's memory. What it holds when it is lent does not matter.
#[derive(Clone)]
#[repr(align(64))]
pub struct Block([u64; WORDS]);

impl Block {
    /// A block of zeros.
    pub const ZERO: Self = Self([0; WORDS]);
}

impl Default for Block {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Block")
    }
}

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
    argon2id_with(message, memory, platform::fill)
}

/// [`argon2id`] with a given way of filling the memory.
fn argon2id_with(
    message: &[u8],
    memory: &mut [Block],
    fill: fn(&mut [Block; MEMORY_BLOCKS]),
) -> Result<PuzzleDigest, HashError> {
    let found = message.len();
    let length = u32::try_from(found).map_err(|_| HashError::TooLong { found })?;
    let found = memory.len();
    let memory: &mut [Block; MEMORY_BLOCKS] =
        memory.first_chunk_mut().ok_or(HashError::Memory { found })?;
    let seed = seed(message, length);
    let [first, second, ..] = memory;
    *first = first_block(&seed, 0);
    *second = first_block(&seed, 1);
    fill(memory);
    let [.., last] = memory;
    let mut hash = Blake2b::<U32>::new_with_prefix(32_u32.to_le_bytes());
    last.0.iter().for_each(|word| hash.update(word.to_le_bytes()));
    Ok(PuzzleDigest::from_bytes(hash.finalize().into()))
}

/// The hash of all inputs and parameters. spec: RFC 9106 §3.2 step 1
fn seed(message: &[u8], length: u32) -> [u8; 64] {
    let mut hash = Blake2b512::new();
    let salt_length = SALT.len() as u32;
    for parameter in [LANES, 32, MEMORY_KIB, TIME_COST, VERSION, TYPE, length] {
        hash.update(parameter.to_le_bytes());
    }
    hash.update(message);
    hash.update(salt_length.to_le_bytes());
    hash.update(SALT);
    // Neither a secret nor associated data.
    hash.update([0; 8]);
    hash.finalize().into()
}

/// Block 0 or 1: a chain of hashes, of which all but the last give their first half.
/// spec: RFC 9106 §3.3
fn first_block(seed: &[u8; 64], number: u32) -> Block {
    let mut bytes = [0; BLOCK_BYTES];
    let mut link: [u8; 64] = Blake2b512::new()
        .chain_update((BLOCK_BYTES as u32).to_le_bytes())
        .chain_update(seed)
        .chain_update(number.to_le_bytes())
        .chain_update(0_u32.to_le_bytes())
        .finalize()
        .into();
    let mut rest = &mut bytes[..];
    while let Some((place, behind)) = rest.split_first_chunk_mut::<32>() {
        if behind.is_empty() {
            place.copy_from_slice(&link[32..]);
            break;
        }
        place.copy_from_slice(&link[..32]);
        if behind.len() > 32 {
            link = Blake2b512::digest(link).into();
        }
        rest = behind;
    }
    let mut block = Block::ZERO;
    for (word, bytes) in block.0.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }
    block
}

#[cfg(test)]
mod tests {
    use super::{Block, HashError, MEMORY_BLOCKS, SALT, argon2id, argon2id_with, platform};
    use argon2::{Algorithm, Argon2, Params, Version};
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn every_way_gives_what_the_general_algorithm_gives() {
        let params = Params::new(8192, 1, 1, Some(32)).unwrap();
        let general = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // Left as it is between the tries, so that nothing may depend on what it holds.
        let mut memory = vec![Block([u64::MAX; 128]); MEMORY_BLOCKS + 1];
        for length in [0, 1, 63, 64, 65, 127, 128, 129, 2437, 70_000] {
            let message: Vec<u8> = (0..length).map(|i: u32| (i * 31 + length) as u8).collect();
            let mut expected = [0; 32];
            general.hash_password_into(&message, SALT, &mut expected).unwrap();
            for fill in [platform::fill_portable, platform::fill] {
                let digest = argon2id_with(&message, &mut memory, fill).unwrap();
                assert_eq!(digest.as_bytes(), &expected, "{length} bytes");
            }
        }
    }

    #[test]
    fn too_little_memory_is_an_error() {
        let mut memory = vec![Block::ZERO; MEMORY_BLOCKS - 1];
        let found = memory.len();
        assert_eq!(argon2id(b"", &mut memory), Err(HashError::Memory { found }));
    }
}
