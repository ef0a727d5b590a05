//! Sampling parameters of a request: which of them take it off the mined profile, and what the
//! proxy sets on a request that is mined. A request is either altered in the documented way or
//! served as it is; nothing is dropped silently. spec: proxy §11

use super::body::{JsonObject, Kind, number};
use crate::mining::payload::EngineKind;

/// When a parameter leaves the distribution and the token path alone. `null` and absence always
/// do.
#[derive(Debug, Clone, Copy)]
enum Neutral {
    /// This number.
    Number(f64),
    /// Any number up to this one.
    AtMost(f64),
    /// One of the engine's marks for "pick a seed yourself".
    RandomSeed,
    /// An empty array or object, or `false`.
    Empty,
    /// An empty string.
    EmptyText,
    /// An object whose `type` is `text`.
    PlainText,
    /// Nothing but absence.
    Never,
}

impl Neutral {
    fn holds(self, text: &str) -> bool {
        match self {
            Self::Number(neutral) => number(text) == Some(neutral),
            Self::AtMost(bound) => number(text).is_some_and(|value| value <= bound),
            Self::RandomSeed => {
                number(text).is_some_and(|value| value == -1.0 || value == f64::from(u32::MAX))
            }
            Self::Empty => match Kind::of(text) {
                Kind::Bool => text == "false",
                Kind::Array | Kind::Object => text[1..text.len() - 1].trim().is_empty(),
                _ => false,
            },
            Self::EmptyText => text == "\"\"",
            Self::PlainText => JsonObject::parse(text.as_bytes())
                .is_ok_and(|object| object.string("type").as_deref() == Some("text")),
            Self::Never => false,
        }
    }
}

/// Parameters that change the distribution or the token path outside the profile.
/// spec: proxy §11.3, sampler §1
const OFF_PROFILE: &[(&str, Neutral)] = &[
    ("min_p", Neutral::AtMost(0.0)),
    ("presence_penalty", Neutral::Number(0.0)),
    ("frequency_penalty", Neutral::Number(0.0)),
    ("repeat_penalty", Neutral::Number(1.0)),
    ("logit_bias", Neutral::Empty),
    ("bad_words", Neutral::Empty),
    ("allowed_token_ids", Neutral::Empty),
    ("min_tokens", Neutral::AtMost(0.0)),
    ("seed", Neutral::RandomSeed),
    ("n", Neutral::Number(1.0)),
    ("n_cmpl", Neutral::Number(1.0)),
    ("best_of", Neutral::Number(1.0)),
    ("use_beam_search", Neutral::Empty),
    ("logits_processors", Neutral::Empty),
    ("thinking_token_budget", Neutral::Never),
    // structured output
    ("response_format", Neutral::PlainText),
    ("structured_outputs", Neutral::Never),
    ("guided_json", Neutral::Never),
    ("guided_regex", Neutral::Never),
    ("guided_choice", Neutral::Never),
    ("guided_grammar", Neutral::Never),
    ("json_schema", Neutral::Never),
    ("grammar", Neutral::EmptyText),
    // llama.cpp
    ("mirostat", Neutral::Number(0.0)),
    ("typical_p", Neutral::Number(1.0)),
    ("dry_multiplier", Neutral::Number(0.0)),
    ("xtc_probability", Neutral::AtMost(0.0)),
    ("top_n_sigma", Neutral::AtMost(0.0)),
    ("dynatemp_range", Neutral::AtMost(0.0)),
    ("adaptive_target", Neutral::AtMost(-f64::MIN_POSITIVE)),
    ("samplers", Neutral::Never),
    ("reasoning_budget_tokens", Neutral::AtMost(-1.0)),
    ("lora", Neutral::Empty),
];

