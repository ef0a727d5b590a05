//! Which of the proxy's routes a job's payload takes, and with what body. spec: broker §5.1 step 5

use super::convert::{chat_of_input, nested_tools};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// What a payload with neither is told.
const SHAPELESS: &str =
    "Invalid payload shape for local inference API: missing both 'messages' and 'input'";

/// A route of the proxy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/responses`
    Responses,
}

impl Endpoint {
    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
        }
    }
}

/// Where a payload goes, and as what.
#[derive(Debug)]
pub struct Routed<'a> {
    /// The route.
    pub endpoint: Endpoint,
    /// The body.
    pub body: Cow<'a, Map<String, Value>>,
}

/// The first rule that fits. spec: §5.1 step 5
///
/// # Errors
/// What the broker is told when none does.
pub fn choose(payload: &Map<String, Value>, responses: bool) -> Result<Routed<'_>, String> {
    let input = payload.get("input");
    if responses && input.is_some() {
        let body = Cow::Owned(nested_tools(payload));
        return Ok(Routed { endpoint: Endpoint::Responses, body });
    }
    if payload.get("messages").is_some_and(Value::is_array) {
        return Ok(Routed { endpoint: Endpoint::Chat, body: Cow::Borrowed(payload) });
    }
    let input = input.ok_or_else(|| SHAPELESS.to_owned())?;
    Ok(match chat_of_input(payload, input) {
        Some(body) => Routed { endpoint: Endpoint::Chat, body: Cow::Owned(body) },
        None => Routed { endpoint: Endpoint::Responses, body: Cow::Borrowed(payload) },
    })
}
