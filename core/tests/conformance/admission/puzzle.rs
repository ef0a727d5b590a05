//! Groups `argon2id_raw`, `target`, `target_custom_params`, `validity` and `grind`.

use super::messages::{first_step, mask};
use super::{all, context, decimal, nonce, optional_bytes, tokens, with_memory};
use crate::report::same;
use crate::source::{array, bytes, flag, get, text, uint};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorpow_core::admission::grind::{Grind, Progress};
use tensorpow_core::admission::{
    Message, PuzzleDigest, PuzzleParams, PuzzleTarget, TriesError, argon2id, expected_tries,
    max_tries, message_length, prompt_commitment, target,
};
use tensorpow_core::proof::{PadMask, Words};

pub(super) fn argon2id_raw(v: &Value) -> Result<(), String> {
    let digest = with_memory(|memory| argon2id(&bytes(v, "message"), memory));
    same("digest", digest.map(|d| d.as_bytes().to_vec()), Ok(bytes(v, "digest")))
}

pub(super) fn targets(v: &Value) -> Result<(), String> {
    let tries = expected_tries(decimal(v, "difficulty"), &PuzzleParams::NETWORK).ok();
    let expected = get(v, "expected_tries").as_str().map(|_| decimal(v, "expected_tries"));
    let bytes = tries.map(|tries| target(tries).to_le_bytes().to_vec());
    all([same("tries", tries, expected), same("target", bytes, optional_bytes(v, "target_hex_le"))])
}

pub(super) fn custom_params(v: &Value) -> Result<(), String> {
    let params = PuzzleParams {
        alpha_num: decimal(v, "alpha_num"),
        alpha_den: decimal(v, "alpha_den"),
        decode_us: decimal(v, "decode_us"),
        argon_ref_us: decimal(v, "argon_ref_us"),
        normalizer: decimal(v, "normalizer"),
    };
    let found = expected_tries(decimal(v, "difficulty"), &params);
    match text(v, "expected_tries") {
        "invalid" => same("tries", found, Err(TriesError::ZeroDenominator)),
        "overflow" => same("tries", found, Err(TriesError::Overflow)),
        _ => same("tries", found, Ok(decimal(v, "expected_tries"))),
    }
}

pub(super) fn validity(v: &Value) -> Result<(), String> {
    let digest = PuzzleDigest::from_bytes(array(text(v, "digest")));
    let target = PuzzleTarget::from_le_bytes(array(text(v, "target_hex_le")));
    same("valid", target.is_met_by(&digest), flag(v, "valid"))
}

/// The whole search, an attempt at a time, so that resuming is tested with it.
pub(super) fn grind(v: &Value) -> Result<(), String> {
    let (prefix, mask) = (tokens(v, "prefix_tokens"), mask(v, "prefix_pad_mask"));
    let mask = mask.as_deref().map(PadMask::Bytes);
    let commitment = prompt_commitment(Words::Native(&prefix), mask).map_err(|e| e.to_string())?;
    let expected = expected_tries(decimal(v, "difficulty"), &PuzzleParams::NETWORK)
        .map_err(|e| e.to_string())?;
    let first = first_step(v, &context(&prefix));
    let model = text(v, "model_identifier").as_bytes();
    let mut buffer = vec![0; message_length(first.len(), model.len())];
    let mut message =
        Message::of_bytes(&mut buffer, &first, &commitment, model).map_err(|e| e.to_string())?;
    // Two cases cut the search short.
    let factor = u32::try_from(uint(v, "max_tries_factor")).expect("a factor");
    let (tries, listed) = (max_tries(expected, factor), uint(v, "max_tries"));
    let mut search = Grind::new(nonce(text(v, "start_nonce")), listed, target(expected));
    let end = with_memory(|memory| {
        loop {
            match search.run(1, &mut message, memory, || true) {
                Ok(Progress::Paused) => {}
                end => break end,
            }
        }
    });
    let (found, digest) = match end.map_err(|e| e.to_string())? {
        Progress::Found(solution) => {
            (Some(solution.nonce.as_bytes().to_vec()), Some(solution.digest.as_bytes().to_vec()))
        }
        Progress::Exhausted | Progress::Paused => (None, None),
    };
    let shown = v.get("digest").map(|_| bytes(v, "digest"));
    all([
        same("first step", Sha256::digest(&first).to_vec(), bytes(v, "msg_w_sha256")),
        same("commitment", commitment.as_bytes().to_vec(), bytes(v, "prompt_commitment")),
        same("target", target(expected).to_le_bytes().to_vec(), bytes(v, "target_hex_le")),
        same("most tries", tries == listed || listed < 16, true),
        same("nonce", found, optional_bytes(v, "found_nonce")),
        same("tries", search.tried(), uint(v, "tries_used")),
        same("digest", digest, shown),
    ])
}
