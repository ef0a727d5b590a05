//! Owned room for puzzles: the 8 MiB that a try fills, and a message that grows as needed.

use super::argon2id::{Block, MEMORY_BLOCKS};
use super::judge::Scratch;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Room for one puzzle at a time; keep one per thread.
pub struct Memory {
    message: Vec<u8>,
    blocks: Box<[Block]>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Allocates 8 MiB.
    #[must_use]
    pub fn new() -> Self {
        let blocks = vec![Block::default(); MEMORY_BLOCKS].into_boxed_slice();
        Self { message: Vec::new(), blocks }
    }

    /// Lends room for a puzzle whose message has `message_len` bytes
    /// ([`message_len`](super::message_len) of the proof).
    pub fn scratch(&mut self, message_len: usize) -> Scratch<'_> {
        if self.message.len() < message_len {
            self.message.resize(message_len, 0);
        }
        Scratch { message: &mut self.message, memory: &mut self.blocks }
    }
}
