//! What readers may take from `extra_flags`: the completion id that older engines put there and the
//! purpose of the proof. The admission nonce has a grammar of its own and is not read here.
//! spec: proof-encoding §4

use super::messages::MiningResponseRef;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The purpose that keeps a proof away from mining.
pub const AUDIT: &str = "audit";

/// The member `completion_id`. spec: proof-encoding §4
#[must_use]
pub fn completion_id(extra_flags: &[u8]) -> Option<String> {
    member(extra_flags, "completion_id")
}

/// The member `proof_purpose`; none means mining. spec: proof-encoding §4
#[must_use]
pub fn proof_purpose(extra_flags: &[u8]) -> Option<String> {
    member(extra_flags, "proof_purpose")
}

impl MiningResponseRef<'_> {
    /// The completion id of a result: its own field, or else what `extra_flags` says. Text that is
    /// not UTF-8 names nothing. spec: proof-encoding §4
    #[must_use]
    pub fn effective_completion_id(&self) -> Option<String> {
        match self.completion_id {
            [] => completion_id(self.pow_blob?.extra_flags),
            id => core::str::from_utf8(id).ok().map(ToOwned::to_owned),
        }
    }

    /// True for the evidence of an inference, which is not mining. spec: proof-encoding §4
    #[must_use]
    pub fn is_audit(&self) -> bool {
        let purpose = self.pow_blob.and_then(|proof| proof_purpose(proof.extra_flags));
        purpose.as_deref() == Some(AUDIT)
    }
}

/// A non-empty string member of a JSON object; in text that is not JSON, the value of the first
/// `;`-separated part that begins with `key=`. spec: proof-encoding §4
fn member(extra_flags: &[u8], key: &str) -> Option<String> {
    let text = core::str::from_utf8(extra_flags).ok()?;
    let value = json_member(text, key).unwrap_or_else(|_not_json| {
        let value = |part: &str| {
            let value = part.trim().strip_prefix(key)?.strip_prefix('=')?;
            Some(value.trim().to_owned())
        };
        text.split(';').find_map(value)
    });
    value.filter(|value| !value.is_empty())
}

/// The string member of a JSON object; none when the text is other JSON.
fn json_member(text: &str, key: &str) -> serde_json::Result<Option<String>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = json.deserialize_any(StringAt { member: Some(key) })?;
    json.end().map(|()| value)
}

/// Takes one string out of a JSON text, builds nothing of the rest: the text is anybody's, and a
/// tree of values can be many times its size.
struct StringAt<'k> {
    /// The member that holds the string; none for the value itself.
    member: Option<&'k str>,
}

impl<'de> DeserializeSeed<'de> for StringAt<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StringAt<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if self.member == Some(&name) {
                found = map.next_value_seed(StringAt { member: None })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.member.is_none().then(|| text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{completion_id, proof_purpose};
    use crate::proof::{MiningResponseRef, ProofRef};

    #[test]
    fn members_are_found_in_json_and_in_key_value_text() {
        for (text, id) in [
            (r#"{"completion_id":"cmpl-x","a":1}"#, Some("cmpl-x")),
            (r#"{"completion_id":"é"}"#, Some("é")),
            (r#"{"completion_id":""}"#, None),
            (r#"{"completion_id":7}"#, None),
            (r#"{"completion_id":null,"a":[-1,1.5e300,true,{"completion_id":"x"}]}"#, None),
            (r#"{"a":{"completion_id":"inner"}}"#, None),
            (r#"{"completion_id":["x"]}"#, None),
            (r#"{"completion_id":"first","completion_id":"last"}"#, Some("last")),
            (r#" {"completi\u006fn_id" : "a\"b"} "#, Some("a\"b")),
            (r#"{"completion_id":"x"} completion_id=y"#, None),
            ("-7", None),
            ("18446744073709551616", None),
            ("null", None),
            (r#"[{"completion_id":"cmpl-x"}]"#, None),
            (r#""completion_id=x""#, None),
            ("completion_id=cmpl-x", Some("cmpl-x")),
            ("a=1; completion_id= cmpl=x ;b", Some("cmpl=x")),
            ("completion_id=;completion_id=late", None),
            ("completion_id =x", None),
            ("{'completion_id': 'x'}", None),
            ("", None),
        ] {
            assert_eq!(completion_id(text.as_bytes()).as_deref(), id, "{text}");
        }
        assert_eq!(completion_id(b"completion_id=\xff"), None);
        assert_eq!(proof_purpose(b"x;proof_purpose=audit").as_deref(), Some("audit"));
        let deep = "[".repeat(100_000);
        assert_eq!(proof_purpose(deep.as_bytes()), None);
    }

    #[test]
    fn the_field_of_the_message_wins() {
        let proof = ProofRef {
            extra_flags: br#"{"completion_id":"inner","proof_purpose":"audit"}"#,
            ..ProofRef::default()
        };
        let mut response = MiningResponseRef { pow_blob: Some(proof), ..Default::default() };
        assert_eq!(response.effective_completion_id().as_deref(), Some("inner"));
        assert!(response.is_audit());
        response.completion_id = b"outer";
        assert_eq!(response.effective_completion_id().as_deref(), Some("outer"));
        response.pow_blob = None;
        assert!(!response.is_audit());
    }
}
