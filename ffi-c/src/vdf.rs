//! The verifiable delay function from C: one proof judged, one proof made.
#![allow(unsafe_code)] // exported functions take and give raw pointers

use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::{DISCRIMINANT_BITS, Discriminant, PROOF_BYTES, prover, verify};

use crate::arguments::{place, read_array};
use crate::status::{Fault, Status, enter};

/// Bytes of a VDF proof.
pub const TENSORPOW_VDF_PROOF_BYTES: usize = 200;
/// Most squarings that tensorpow_vdf_prove does in one call: a minute or two of one core.
pub const TENSORPOW_VDF_MOST_TICKS: u64 = 16_777_216;

const _: () = assert!(TENSORPOW_VDF_PROOF_BYTES == PROOF_BYTES);

/// Judges a VDF proof as a node does: `tick` squarings for the challenge, the 32-byte hash of the
/// previous block in header order.
///
/// On OK `*valid` is 1 or 0. Bytes of any length and content may be judged; it takes some tens of
/// milliseconds at most.
///
/// # Safety
/// `challenge` points to 32 bytes, `blob` to `len` bytes, `valid` to an int32_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_vdf_verify(
    challenge: *const u8,
    tick: u64,
    blob: *const u8,
    len: usize,
    valid: *mut i32,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `valid`.
        let valid = unsafe { place(valid, "valid") }?;
        // SAFETY: the caller's promise about `challenge` and `blob`.
        let (challenge, blob) =
            unsafe { (read_challenge(challenge)?, read_array(blob, len, "blob")?) };
        valid.write(i32::from(verify(&challenge, tick, blob).is_ok()));
        Ok(())
    })
}

/// Does `tick` squarings for the challenge, the 32-byte hash of the previous block in header order,
/// and writes the proof of them, TENSORPOW_VDF_PROOF_BYTES bytes.
///
/// Works in the calling thread for as long as it takes, of the order of 100 000 squarings a second.
/// INVALID_ARGUMENT above TENSORPOW_VDF_MOST_TICKS, and then nothing is written.
///
/// # Safety
/// `challenge` points to 32 bytes, `out` to TENSORPOW_VDF_PROOF_BYTES writable ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_vdf_prove(
    challenge: *const u8,
    tick: u64,
    out: *mut u8,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `out`; bytes need no alignment.
        let out = unsafe { place(out.cast::<[u8; PROOF_BYTES]>(), "out") }?;
        // SAFETY: the caller's promise about `challenge`.
        let challenge = unsafe { read_challenge(challenge) }?;
        out.write(prove(&challenge, tick)?);
        Ok(())
    })
}

/// One proof, made in one call, for both doors.
pub(crate) fn prove(challenge: &BlockHash, tick: u64) -> Result<[u8; PROOF_BYTES], Fault> {
    if tick > TENSORPOW_VDF_MOST_TICKS {
        let most = TENSORPOW_VDF_MOST_TICKS;
        let message = format!("tick is {tick}, one call proves at most {most}");
        return Err(Fault::argument(message));
    }
    let internal = |why: String| Fault::new(Status::Internal, why);
    let d = Discriminant::from_challenge(challenge.as_bytes(), DISCRIMINANT_BITS)
        .map_err(|why| internal(why.to_string()))?;
    prover::prove(&d, tick).map_err(|why| internal(why.to_string()))
}

/// The previous block's hash.
///
/// # Safety
/// `challenge` is null or points to 32 bytes.
unsafe fn read_challenge(challenge: *const u8) -> Result<BlockHash, Fault> {
    // SAFETY: the caller's promise; 32 bytes need no alignment and `as_ref` allows null.
    match unsafe { challenge.cast::<[u8; 32]>().as_ref() } {
        Some(bytes) => Ok(BlockHash::from_bytes(*bytes)),
        None => Err(Fault::argument("challenge is null")),
    }
}
