//! What happens to the body of a generation request on its way to the engine: a client's own `pow`
//! is taken out, ours goes in when the request is mined or audited, sampling parameters follow the
//! mined profile, streams are asked for their usage. spec: proxy §5.1, §8, §9, §11

use super::body::{BodyError, JsonObject, Kind};
use super::profile::{ParameterTypeError, apply_profile, off_profile};
use crate::mining::payload::{Dialect, PowKey};
use crate::mining::snapshot::{NotMined, Offer};
use bytes::Bytes;
use std::fmt;

/// The generation routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
}

impl Route {
    /// Path on the proxy and on the engine.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
        }
    }
}

/// How a request leaves for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// With a mining payload.
    Mined,
    /// With an audit payload.
    Audited,
    /// Without `pow`.
    Plain(NotMined),
}

impl fmt::Display for Class {
    /// The value of the `X-Tensorpow-Mining` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mined => f.write_str("mined"),
            Self::Audited => f.write_str("audit"),
            Self::Plain(NotMined::OffProfile(parameter)) => {
                write!(f, "off; reason=off_profile; parameter={parameter}")
            }
            Self::Plain(reason) => write!(f, "off; reason={}", reason.reason()),
        }
    }
}

/// Why a body cannot be forwarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// Not a JSON object.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A sampling parameter of a mined request has the wrong type.
    #[error(transparent)]
    Parameter(#[from] ParameterTypeError),
    /// The member that carries `pow` holds something else than an object.
    #[error("{key} must be an object, not {found}")]
    Key {
        /// The member.
        key: &'static str,
        /// What it holds.
        found: &'static str,
    },
}

/// A body ready for the engine.
#[derive(Debug)]
pub struct Prepared {
    /// The bytes to send: the client's own where nothing had to change.
    pub body: Bytes,
    /// How the request goes out.
    pub class: Class,
    /// The client asked for a stream.
    pub stream: bool,
    /// The model the request names.
    pub model: Option<String>,
}

/// Prepares a generation request. `dialect` says how the engine of a model, or of the response that is
/// gone on from, wants to be spoken to, `offer` what the mining context has for it; the latter is asked once, so that everything comes
/// from one snapshot.
///
/// # Errors
/// [`InjectError`] when the body is not an object or a member the proxy must write has the wrong
/// type.
pub fn prepare(
    original: &Bytes,
    route: Route,
    opted_out: bool,
    proof_version: u8,
    dialect: impl FnOnce(Option<&str>, Option<&str>) -> Dialect,
    offer: impl FnOnce(Dialect, Option<&str>) -> Offer,
) -> Result<Prepared, InjectError> {
    let mut body = JsonObject::parse(original)?;
    let mut changed = remove_client_pow(&mut body);
    let model = body.string("model");
    let gone_on_from = match route {
        Route::Responses => body.string("previous_response_id"),
        Route::ChatCompletions | Route::Completions => None,
    };
    let dialect = dialect(model.as_deref(), gone_on_from.as_deref());
    // The client's wish and the request's parameters come before what the context offers.
    let offer = if opted_out {
        Offer::Nothing(NotMined::OptOut)
    } else if let Some(parameter) = off_profile(&body, dialect.kind, proof_version) {
        Offer::Nothing(NotMined::OffProfile(parameter))
    } else {
        offer(dialect, model.as_deref())
    };
    let class = match offer {
        Offer::Nothing(reason) => Class::Plain(reason),
        Offer::Mine(pow) => {
            attach_pow(&mut body, dialect.key, &pow)?;
            apply_profile(&mut body, proof_version)?;
            changed = true;
            Class::Mined
        }
        Offer::Audit(pow) => {
            // An audit never costs a request: a key that holds no object stays as it is.
            match attach_pow(&mut body, dialect.key, &pow) {
                Ok(()) => {
                    changed = true;
                    Class::Audited
                }
                Err(_) => Class::Plain(NotMined::OffProfile(dialect.key.as_str())),
            }
        }
    };
    // Only the boolean streams; any other type is the engine's to judge. spec: proxy §5.1
    let stream = body.is_true("stream");
    if stream && route != Route::Responses {
        changed |= ask_for_usage(&mut body);
    }
    let body = if changed { Bytes::from(body.to_json()) } else { original.clone() };
    Ok(Prepared { body, class, stream, model })
}

/// Takes `pow` out of both members that engines read it from, so that no client can steer the
/// sampler. spec: proxy §8
fn remove_client_pow(body: &mut JsonObject<'_>) -> bool {
    let mut changed = false;
    for key in PowKey::ALL.map(PowKey::as_str) {
        let cleaned = body.object(key).filter(|inner| inner.contains("pow")).map(|mut inner| {
            inner.remove("pow");
            inner.to_json()
        });
        if let Some(cleaned) = cleaned {
            body.set(key, cleaned);
            changed = true;
        }
    }
    changed
}

/// Merges `pow` into the engine's member: an object is kept and extended, `null` and absence count
/// as `{}`. spec: proxy §8
fn attach_pow(body: &mut JsonObject<'_>, key: PowKey, pow: &str) -> Result<(), InjectError> {
    let key = key.as_str();
    let merged = match body.get(key).map(Kind::of) {
        None => format!("{{\"pow\":{pow}}}"),
        Some(Kind::Object) => {
            let mut inner = body.object(key).unwrap_or_default();
            inner.set("pow", pow);
            inner.to_json()
        }
        Some(other) => return Err(InjectError::Key { key, found: other.described() }),
    };
    body.set(key, merged);
    Ok(())
}

