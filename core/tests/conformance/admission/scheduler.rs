//! Group `scheduler`: events, what they submit, and the gate behind each, with a grinder that finds
//! the zero nonce at once.

use super::tokens;
use crate::report::same;
use crate::source::{array, bytes, get, list, text, uint, unhex};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tensorpow_core::admission::grind::{Search, State};
use tensorpow_core::admission::schedule::{Gate, Grinder, Plan, Schedule, Terms};
use tensorpow_core::units::{AdmissionNonce, HeaderPrefix, Tick, VdfBlob};
use tensorpow_core::window::Label;

/// Cases that ours does not follow, with the reason.
pub(super) fn not_ours(v: &Value) -> Option<&'static str> {
    match text(v, "name") {
        "mode_upper_not_matched" => Some("our parser of the mode folds case"),
        "header_fallback" => Some("a payload without header is never mined"),
        "factor1_empty_prompt" => Some("an empty prompt is never mined"),
        _ => None,
    }
}

#[derive(Default)]
struct Recorder {
    searches: Vec<Search>,
}

impl Grinder for Recorder {
    type Ticket = ();

    fn submit(&mut self, search: Search) {
        self.searches.push(search);
    }

    fn poll(&self, (): &()) -> State {
        State::Ready(Some(AdmissionNonce::from_bytes([0; 32])))
    }
}

/// What the settings and the payload make of the request.
fn plan(v: &Value) -> Plan {
    let pow = get(v, "pow");
    let difficulty = match get(pow, "difficulty") {
        Value::String(digits) => digits.parse().ok(),
        number => number.as_i64(),
    };
    let Some(difficulty) = difficulty.filter(|d| *d > 0 && text(v, "mode") == "always") else {
        return Plan::Inactive;
    };
    let vdf = hex::decode(text(pow, "vdf")).ok();
    let Some(vdf) = vdf.and_then(|blob| VdfBlob::from_slice(&blob).ok()) else {
        return Plan::Nonceless;
    };
    Plan::Search(Box::new(Terms {
        header: HeaderPrefix::from_bytes(array(text(pow, "header_prefix"))),
        vdf,
        tick: Tick(uint(pow, "tick")),
        precision: Label::new(text(v, "precision")).expect("a label"),
        model: text(v, "model_identifier").as_bytes().into(),
        difficulty,
        tries_factor: u32::try_from(uint(v, "max_tries_factor")).expect("a factor"),
    }))
}

pub(super) fn scheduler(v: &Value) -> Result<(), String> {
    match uint(v, "window_size") {
        4 => events::<4>(v),
        256 => events::<256>(v),
        other => Err(format!("no runner for windows of {other} tokens")),
    }
}

fn events<const W: usize>(v: &Value) -> Result<(), String> {
    let prompt = tokens(v, "prompt");
    let mut all = prompt.clone();
    let mut table = Schedule::<_, _, W>::new(Recorder::default());
    let (mut seen, mut outputs) = (0, 0);
    for (number, step) in list(v, "steps").iter().enumerate() {
        let at = |what: &str| format!("event {number}, {what}");
        let event = text(step, "event");
        match event {
            "start" => table.start("request", plan(v), &prompt),
            "progress" => {
                all.extend(tokens(step, "new_tokens"));
                outputs = uint(step, "num_output");
                table.progress(&"request", outputs, || &all)
            }
            other => return Err(format!("unknown event {other}")),
        }
        .map_err(|e| e.to_string())?;
        let submitted = &table.grinder().searches[seen..];
        same(&at("submitted"), submitted.len(), list(step, "submits").len())?;
        for (search, expected) in submitted.iter().zip(list(step, "submits")) {
            submission(search, expected, text(v, "model_identifier").len())
                .map_err(|why| at(&why))?;
        }
        seen = table.grinder().searches.len();
        let gate = match table.gate(&"request", outputs) {
            Gate::Pass => "pass",
            Gate::Ready => "ready",
            Gate::Park => "park",
        };
        same(&at("gate"), gate, text(step, "gate"))?;
        if let Some(expected) = step.get("take") {
            let taken = table.take(&"request", outputs);
            let taken = taken.map(|nonce| nonce.as_bytes().to_vec());
            same(&at("taken"), taken, expected.as_str().map(unhex))?;
        }
    }
    Ok(())
}

/// A search against its vector: the parts are found in the message by their lengths.
fn submission(search: &Search, expected: &Value, model: usize) -> Result<(), String> {
    let first = search.message.len() - (32 + 2 + model + 32);
    let commitment = &search.message[first..first + 32];
    let first = Sha256::digest(&search.message[..first]);
    same("first step", first.to_vec(), bytes(expected, "msg_w_sha256"))?;
    same("commitment", commitment.to_vec(), bytes(expected, "prompt_commitment"))?;
    same("target", search.target.to_le_bytes().to_vec(), bytes(expected, "target_hex_le"))?;
    same("tries", search.max_tries, uint(expected, "max_tries"))
}
