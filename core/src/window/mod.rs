//! Windows and the sequence that fills them: counters, the frozen mining context, the step. A
//! [`Sequence`] owns no buffers; the 256 step records go into a [`Window`] that the caller lends and
//! exchanges when it is full, so closing a window can happen on another thread.
//!
//! Sequences know nothing of each other: any number of them decode side by side, in any batch
//! order, and none can take another's row. How many may live at once is the caller's limit; beyond
//! it a newcomer runs unmined, a living sequence is never evicted. spec: sampler §7

mod label;
mod records;
mod sequence;

pub use label::{Label, LabelTooLong, MAX_LABEL};
pub use records::{NonceTooLate, Window};
pub use sequence::{Closer, Sequence, Step, StepError};
