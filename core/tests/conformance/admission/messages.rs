//! Groups `step_message`, `window`, `prompt_commitment` and `admission_message`.

use super::{all, context, decimal, nonce, optional_bytes, tokens, with_memory};
use crate::report::same;
use crate::source::{array, bits32, bytes, flag, get, text, uint, unhex};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorpow_core::admission::{
    FirstStep, Message, PromptCommitment, argon2id, message_length, prompt_commitment,
};
use tensorpow_core::context::Context;
use tensorpow_core::preimage::StepHasher;
use tensorpow_core::proof::{PadMask, Words};
use tensorpow_core::units::{AdmissionNonce, Digest, Draw, Tick};

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// The message of step 0 as bytes.
pub(super) fn first_step(v: &Value, context: &Context) -> Vec<u8> {
    let (header, vdf) = (bytes(v, "header_prefix"), bytes(v, "vdf"));
    let tick = match get(v, "tick") {
        Value::String(_) => decimal(v, "tick"),
        _ => uint(v, "tick"),
    };
    let precision = text(v, "precision").as_bytes();
    let first = FirstStep { header: &header, vdf: &vdf, tick: Tick(tick), context, precision };
    let mut message = vec![0xee; first.length()];
    first.write(&mut message).expect("room as asked for");
    message
}

pub(super) fn step_message(v: &Value) -> Result<(), String> {
    let context = context(&tokens(v, "context_tokens"));
    let nonce = get(v, "admission_nonce").as_str().map(nonce);
    let hasher =
        StepHasher::new(&bytes(v, "header_prefix"), &bytes(v, "vdf"), Tick(decimal(v, "tick")));
    let step = u32::try_from(uint(v, "step")).expect("a step");
    let precision = text(v, "precision").as_bytes();
    let digest = hasher.step(step, &context, precision, nonce.as_ref());
    // The writer of the puzzle's message writes the same bytes, without step number and nonce.
    let mut written = first_step(v, &context);
    let at = bytes(v, "header_prefix").len() + bytes(v, "vdf").len() + 4;
    written[at..at + 4].copy_from_slice(&step.to_le_bytes());
    written.extend(nonce.iter().flat_map(|nonce| nonce.as_bytes()));
    let expected = bytes(v, "message_sha256");
    let u_f64 = f64::from(digest.nonce()) / 4_294_967_296.0;
    all([
        same("digest", digest.as_bytes().to_vec(), expected.clone()),
        same("written message", sha256(&written), expected),
        same("length", written.len() as u64, uint(v, "message_len")),
        same("u", format!("{:016x}", u_f64.to_bits()).as_str(), text(&v["u_f64"], "bits")),
        same(
            "u of the node",
            Draw::from_digest(&digest).get().to_bits(),
            bits32(text(&v["u_f32_node"], "bits")),
        ),
    ])
}

pub(super) fn window(v: &Value) -> Result<(), String> {
    let (prompt, chosen) = (tokens(v, "prompt_tokens"), tokens(v, "chosen_tokens"));
    let nonce = nonce(text(v, "admission_nonce"));
    let hasher =
        StepHasher::new(&bytes(v, "header_prefix"), &bytes(v, "vdf"), Tick(decimal(v, "tick")));
    let precision = text(v, "precision").as_bytes();
    let mut context = context(&prompt);
    let (mut digests, mut draws) = (Vec::new(), Vec::new());
    for (step, token) in (0..).zip(&chosen) {
        let digest: Digest = hasher.step(step, &context, precision, Some(&nonce));
        digests.extend(digest.as_bytes());
        draws.extend(Draw::from_digest(&digest).get().to_le_bytes());
        context.push(*token);
    }
    let closing = hasher.closing(&chosen, precision, Some(&nonce));
    all([
        same("digests", sha256(&digests), bytes(v, "sha256_of_256_step_digests")),
        same("draws", sha256(&draws), bytes(v, "sha256_of_256_u_f32_le")),
        same("final hash", closing.as_bytes().to_vec(), bytes(v, "final_hash")),
    ])
}

/// Member `key` as a mask, or none for null.
pub(super) fn mask(v: &Value, key: &str) -> Option<Vec<u8>> {
    let byte = |flag: &Value| flag.as_u64().and_then(|b| u8::try_from(b).ok()).expect("a byte");
    get(v, key).as_array().map(|flags| flags.iter().map(byte).collect())
}

pub(super) fn commitment(v: &Value) -> Result<(), String> {
    let (tokens, mask) = (tokens(v, "prompt_tokens"), mask(v, "pad_mask"));
    let mask = mask.as_deref().map(PadMask::Bytes);
    let found = prompt_commitment(Words::Native(&tokens), mask).ok();
    let found = found.map(|commitment| commitment.as_bytes().to_vec());
    same("commitment", found, optional_bytes(v, "commitment"))
}

/// The model identifier, written out or as one byte so many times.
fn model(v: &Value) -> Vec<u8> {
    optional_bytes(v, "model_identifier").unwrap_or_else(|| {
        let repeat = get(v, "model_identifier_repeat");
        let byte: [u8; 1] = array(text(repeat, "byte"));
        byte.repeat(usize::try_from(uint(repeat, "count")).expect("a length"))
    })
}

pub(super) fn admission_message(v: &Value) -> Result<(), String> {
    let (first, model) = (bytes(v, "window_first_step_message"), model(v));
    let nonce: Result<[u8; 32], _> = unhex(text(v, "nonce")).try_into();
    let commitment: Result<[u8; 32], _> = unhex(text(v, "prompt_commitment")).try_into();
    // A type that holds 32 bytes refuses others.
    let (Ok(nonce), Ok(commitment)) = (nonce, commitment) else {
        return same("refused", true, flag(v, "error"));
    };
    let commitment = PromptCommitment::from_bytes(commitment);
    let mut buffer = vec![0; message_length(first.len(), model.len())];
    let mut message = match Message::of_bytes(&mut buffer, &first, &commitment, &model) {
        Ok(message) => message,
        Err(why) => return same(&why.to_string(), true, flag(v, "error")),
    };
    message.set_nonce(&AdmissionNonce::from_bytes(nonce));
    let digest = with_memory(|memory| argon2id(message.as_bytes(), memory));
    let digest = digest.map_err(|e| e.to_string())?;
    all([
        same("accepted", false, flag(v, "error")),
        same("length", message.as_bytes().len() as u64, uint(v, "message_len")),
        same("message", sha256(message.as_bytes()), bytes(v, "message_sha256")),
        same("digest", digest.as_bytes().to_vec(), bytes(v, "argon2id_digest")),
    ])
}
