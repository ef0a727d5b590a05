//! One step of several sequences in one call: every row on the next free thread, the caller's
//! among them. The threads are started by the first call that has work for two.
#![allow(unsafe_code)] // exported functions take and give raw pointers

use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{addr_of, addr_of_mut};
use std::sync::{Mutex, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::arguments::read_array;
use crate::engine::{EngineHandle, borrow_handle};
use crate::sequence::SequenceHandle;
use crate::status::{Fault, RawStatus, Status, enter, panic_message};

/// A row of a batch.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct BatchRow {
    /// The sequence whose next token is wanted. Null: the row is not mined and passed over.
    pub seq: *mut SequenceHandle,
    /// Its raw logits of the last position.
    pub logits: *const f32,
    /// Their number.
    pub n_vocab: usize,
    /// Set by the call where `status` becomes OK, otherwise left alone: the choice.
    pub token: i32,
    /// Set by the call: what tensorpow_sample answers for the row; NOT_MINED where `seq` is null.
    pub status: RawStatus,
}

/// Chooses the next token of several sequences: the same choices as tensorpow_sample row by row,
/// on as many threads as tensorpow_engine_args.sample_threads allows.
///
/// OK when every row with a sequence has its token. Otherwise the status of the first that has
/// none, with its message; the other rows are done in any case, and every row's own `status` says
/// what became of it. Rows without a sequence cost nothing. A sequence stands in one row at most.
/// A row that has to wait for the admission of its window keeps a thread waiting: ask
/// tensorpow_ready first.
///
/// # Safety
/// `engine` is a live handle; `rows` points to `n_rows` rows, whose sequences are null or live
/// handles that no other thread uses, and whose `logits` point to `n_vocab` floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_sample_batch(
    engine: *const EngineHandle,
    rows: *mut BatchRow,
    n_rows: usize,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `engine`.
        let engine = unsafe { borrow_handle(engine) }?;
        // Looked at for null, alignment and length only: results need not be initialised.
        // SAFETY: the caller's promise about `rows`.
        unsafe { read_array(rows.cast::<MaybeUninit<BatchRow>>(), n_rows, "rows") }?;
        // SAFETY: the caller's promise about what stands in the rows.
        let (mut work, mut first) = unsafe { gather(rows, n_rows) };
        engine.threads.each(&mut work, Work::sample);
        for Work { at, handle, outcome, .. } in work {
            handle.in_batch = false;
            // SAFETY: `at` is one of the rows, which are the call's own until it returns.
            let (token, status) = unsafe {
                (addr_of_mut!((*rows.add(at)).token), addr_of_mut!((*rows.add(at)).status))
            };
            // SAFETY: as before.
            unsafe {
                match outcome {
                    Ok(chosen) => {
                        token.write(i32::from_ne_bytes(chosen.to_ne_bytes()));
                        status.write(Status::Ok as RawStatus);
                    }
                    Err(fault) => {
                        status.write(fault.status as RawStatus);
                        keep_first(&mut first, at, fault);
                    }
                }
            }
        }
        first.map_or(Ok(()), |(_, fault)| Err(fault))
    })
}

/// A row that is mined, on cache lines of its own: neighbours are other threads'.
#[derive(Debug)]
#[repr(align(128))]
struct Work<'a> {
    /// Its place in the batch.
    at: usize,
    handle: &'a mut SequenceHandle,
    logits: &'a [f32],
    outcome: Result<u32, Fault>,
}

impl Work<'_> {
    fn sample(&mut self) {
        let Self { handle, logits, .. } = self;
        let sampled = catch_unwind(AssertUnwindSafe(|| handle.sample(logits)));
        self.outcome = sampled.unwrap_or_else(|panic| {
            let message = format!("internal error: {}", panic_message(panic.as_ref()));
            Err(Fault::new(Status::Internal, message))
        });
    }
}