/// Sets `stream_options.include_usage`, so that token counts can be read from the stream.
/// spec: proxy §5.1
fn ask_for_usage(body: &mut JsonObject<'_>) -> bool {
    let options = match body.get("stream_options").map(Kind::of) {
        None => "{\"include_usage\":true}".to_owned(),
        Some(Kind::Object) => {
            let mut options = body.object("stream_options").unwrap_or_default();
            if options.is_true("include_usage") {
                return false;
            }
            options.set("include_usage", "true");
            options.to_json()
        }
        Some(_) => return false,
    };
    body.set("stream_options", options);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mining::payload::EngineKind;

    fn run(text: &str, engine: EngineKind, offer: Offer) -> Result<(String, Class), InjectError> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        prepare(&body, Route::Completions, false, 3, |_, _| engine.into(), |_, _| offer)
            .map(|prepared| (String::from_utf8(prepared.body.to_vec()).unwrap(), prepared.class))
    }

    fn mine() -> Offer {
        Offer::Mine("{\"tick\":1}".into())
    }

    #[test]
    fn pow_goes_under_the_engines_key_and_the_profile_is_forced() {
        let (body, class) = run(r#"{"prompt":"p"}"#, EngineKind::LlamaCpp, mine()).unwrap();
        assert_eq!(class, Class::Mined);
        assert_eq!(
            body,
            r#"{"prompt":"p","extra_sampling_params":{"pow":{"tick":1}},"top_k":50,"top_p":1.0,"temperature":1.0,"repetition_penalty":1.0}"#
        );
        let (body, _) = run(r#"{"vllm_xargs":null}"#, EngineKind::Vllm, mine()).unwrap();
        assert!(body.starts_with(r#"{"vllm_xargs":{"pow":{"tick":1}},"#), "{body}");
    }

    #[test]
    fn engine_arguments_are_merged_and_a_clients_pow_is_removed_from_both_keys() {
        let given = r#"{"vllm_xargs":{"x":1,"pow":{"evil":true}},"extra_sampling_params":{"pow":"evil","y":2}}"#;
        let (body, _) = run(given, EngineKind::Vllm, mine()).unwrap();
        assert!(
            body.starts_with(
                r#"{"vllm_xargs":{"x":1,"pow":{"tick":1}},"extra_sampling_params":{"y":2},"#
            ),
            "{body}"
        );
        let (body, class) = run(given, EngineKind::Vllm, Offer::Nothing(NotMined::NoVdf)).unwrap();
        assert_eq!(body, r#"{"vllm_xargs":{"x":1},"extra_sampling_params":{"y":2}}"#);
        assert_eq!(class, Class::Plain(NotMined::NoVdf));
    }

    #[test]
    fn a_key_that_is_no_object_is_refused_when_it_must_hold_pow() {
        let error = run(r#"{"vllm_xargs":[1]}"#, EngineKind::Vllm, mine()).unwrap_err();
        assert_eq!(error.to_string(), "vllm_xargs must be an object, not an array");
        let (body, class) =
            run(r#"{"vllm_xargs":[1]}"#, EngineKind::Vllm, Offer::Audit("{}".into())).unwrap();
        assert_eq!(body, r#"{"vllm_xargs":[1]}"#);
        assert!(matches!(class, Class::Plain(_)));
    }

    #[test]
    fn an_audit_leaves_the_sampling_parameters_alone() {
        let given = r#"{"model":"m","temperature":0.0}"#;
        let (body, class) = run(given, EngineKind::Vllm, Offer::Audit("{\"a\":1}".into())).unwrap();
        assert_eq!(body, r#"{"model":"m","temperature":0.0,"vllm_xargs":{"pow":{"a":1}}}"#);
        assert_eq!(class, Class::Audited);
    }

    #[test]
    fn an_unmined_request_keeps_its_bytes() {
        let given =
            "{ \"prompt\" : \"p\",\n \"seed\": 7, \"big\": 123456789012345678901234567890 }";
        let (body, class) = run(given, EngineKind::LlamaCpp, mine()).unwrap();
        assert_eq!(body, given);
        assert_eq!(class, Class::Plain(NotMined::OffProfile("seed")));
        assert_eq!(class.to_string(), "off; reason=off_profile; parameter=seed");
    }

    #[test]
    fn opting_out_wins_over_everything() {
        let body = Bytes::from_static(b"{}");
        let prepared = prepare(
            &body,
            Route::Responses,
            true,
            3,
            |_, _| EngineKind::Vllm.into(),
            |_, _| panic!("the context is not asked"),
        );
        assert_eq!(prepared.unwrap().class, Class::Plain(NotMined::OptOut));
    }

    #[test]
    fn streams_are_asked_for_usage_except_responses() {
        let stream = |text: &str, route| {
            let body = Bytes::copy_from_slice(text.as_bytes());
            let nothing = |_, _: Option<&str>| Offer::Nothing(NotMined::NoJob);
            let vllm = |_: Option<&str>, _: Option<&str>| EngineKind::Vllm.into();
            let prepared = prepare(&body, route, false, 3, vllm, nothing).unwrap();
            (String::from_utf8(prepared.body.to_vec()).unwrap(), prepared.stream)
        };
        let usage = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
        let chat = Route::ChatCompletions;
        assert_eq!(stream(r#"{"stream":true}"#, chat), (usage.into(), true));
        assert_eq!(stream(r#"{"stream":true,"stream_options":null}"#, chat), (usage.into(), true));
        assert_eq!(
            stream(r#"{"stream":true,"stream_options":{"include_usage":false,"x":1}}"#, chat).0,
            r#"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#
        );
        assert_eq!(stream(r#"{"stream":"false"}"#, chat), (r#"{"stream":"false"}"#.into(), false));
        assert_eq!(stream(r#"{"stream":true}"#, Route::Responses).0, r#"{"stream":true}"#);
    }
}
