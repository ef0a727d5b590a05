//! The one table of places where the specification replaces what the reference does ([DEV] items).
//! Every rule names its section and changes what is expected of a case; the runners apply all rules
//! to every case, in order, and print how many cases each has touched.

use crate::examples::parse;
use crate::http::Exchange;
use crate::injection::{Expected, InjectionCase};
use serde_json::{Value, json};
use tensorpow_core::target::{
    CompactTarget, Difficulty, Normalizer, Target, adjust_for_model, share_target,
};

/// A rule: where it stands, and what it does. The function says whether it has changed anything.
pub type Rule<Case, Outcome> = (&'static str, fn(&Case, &mut Outcome) -> bool);

/// Rules for bodies with a mining context.
pub const INJECTION: &[Rule<InjectionCase, Expected>] = &[
    ("8.6: what cannot be mined is served as it is", |case, expected| {
        let Expected::Refused(_) = expected else { return false };
        *expected = Expected::Body(case.body.clone());
        true
    }),
    ("12.1: a model that is not registered is audited, never rewritten", |case, expected| {
        if case.is_pinned() || case.inference_only || case.is_registered() || !case.has_context() {
            return false;
        }
        let mut body = case.body.clone();
        body[case.key] = merged(&body[case.key], case.audit_pow());
        *expected = Expected::Body(body);
        true
    }),
    ("11.1, 11.3: below version 3 a repetition penalty leaves the profile", |case, expected| {
        let penalty = case.body.get("repetition_penalty").and_then(Value::as_f64);
        let off = case.version < 3 && penalty.is_some_and(|penalty| penalty != 1.0);
        if case.inference_only || !off {
            return false;
        }
        *expected = Expected::Body(case.body.clone());
        true
    }),
    ("8: a client's pow is taken out of both members", |case, expected| {
        let Expected::Body(body) = expected else { return false };
        let mut changed = false;
        for key in ["vllm_xargs", "extra_sampling_params"] {
            let theirs = case.body.get(key).and_then(|inner| inner.get("pow"));
            let inner = body.get_mut(key).and_then(Value::as_object_mut);
            if let (Some(theirs), Some(inner)) = (theirs, inner)
                && inner.get("pow") == Some(theirs)
            {
                inner.remove("pow");
                changed = true;
            }
        }
        changed
    }),
    ("10.2: the block target follows the node's rule", |case, expected| {
        let Some(pow) = pow_of(expected, case.key) else { return false };
        let (Some(difficulty), None) = (pow["difficulty"].as_i64(), pow.get("audit_emit")) else {
            return false;
        };
        let bits = CompactTarget::from_bits(case.nbits);
        let difficulty = Difficulty::new(difficulty).expect("a positive difficulty");
        let adjusted =
            adjust_for_model(bits, difficulty, Normalizer::DEFAULT, &Target::POW_LIMIT_TENSOR);
        let Ok(adjusted) = adjusted else {
            *expected = Expected::Body(case.body.clone());
            return true;
        };
        let prefix = format!("{:x}", case.prefix().with_bits(adjusted.bits));
        let target = format!("{:x}", adjusted.target);
        let changed = pow["target"] != json!(target) || pow["header_prefix"] != json!(prefix);
        pow["target"] = target.into();
        pow["header_prefix"] = prefix.into();
        changed
    }),
    ("9: the target of an audit is hex, not nBits", |case, expected| {
        let Some(pow) = pow_of(expected, case.key) else { return false };
        if !pow["target"].is_u64() {
            return false;
        }
        pow["target"] = case.expanded_target().into();
        true
    }),
    ("9: an audit names its registered model to llama.cpp", |case, expected| {
        let identifier = case.registered_identifier();
        let Some(pow) = pow_of(expected, case.key) else { return false };
        match identifier {
            Some(identifier) if case.llama_cpp && pow.get("audit_emit").is_some() => {
                pow["model_identifier"] = identifier.into();
                pow["compute_precision"] = "bf16".into();
                true
            }
            _ => false,
        }
    }),
    ("10.3: the share normalizer is 1 000 000 where nobody sets it", |case, expected| {
        let Some(base) = case.base_share_target.filter(|_| case.normalizer.is_none()) else {
            return false;
        };
        let Some(pow) = pow_of(expected, case.key) else { return false };
        let (Some(difficulty), None) = (pow["difficulty"].as_i64(), pow.get("audit_emit")) else {
            return false;
        };
        let difficulty = Difficulty::new(difficulty).expect("a positive difficulty");
        let share = share_target(&base, difficulty, Normalizer::DEFAULT).expect("a share target");
        pow["share_target"] = format!("{share:x}").into();
        true
    }),
];

/// Rules for whole exchanges.
pub const HTTP: &[Rule<Exchange, Exchange>] = &[
    ("4: CORS is off, OPTIONS is a method like any other", |case, expected| {
        let off = case.method == "OPTIONS";
        if off {
            expected.status = 404;
            expected.body = None;
        }
        off
    }),
    ("5: GET /props is passed through", |case, expected| {
        let props = case.path == "/props";
        if props {
            expected.status = 200;
            expected.body = None;
            expected.upstream = Some(("main".to_owned(), "/props".to_owned(), Value::Null));
        }
        props
    }),
    ("8.6: user traffic is not refused for mining reasons", |case, expected| {
        let refused = [
            "Service initializing",
            "Proxy error: VDF proof not yet available",
            "mining cooldown active",
            "Proxy error: Model switch in progress",
            "Proxy error: Pinned model",
        ];
        let message = error_of(&case.body);
        if !message.is_some_and(|text| refused.iter().any(|reason| text.starts_with(reason))) {
            return false;
        }
        expected.status = 200;
        expected.body = None;
        let unmined = parse(case.request_body.as_deref().unwrap_or("null"));
        expected.upstream = Some(("main".to_owned(), case.path.clone(), unmined));
        true
    }),
    ("4: a body that is no object is a bad request", |case, expected| {
        let list =
            error_of(&case.body).is_some_and(|text| text.contains("object has no attribute"));
        if list {
            expected.status = 400;
            expected.body = None;
        }
        list
    }),
    ("4: the body limit is 32 MiB", |case, expected| {
        let large = error_of(&case.body).is_some_and(|text| text.contains("Entity Too Large"));
        if large {
            expected.status = 200;
            expected.body = None;
        }
        large
    }),
    ("5.1: a failing engine is 502 on every route", |case, expected| {
        let failed = case.status == 500
            && error_of(&case.body).is_some_and(|text| {
                text.contains("Server disconnected") || text.contains("Cannot connect to host")
            });
        if failed {
            expected.status = 502;
            expected.body = None;
        }
        failed
    }),
    ("4: an engine's error keeps its content type, stream or not", |case, expected| {
        let streamed = case.status >= 400 && case.content_type == "text/event-stream";
        if streamed {
            expected.content_type = "application/json".to_owned();
        }
        streamed
    }),
    ("5: embeddings follow the routes", |case, expected| {
        let routed = case.path == "/v1/embeddings"
            && case.request_body.as_deref().is_some_and(|body| body.contains("routed/model"));
        if let (true, Some((backend, ..))) = (routed, &mut expected.upstream) {
            *backend = "second".to_owned();
        }
        routed
    }),
    ("12.1: an unknown model is audited under its own name", |case, expected| {
        let Some((_, _, body)) = &mut expected.upstream else { return false };
        let asked = case.request_body.as_deref().map(parse).unwrap_or_default();
        if asked.get("model").is_none_or(|model| body["model"] == *model) {
            return false;
        }
        *body = crate::http::audited(&asked, body);
        true
    }),
    ("9: the target of an audit is hex, not nBits", |_, expected| {
        let Some((_, _, body)) = &mut expected.upstream else { return false };
        let Some(target) = body.pointer_mut("/vllm_xargs/pow/target") else { return false };
        let Some(bits) = target.as_u64().and_then(|bits| u32::try_from(bits).ok()) else {
            return false;
        };
        *target = crate::injection::expanded(bits).into();
        true
    }),
    ("24: what changes the worker takes the administrator's key", |case, expected| {
        let admin = case.method == "POST" && case.path == "/v1/mining/active-model";
        if admin {
            expected.authorization = Some("Bearer internal-secret".to_owned());
        }
        admin
    }),
];

/// Applies a table; the sections of the rules that changed something.
pub fn apply<Case, Outcome>(
    rules: &[Rule<Case, Outcome>],
    case: &Case,
    outcome: &mut Outcome,
) -> Vec<&'static str> {
    rules.iter().filter(|(_, rule)| rule(case, outcome)).map(|(name, _)| *name).collect()
}

/// `error` of a flat error body.
fn error_of(body: &Option<Value>) -> Option<&str> {
    body.as_ref()?.get("error")?.as_str()
}

fn pow_of<'a>(expected: &'a mut Expected, key: &str) -> Option<&'a mut Value> {
    match expected {
        Expected::Body(body) => body.get_mut(key)?.get_mut("pow").filter(|pow| pow.is_object()),
        Expected::Refused(_) => None,
    }
}

fn merged(inner: &Value, pow: Value) -> Value {
    let mut inner = if inner.is_object() { inner.clone() } else { json!({}) };
    inner["pow"] = pow;
    inner
}
