//! The 100 bytes of a form, both ways. A reduced form needs only |b| to be known up to its sign
//! from a and a short cofactor t: b ≡ ±√(t²·D)/t modulo a, and t has half the bits of b.

use super::discriminant::Discriminant;
use super::error::FormError;
use super::form::Form;
use super::integer::Integer;
use super::partial::partial_gcd;

/// Bytes of an encoded form, whatever the discriminant. spec: vdf §1
pub const FORM_BYTES: usize = 100;

const NEGATIVE_B: u8 = 1;
const NEGATIVE_T: u8 = 2;
const IDENTITY: u8 = 4;
const GENERATOR: u8 = 8;

/// Where the four numbers of an encoded form lie. spec: vdf §5.1
struct Layout {
    a: usize,
    t: usize,
    g: usize,
}

impl Layout {
    /// `g_length` is the length of g; none when the discriminant has no room for it.
    fn new(d: &Discriminant, g_length: usize) -> Option<Self> {
        let half = d.encoding_bits() / 32;
        let less = g_length.checked_sub(1).filter(|less| *less < half)?;
        Some(Self { a: 2 * half - less, t: half - less, g: g_length })
    }

    /// Cuts the bytes after the two leading ones into a', |t'|, g, b0 and the padding.
    fn cut<'a>(&self, body: &'a [u8]) -> Option<[&'a [u8]; 5]> {
        let (a, rest) = body.split_at_checked(self.a)?;
        let (t, rest) = rest.split_at_checked(self.t)?;
        let (g, rest) = rest.split_at_checked(self.g)?;
        let (b0, padding) = rest.split_at_checked(self.g)?;
        Some([a, t, g, b0, padding])
    }
}

impl Form {
    /// The form's 100 bytes. spec: vdf §5.2
    ///
    /// # Errors
    /// [`FormError::NotEncodable`] when a number does not fit its slot, which no reduced form has
    /// been seen to do.
    pub fn encode(&self, d: &Discriminant) -> Result<[u8; FORM_BYTES], FormError> {
        encode_pair(&self.a, &self.b, d)
    }

    /// Decodes 100 bytes to the reduced form of their class. Accepts what the node accepts, which
    /// is more than [`Self::encode`] writes. spec: vdf §5.4
    ///
    /// # Errors
    /// [`FormError`] names the first condition that fails.
    pub fn decode(bytes: &[u8], d: &Discriminant) -> Result<Self, FormError> {
        let wrong_length = FormError::Length { found: bytes.len() };
        let bytes: &[u8; FORM_BYTES] = bytes.try_into().map_err(|_| wrong_length)?;
        let flags = bytes[0];
        if flags & GENERATOR != 0 {
            return Ok(Self::generator(d));
        }
        if flags & IDENTITY != 0 {
            return Ok(Self::identity(d));
        }
        let (a, b) = decode_pair(bytes, d)?;
        match encode_pair(&a, &b, d) {
            Ok(again) if again == *bytes => Self::from_ab(&a, &b, d),
            _ => Err(FormError::NotCanonical),
        }
    }
}

/// Steps 3 to 7 of decoding: the pair the bytes speak of, which may not be reduced. spec: vdf §5.4
fn decode_pair(
    bytes: &[u8; FORM_BYTES],
    d: &Discriminant,
) -> Result<(Integer, Integer), FormError> {
    let [flags, g_length_less_one, body @ ..] = bytes;
    let layout =
        Layout::new(d, usize::from(*g_length_less_one) + 1).ok_or(FormError::CofactorLength)?;
    let [a, t, g, b0, _] = layout.cut(body).ok_or(FormError::CofactorLength)?;
    // All four are shorter than 100 bytes.
    let number = |bytes| Integer::from_le_bytes(bytes).ok_or(FormError::CofactorLength);
    let (a, t, g, b0) = (number(a)?, number(t)?, number(g)?, number(b0)?);
    let t = if flags & NEGATIVE_T != 0 { -t } else { t };
    if t.is_zero() {
        return Ok((a, a));
    }
    if a.is_zero() {
        return Err(FormError::ZeroCoefficient);
    }
    let (common, inverse, _) = Integer::extended_gcd(&t.modulo(&a), &a);
    if common != Integer::ONE {
        return Err(FormError::NotInvertible);
    }
    let square = ((t * t).modulo(&a) * d.value().modulo(&a)).modulo(&a);
    let root = square.square_root();
    if root * root != square {
        return Err(FormError::NotSquare);
    }
    let b = (root * inverse.modulo(&a)).modulo(&a) + a * b0;
    let a = if g > Integer::ONE { a * g } else { a };
    Ok((a, if flags & NEGATIVE_B != 0 { -b } else { b }))
}

/// The bytes of a pair that need not be reduced. spec: vdf §5.2
fn encode_pair(a: &Integer, b: &Integer, d: &Discriminant) -> Result<[u8; FORM_BYTES], FormError> {
    let mut out = [0; FORM_BYTES];
    if *b == Integer::ONE && *a <= Integer::small(2) {
        out[0] = if *a == Integer::small(2) { GENERATOR } else { IDENTITY };
        return Ok(out);
    }
    let zero = Integer::ZERO;
    let (short_a, t, g, b0, negative_b) = if a == b {
        (*a, zero, zero, zero, false)
    } else {
        let t = -partial_gcd(a, &b.abs(), &a.square_root()).c1;
        let (g, _, _) = Integer::extended_gcd(a, &t);
        if g > Integer::ONE {
            let short_a = a.divide(&g).0;
            (short_a, t.divide(&g).0, g, b.abs().divide(&short_a).0, b.is_negative())
        } else {
            (*a, t, g, zero, b.is_negative())
        }
    };
    let g_length = g.bits().div_ceil(8).max(1);
    let layout = Layout::new(d, g_length).ok_or(FormError::NotEncodable)?;
    let [flags, g_length_less_one, body @ ..] = &mut out;
    *flags = if negative_b { NEGATIVE_B } else { 0 } | if t.is_negative() { NEGATIVE_T } else { 0 };
    *g_length_less_one = u8::try_from(g_length - 1).map_err(|_| FormError::NotEncodable)?;
    let slots = [(short_a, layout.a), (t, layout.t), (g, layout.g), (b0, layout.g)];
    let mut rest = body.as_mut_slice();
    for (number, length) in slots {
        let (slot, behind) = rest.split_at_mut_checked(length).ok_or(FormError::NotEncodable)?;
        if !number.write_le(slot) {
            return Err(FormError::NotEncodable);
        }
        rest = behind;
    }
    Ok(out)
}
