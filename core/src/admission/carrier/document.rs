//! One pass over a carrier: the grammar, its bounds, no key twice in an object; what stands at
//! `v3.admission_nonce`, and where the member `v3` lies.

use super::text::{Unescaped, length};
use super::{DIGITS, MAX_CARRIER, MAX_DEPTH, parse_nonce};
use crate::units::AdmissionNonce;
use core::ops::Range;

/// Members that a carrier can hold: each takes a key of two quotes, a colon, a value and the comma
/// or brace behind it.
const MAX_MEMBERS: usize = MAX_CARRIER / 5;

/// What is known of a carrier that keeps all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// The nonce it claims.
    pub(super) nonce: Option<AdmissionNonce>,
    /// Where the outermost object's member `v3` lies, from the quote of its key to the end of its
    /// value.
    pub(super) v3: Option<Range<usize>>,
    /// Where the outermost object's closing brace lies.
    pub(super) end: usize,
    /// The outermost object has no members.
    pub(super) is_empty: bool,
}

impl Document {
    /// Reads a whole carrier; none when it breaks any rule. spec: admission §3.1
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_CARRIER || core::str::from_utf8(text).is_err() {
            return None;
        }
        let mut reader = Reader {
            text,
            at: 0,
            keys: [Key::default(); MAX_MEMBERS],
            open: 0,
            found: Self { nonce: None, v3: None, end: 0, is_empty: true },
        };
        reader.whitespace();
        if reader.peek()? != b'{' {
            return None;
        }
        reader.value(Role::Top, 1)?;
        reader.found.end = reader.at - 1;
        reader.whitespace();
        (reader.at == text.len()).then_some(reader.found)
    }
}

/// What a value is to the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The outermost object.
    Top,
    /// The outermost object's member `v3`.
    V3,
    /// The member `admission_nonce` of that.
    Nonce,
    /// Anything else.
    Other,
}

impl Role {
    /// What the member with this key is.
    fn of_member(self, key: &Unescaped<'_>) -> Self {
        match self {
            Self::Top if key.is(b"v3") => Self::V3,
            Self::V3 if key.is(b"admission_nonce") => Self::Nonce,
            _ => Self::Other,
        }
    }
}

/// A key of an object that is still open.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    /// Where its text begins and how long it is; a carrier is shorter than 2^16.
    start: u16,
    length: u16,
    /// A checksum of the unescaped text: equal texts have equal ones.
    checksum: u32,
}

/// FNV-1a, which only saves comparisons.
fn checksum(key: Unescaped<'_>) -> u32 {
    key.fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Where the pass stands. Recursion ends at [`MAX_DEPTH`].
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// The keys of all open objects, outermost first.
    keys: [Key; MAX_MEMBERS],
    open: usize,
    found: Document,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Takes one byte if it is this one.
    fn takes(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    fn whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Any value, from its first byte to behind its last.
    fn value(&mut self, role: Role, depth: u8) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(role, depth),
            b'[' => self.array(depth),
            b'"' => {
                let raw = self.string()?;
                if role == Role::Nonce {
                    self.found.nonce = nonce_of(Unescaped::new(raw));
                }
                Some(())
            }
            b'-' | b'0'..=b'9' if !self.rest().starts_with(b"-I") => self.number(),
            _ => self.literal(),
        }
    }

    fn object(&mut self, role: Role, depth: u8) -> Option<()> {
        self.expect(b'{')?;
        let first_key = self.open;
        self.whitespace();
        if self.takes(b'}') {
            return Some(());
        }
        if role == Role::Top {
            self.found.is_empty = false;
        }
        loop {
            let start = self.at;
            let key = Unescaped::new(self.string()?);
            self.note_key(start + 1, first_key)?;
            let member = role.of_member(&key);
            self.whitespace();
            self.expect(b':')?;
            self.whitespace();
            self.value(member, depth + 1)?;
            if member == Role::V3 {
                self.found.v3 = Some(start..self.at);
            }
            self.whitespace();
            if self.takes(b'}') {
                self.open = first_key;
                return Some(());
            }
            self.expect(b',')?;
            self.whitespace();
        }
    }

    /// Remembers the key that begins at `start` and ends one byte, its quote, before here; none
    /// when its object has it already.
    fn note_key(&mut self, start: usize, first_key: usize) -> Option<()> {
        let raw = self.text.get(start..self.at - 1)?;
        let key = Key {
            start: u16::try_from(start).ok()?,
            length: u16::try_from(raw.len()).ok()?,
            checksum: checksum(Unescaped::new(raw)),
        };
        let twin = |other: &Key| {
            let from = usize::from(other.start);
            let text = self.text.get(from..from + usize::from(other.length)).unwrap_or_default();
            other.checksum == key.checksum && Unescaped::new(raw).eq(Unescaped::new(text))
        };
        if self.keys.get(first_key..self.open)?.iter().any(twin) {
            return None;
        }
        *self.keys.get_mut(self.open)? = key;
        self.open += 1;
        Some(())
    }

    fn array(&mut self, depth: u8) -> Option<()> {
        self.expect(b'[')?;
        self.whitespace();
        if self.takes(b']') {
            return Some(());
        }
        loop {
            self.value(Role::Other, depth + 1)?;
            self.whitespace();
            if self.takes(b']') {
                return Some(());
            }
            self.expect(b',')?;
            self.whitespace();
        }
    }

    /// A string; gives what stands between its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let raw = self.rest().get(..length(self.rest())?)?;
        self.at += raw.len() + 1;
        Some(raw)
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.takes(b'-');
        if !self.takes(b'0') {
            self.digits()?;
        }
        if self.takes(b'.') {
            self.digits()?;
        }
        if self.takes(b'e') || self.takes(b'E') {
            let _sign = self.takes(b'+') || self.takes(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn literal(&mut self) -> Option<()> {
        const LITERALS: [&[u8]; 6] =
            [b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity"];
        let found = LITERALS.iter().find(|literal| self.rest().starts_with(literal))?;
        self.at += found.len();
        Some(())
    }
}

/// The nonce that a string spells.
fn nonce_of(mut text: Unescaped<'_>) -> Option<AdmissionNonce> {
    let mut digits = [0; DIGITS];
    for digit in &mut digits {
        *digit = text.next()?;
    }
    text.next().is_none().then(|| parse_nonce(&digits)).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Document, MAX_CARRIER, MAX_MEMBERS};
    use std::format;
    use std::string::String;

    #[test]
    fn no_carrier_holds_more_members_than_there_is_room_for() {
        // Keys that all differ need more room than the shortest members there could be.
        let mut text = String::from("{");
        for i in 0_u32.. {
            let key = char::from_u32(0x30 + i).filter(|c| *c != '\\').unwrap_or('!');
            let member = format!("\"{key}\":0,");
            if text.len() + member.len() > MAX_CARRIER {
                break;
            }
            text.push_str(&member);
        }
        text.pop();
        text.push('}');
        let members = text.matches(':').count();
        assert!((500..MAX_MEMBERS).contains(&members), "{members}");
        assert!(Document::read(text.as_bytes()).is_some());
    }

    #[test]
    fn the_member_v3_is_located() {
        let text = br#" {"a":1, "\u0076\u0033" : [2] ,"b":{"v3":0}} "#;
        let document = Document::read(text).unwrap();
        assert_eq!(document.v3.map(|at| &text[at]), Some(&br#""\u0076\u0033" : [2]"#[..]));
        assert_eq!(document.end, text.len() - 2);
        assert!(!document.is_empty);
        assert!(Document::read(b"{ }").unwrap().is_empty);
    }
}
