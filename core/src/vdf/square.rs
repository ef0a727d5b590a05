//! Squaring at full speed: NUDUPL ([`super::compose`] tells the algebra) in fixed-width arithmetic
//! for forms of the usual shape under a discriminant of about 1024 bits. The few others, the first
//! dozen after the generator above all, take the general way.

use super::discriminant::Discriminant;
use super::euclid::{Euclid, fixed};
use super::fixed::{Signed, divide_exact, fits, multiply, resized, shifted_right};
use super::form::Form;
use super::integer::Integer;
use super::limbs::{self, Divisor};

/// Limbs in which forms are reduced.
const WIDE: usize = 10;

/// A reduced form whose a fills eight limbs and whose c has at most nine.
#[derive(Clone, Copy)]
pub(crate) struct Usual {
    a: [u64; 8],
    b: [u64; 8],
    negative: bool,
    c: [u64; 9],
}

/// A form on its way to being reduced. All magnitudes, with the sign of b.
struct Loose {
    a: [u64; WIDE],
    b: [u64; WIDE],
    negative: bool,
    c: [u64; WIDE],
}

/// The square in fixed-width arithmetic; none for shapes it does not take.
pub(crate) fn fast(f: &Form, d: &Discriminant) -> Option<Form> {
    Usual::new(f)?.square(d).map(|square| square.form())
}

/// `count` squarings, one after the other.
pub(crate) fn repeat(f: &Form, count: u64, d: &Discriminant) -> Form {
    let (mut form, mut left) = (*f, count);
    while left > 0 {
        if let Some(mut usual) = Usual::new(&form) {
            while let Some(square) = usual.square(d) {
                usual = square;
                left -= 1;
                if left == 0 {
                    return usual.form();
                }
            }
            form = usual.form();
        }
        form = form.square_generally(d);
        left -= 1;
    }
    form
}

impl Usual {
    /// None when the form has another shape.
    pub(crate) fn new(f: &Form) -> Option<Self> {
        let usual = f.a.limbs().len() == 8 && f.b.limbs().len() <= 8 && f.c.limbs().len() <= 9;
        usual.then(|| Self {
            a: fixed(&f.a),
            b: fixed(&f.b),
            negative: f.b.is_negative(),
            c: fixed(&f.c),
        })
    }

    /// As a form of any shape.
    pub(crate) fn form(&self) -> Form {
        Form {
            a: Integer::from_limbs(&self.a, false),
            b: Integer::from_limbs(&self.b, self.negative),
            c: Integer::from_limbs(&self.c, false),
        }
    }

    /// The square; none when a number on the way or the result is of an unusual size.
    #[inline]
    pub(crate) fn square(&self, d: &Discriminant) -> Option<Self> {
        let k = self.root_shift()?;
        let mut rows = Euclid::new(&self.a, &k);
        rows.run(d.fourth_root().limbs());
        // r₁, Y₁ and Y₂ have about a quarter of the discriminant's bits, r₂ a little more.
        let lengths = fits(&rows.r1, 5) && fits(&rows.s1, 5) && fits(&rows.s0, 5);
        if !lengths || !fits(&rows.r0, 6) {
            return None;
        }
        let r1: [u64; 5] = resized(&rows.r1);
        let r2: [u64; 6] = resized(&rows.r0);
        let y1: [u64; 5] = resized(&rows.s1);
        let y2: [u64; 5] = resized(&rows.s0);

        let m = self.cross_term(&r1, &y1, rows.negative1)?;
        // a' = r₁² + Y₁m
        let a =
            Signed { magnitude: multiply::<5, 5, 12>(&r1, &r1), negative: false }.add(&Signed {
                magnitude: multiply::<6, 5, 12>(&m.magnitude, &y1),
                negative: m.negative != rows.negative1,
            });
        // b' = ±2(r₁r₂ + Y₂m) − b
        let mut b =
            Signed { magnitude: multiply::<6, 5, 12>(&r2, &r1), negative: false }.add(&Signed {
                magnitude: multiply::<6, 5, 12>(&m.magnitude, &y2),
                negative: m.negative != rows.negative0,
            });
        limbs::double(&mut b.magnitude);
        // As the shorter row comes first, the untouched rows are reversed already.
        b.negative ^= !rows.flipped;
        let b = b.add(&Signed { magnitude: resized(&self.b), negative: !self.negative });
        Loose::new(&a.magnitude, &b, d)?.reduce()
    }

    /// k = −c/b modulo a.
    #[inline]
    fn root_shift(&self) -> Option<[u64; 8]> {
        let mut euclid = Euclid::new(&self.a, &self.b);
        euclid.run(&[2]);
        let (inverse, negative) = if euclid.r1[0] == 1 {
            (euclid.s1, euclid.negative1)
        } else if euclid.r0[0] == 1 && fits(&euclid.r0, 1) {
            (euclid.s0, euclid.negative0)
        } else {
            return None;
        };
        if !fits(&inverse, 8) {
            return None;
        }
        let inverse: [u64; 8] = resized(&inverse);
        let product: [u64; 18] = multiply::<9, 8, 18>(&self.c, &inverse);
        let mut k = Divisor::new(&self.a)?.remainder(&product);
        if negative == self.negative && !fits(&k, 0) {
            let rest = k;
            k = self.a;
            limbs::subtract_assign(&mut k, &rest);
        }
        Some(k)
    }

