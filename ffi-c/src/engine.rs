//! The engine handle: start, end, metrics, and the two calls that need no handle.
#![allow(unsafe_code)] // exported functions take and give raw pointers

use std::ffi::c_char;

use tensorpow_engine::settings::Settings;
use tensorpow_engine::{Engine, Identity, Log};

use crate::arguments::{SizeFirst, place, read_struct, read_text, write_text};
use crate::batch::Threads;
use crate::status::{Fault, Status, enter, with_last_error};

/// A running engine side: settings, counters, the threads that close windows and send proofs.
/// Every function that takes it may be called from any thread at any time, but for
/// tensorpow_engine_free, which is the last call.
#[derive(Debug)]
pub struct EngineHandle {
    pub(crate) engine: Engine,
    /// For batches; none runs before the first.
    pub(crate) threads: Threads,
}

/// What the engine says about itself at the start. Zero all of it, then set `size` and what is
/// known. Nothing is kept by reference.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct EngineArgs {
    /// sizeof(tensorpow_engine_args).
    pub size: usize,
    /// Name and version for logs, for example "llama.cpp b11434". May be null.
    pub engine: *const c_char,
    /// The model's `name@commit` if the engine knows it, else null. TENSORPOW_MODEL_IDENTIFIER
    /// goes before it.
    pub model_identifier: *const c_char,
    /// The label of the precision the model computes in ("bf16", "fp16", "fp8") if the engine
    /// knows it, else null. TENSORPOW_COMPUTE_PRECISION goes before it.
    pub compute_precision: *const c_char,
    /// Sequences mined at the same time; 0 takes the default of 1024. TENSORPOW_MAX_SEQUENCES
    /// goes before it.
    pub max_sequences: u32,
    /// Threads that share a tensorpow_sample_batch, the caller's included; 0 takes as many as the
    /// machine has processors. They are started by the first batch of two rows, never for an
    /// engine that samples row by row.
    pub sample_threads: u32,
}

// SAFETY: `size` first, then pointers and integers.
unsafe impl SizeFirst for EngineArgs {
    const NAME: &'static str = "tensorpow_engine_args";
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// The library's version, for example "0.1.0". Static; never null; any thread.
#[unsafe(no_mangle)]
pub extern "C" fn tensorpow_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// What the last failed call on this thread has to say, in English; "" after a call that
/// succeeded. Valid until the next call of this library on the same thread; never null.
#[unsafe(no_mangle)]
pub extern "C" fn tensorpow_last_error() -> *const c_char {
    with_last_error(std::ffi::CStr::as_ptr).unwrap_or(c"".as_ptr())
}

/// Reads the settings from the environment and starts the engine side. One per process is enough.
///
/// On OK `*out` is a handle that tensorpow_engine_free must take one day. Otherwise `*out` is null:
/// CONFIG when a setting refuses the start, INVALID_ARGUMENT when `args` or `out` is wrong. An
/// engine that cannot start mining still serves: it just makes no further calls.
///
/// # Safety
/// `args` points to a tensorpow_engine_args whose strings are null or NUL-terminated, `out` to a
/// pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_engine_new(
    args: *const EngineArgs,
    out: *mut *mut EngineHandle,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `out`.
        let out = unsafe { place(out, "out") }?.write(std::ptr::null_mut());
        // SAFETY: the caller's promise about `args`.
        let args = unsafe { read_struct(args) }?;
        // SAFETY: the caller's promise about the strings.
        let (engine, model, precision) = unsafe {
            (
                read_text(args.engine, "engine")?,
                read_text(args.model_identifier, "model_identifier")?,
                read_text(args.compute_precision, "compute_precision")?,
            )
        };
        let identity = Identity {
            engine: engine.unwrap_or_default().to_owned(),
            model_identifier: model.map(str::to_owned),
            compute_precision: precision.map(str::to_owned),
            max_sequences: usize::try_from(args.max_sequences).ok().filter(|max| *max > 0),
        };
        let settings = Settings::from_env().map_err(|why| Fault::new(Status::Config, why))?;
        let engine = Engine::start(settings, identity, Log::stderr())
            .map_err(|why| Fault::new(Status::Config, why))?;
        let threads = Threads::new(usize::try_from(args.sample_threads).unwrap_or(usize::MAX));
        *out = Box::into_raw(Box::new(EngineHandle { engine, threads }));
        Ok(())
    })
}

/// Ends the engine side: finished windows are closed and their proofs sent, for one second at
/// most. Null is allowed. Sequences may outlive it: they go on choosing tokens, their windows are
/// lost.
///
/// # Safety
/// `engine` came from tensorpow_engine_new and is not used again, by no thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_engine_free(engine: *mut EngineHandle) {
    enter(|| {
        if !engine.is_null() {
            // SAFETY: made by `Box::into_raw` in `tensorpow_engine_new`; the caller gives it up.
            drop(unsafe { Box::from_raw(engine) });
        }
        Ok(())
    });
}

/// Everything the engine side counts, as Prometheus text without a NUL at its end.
///
/// `*needed` is the text's length; it is written to `buf` when it fits into `capacity`, otherwise
/// nothing is. The text can grow between two calls: ask again with room to spare.
///
/// # Safety
/// `engine` is a live handle, `buf` is null or points to `capacity` bytes, `needed` to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_metrics(
    engine: *const EngineHandle,
    buf: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `engine`.
        let engine = unsafe { borrow_engine(engine) }?;
        // SAFETY: the caller's promise about `buf` and `needed`.
        unsafe { write_text(&engine.metrics(), buf, capacity, needed) }
    })
}

/// The engine behind a handle.
///
/// # Safety
/// `engine` is null or a live handle.
pub(crate) unsafe fn borrow_engine<'a>(engine: *const EngineHandle) -> Result<&'a Engine, Fault> {
    // SAFETY: as promised here.
    unsafe { borrow_handle(engine) }.map(|handle| &handle.engine)
}

/// A handle that is only ever shared.
///
/// # Safety
/// `engine` is null or a live handle.
pub(crate) unsafe fn borrow_handle<'a>(
    engine: *const EngineHandle,
) -> Result<&'a EngineHandle, Fault> {
    // SAFETY: null or live by the caller's promise.
    let handle = unsafe { engine.as_ref() };
    handle.ok_or_else(|| Fault::argument("the engine handle is null"))
}
