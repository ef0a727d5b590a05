//! Reading what a C caller hands over: argument structs that begin with their own size, strings,
//! arrays, places for results. Everything is checked for null; nothing is kept beyond the call.
#![allow(unsafe_code)] // the caller's memory is reached through raw pointers only

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use crate::status::Fault;

/// Larger sizes than this are garbage, not a newer caller.
const MOST_BYTES: usize = 4096;

/// A plain C struct of the header: `size` first, then integers, floats and raw pointers.
///
/// # Safety
/// Every bit pattern, all zero included, is a valid value, and the first field is a `usize`.
pub(crate) unsafe trait SizeFirst: Copy {
    /// The struct's name in the header.
    const NAME: &'static str;
    /// Its size in the first release: what every caller ever compiled has.
    const FIRST_SIZE: usize;
}

/// Copies an argument struct of the size its caller knew: fields an older caller has not are zero,
/// fields a newer caller set and this library does not know are an error.
///
/// # Safety
/// `args` is null or points to as many readable bytes as its first field says.
pub(crate) unsafe fn read_struct<T: SizeFirst>(args: *const T) -> Result<T, Fault> {
    if args.is_null() {
        return Err(Fault::argument(format!("{} is null", T::NAME)));
    }
    // SAFETY: not null, and the caller promises at least the size field.
    let size = unsafe { args.cast::<usize>().read_unaligned() };
    if size < T::FIRST_SIZE {
        let name = T::NAME;
        let needed = T::FIRST_SIZE;
        let message =
            format!("{name}.size is {size}, it must be at least {needed}: sizeof({name})");
        return Err(Fault::argument(message));
    }
    if size > MOST_BYTES {
        let message = format!("{}.size is {size}, which no release has", T::NAME);
        return Err(Fault::argument(message));
    }
    let known = size_of::<T>();
    if size > known {
        // SAFETY: the caller promises `size` readable bytes, `known` is inside them.
        let newer =
            unsafe { std::slice::from_raw_parts(args.cast::<u8>().add(known), size - known) };
        if newer.iter().any(|byte| *byte != 0) {
            let name = T::NAME;
            let message = format!("{name} sets fields that this library does not know; update it");
            return Err(Fault::argument(message));
        }
    }
    let mut own = MaybeUninit::<T>::zeroed();
    // SAFETY: both sides have `min(size, known)` bytes and do not overlap; a `SizeFirst` struct is
    // valid for every bit pattern.
    unsafe {
        std::ptr::copy_nonoverlapping(
            args.cast::<u8>(),
            own.as_mut_ptr().cast::<u8>(),
            size.min(known),
        );
        Ok(own.assume_init())
    }
}

/// A NUL-terminated UTF-8 string; `None` for null.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that outlives `'a`.
pub(crate) unsafe fn read_text<'a>(
    text: *const c_char,
    name: &str,
) -> Result<Option<&'a str>, Fault> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not null and NUL-terminated by the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(why) => {
            let at = why.valid_up_to();
            Err(Fault::argument(format!("{name} is not UTF-8: byte {at} does not belong there")))
        }
    }
}

/// An array of `len` values; null is allowed for an empty one.
///
/// # Safety
/// `values` is null or points to `len` readable values that outlive `'a`.
pub(crate) unsafe fn read_array<'a, T: Copy>(
    values: *const T,
    len: usize,
    name: &str,
) -> Result<&'a [T], Fault> {
    if len == 0 {
        return Ok(&[]);
    }
    if values.is_null() {
        return Err(Fault::argument(format!("{name} is null but its length is {len}")));
    }
    if !values.is_aligned() {
        return Err(Fault::argument(format!("{name} is not aligned for its type")));
    }
    let bytes = len.checked_mul(size_of::<T>());
    if bytes.and_then(|bytes| isize::try_from(bytes).ok()).is_none() {
        return Err(Fault::argument(format!("{name} has an impossible length of {len}")));
    }
    // SAFETY: not null, aligned, of a length that fits memory, readable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(values, len) })
}

/// A place for a result.
///
/// # Safety
/// `place` is null or points to memory for a `T` that nobody else uses during the call.
pub(crate) unsafe fn place<'a, T>(
    place: *mut T,
    name: &str,
) -> Result<&'a mut MaybeUninit<T>, Fault> {
    if place.is_null() || !place.is_aligned() {
        return Err(Fault::argument(format!("{name} is null or not aligned")));
    }
    // SAFETY: not null, aligned, exclusive by the caller's promise; it need not be initialised.
    Ok(unsafe { &mut *place.cast::<MaybeUninit<T>>() })
}

/// Gives text to the caller: always its length, its bytes only when they fit.
///
/// # Safety
/// `buffer` is null or points to `capacity` writable bytes; `needed` is null or points to a
/// `usize`; neither overlaps the other.
pub(crate) unsafe fn write_text(
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> Result<(), Fault> {
    // SAFETY: the caller's promise about `needed`.
    unsafe { place(needed, "needed") }?.write(text.len());
    if text.len() > capacity || text.is_empty() {
        return Ok(());
    }
    if buffer.is_null() {
        return Err(Fault::argument(format!("buf is null but its capacity is {capacity}")));
    }
    // SAFETY: `buffer` has `capacity` bytes, at least as many as are copied.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), text.len()) };
    Ok(())
}
