//! A request body as an ordered list of members whose values stay the client's own text. Numbers
//! beyond 64 bits, unknown members and their order survive untouched; only members that the proxy
//! sets are written anew. spec: proxy §4

use indexmap::IndexMap;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Why a body is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The text is not JSON (`NaN` and `Infinity` are not).
    #[error("Invalid JSON: {0}")]
    Json(serde_json::Error),
    /// The text is JSON, but no object.
    #[error("Invalid JSON: the body must be an object, not {0}")]
    NotAnObject(&'static str),
}

/// The JSON types, told apart by the first character of a valid text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number
    Number,
    /// A string
    String,
    /// An array
    Array,
    /// An object
    Object,
}

impl Kind {
    /// The type of a valid JSON text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.trim_start().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    /// With article, for messages.
    #[must_use]
    pub const fn described(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// A JSON object whose values are kept as text.
#[derive(Debug, Clone, Default)]
pub struct JsonObject<'a> {
    members: IndexMap<String, Cow<'a, str>>,
}

impl<'a> JsonObject<'a> {
    /// Reads an object. Of a repeated member the last value counts, at the first one's place, so
    /// that no reader behind us can see another one.
    ///
    /// # Errors
    /// [`BodyError`] when the bytes are not JSON or not an object.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        // What begins like an object is read once; anything else is read to say what it is.
        if bytes.trim_ascii_start().first() == Some(&b'{') {
            return serde_json::from_slice(bytes).map(Self::of).map_err(BodyError::Json);
        }
        let whole: &RawValue = serde_json::from_slice(bytes).map_err(BodyError::Json)?;
        Self::parse_text(whole.get())
    }

    fn parse_text(text: &'a str) -> Result<Self, BodyError> {
        match Kind::of(text) {
            Kind::Object => {}
            other => return Err(BodyError::NotAnObject(other.described())),
        }
        serde_json::from_str(text).map(Self::of).map_err(BodyError::Json)
    }

    fn of(members: IndexMap<String, &'a RawValue>) -> Self {
        let members =
            members.into_iter().map(|(name, value)| (name, Cow::Borrowed(value.get()))).collect();
        Self { members }
    }

    /// The text of a member; `null` counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(|text| &**text).filter(|text| Kind::of(text) != Kind::Null)
    }

    /// A member that is a string, unescaped.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// A member that is a number, or a boolean read as 1 or 0, as f64. A literal above the range
    /// reads as infinity. `None` when absent or of another type.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        number(self.get(name)?)
    }

    /// True when the member is the literal `true`.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// A member that is an object. `None` when absent or of another type.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<JsonObject<'_>> {
        JsonObject::parse_text(self.get(name)?).ok()
    }

    /// True when the member exists, be it `null`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Sets a member to a JSON text, keeping its place when it exists.
    pub fn set(&mut self, name: &str, json: impl Into<Cow<'a, str>>) {
        self.members.insert(name.to_owned(), json.into());
    }

    /// Removes a member, keeping the order of the rest.
    pub fn remove(&mut self, name: &str) {
        self.members.shift_remove(name);
    }

    /// The object as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let room: usize = self.members.iter().map(|(name, text)| name.len() + text.len() + 4).sum();
        let mut out = String::with_capacity(room + 2);
        out.push('{');
        for (i, (name, text)) in self.members.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            // A string always has a JSON form.
            out.push_str(&serde_json::to_string(name).unwrap_or_default());
            out.push(':');
            out.push_str(text);
        }
        out.push('}');
        out
    }
}

/// A JSON text as f64 if it is a number or a boolean. spec: proxy §11.1
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    match Kind::of(text) {
        Kind::Number => text.parse().ok(),
        Kind::Bool => Some(if text == "true" { 1.0 } else { 0.0 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_survives_letter_by_letter() {
        let text = r#"{"b":123456789012345678901234567890,"a":1.10,"u":{"x":[1e400,-0]},"s":"\u00e9\ud83d\ude00"}"#;
        let mut body = JsonObject::parse(text.as_bytes()).unwrap();
        assert_eq!(body.to_json(), text);
        body.set("a", "2");
        assert_eq!(
            body.to_json(),
            r#"{"b":123456789012345678901234567890,"a":2,"u":{"x":[1e400,-0]},"s":"\u00e9\ud83d\ude00"}"#
        );
    }

    #[test]
    fn a_repeated_member_is_written_once_with_its_last_value() {
        let body = JsonObject::parse(br#"{"pow":1,"x":2,"pow":3}"#).unwrap();
        assert_eq!(body.to_json(), r#"{"pow":3,"x":2}"#);
    }

    #[test]
    fn only_objects_of_plain_json_are_taken() {
        for bad in [
            "[1]",
            "1",
            "\"x\"",
            "null",
            "{",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "",
            "{}x",
            "{'a':1}",
        ] {
            assert!(JsonObject::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(JsonObject::parse(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
        assert!(JsonObject::parse(b" {} ").is_ok());
    }

    #[test]
    fn numbers_read_as_the_reference_reads_them() {
        let body = JsonObject::parse(br#"{"a":true,"b":1e999,"c":"1","d":null,"e":0.5}"#).unwrap();
        assert_eq!(body.number("a"), Some(1.0));
        assert_eq!(body.number("b"), Some(f64::INFINITY));
        assert_eq!(body.number("c"), None);
        assert_eq!(body.number("d"), None);
        assert_eq!(body.number("e"), Some(0.5));
    }
}
