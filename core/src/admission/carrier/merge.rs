//! Puts a nonce into a carrier, keeping what is there, and makes sure that it can be read back.

use super::document::Document;
use super::{MAX_CARRIER, extract};
use crate::units::AdmissionNonce;
use core::fmt;

/// Why a nonce could not be put into a carrier. The proof would be worthless without it: count the
/// window and do not send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// The result would be longer than a carrier may be.
    TooLong {
        /// Bytes of the result.
        length: usize,
    },
    /// The caller's buffer is too small.
    Buffer {
        /// Bytes of the result.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// The text at hand is not UTF-8, and neither would be the result.
    NotUtf8,
    /// The result does not yield the nonce.
    Lost,
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length } => {
                write!(f, "extra_flags with the nonce has {length} bytes, {MAX_CARRIER} are read")
            }
            Self::Buffer { needed, found } => {
                write!(f, "extra_flags with the nonce needs {needed} bytes, the buffer has {found}")
            }
            Self::NotUtf8 => f.write_str("extra_flags is not UTF-8, so no nonce is read from it"),
            Self::Lost => f.write_str("the nonce cannot be read back from extra_flags"),
        }
    }
}

impl core::error::Error for MergeError {}

/// Writes `extra_flags` with the nonce to the front of `out` and returns the length. A carrier
/// that is a valid object keeps every member but `v3`, which is replaced; blank text gives an
/// object of its own; any other text is kept as the member `_diff`. At most [`MAX_CARRIER`] bytes
/// are written. spec: admission §3.2
///
/// # Errors
/// [`MergeError`] when the result is too long or the nonce could not be read back from it.
pub fn merge(
    extra_flags: &[u8],
    nonce: &AdmissionNonce,
    out: &mut [u8],
) -> Result<usize, MergeError> {
    if core::str::from_utf8(extra_flags).is_err() {
        return Err(MergeError::NotUtf8);
    }
    let room = out.len();
    let mut out = Out { room: out, length: 0 };
    match Document::read(extra_flags) {
        Some(document) => splice(extra_flags, &document, nonce, &mut out),
        None if extra_flags.iter().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')) => {
            out.push(b"{");
            out.claim(nonce);
            out.push(b"}");
        }
        None => wrap(extra_flags, nonce, &mut out),
    }
    let length = out.length;
    if length > MAX_CARRIER {
        return Err(MergeError::TooLong { length });
    }
    let written = out.room.get(..length);
    let written = written.ok_or(MergeError::Buffer { needed: length, found: room })?;
    if extract(written).as_ref() == Some(nonce) { Ok(length) } else { Err(MergeError::Lost) }
}

/// [`merge`] into a vector.
///
/// # Errors
/// As [`merge`].
#[cfg(feature = "alloc")]
pub fn merge_to_vec(
    extra_flags: &[u8],
    nonce: &AdmissionNonce,
) -> Result<alloc::vec::Vec<u8>, MergeError> {
    let mut out = [0; MAX_CARRIER];
    let length = merge(extra_flags, nonce, &mut out)?;
    Ok(out.get(..length).unwrap_or_default().to_vec())
}

/// Replaces the member `v3`, or adds it as the last one.
fn splice(text: &[u8], document: &Document, nonce: &AdmissionNonce, out: &mut Out<'_>) {
    let place = document.v3.clone().unwrap_or(document.end..document.end);
    out.push(text.get(..place.start).unwrap_or_default());
    if document.v3.is_none() && !document.is_empty {
        out.push(b",");
    }
    out.claim(nonce);
    out.push(text.get(place.end..).unwrap_or_default());
}

/// Keeps any text as the string `_diff` beside the claim.
fn wrap(text: &[u8], nonce: &AdmissionNonce, out: &mut Out<'_>) {
    out.push(br#"{"_diff":""#);
    for byte in text {
        match byte {
            b'"' => out.push(br#"\""#),
            b'\\' => out.push(br"\\"),
            0x08 => out.push(br"\b"),
            0x0c => out.push(br"\f"),
            b'\n' => out.push(br"\n"),
            b'\r' => out.push(br"\r"),
            b'\t' => out.push(br"\t"),
            0x00..=0x1f => {
                out.push(br"\u00");
                out.hex(*byte);
            }
            _ => out.push(&[*byte]),
        }
    }
    out.push(br#"","#);
    out.claim(nonce);
    out.push(b"}");
}

/// Writes as much as fits and counts all.
struct Out<'a> {
    room: &'a mut [u8],
    length: usize,
}

impl Out<'_> {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.room.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
        }
        self.length = end;
    }

    fn hex(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.push(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }

    /// The member that claims the nonce.
    fn claim(&mut self, nonce: &AdmissionNonce) {
        self.push(br#""v3":{"admission_nonce":""#);
        nonce.as_bytes().iter().for_each(|byte| self.hex(*byte));
        self.push(br#""}"#);
    }
}

#[cfg(test)]
mod tests {
    use super::{MergeError, merge};
    use crate::units::AdmissionNonce;
    use std::string::{String, ToString};

    const CLAIM: &str = r#""v3":{"admission_nonce":"abababababababababababababababababababababababababababababababab"}"#;

    fn merged(text: &str) -> Result<String, MergeError> {
        let mut out = [0; 4096];
        let length = merge(text.as_bytes(), &AdmissionNonce::from_bytes([0xab; 32]), &mut out)?;
        Ok(core::str::from_utf8(&out[..length]).unwrap().to_string())
    }

    #[test]
    fn what_is_there_is_kept_and_the_claim_replaced() {
        for (before, after) in [
            ("", "{CLAIM}"),
            (" \r\n\t", "{CLAIM}"),
            ("{}", "{CLAIM}"),
            (r#"{"a":1} "#, r#"{"a":1,CLAIM} "#),
            (r#"{"v3":{"x":1}}"#, "{CLAIM}"),
            (r#"{"a":1,"\u00763":null , "b":2}"#, r#"{"a":1,CLAIM , "b":2}"#),
            (r#"{"a":{"v3":1}}"#, r#"{"a":{"v3":1},CLAIM}"#),
            ("[1]", r#"{"_diff":"[1]",CLAIM}"#),
            (r#"{"a":1,"a":2}"#, r#"{"_diff":"{\"a\":1,\"a\":2}",CLAIM}"#),
            ("k=\\\u{1}\u{8}\u{c}\n\r\té", r#"{"_diff":"k=\\\u0001\b\f\n\r\té",CLAIM}"#),
        ] {
            assert_eq!(merged(before), Ok(after.replace("CLAIM", CLAIM)), "{before}");
        }
    }

    #[test]
    fn a_result_that_cannot_be_read_is_an_error() {
        let fits = "x".repeat(4096 - CLAIM.len() - r#"{"_diff":"",}"#.len());
        assert_eq!(merged(&fits).map(|text| text.len()), Ok(4096));
        assert_eq!(merged(&(fits + "x")), Err(MergeError::TooLong { length: 4097 }));
        let nonce = AdmissionNonce::from_bytes([1; 32]);
        assert_eq!(merge(b"\xff", &nonce, &mut [0; 4096]), Err(MergeError::NotUtf8));
        assert_eq!(
            merge(b"", &nonce, &mut [0; 91]),
            Err(MergeError::Buffer { needed: 93, found: 91 })
        );
    }
}
