//! The C++ door: the same engine and sequences as the C header, as types that end themselves when
//! they leave their scope, with `std::exception` instead of status codes. The generated header is
//! `tensorpow.hpp`.
#![allow(unsafe_code)] // the macro's expansion declares the functions it exports to C++
#![allow(unreachable_pub)] // and makes every item of the bridge `pub`

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf;
use tensorpow_engine::inspect::Inspected;
use tensorpow_engine::settings::Settings;
use tensorpow_engine::{BeginRequest, Exclusions, Identity, Log, Requested};

use crate::status::panic_message;

#[cxx::bridge(namespace = "tensorpow")]
mod ffi {
    /// What the inference engine says about itself. Empty text means unknown.
    struct EngineOptions {
        /// Name and version for logs, for example "llama.cpp b11434".
        engine: String,
        /// The model's `name@commit`; TENSORPOW_MODEL_IDENTIFIER goes before it.
        model_identifier: String,
        /// The label of the precision the model computes in ("bf16", "fp16", "fp8");
        /// TENSORPOW_COMPUTE_PRECISION goes before it.
        compute_precision: String,
        /// Sequences mined at the same time; 0 takes the default.
        max_sequences: u32,
    }

    /// A request about to begin. Nothing is kept by reference.
    struct Request<'a> {
        /// The request's `pow` member: JSON text of an object, or of a string that holds one.
        pow_json: &'a str,
        /// The completion id that the client sees; "" for none.
        completion_id: &'a str,
        /// The request's own temperature.
        temperature: f32,
        /// The request's own top-k.
        top_k: i32,
        /// The request's own top-p.
        top_p: f32,
        /// The request's own repetition penalty; 1 is neutral.
        repetition_penalty: f32,
        /// TENSORPOW_EXCLUDE_… bits of tensorpow.h OR-ed together.
        exclusions: u32,
        /// The engine's slot, for logs.
        slot_id: i32,
        /// Logits in every row.
        n_vocab: u32,
        /// The exact token ids the model is fed before the first sampled token.
        prompt: &'a [i32],
    }

    /// How a request ended.
    enum EndReason {
        /// The text is complete: end token, stop word or length.
        Finished,
        /// The client went away or the request was aborted.
        Cancelled,
        /// The engine failed.
        Error,
        /// The prompt and the tokens drawn no longer describe what the model sees.
        ContinuityLost,
    }

    extern "Rust" {
        /// A running engine side; ends, flushing for at most a second, with its box. Any thread.
        type Engine;
        /// A request, mined or not; ends as an error of the engine unless `end` takes it. One
        /// thread at a time.
        type Sequence;

        /// Reads the settings from the environment and starts the engine side. Throws when a
        /// setting refuses the start.
        fn make_engine(options: &EngineOptions) -> Result<Box<Engine>>;
        /// Begins a request that carries a `pow` payload. Never throws: a request that cannot be
        /// mined is counted and gives a sequence whose `mined` is false.
        fn begin(self: &Engine, request: &Request) -> Box<Sequence>;
        /// Everything the engine side counts, as Prometheus text.
        fn metrics(self: &Engine) -> String;

        /// True while tokens come from `sample`.
        fn mined(self: &Sequence) -> bool;
        /// Why the sequence is not mined, or not any more; "" while it is.
        fn why_not(self: &Sequence) -> String;
        /// False: the next `sample` would have to wait for the admission of its window. Waits for
        /// it, `wait_ms` at most.
        fn ready(self: &mut Sequence, wait_ms: u32) -> bool;
        /// Chooses the next token from the raw logits of the last position. False: not mined;
        /// `token` is untouched and the engine chooses this and all further tokens itself.
        fn sample(self: &mut Sequence, logits: &[f32], token: &mut i32) -> bool;
        /// Ends a request and says how.
        fn end(sequence: Box<Sequence>, reason: EndReason);

        /// The 32-byte commitment of a proof's bytes. Throws when they are no proof.
        fn proof_commitment(bytes: &[u8]) -> Result<[u8; 32]>;

        /// True for a proof of `tick` squarings on the challenge, the 32-byte hash of the previous
        /// block in header order. Any bytes may be judged.
        fn vdf_verify(challenge: &[u8; 32], tick: u64, blob: &[u8]) -> Result<bool>;
        /// Does `tick` squarings on the challenge in the calling thread and gives the proof of
        /// them. Throws above TENSORPOW_VDF_MOST_TICKS.
        fn vdf_prove(challenge: &[u8; 32], tick: u64) -> Result<Vec<u8>>;
    }
}

/// See the bridge.
struct Engine(tensorpow_engine::Engine);

/// See the bridge.
struct Sequence {
    /// None when the request is not mined or a call panicked.
    mined: Option<tensorpow_engine::Sequence>,
    why_not: String,
}

