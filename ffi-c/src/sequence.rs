//! The sequence handle: a request that is mined, token by token.
#![allow(unsafe_code)] // exported functions take and give raw pointers

use std::ffi::c_char;
use std::time::Duration;

use tensorpow_engine::{BeginRequest, Exclusions, Requested, Sequence};

use crate::arguments::{SizeFirst, place, read_array, read_struct, read_text};
use crate::engine::{EngineHandle, borrow_engine};
use crate::status::{Fault, Status, enter};

/// Grammar, JSON schema, response format or tool calls.
pub const TENSORPOW_EXCLUDE_GRAMMAR: u32 = 1;
/// Several choices of one prompt.
pub const TENSORPOW_EXCLUDE_SEVERAL_CHOICES: u32 = 2;
/// Presence, frequency, repetition or DRY penalty.
pub const TENSORPOW_EXCLUDE_PENALTY: u32 = 4;
/// Logit bias.
pub const TENSORPOW_EXCLUDE_LOGIT_BIAS: u32 = 8;
/// Any other sampler set away from neutral by the request.
pub const TENSORPOW_EXCLUDE_SAMPLER_OPTION: u32 = 16;
/// A seed.
pub const TENSORPOW_EXCLUDE_SEED: u32 = 32;
/// A reasoning budget.
pub const TENSORPOW_EXCLUDE_REASONING_BUDGET: u32 = 64;
/// LoRA, aLoRA or control vectors.
pub const TENSORPOW_EXCLUDE_ADAPTER: u32 = 128;
/// Input other than text.
pub const TENSORPOW_EXCLUDE_MULTIMODAL: u32 = 256;
/// The server shifts contexts or re-uses shifted caches.
pub const TENSORPOW_EXCLUDE_CONTEXT_SHIFT: u32 = 512;
/// Embeddings, reranking, infilling.
pub const TENSORPOW_EXCLUDE_NOT_COMPLETION: u32 = 1024;
/// Raw logits are not available.
pub const TENSORPOW_EXCLUDE_BACKEND: u32 = 2048;

/// A mined request. One thread at a time may use it; different sequences are independent.
#[derive(Debug)]
#[repr(align(128))] // rows of a batch are other threads': no cache line is shared
pub struct SequenceHandle {
    sequence: Sequence,
    /// A call panicked; what it left behind is not used again.
    dead: bool,
    /// It has a row in the batch under way.
    pub(crate) in_batch: bool,
}

