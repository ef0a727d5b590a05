//! JSON strings: where one ends, and the bytes it stands for.

/// The length of the string that begins behind an opening quote, without its closing quote; none
/// when it does not end or breaks the grammar. spec: admission §3.1
pub(super) fn length(mut text: &[u8]) -> Option<usize> {
    let whole = text.len();
    loop {
        let (byte, rest) = text.split_first()?;
        match byte {
            b'"' => return Some(whole - text.len()),
            b'\\' => text = skip_escape(rest)?,
            0x00..=0x1f => return None,
            _ => text = rest,
        }
    }
}

/// What follows the escape whose backslash has been read.
fn skip_escape(text: &[u8]) -> Option<&[u8]> {
    match text.split_first()? {
        (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest) => Some(rest),
        (b'u', rest) => code_unit(rest).map(|(_, rest)| rest),
        _ => None,
    }
}

/// Four hex digits and what follows them.
fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let unit = digits
        .iter()
        .try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))?;
    Some((unit, rest))
}

/// The bytes of a string after unescaping. A surrogate without its partner becomes the three bytes
/// that generalized UTF-8 has for it. spec: admission §3.1
#[derive(Debug, Clone)]
pub(super) struct Unescaped<'a> {
    text: &'a [u8],
    /// Bytes of the character that an escape stands for, and how many have been given out.
    pending: [u8; 4],
    given: u8,
    end: u8,
}

impl<'a> Unescaped<'a> {
    /// `raw` is what stands between the quotes of a string that [`length`] took.
    pub(super) fn new(raw: &'a [u8]) -> Self {
        Self { text: raw, pending: [0; 4], given: 0, end: 0 }
    }

    /// True when the string stands for exactly these bytes.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        self.clone().eq(bytes.iter().copied())
    }

    /// The byte of a short escape, or the first byte of an escaped code point.
    fn escape(&mut self) -> Option<u8> {
        let (kind, rest) = self.text.split_first()?;
        self.text = rest;
        match kind {
            b'b' => Some(0x08),
            b'f' => Some(0x0c),
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'u' => {
                let (unit, rest) = code_unit(rest)?;
                self.text = rest;
                let point = match low_partner(unit, rest) {
                    Some((low, rest)) => {
                        self.text = rest;
                        0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    None => unit,
                };
                self.queue(point);
                self.pending()
            }
            itself => Some(*itself),
        }
    }

    /// Encodes a code point, surrogates included, for the next calls.
    #[allow(clippy::cast_possible_truncation)] // each part is masked to its bits
    fn queue(&mut self, point: u32) {
        let tail = |shift: u32| 0x80 | (point >> shift & 0x3f) as u8;
        (self.pending, self.end) = match point {
            0..0x80 => ([point as u8, 0, 0, 0], 1),
            0x80..0x800 => ([0xc0 | (point >> 6) as u8, tail(0), 0, 0], 2),
            0x800..0x1_0000 => ([0xe0 | (point >> 12) as u8, tail(6), tail(0), 0], 3),
            _ => ([0xf0 | (point >> 18 & 7) as u8, tail(12), tail(6), tail(0)], 4),
        };
        self.given = 0;
    }

    fn pending(&mut self) -> Option<u8> {
        let byte = *self.pending.get(usize::from(self.given)).filter(|_| self.given < self.end)?;
        self.given += 1;
        Some(byte)
    }
}

/// The low surrogate that follows a high one as an escape of its own.
fn low_partner(high: u32, rest: &[u8]) -> Option<(u32, &[u8])> {
    if !(0xd800..0xdc00).contains(&high) {
        return None;
    }
    let (low, rest) = code_unit(rest.strip_prefix(br"\u")?)?;
    (0xdc00..0xe000).contains(&low).then_some((low, rest))
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Some(byte) = self.pending() {
            return Some(byte);
        }
        let (byte, rest) = self.text.split_first()?;
        self.text = rest;
        if *byte == b'\\' { self.escape() } else { Some(*byte) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Unescaped, length};
    use std::vec::Vec;

    #[test]
    fn escapes_stand_for_their_bytes() {
        for (raw, bytes) in [
            (r#"a\"\\\/\b\f\n\r\t"#, &b"a\"\\/\x08\x0c\n\r\t"[..]),
            (r"\u0041\u00e9\u20aC", "Aé€".as_bytes()),
            (r"\ud83d\ude00!", "😀!".as_bytes()),
            (r"\ud83d\ud83d\ude00", b"\xed\xa0\xbd\xf0\x9f\x98\x80"),
            (r"\ud83d\u0041", b"\xed\xa0\xbdA"),
            (r"\ude00\ud83d", b"\xed\xb8\x80\xed\xa0\xbd"),
            (r"\udbff\udfff", "\u{10ffff}".as_bytes()),
        ] {
            let text = [raw.as_bytes(), b"\"rest"].concat();
            assert_eq!(length(&text), Some(raw.len()), "{raw}");
            let found: Vec<u8> = Unescaped::new(raw.as_bytes()).collect();
            assert_eq!(found, bytes, "{raw}");
            assert!(Unescaped::new(raw.as_bytes()).is(bytes));
            assert!(!Unescaped::new(raw.as_bytes()).is(&bytes[1..]));
        }
    }

    #[test]
    fn strings_that_break_the_grammar_have_no_length() {
        for raw in ["", "open", r#"\""#, "tab\t\"", r#"\x""#, r#"\u12g4""#, r#"\ud83d\u12""#, "\\"]
        {
            assert_eq!(length(raw.as_bytes()), None, "{raw}");
        }
    }
}