/// The first parameter that takes a request off the mined profile, if any. Such a request is
/// served without `pow`. `version` is the proof version: from 3 on the repetition penalty is forced
/// and so cannot be off-profile. spec: proxy §11.1, §11.3
#[must_use]
pub fn off_profile(body: &JsonObject<'_>, engine: EngineKind, version: u8) -> Option<&'static str> {
    let listed = OFF_PROFILE
        .iter()
        .find(|(name, neutral)| body.get(name).is_some_and(|text| !neutral.holds(text)))
        .map(|(name, _)| *name);
    if listed.is_some() {
        return listed;
    }
    let penalty = body.get("repetition_penalty");
    if version < 3 && penalty.is_some_and(|text| number(text) != Some(1.0)) {
        return Some("repetition_penalty");
    }
    if formats_text(body) {
        return Some("text.format");
    }
    if constrains_tools(body, engine) {
        return Some("tools");
    }
    carries_media(body).then_some("multimodal")
}

/// `text.format` of the Responses API is `response_format` under another name.
fn formats_text(body: &JsonObject<'_>) -> bool {
    body.object("text").is_some_and(|text| {
        text.get("format").is_some_and(|format| !Neutral::PlainText.holds(format))
    })
}

/// Tools bring a grammar: always on llama.cpp (a lazy one at least), on vLLM when a call is
/// demanded. spec: research/engines §3, §5
fn constrains_tools(body: &JsonObject<'_>, engine: EngineKind) -> bool {
    let offered = body.get("tools").is_some_and(|tools| !Neutral::Empty.holds(tools));
    let choice = body.get("tool_choice").map(|text| (Kind::of(text), body.string("tool_choice")));
    match choice {
        Some((Kind::Object, _)) => true,
        Some((_, Some(choice))) if choice == "required" => true,
        Some((_, Some(choice))) if choice == "none" => false,
        _ => offered && engine == EngineKind::LlamaCpp,
    }
}

/// A message part that is no text: the prompt's token ids would not tell what the model saw.
fn carries_media(body: &JsonObject<'_>) -> bool {
    const MEDIA: [&str; 8] = [
        "image",
        "image_url",
        "input_image",
        "input_audio",
        "audio_url",
        "video_url",
        "file",
        "input_file",
    ];
    #[derive(serde::Deserialize)]
    struct Part<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<std::borrow::Cow<'a, str>>,
    }
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        content: Option<&'a serde_json::value::RawValue>,
    }
    ["messages", "input"].into_iter().filter_map(|name| body.get(name)).any(|messages| {
        // What is not shaped like messages with parts carries none; the engine judges it.
        let messages: Vec<Message<'_>> = serde_json::from_str(messages).unwrap_or_default();
        messages.iter().filter_map(|message| message.content).any(|content| {
            let parts: Vec<Part<'_>> = serde_json::from_str(content.get()).unwrap_or_default();
            parts.iter().filter_map(|part| part.kind.as_deref()).any(|kind| MEDIA.contains(&kind))
        })
    })
}

/// A sampling parameter of a mined request has the wrong type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be a number, not {found}")]
pub struct ParameterTypeError {
    /// The parameter.
    pub name: &'static str,
    /// What it is instead.
    pub found: &'static str,
}

/// Sets the sampling parameters of a request that is mined. spec: proxy §11.1, §11.2
///
/// # Errors
/// [`ParameterTypeError`] below version 3 when one of them is neither a number nor a boolean.
pub fn apply_profile(body: &mut JsonObject<'_>, version: u8) -> Result<(), ParameterTypeError> {
    if version >= 3 {
        force_profile(body);
        Ok(())
    } else {
        bound_parameters(body)
    }
}

/// Version 3: the fixed profile, whatever the client sent. spec: proxy §11.2
fn force_profile(body: &mut JsonObject<'_>) {
    body.set("top_k", "50");
    body.set("top_p", "1.0");
    body.set("temperature", "1.0");
    body.set("repetition_penalty", "1.0");
}

