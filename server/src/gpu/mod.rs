//! What the machine's cards say about themselves, asked of `nvidia-smi` once: [`card`] is what a
//! worker advertises.

pub mod card;
