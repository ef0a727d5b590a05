//! The carrier: `extra_flags`, a JSON text by anybody, in which a proof claims its admission nonce.
//! Reading it is consensus ([`extract`]), writing it is ours ([`merge`]). Nothing here allocates.

mod document;
mod merge;
mod text;

#[cfg(feature = "alloc")]
pub use merge::merge_to_vec;
pub use merge::{MergeError, merge};

use crate::units::AdmissionNonce;
use document::Document;

/// Longest carrier that is read, in bytes. spec: admission §1
pub const MAX_CARRIER: usize = 4096;
/// Deepest value that is allowed; the outermost object has depth 1. spec: admission §1
pub const MAX_DEPTH: u8 = 8;
/// Digits of a nonce in a carrier.
const DIGITS: usize = 2 * AdmissionNonce::LEN;

/// The nonce that a proof claims. Whatever is wrong with the text, the answer is that nothing is
/// claimed. spec: admission §3.1
#[must_use]
pub fn extract(extra_flags: &[u8]) -> Option<AdmissionNonce> {
    Document::read(extra_flags)?.nonce
}

/// The nonce written as exactly 64 lowercase hex digits, the only spelling a carrier may use.
/// spec: admission §3.1
#[must_use]
pub fn parse_nonce(digits: &[u8]) -> Option<AdmissionNonce> {
    let digits: &[u8; DIGITS] = digits.try_into().ok()?;
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; AdmissionNonce::LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0, |high, digit| Some(high << 4 | value(*digit)?))?;
    }
    Some(AdmissionNonce::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{extract, parse_nonce};
    use crate::units::AdmissionNonce;
    use std::format;
    use std::string::String;

    const DIGITS: &str = "00ff10203040506070809aabbccddeef000102030405060708090a0b0c0d0e0f";

    fn claimed(text: &str) -> bool {
        let found = extract(text.as_bytes());
        assert!(found.is_none() || found == parse_nonce(DIGITS.as_bytes()), "{text}");
        found.is_some()
    }

    #[test]
    fn only_64_lowercase_digits_spell_a_nonce() {
        let nonce = parse_nonce(DIGITS.as_bytes()).unwrap();
        assert_eq!(format!("{nonce:x}"), DIGITS);
        assert_eq!(parse_nonce(DIGITS.to_uppercase().as_bytes()), None);
        assert_eq!(parse_nonce(&DIGITS.as_bytes()[1..]), None);
        assert_eq!(parse_nonce(&[b'0'; 66]), None);
        assert_eq!(parse_nonce(&[b'0'; 64]), Some(AdmissionNonce::from_bytes([0; 32])));
    }

    #[test]
    fn the_rules_of_the_carrier() {
        let v3 = format!(r#""v3":{{"admission_nonce":"{DIGITS}"}}"#);
        let deepest = |inner: &str| format!(r#"{{"a":[[[[[[{inner}]]]]]],{v3}}}"#);
        for (rule, text, claims) in [
            ("the plain form", format!("{{{v3}}}"), true),
            ("whitespace around", format!(" \t\r\n{{ {v3} }} "), true),
            ("other members", format!(r#"{{"a":[1,-0.5e+3,NaN,-Infinity],{v3},"b":null}}"#), true),
            (
                "escaped keys",
                format!(r#"{{"\u0076\u0033":{{"admission\u005fnonce":"{DIGITS}"}}}}"#),
                true,
            ),
            ("an escaped nonce", format!("{{{}}}", v3.replace("ff", r"\u0066f")), true),
            ("an empty array at depth 8", deepest("[]"), true),
            ("a scalar at depth 9", deepest("[1]"), false),
            ("a key twice", format!(r#"{{"a":1,"\u0061":2,{v3}}}"#), false),
            ("a key twice inside", format!(r#"{{"x":{{"a":1,"b":2,"a":3}},{v3}}}"#), false),
            ("a key in two objects", format!(r#"{{"x":{{"a":1}},"a":2,{v3}}}"#), true),
            ("lone surrogates differ", format!(r#"{{"\ud800":1,"\udc00":2,{v3}}}"#), true),
            ("a pair is one character", format!(r#"{{"\ud83d\ude00":1,"😀":2,{v3}}}"#), false),
            ("half a pair and a broken escape", format!(r#"{{"\ud83d\u12":1,{v3}}}"#), false),
            ("upper case", format!("{{{}}}", v3.to_uppercase()), false),
            ("a nonce that is no string", r#"{"v3":{"admission_nonce":0}}"#.into(), false),
            ("v3 that is no object", format!(r#"{{"v3":["{DIGITS}"]}}"#), false),
            ("v3 below the top", format!(r#"{{"a":{{{v3}}}}}"#), false),
            ("a second document", format!("{{{v3}}}{{}}"), false),
            ("a trailing comma", format!("{{{v3},}}"), false),
            ("a control byte in a string", format!("{{\"\u{1}\":1,{v3}}}"), false),
            ("a leading zero", format!(r#"{{"a":01,{v3}}}"#), false),
            ("an empty text", String::new(), false),
        ] {
            assert_eq!(claimed(&text), claims, "{rule}: {text}");
        }
        let padded = |length: usize| format!("{{{v3}}}{}", " ".repeat(length - v3.len() - 2));
        assert!(claimed(&padded(4096)));
        assert!(!claimed(&padded(4097)));
    }
}