    /// m = (b·r₁ + c·Y₁)/a, an exact division: only the low limbs are computed.
    #[inline]
    fn cross_term(&self, r1: &[u64; 5], y1: &[u64; 5], y1_negative: bool) -> Option<Signed<6>> {
        // |m| < 2^330: six limbs and up to 63 bits more for the twos in a.
        let twos = self.a[0].trailing_zeros();
        if twos > 63 {
            return None;
        }
        let mut sum: [u64; 7] = multiply::<8, 5, 7>(&self.b, r1);
        if self.negative {
            limbs::negate(&mut sum);
        }
        let second: [u64; 7] = multiply::<9, 5, 7>(&self.c, y1);
        if y1_negative {
            limbs::subtract_assign(&mut sum, &second);
        } else {
            limbs::add_assign(&mut sum, &second);
        }
        let quotient: [u64; 6] =
            divide_exact(shifted_right(&sum, twos), &shifted_right(&self.a, twos));
        Some(Signed::from_twos_complement(quotient))
    }
}

impl Loose {
    /// Completes (a, b) by c = (b² − D)/4a, an exact division. None when a number is too long, or a
    /// too short for c to have a known length.
    #[inline]
    fn new(a: &[u64; 12], b: &Signed<12>, d: &Discriminant) -> Option<Self> {
        // b below 2^576 and a from 2^448 on keep c below 2^640 when b is not much above a.
        let b_bits = limbs::bit_length(&b.magnitude);
        let a_bits = limbs::bit_length(a);
        let twos = a[0].trailing_zeros() + 2;
        if a_bits <= 448 || a_bits > 576 || b_bits > 576 || 2 * b_bits > 636 + a_bits || twos > 63 {
            return None;
        }
        let short: [u64; 9] = resized(&b.magnitude);
        let mut sum: [u64; 11] = multiply::<9, 9, 11>(&short, &short);
        limbs::add_assign(&mut sum, d.magnitude().limbs());
        let c = divide_exact(shifted_right::<11, WIDE>(&sum, twos), &shifted_right(a, twos - 2));
        Some(Self { a: resized(a), b: resized(&b.magnitude), negative: b.negative, c })
    }

    /// Reduction; none when the result is of an unusual shape.
    #[inline]
    fn reduce(mut self) -> Option<Usual> {
        loop {
            self.normalize()?;
            match self.a.iter().rev().cmp(self.c.iter().rev()) {
                core::cmp::Ordering::Greater => {
                    core::mem::swap(&mut self.a, &mut self.c);
                    self.negative = !self.negative;
                }
                // a below 2^448 has another shape, and above that a = c does not happen.
                core::cmp::Ordering::Equal => return None,
                core::cmp::Ordering::Less => break,
            }
        }
        let usual = self.a[7] != 0 && fits(&self.a, 8) && fits(&self.c, 9);
        usual.then(|| Usual {
            a: resized(&self.a),
            b: resized(&self.b),
            negative: self.negative,
            c: resized(&self.c),
        })
    }

    /// Brings |b| to at most a.
    #[inline]
    fn normalize(&mut self) -> Option<()> {
        while self.b.iter().rev().gt(self.a.iter().rev()) {
            let q = self.quotient()?;
            // b → b − 2aq and c → c − q(b − aq), magnitudes.
            let carry = limbs::subtract_multiple(&mut self.b, &self.a, q);
            let c_borrow = subtract_signed_multiple(&mut self.c, &self.b, carry != 0, q);
            let low = limbs::subtract_multiple(&mut self.b, &self.a, q);
            if c_borrow {
                return None;
            }
            if carry != 0 || low != 0 {
                limbs::negate(&mut self.b);
                self.negative = !self.negative;
            }
        }
        Some(())
    }

    /// About (|b| + a)/2a, at least one; none when it needs more than 31 bits.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // below 2^31
    fn quotient(&self) -> Option<u64> {
        let n = limbs::significant(&self.a);
        let top = n.checked_sub(2)?;
        if !fits(&self.b, n + 1) {
            return None;
        }
        let zeros = self.a[n - 1].leading_zeros();
        let by = (self.a[n - 1] << zeros) | (self.a[top] >> 1) >> (63 - zeros);
        let over = if n < WIDE { self.b[n] } else { 0 };
        // The same 64 bits of b and those above them.
        let high = (u128::from(over) << 64 | u128::from(self.b[n - 1])) << zeros;
        let of = high | u128::from((self.b[top] >> 1) >> (63 - zeros));
        let (of, by) = (of + u128::from(by), u128::from(by) << 1);
        if over != 0 && (over >> 31 != 0 || zeros > 31) {
            return None;
        }
        if of < by << 1 {
            return Some(1);
        }
        let quotient = if of >> 64 == 0 && by >> 64 == 0 {
            u128::from(of as u64 / by as u64)
        } else {
            of / by
        };
        if quotient >> 31 == 0 { Some(quotient as u64) } else { None }
    }
}

/// `out −= x·y` for x in two's complement when `negative`; true when the result is below zero.
#[inline]
fn subtract_signed_multiple(
    out: &mut [u64; WIDE],
    x: &[u64; WIDE],
    negative: bool,
    y: u64,
) -> bool {
    if negative {
        let mut magnitude = *x;
        limbs::negate(&mut magnitude);
        limbs::add_multiple(out, &magnitude, y) != 0
    } else {
        limbs::subtract_multiple(out, x, y) != 0
    }
}
