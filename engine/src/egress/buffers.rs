//! Memory for messages. A message is as long as a window's evidence, about 160 kB, and one is made
//! every 256 tokens of every sequence: the memory of one that has left is the next one's.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// Buffers kept for later; more are in use only while more messages wait.
const SPARE: usize = 8;

/// The buffers that no message uses.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer with whatever a message left in it.
    pub(crate) fn take(self: &Arc<Self>) -> Buffer {
        let bytes = lock(&self.0).pop().unwrap_or_default();
        Buffer { bytes, home: Arc::clone(self) }
    }
}

/// A buffer that goes back where it came from, whatever becomes of its message.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl Buffer {
    /// The buffer, to be written over.
    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = lock(&self.home.0);
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_message_that_has_left_is_the_next_ones() {
        let buffers = Arc::new(Buffers::default());
        let mut first = buffers.take();
        first.bytes_mut().resize(1000, 1);
        let place = first.as_ptr();
        let mut second = buffers.take();
        second.bytes_mut().resize(1000, 2);
        assert_ne!(second.as_ptr(), place, "the first is in use");
        drop(first);
        assert_eq!(buffers.take().as_ptr(), place);
        let many: Vec<_> = (0..SPARE + 5).map(|_| buffers.take()).collect();
        drop(many);
        assert_eq!(lock(&buffers.0).len(), SPARE);
    }
}
