//! What a call answers: a status, and a message for it that the same thread can read. Every
//! exported function passes through [`enter`], so no panic ever crosses into the caller's frames.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a call answers. Anything but OK leaves a message for tensorpow_last_error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// This request is not mined, or not any more: use the engine's own sampler for it. Counted by
    /// reason in the metrics.
    NotMined = 1,
    /// The caller broke the contract of this header: null where a pointer is needed, a size too
    /// small, text that is not UTF-8.
    InvalidArgument = 2,
    /// The environment or the operating system refuses the start; the message names the variable.
    Config = 3,
    /// A defect of the library was caught. The sequence it happened in is dead, the engine lives.
    Internal = 4,
}

/// A [`Status`] in memory of the caller's, where any integer can stand.
pub(crate) type RawStatus = i32;

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(status: Status, message: impl ToString) -> Self {
        Self { status, message: message.to_string() }
    }

    /// The caller broke the contract.
    pub(crate) fn argument(message: impl ToString) -> Self {
        Self::new(Status::InvalidArgument, message)
    }
}

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs a door's body: forgets the last message, keeps panics inside, leaves the message of a
/// failure.
pub(crate) fn enter(body: impl FnOnce() -> Result<(), Fault>) -> Status {
    remember(None);
    let fault = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let message = format!("internal error: {}", panic_message(panic.as_ref()));
            Fault::new(Status::Internal, message)
        }
    };
    remember(Some(&fault.message));
    fault.status
}

/// The words a panic carried.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn remember(message: Option<&str>) {
    // A message has no inner NUL in C; text that came with a request might.
    let message = message.map(|m| m.replace('\0', "\u{fffd}"));
    let message = message.map(|m| CString::new(m).unwrap_or_default());
    // At the end of a thread there is nobody left to read it.
    let _ = LAST_ERROR.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = message;
        }
    });
}

/// Calls `read` with this thread's last message.
pub(crate) fn with_last_error<T>(read: impl FnOnce(&CStr) -> T) -> Option<T> {
    let message = LAST_ERROR
        .try_with(|last| last.try_borrow().ok().map(|last| read(last.as_deref().unwrap_or(c""))));
    message.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        with_last_error(|m| m.to_str().unwrap().to_owned()).unwrap()
    }

    #[test]
    fn a_message_lasts_until_the_next_call_on_its_thread() {
        assert_eq!(enter(|| Err(Fault::argument("a\0b"))), Status::InvalidArgument);
        assert_eq!(last_error(), "a\u{fffd}b");
        assert_eq!(std::thread::spawn(last_error).join().unwrap(), "");
        assert_eq!(enter(|| Ok(())), Status::Ok);
        assert_eq!(last_error(), "");
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(enter(|| panic!("number {}", 7)), Status::Internal);
        assert_eq!(last_error(), "internal error: number 7");
    }
}
