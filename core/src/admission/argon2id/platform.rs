//! The choice of instructions, made when the program runs, in this one place.

#![allow(unsafe_code)] // what not every processor has may only be called after asking

use super::compress::compress;
use super::fill::fill_with;
use super::{Block, MEMORY_BLOCKS};

#[cfg(target_arch = "x86_64")]
cpufeatures::new!(has_avx2, "avx2");

/// Fills the memory with the widest instructions there are.
pub(super) fn fill(memory: &mut [Block; MEMORY_BLOCKS]) {
    #[cfg(target_arch = "x86_64")]
    if has_avx2::get() {
        // SAFETY: the processor has just said that it has AVX2.
        return fill_with(memory, |x, y, out| unsafe { super::avx2::compress(x, y, out) });
    }
    fill_portable(memory);
}

/// Fills the memory with what every processor of the target has.
pub(super) fn fill_portable(memory: &mut [Block; MEMORY_BLOCKS]) {
    fill_with(memory, compress);
}