impl SequenceHandle {
    /// The next token. The handle is dead from here on unless the call comes back.
    pub(crate) fn sample(&mut self, logits: &[f32]) -> Result<u32, Fault> {
        if self.dead {
            let message = "an internal error ended this sequence; end the handle";
            return Err(Fault::new(Status::Internal, message));
        }
        self.dead = true;
        let chosen = self.sequence.sample(logits);
        self.dead = false;
        chosen.map_err(|why| Fault::new(Status::NotMined, why))
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum EndReason {
    /// The text is complete: end token, stop word or length.
    Finished = 0,
    /// The client went away or the request was aborted.
    Cancelled = 1,
    /// The engine failed.
    Error = 2,
    /// The prompt and the tokens drawn no longer describe what the model sees: shifted context,
    /// truncated cache.
    ContinuityLost = 3,
}

/// An [`EndReason`] as it comes from C, where it can be any integer.
pub(crate) type RawEndReason = i32;

impl EndReason {
    /// Unknown numbers count as an error of the engine.
    fn from_raw(raw: RawEndReason) -> tensorpow_engine::EndReason {
        match raw {
            0 => tensorpow_engine::EndReason::Finished,
            1 => tensorpow_engine::EndReason::Cancelled,
            3 => tensorpow_engine::EndReason::ContinuityLost,
            _ => tensorpow_engine::EndReason::Error,
        }
    }
}

/// A request about to begin. Zero all of it, then set the fields. Nothing is kept by reference.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct BeginArgs {
    /// sizeof(tensorpow_begin_args).
    pub size: usize,
    /// The request's `pow` member: JSON text of an object, or of a string that holds one. UTF-8,
    /// `pow_json_len` bytes, no NUL needed.
    pub pow_json: *const c_char,
    /// Length of `pow_json` in bytes.
    pub pow_json_len: usize,
    /// The completion id that the client sees. NUL-terminated UTF-8; null for none.
    pub completion_id: *const c_char,
    /// The request's own temperature.
    pub temperature: f32,
    /// The request's own top-k.
    pub top_k: i32,
    /// The request's own top-p.
    pub top_p: f32,
    /// The request's own repetition penalty; 1 is neutral.
    pub repetition_penalty: f32,
    /// TENSORPOW_EXCLUDE_… bits OR-ed together: what keeps this request unmined although it has a
    /// payload. The lowest bit set is the reason counted.
    pub exclusions: u32,
    /// The engine's slot, for logs.
    pub slot_id: i32,
    /// Logits in every row.
    pub n_vocab: u32,
    /// The exact token ids the model is fed before the first sampled token.
    pub prompt: *const i32,
    /// Number of ids in `prompt`.
    pub n_prompt: usize,
}

// SAFETY: `size` first, then pointers, integers and floats.
unsafe impl SizeFirst for BeginArgs {
    const NAME: &'static str = "tensorpow_begin_args";
    const FIRST_SIZE: usize = size_of::<Self>();
}

/// Begins a request that carries a `pow` payload.
///
/// On OK `*out` is a handle: every token of the request then comes from tensorpow_sample, and
/// tensorpow_end must take it. Otherwise `*out` is null and the request is served as usual:
/// NOT_MINED counts the reason and says it in tensorpow_last_error, INVALID_ARGUMENT too where
/// `engine` is live. A request is never refused because it cannot be mined.
///
/// # Safety
/// `engine` is a live handle, `args` points to a tensorpow_begin_args whose arrays and strings are
/// as long as it says, `out` to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_begin(
    engine: *mut EngineHandle,
    args: *const BeginArgs,
    out: *mut *mut SequenceHandle,
) -> Status {
    enter(|| {
        // SAFETY: the caller's promise about `engine`.
        let engine = unsafe { borrow_engine(engine) }?;
        let begun = || {
            // SAFETY: the caller's promise about `out`.
            let out = unsafe { place(out, "out") }?.write(std::ptr::null_mut());
            // SAFETY: the caller's promise about `args`.
            let request = unsafe { read_request(args) }?;
            let sequence =
                engine.begin(&request).map_err(|why| Fault::new(Status::NotMined, why))?;
            *out =
                Box::into_raw(Box::new(SequenceHandle { sequence, dead: false, in_batch: false }));
            Ok(())
        };
        begun().inspect_err(|fault: &Fault| {
            if fault.status == Status::InvalidArgument {
                engine.count_not_mined("invalid_argument");
            }
        })
    })
}

/// The request in `args`, borrowed from the caller.
///
/// # Safety
/// As for `args` of [`tensorpow_begin`].
unsafe fn read_request<'a>(args: *const BeginArgs) -> Result<BeginRequest<'a>, Fault> {
    // SAFETY: the caller's promise about `args`.
    let args = unsafe { read_struct(args) }?;
    // SAFETY: the caller's promise about the arrays and strings of `args`; an id of 32 bits is the
    // same four bytes signed and unsigned.
    let (pow_json, completion_id, prompt) = unsafe {
        (
            read_array(args.pow_json.cast::<u8>(), args.pow_json_len, "pow_json")?,
            read_text(args.completion_id, "completion_id")?,
            read_array(args.prompt.cast::<u32>(), args.n_prompt, "prompt")?,
        )
    };
    Ok(BeginRequest {
        pow_json,
        completion_id: completion_id.unwrap_or_default(),
        sampling: Requested {
            temperature: args.temperature,
            top_k: args.top_k.into(),
            top_p: args.top_p,
            repetition_penalty: args.repetition_penalty,
        },
        exclusions: Exclusions::from_bits(args.exclusions),
        slot_id: args.slot_id,
        vocab: usize::try_from(args.n_vocab).unwrap_or(usize::MAX),
        prompt,
    })
}

/// Asks whether the next tensorpow_sample could draw at once. In version 3 with admission the first
/// draw of each window needs a nonce, which threads of the library grind from the moment all
/// tokens before the window are known.
///
/// On OK `*ready` is 1 or 0. With 0 the engine leaves the sequence out of its batch, goes on with
/// the others and asks again; when none can go on, `wait_ms` waits for that long at most. An engine
/// that cannot park a sequence need not ask: tensorpow_sample itself waits then. The answer for a
/// sequence that stopped mining is 1: tensorpow_sample says why.
///
/// # Safety
/// `seq` is a live handle that no other thread uses, `ready` points to an int32_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_ready(
    seq: *mut SequenceHandle,
    wait_ms: u32,
    ready: *mut i32,
) -> Status {
    enter(|| {
        // SAFETY: null or live and exclusive by the caller's promise.
        let handle = unsafe { seq.as_mut() };
        let handle = handle.ok_or_else(|| Fault::argument("the sequence handle is null"))?;
        // SAFETY: the caller's promise about `ready`.
        let ready = unsafe { place(ready, "ready") }?.write(1);
        if !handle.dead {
            handle.dead = true; // until the call is over without a panic
            let can_draw = handle.sequence.ready(Duration::from_millis(wait_ms.into()));
            handle.dead = false;
            *ready = can_draw.into();
        }
        Ok(())
    })
}