/// Runs a body that C++ called; a panic becomes its message.
fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body))
        .map_err(|panic| format!("internal error: {}", panic_message(panic.as_ref())))
}

fn known(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn make_engine(options: &ffi::EngineOptions) -> Result<Box<Engine>, String> {
    guarded(|| {
        let identity = Identity {
            engine: options.engine.clone(),
            model_identifier: known(&options.model_identifier),
            compute_precision: known(&options.compute_precision),
            max_sequences: usize::try_from(options.max_sequences).ok().filter(|max| *max > 0),
        };
        let settings = Settings::from_env().map_err(|why| why.to_string())?;
        let engine = tensorpow_engine::Engine::start(settings, identity, Log::stderr())
            .map_err(|why| why.to_string())?;
        Ok(Box::new(Engine(engine)))
    })?
}

impl Engine {
    fn begin(&self, request: &ffi::Request<'_>) -> Box<Sequence> {
        let begun = guarded(|| {
            let prompt: Vec<u32> =
                request.prompt.iter().map(|id| u32::from_ne_bytes(id.to_ne_bytes())).collect();
            let request = BeginRequest {
                pow_json: request.pow_json.as_bytes(),
                completion_id: request.completion_id,
                sampling: Requested {
                    temperature: request.temperature,
                    top_k: request.top_k.into(),
                    top_p: request.top_p,
                    repetition_penalty: request.repetition_penalty,
                },
                exclusions: Exclusions::from_bits(request.exclusions),
                slot_id: request.slot_id,
                vocab: usize::try_from(request.n_vocab).unwrap_or(usize::MAX),
                prompt: &prompt,
            };
            self.0.begin(&request).map_err(|why| why.to_string())
        });
        Box::new(match begun.and_then(|begun| begun) {
            Ok(mined) => Sequence { mined: Some(mined), why_not: String::new() },
            Err(why_not) => Sequence { mined: None, why_not },
        })
    }

    fn metrics(&self) -> String {
        guarded(|| self.0.metrics()).unwrap_or_default()
    }
}

impl Sequence {
    fn mined(&self) -> bool {
        self.mined.is_some() && self.why_not.is_empty()
    }

    fn why_not(&self) -> String {
        self.why_not.clone()
    }

    fn ready(&mut self, wait_ms: u32) -> bool {
        let Some(mined) = self.mined.as_mut().filter(|_| self.why_not.is_empty()) else {
            return true;
        };
        match guarded(|| mined.ready(Duration::from_millis(wait_ms.into()))) {
            Ok(ready) => ready,
            Err(why) => {
                self.why_not = why;
                true
            }
        }
    }

    fn sample(&mut self, logits: &[f32], token: &mut i32) -> bool {
        let Some(mined) = self.mined.as_mut().filter(|_| self.why_not.is_empty()) else {
            return false;
        };
        match guarded(|| mined.sample(logits).map_err(|why| why.to_string())) {
            Ok(Ok(chosen)) => {
                *token = i32::from_ne_bytes(chosen.to_ne_bytes());
                true
            }
            Ok(Err(why)) | Err(why) => {
                self.why_not = why;
                false
            }
        }
    }
}

// The box is what C++ gives away.
#[allow(clippy::boxed_local)]
fn end(sequence: Box<Sequence>, reason: ffi::EndReason) {
    let reason = match reason {
        ffi::EndReason::Finished => tensorpow_engine::EndReason::Finished,
        ffi::EndReason::Cancelled => tensorpow_engine::EndReason::Cancelled,
        ffi::EndReason::ContinuityLost => tensorpow_engine::EndReason::ContinuityLost,
        _ => tensorpow_engine::EndReason::Error,
    };
    // A failure to end has nobody left to hear it.
    let _ = guarded(|| sequence.mined.map(|mined| mined.end(reason)));
}

fn proof_commitment(bytes: &[u8]) -> Result<[u8; 32], String> {
    guarded(|| {
        let proof = Inspected::read(bytes).map_err(|why| why.to_string())?;
        let commitment = proof.commitment().map_err(|why| why.to_string())?;
        Ok(*commitment.as_bytes())
    })?
}

fn vdf_verify(challenge: &[u8; 32], tick: u64, blob: &[u8]) -> Result<bool, String> {
    let challenge = BlockHash::from_bytes(*challenge);
    guarded(|| vdf::verify(&challenge, tick, blob).is_ok())
}

fn vdf_prove(challenge: &[u8; 32], tick: u64) -> Result<Vec<u8>, String> {
    let challenge = BlockHash::from_bytes(*challenge);
    guarded(|| match crate::vdf::prove(&challenge, tick) {
        Ok(blob) => Ok(blob.to_vec()),
        Err(why) => Err(why.message),
    })?
}