/// The rows that are mined, and what is wrong with the first that cannot be read.
///
/// # Safety
/// As for `rows` of [`tensorpow_sample_batch`].
unsafe fn gather<'a>(
    rows: *mut BatchRow,
    n_rows: usize,
) -> (Vec<Work<'a>>, Option<(usize, Fault)>) {
    let (mut mined, mut first) = (Vec::with_capacity(n_rows), None);
    for at in 0..n_rows {
        // SAFETY: one of the caller's rows; what is read here is initialised by its promise.
        let (seq, logits, n_vocab, status) = unsafe {
            let row = rows.add(at);
            (
                addr_of!((*row).seq).read(),
                addr_of!((*row).logits).read(),
                addr_of!((*row).n_vocab).read(),
                addr_of_mut!((*row).status),
            )
        };
        let refused = if seq.is_null() {
            Status::NotMined
        } else {
            // SAFETY: the caller's promise about the row.
            match unsafe { take_part(seq, logits, n_vocab) } {
                Ok(logits) => {
                    mined.push((at, seq, logits));
                    continue;
                }
                Err(fault) => {
                    let status = fault.status;
                    keep_first(&mut first, at, fault);
                    status
                }
            }
        };
        // SAFETY: a field of one of the caller's rows.
        unsafe { status.write(refused as RawStatus) };
    }
    let borrow = |(at, seq, logits): (usize, *mut SequenceHandle, &'a [f32])| {
        // SAFETY: live by the caller's promise, and in this list once by its mark.
        let handle = unsafe { &mut *seq };
        Work { at, handle, logits, outcome: Ok(0) }
    };
    (mined.into_iter().map(borrow).collect(), first)
}

/// Marks a sequence as part of the batch and reads its logits.
///
/// # Safety
/// `seq` is a live handle that nobody uses, `logits` null or `n_vocab` floats that outlive `'a`.
unsafe fn take_part<'a>(
    seq: *mut SequenceHandle,
    logits: *const f32,
    n_vocab: usize,
) -> Result<&'a [f32], Fault> {
    // SAFETY: a field of a live handle.
    let mark = unsafe { addr_of_mut!((*seq).in_batch) };
    // SAFETY: as before; a sequence that is named twice has its mark from the first row.
    if unsafe { mark.read() } {
        return Err(Fault::argument("its sequence stands in an earlier row"));
    }
    // SAFETY: as promised here.
    let logits = unsafe { read_array(logits, n_vocab, "logits") }?;
    // SAFETY: as before.
    unsafe { mark.write(true) };
    Ok(logits)
}

/// Keeps what is wrong with the earliest row.
fn keep_first(first: &mut Option<(usize, Fault)>, at: usize, fault: Fault) {
    if first.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
        let Fault { status, message } = fault;
        *first = Some((at, Fault { status, message: format!("row {at}: {message}") }));
    }
}

/// The threads that share a batch.
#[derive(Debug)]
pub(crate) struct Threads {
    /// The caller's included.
    most: usize,
    /// All but the caller's; none where one is enough or the system gives none.
    others: OnceLock<Option<ThreadPool>>,
}

impl Threads {
    /// `most` threads, the caller's included; 0 takes as many as there are processors.
    pub(crate) fn new(most: usize) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { most: if most == 0 { processors() } else { most }, others: OnceLock::new() }
    }

    fn others(&self) -> Option<&ThreadPool> {
        let start = || {
            ThreadPoolBuilder::new()
                .num_threads(self.most - 1)
                .thread_name(|at| format!("tensorpow-step-{at}"))
                .build()
                .ok()
        };
        self.others.get_or_init(start).as_ref()
    }

    /// Does `one` to every item, each on the next free thread.
    fn each<T: Send>(&self, items: &mut [T], one: impl Fn(&mut T) + Sync) {
        let wanted = self.most.min(items.len());
        let waiting = Mutex::new(items.iter_mut());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let drain = || {
            while let Some(item) = next() {
                one(item);
            }
        };
        match if wanted > 1 { self.others() } else { None } {
            None => drain(),
            Some(others) => others.in_place_scope(|scope| {
                for _ in 1..wanted {
                    scope.spawn(|_| drain());
                }
                drain();
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::thread;

    #[test]
    fn every_item_has_its_turn_on_no_more_threads_than_allowed() {
        for most in [1, 2, 3] {
            let threads = Threads::new(most);
            let mut seen = BTreeSet::new();
            for count in [0, 1, 2, 100] {
                let mut items = vec![None; count];
                threads.each(&mut items, |item| {
                    *item = Some(format!("{:?}", thread::current().id()));
                });
                seen.extend(items.into_iter().map(Option::unwrap));
            }
            assert!((1..=most).contains(&seen.len()), "{most}: {seen:?}");
            assert_eq!(threads.others.get().is_some(), most > 1);
        }
        assert!(Threads::new(0).most >= 1);
    }

    #[test]
    fn rows_of_different_threads_share_no_cache_line() {
        assert!(align_of::<Work<'_>>() >= 128);
        assert!(align_of::<SequenceHandle>() >= 128);
        assert!(align_of::<tensorpow_core::select::RowScratch>() >= 64);
    }
}