/// Chooses the next token from the raw logits of the last position, before any bias, penalty,
/// temperature or grammar. Called once for each token the engine keeps, in order; a sample that
/// will be discarded must not reach it.
///
/// On OK `*token` is the choice and already part of the sequence's history. On NOT_MINED or
/// INTERNAL the sequence stopped mining (logits that are not numbers, another width): the engine
/// chooses this and all further tokens itself and ends the handle.
///
/// # Safety
/// `seq` is a live handle that no other thread uses, `logits` points to `n_vocab` floats, `token`
/// to an int32_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_sample(
    seq: *mut SequenceHandle,
    logits: *const f32,
    n_vocab: usize,
    token: *mut i32,
) -> Status {
    enter(|| {
        // SAFETY: null or live and exclusive by the caller's promise.
        let handle = unsafe { seq.as_mut() };
        let handle = handle.ok_or_else(|| Fault::argument("the sequence handle is null"))?;
        // SAFETY: the caller's promise about `token`.
        let token = unsafe { place(token, "token") }?;
        // SAFETY: the caller's promise about `logits`.
        let logits = unsafe { read_array(logits, n_vocab, "logits") }?;
        let chosen = handle.sample(logits)?;
        token.write(i32::from_ne_bytes(chosen.to_ne_bytes()));
        Ok(())
    })
}

/// Ends a request and frees its handle. A window it leaves incomplete is discarded; complete ones
/// are on their way already. Null is allowed.
///
/// # Safety
/// `seq` came from tensorpow_begin and is not used again, by no thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tensorpow_end(seq: *mut SequenceHandle, reason: RawEndReason) {
    enter(|| {
        if !seq.is_null() {
            // SAFETY: made by `Box::into_raw` in `tensorpow_begin`; the caller gives it up.
            let handle = unsafe { Box::from_raw(seq) };
            handle.sequence.end(EndReason::from_raw(reason));
        }
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EngineArgs, tensorpow_engine_free, tensorpow_engine_new};
    use crate::status::with_last_error;
    use std::ptr::{null, null_mut};

    #[test]
    fn a_sequence_that_panicked_is_not_touched_again_and_its_engine_lives() {
        let pow = serde_json::json!({
            "block_hash": "11".repeat(32), "vdf": "22", "tick": 1, "target": "ff".repeat(32),
            "header_prefix": "11".repeat(76), "request_id": 1, "difficulty": 1,
            "model_identifier": "m@1", "compute_precision": "bf16",
        });
        let pow = pow.to_string();
        let args = BeginArgs {
            size: size_of::<BeginArgs>(),
            pow_json: pow.as_ptr().cast(),
            pow_json_len: pow.len(),
            completion_id: null(),
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            repetition_penalty: 1.0,
            exclusions: 0,
            slot_id: 0,
            n_vocab: 128,
            prompt: [1].as_ptr(),
            n_prompt: 1,
        };
        let about = EngineArgs {
            size: size_of::<EngineArgs>(),
            engine: null(),
            model_identifier: null(),
            compute_precision: null(),
            max_sequences: 1,
            sample_threads: 0,
        };
        let logits = [0.0_f32; 128];
        let (mut engine, mut seq, mut token) = (null_mut(), null_mut(), -1);
        // SAFETY: correct arguments; the handle's mark is set by its only user.
        unsafe {
            assert_eq!(tensorpow_engine_new(&about, &mut engine), Status::Ok);
            assert_eq!(tensorpow_begin(engine, &args, &mut seq), Status::Ok);
            (*seq).dead = true;
            let mut ready = 0;
            assert_eq!((tensorpow_ready(seq, 0, &mut ready), ready), (Status::Ok, 1));
            let status = tensorpow_sample(seq, logits.as_ptr(), 128, &mut token);
            assert_eq!((status, token), (Status::Internal, -1));
            let message = with_last_error(|m| m.to_str().unwrap().to_owned()).unwrap();
            assert!(message.contains("end the handle"), "{message}");
            tensorpow_end(seq, 2);
            assert_eq!(tensorpow_begin(engine, &args, &mut seq), Status::Ok, "the row is free");
            assert_eq!(tensorpow_sample(seq, logits.as_ptr(), 128, &mut token), Status::Ok);
            tensorpow_end(seq, 0);
            tensorpow_engine_free(engine);
        }
    }
}
