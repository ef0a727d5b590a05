//! Looking at proofs from C: the commitment and the self-check of any proof's bytes.
#![allow(unsafe_code)] // exported functions take and give raw pointers

use std::ffi::c_char;

use tensorpow_core::target::Target;
use tensorpow_engine::inspect::Inspected;

use crate::arguments::{place, read_array, write_text};
use crate::status::{Fault, Status, enter};

/// Writes the 32-byte commitment (`hashPoW`, internal order) of a proof.
///
/// `bytes` is a MiningResponse as engines send it or a bare Proof, with or without file
/// identifier. INVALID_ARGUMENT when it is neither, and then nothing is written.
///
/// # Safety
/// `bytes` points to `len` bytes, `out` to 32 writable ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_proof_commitment(
    bytes: *const u8,
    len: usize,
    out: *mut u8,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `out`; 32 bytes need no alignment.
        let out = unsafe { place(out.cast::<[u8; 32]>(), "out") }?;
        // SAFETY: the caller's promise about `bytes`.
        let bytes = unsafe { read_array(bytes, len, "bytes") }?;
        let proof = Inspected::read(bytes).map_err(Fault::argument)?;
        out.write(*proof.commitment().map_err(Fault::argument)?.as_bytes());
        Ok(())
    })
}

/// Self-checks a proof as what it claims to be: everything the node checks without the model and
/// without the VDF, and the bindings it leaves open. `share_target` (32 bytes, most significant
/// first, or null) is what a share's header is held against; without it that is not judged.
///
/// On OK `*accepted` is 1 or 0 and the report, English text without a NUL, says what was found or
/// which check fails where; it is written to `buf` when it fits into `capacity`, and `*needed` is
/// its length in any case. INVALID_ARGUMENT when the bytes are no proof.
///
/// # Safety
/// `bytes` points to `len` bytes, `share_target` is null or points to 32, `accepted` to an
/// int32_t, `buf` is null or points to `capacity` bytes, `needed` to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_proof_check(
    bytes: *const u8,
    len: usize,
    share_target: *const u8,
    accepted: *mut i32,
    buf: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `accepted`.
        let accepted = unsafe { place(accepted, "accepted") }?;
        // SAFETY: the caller's promise about `bytes` and `share_target`; `as_ref` allows null, and
        // 32 bytes need no alignment.
        let (bytes, share) =
            unsafe { (read_array(bytes, len, "bytes")?, share_target.cast::<[u8; 32]>().as_ref()) };
        let proof = Inspected::read(bytes).map_err(Fault::argument)?;
        let verdict = proof.check(share.copied().map(Target::from_be_bytes).as_ref());
        accepted.write(i32::from(verdict.is_ok()));
        let report = verdict.map_or_else(|why| why.to_string(), |passed| passed.to_string());
        // SAFETY: the caller's promise about `buf` and `needed`.
        unsafe { write_text(&report, buf, capacity, needed) }
    })
}