/// A range with the literals that are written at its ends.
struct Bounds {
    name: &'static str,
    default: &'static str,
    lower: (f64, &'static str),
    upper: (f64, &'static str),
}

/// spec: proxy §11.1
const BOUNDS: [Bounds; 3] = [
    Bounds { name: "top_k", default: "50", lower: (5.0, "5"), upper: (50.0, "50") },
    Bounds { name: "top_p", default: "1.0", lower: (0.1, "0.1"), upper: (1.0, "1") },
    Bounds { name: "temperature", default: "1.0", lower: (0.25, "0.25"), upper: (2.0, "2") },
];

/// Below version 3: defaults where a value is missing, the nearest bound where it is outside.
/// spec: proxy §11.1
fn bound_parameters(body: &mut JsonObject<'_>) -> Result<(), ParameterTypeError> {
    for Bounds { name, default, lower, upper } in BOUNDS {
        let Some(text) = body.get(name) else {
            body.set(name, default);
            continue;
        };
        let found = Kind::of(text).described();
        let value = number(text).ok_or(ParameterTypeError { name, found })?;
        if value > upper.0 {
            body.set(name, upper.1);
        } else if value < lower.0 {
            body.set(name, lower.1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> JsonObject<'_> {
        JsonObject::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn bounds_below_version_3() {
        let cases = [
            ("{}", r#"{"top_k":50,"top_p":1.0,"temperature":1.0}"#),
            (
                r#"{"top_k":4,"top_p":0.05,"temperature":0.1}"#,
                r#"{"top_k":5,"top_p":0.1,"temperature":0.25}"#,
            ),
            (
                r#"{"top_k":51,"top_p":1.01,"temperature":2.01}"#,
                r#"{"top_k":50,"top_p":1,"temperature":2}"#,
            ),
            (
                r#"{"top_k":20.5,"top_p":0.9,"temperature":null}"#,
                r#"{"top_k":20.5,"top_p":0.9,"temperature":1.0}"#,
            ),
            (
                r#"{"top_k":false,"top_p":true,"temperature":1e999}"#,
                r#"{"top_k":5,"top_p":true,"temperature":2}"#,
            ),
        ];
        for (given, expected) in cases {
            let mut given = body(given);
            apply_profile(&mut given, 2).unwrap();
            assert_eq!(given.to_json(), expected);
        }
    }

    #[test]
    fn version_3_forces_the_profile_without_looking() {
        let mut given = body(r#"{"top_k":"x","temperature":0,"repetition_penalty":1.3,"m":1}"#);
        apply_profile(&mut given, 3).unwrap();
        assert_eq!(
            given.to_json(),
            r#"{"top_k":50,"temperature":1.0,"repetition_penalty":1.0,"m":1,"top_p":1.0}"#
        );
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = apply_profile(&mut body(r#"{"temperature":"hot"}"#), 2).unwrap_err();
        assert_eq!(error.to_string(), "temperature must be a number, not a string");
    }

    #[test]
    fn neutral_values_stay_on_the_profile() {
        let neutral = r#"{"min_p":0,"presence_penalty":0.0,"frequency_penalty":null,"n":1,"seed":-1,
            "logit_bias":{ },"bad_words":[],"response_format":{"type":"text"},"tools":[],
            "tool_choice":"auto","use_beam_search":false,"grammar":"","best_of":1,
            "text":{"format":{"type":"text"}},"adaptive_target":-1.0,"repetition_penalty":1,
            "messages":[{"role":"user","content":"hi"},{"role":"user","content":[{"type":"text","text":"x"}]}]}"#;
        for engine in [EngineKind::LlamaCpp, EngineKind::Vllm] {
            assert_eq!(off_profile(&body(neutral), engine, 2), None);
        }
    }

    #[test]
    fn each_listed_parameter_takes_a_request_off_the_profile() {
        let cases = [
            (r#"{"min_p":0.05}"#, "min_p"),
            (r#"{"presence_penalty":0.1}"#, "presence_penalty"),
            (r#"{"frequency_penalty":-0.1}"#, "frequency_penalty"),
            (r#"{"repeat_penalty":1.1}"#, "repeat_penalty"),
            (r#"{"logit_bias":{"5":1}}"#, "logit_bias"),
            (r#"{"bad_words":["x"]}"#, "bad_words"),
            (r#"{"min_tokens":3}"#, "min_tokens"),
            (r#"{"seed":42}"#, "seed"),
            (r#"{"seed":0}"#, "seed"),
            (r#"{"n":2}"#, "n"),
            (r#"{"best_of":2}"#, "best_of"),
            (r#"{"use_beam_search":true}"#, "use_beam_search"),
            (r#"{"response_format":{"type":"json_object"}}"#, "response_format"),
            (r#"{"guided_json":{}}"#, "guided_json"),
            (r#"{"grammar":"root ::= x"}"#, "grammar"),
            (r#"{"mirostat":2}"#, "mirostat"),
            (r#"{"typical_p":0.9}"#, "typical_p"),
            (r#"{"dry_multiplier":0.8}"#, "dry_multiplier"),
            (r#"{"xtc_probability":0.5}"#, "xtc_probability"),
            (r#"{"samplers":["top_k"]}"#, "samplers"),
            (r#"{"lora":[{"id":0,"scale":1}]}"#, "lora"),
            (r#"{"text":{"format":{"type":"json_schema"}}}"#, "text.format"),
            (r#"{"tools":[{}]}"#, "tools"),
            (r#"{"tool_choice":"required"}"#, "tools"),
            (r#"{"repetition_penalty":1.1}"#, "repetition_penalty"),
            (r#"{"messages":[{"content":[{"type":"image_url"}]}]}"#, "multimodal"),
            (r#"{"input":[{"content":[{"type":"input_image"}]}]}"#, "multimodal"),
        ];
        for (given, parameter) in cases {
            assert_eq!(
                off_profile(&body(given), EngineKind::LlamaCpp, 2),
                Some(parameter),
                "{given}"
            );
        }
    }

    #[test]
    fn tools_on_vllm_matter_only_when_a_call_is_demanded() {
        let off = |text| off_profile(&body(text), EngineKind::Vllm, 3);
        assert_eq!(off(r#"{"tools":[{}]}"#), None);
        assert_eq!(off(r#"{"tools":[{}],"tool_choice":"required"}"#), Some("tools"));
        assert_eq!(off(r#"{"tools":[{}],"tool_choice":{"type":"function"}}"#), Some("tools"));
        assert_eq!(off(r#"{"repetition_penalty":1.1}"#), None, "forced from version 3 on");
    }
}
