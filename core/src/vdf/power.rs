//! Powers of classes. Inverses are free (b changes its sign), so exponents are written in signed
//! windows, and two powers share their squarings.

use super::discriminant::Discriminant;
use super::form::Form;
use super::integer::Integer;

/// Bits of a window: odd digits from −15 to 15.
const WINDOW: usize = 5;
/// Odd powers kept for one base.
const ODD_POWERS: usize = 1 << (WINDOW - 2);
/// Digits of the longest exponent, 264 bits, and the carry.
const DIGITS: usize = 266;

/// `x^e · y^f` for exponents that are not negative and of at most 264 bits. spec: vdf §6
pub(crate) fn product_of_powers(
    d: &Discriminant,
    x: &Form,
    e: &Integer,
    y: &Form,
    f: &Integer,
) -> Form {
    let factors = [(OddPowers::new(x, d), digits(e)), (OddPowers::new(y, d), digits(f))];
    let mut product: Option<Form> = None;
    for at in (0..DIGITS).rev() {
        product = product.map(|p| p.square(d));
        for (powers, digits) in &factors {
            if let Some(factor) = powers.get(digits[at]) {
                product = Some(product.map_or(factor, |p| p.compose(&factor, d)));
            }
        }
    }
    product.unwrap_or_else(|| Form::identity(d))
}

/// x, x³, x⁵, … x¹⁵.
struct OddPowers([Form; ODD_POWERS]);

impl OddPowers {
    fn new(x: &Form, d: &Discriminant) -> Self {
        let square = x.square(d);
        let mut powers = [*x; ODD_POWERS];
        let mut last = *x;
        for power in powers.iter_mut().skip(1) {
            last = last.compose(&square, d);
            *power = last;
        }
        Self(powers)
    }

    /// The power of an odd digit; none for zero.
    fn get(&self, digit: i8) -> Option<Form> {
        let power = self.0.get(usize::from(digit.unsigned_abs() / 2))?;
        match digit {
            0 => None,
            1.. => Some(*power),
            _ => Some(power.inverse()),
        }
    }
}

/// The exponent as a sum of digit·2^position with digits zero or odd and below 16 in magnitude, at
/// least four zeros behind each.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // digits have five bits
fn digits(exponent: &Integer) -> [i8; DIGITS] {
    let mut out = [0; DIGITS];
    let mut rest = *exponent;
    let mut at = 0;
    while !rest.is_zero() {
        let zeros = (0..).take_while(|bit| !rest.bit(*bit)).count();
        rest = rest.shifted_right(zeros);
        at += zeros;
        let low = (rest.low() % (1 << WINDOW)) as i8;
        let digit = if low < 1 << (WINDOW - 1) { low } else { low - (1 << WINDOW) };
        rest = rest - Integer::from_i64(digit.into());
        if let Some(slot) = out.get_mut(at) {
            *slot = digit;
        }
    }
    out
}
