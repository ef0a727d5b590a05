//! Signed integers of fixed capacity, plain rather than fast: decoding, encoding, reduction of
//! arbitrary forms and the composition of unusual ones are written with them. The squaring loop
//! has its own arithmetic ([`super::kernel`]).

use super::limbs;
use core::cmp::Ordering;
use core::ops::{Add, Mul, Neg, Sub};

/// Limbs of an [`Integer`]: twice the 1280 bits that a coefficient given from outside may have,
/// and two more for sums.
const CAPACITY: usize = 42;

/// A sign and up to 2688 bits of magnitude. Zero is never negative.
///
/// Results are modulo the capacity; whoever takes numbers from outside bounds them first
/// ([`Integer::bits`]) so that nothing is ever cut off.
#[derive(Clone, Copy)]
pub struct Integer {
    negative: bool,
    /// Limbs in use; the highest of them is not zero.
    len: usize,
    limbs: [u64; CAPACITY],
}

impl Integer {
    /// 0.
    pub const ZERO: Self = Self { negative: false, len: 0, limbs: [0; CAPACITY] };
    /// 1.
    pub const ONE: Self = Self::small(1);
    /// Most bits a magnitude can have.
    pub const MAX_BITS: usize = 64 * CAPACITY;

    /// One limb, not negative.
    #[must_use]
    pub const fn small(value: u64) -> Self {
        let mut limbs = [0; CAPACITY];
        limbs[0] = value;
        Self { negative: false, len: (value != 0) as usize, limbs }
    }

    /// A signed machine word.
    #[must_use]
    pub const fn from_i64(value: i64) -> Self {
        let mut out = Self::small(value.unsigned_abs());
        out.negative = value < 0;
        out
    }

    /// Limbs, least significant first, and a sign. Limbs beyond the capacity are cut off.
    pub(crate) fn from_limbs(limbs: &[u64], negative: bool) -> Self {
        let mut out = Self::ZERO;
        for (to, from) in out.limbs.iter_mut().zip(limbs) {
            *to = *from;
        }
        out.settle(negative)
    }

    /// Bytes, least significant first; `None` when they need more than the capacity.
    #[must_use]
    pub fn from_le_bytes(bytes: &[u8]) -> Option<Self> {
        let mut out = Self::ZERO;
        for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            *out.limbs.get_mut(at / 8)? |= u64::from(*byte) << (8 * (at % 8));
        }
        Some(out.settle(false))
    }

    /// Bytes, most significant first; `None` when they need more than the capacity.
    #[must_use]
    pub fn from_be_bytes(bytes: &[u8]) -> Option<Self> {
        let mut out = Self::ZERO;
        for (at, byte) in bytes.iter().rev().enumerate().filter(|(_, byte)| **byte != 0) {
            *out.limbs.get_mut(at / 8)? |= u64::from(*byte) << (8 * (at % 8));
        }
        Some(out.settle(false))
    }

    /// Writes the magnitude least significant byte first and zeros above it; false, and nothing
    /// usable written, when it does not fit.
    #[must_use]
    pub fn write_le(&self, out: &mut [u8]) -> bool {
        for (at, byte) in out.iter_mut().enumerate() {
            let limb = self.limbs.get(at / 8).copied().unwrap_or(0);
            *byte = limb.to_le_bytes()[at % 8];
        }
        self.bits().div_ceil(8) <= out.len()
    }

    /// Recounts the limbs in use after a computation.
    fn settle(mut self, negative: bool) -> Self {
        self.len = limbs::significant(&self.limbs);
        self.negative = negative && self.len != 0;
        self
    }

    /// The limbs in use.
    pub(crate) fn limbs(&self) -> &[u64] {
        self.limbs.get(..self.len).unwrap_or(&self.limbs)
    }

    /// Bits of the magnitude; 0 for zero.
    #[must_use]
    pub fn bits(&self) -> usize {
        limbs::bit_length(self.limbs())
    }

    /// Below zero.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// Equal to zero.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.len == 0
    }

    /// Not divisible by two.
    #[must_use]
    pub const fn is_odd(&self) -> bool {
        self.limbs[0] & 1 == 1
    }

    /// The same magnitude without a sign.
    #[must_use]
    pub const fn abs(mut self) -> Self {
        self.negative = false;
        self
    }

    /// The lowest 64 bits of the magnitude.
    #[must_use]
    pub const fn low(&self) -> u64 {
        self.limbs[0]
    }

    /// The value, when it is not negative and has at most 64 bits.
    #[must_use]
    pub const fn to_u64(&self) -> Option<u64> {
        if self.negative || self.len > 1 { None } else { Some(self.limbs[0]) }
    }

    /// Bit `at` of the magnitude.
    #[must_use]
    pub fn bit(&self, at: usize) -> bool {
        self.limbs.get(at / 64).is_some_and(|limb| limb >> (at % 64) & 1 == 1)
    }

    /// Magnitude shifted up; the sign stays.
    #[must_use]
    pub fn shifted_left(mut self, bits: usize) -> Self {
        limbs::shift_left(&mut self.limbs, bits);
        self.settle(self.negative)
    }

    /// Magnitude shifted down, so rounding is toward zero; the sign stays.
    #[must_use]
    pub fn shifted_right(mut self, bits: usize) -> Self {
        limbs::shift_right(&mut self.limbs, bits);
        self.settle(self.negative)
    }

    /// Order of the magnitudes.
    #[must_use]
    pub fn compare_magnitude(&self, other: &Self) -> Ordering {
        limbs::compare(self.limbs(), other.limbs())
    }

    /// Quotient rounded toward zero and the remainder, which has the sign of `self`. A divisor of
    /// zero gives (0, self).
    #[must_use]
    pub fn divide(&self, divisor: &Self) -> (Self, Self) {
        let n = divisor.len;
        if n == 0 || self.compare_magnitude(divisor).is_lt() {
            return (Self::ZERO, *self);
        }
        // One limb on top, so that the normalised dividend starts below the divisor.
        let mut work = [0; CAPACITY + 1];
        work[..self.len].copy_from_slice(self.limbs());
        let mut by = divisor.limbs;
        let shift = by[n - 1].leading_zeros() as usize;
        limbs::shift_left(&mut work[..=self.len], shift);
        limbs::shift_left(&mut by[..n], shift);
        limbs::divide_normalized(&mut work[..=self.len], &by[..n]);
        let quotient = Self::from_limbs(&work[n..=self.len], self.negative != divisor.negative);
        let remainder = Self::from_limbs(&work[..n], self.negative).shifted_right(shift);
        (quotient, remainder)
    }

    /// Quotient rounded toward −∞, and the remainder, which has the sign of the divisor.
    #[must_use]
    pub fn divide_floor(&self, divisor: &Self) -> (Self, Self) {
        let (quotient, remainder) = self.divide(divisor);
        if !remainder.is_zero() && remainder.negative != divisor.negative {
            (quotient - Self::ONE, remainder + *divisor)
        } else {
            (quotient, remainder)
        }
    }

    /// The residue in `[0, modulus)` for a positive modulus.
    #[must_use]
    pub fn modulo(&self, modulus: &Self) -> Self {
        self.divide_floor(modulus).1
    }

    /// The largest integer whose square is not above `self`; 0 for negative numbers.
    #[must_use]
    pub fn square_root(&self) -> Self {
        if self.negative || self.is_zero() {
            return Self::ZERO;
        }
        // Newton's iteration from above falls strictly until it reaches the floor of the root.
        let mut root = Self::ONE.shifted_left(self.bits().div_ceil(2));
        loop {
            let next = (root + self.divide(&root).0).shifted_right(1);
            if next >= root {
                return root;
            }
            root = next;
        }
    }

    /// `(g, u, v)` with `g = gcd(x, y) ≥ 0` and `g = u·x + v·y`.
    #[must_use]
    pub fn extended_gcd(x: &Self, y: &Self) -> (Self, Self, Self) {
        let (mut r0, mut r1) = (*x, *y);
        let (mut u0, mut u1) = (Self::ONE, Self::ZERO);
        let (mut v0, mut v1) = (Self::ZERO, Self::ONE);
        while !r1.is_zero() {
            let (quotient, rest) = r0.divide(&r1);
            (r0, r1) = (r1, rest);
            (u0, u1) = (u1, u0 - quotient * u1);
            (v0, v1) = (v1, v0 - quotient * v1);
        }
        if r0.negative { (-r0, -u0, -v0) } else { (r0, u0, v0) }
    }

    fn add_signed(&self, other: &Self, other_negative: bool) -> Self {
        if self.negative == other_negative {
            let mut sum = *self;
            limbs::add_assign(&mut sum.limbs, other.limbs());
            return sum.settle(self.negative);
        }
        let (mut large, small, negative) = if self.compare_magnitude(other).is_ge() {
            (*self, other, self.negative)
        } else {
            (*other, self, other_negative)
        };
        limbs::subtract_assign(&mut large.limbs, small.limbs());
        large.settle(negative)
    }
}

impl Add for Integer {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.add_signed(&other, other.negative)
    }
}

impl Sub for Integer {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.add_signed(&other, !other.negative)
    }
}

impl Mul for Integer {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let mut product = Self::ZERO;
        let room = (self.len + other.len).min(CAPACITY);
        limbs::multiply(&mut product.limbs[..room], self.limbs(), other.limbs());
        product.settle(self.negative != other.negative)
    }
}

impl Neg for Integer {
    type Output = Self;
    fn neg(mut self) -> Self {
        self.negative = !self.negative && self.len != 0;
        self
    }
}

impl PartialEq for Integer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Integer {}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_magnitude(other),
            (true, true) => other.compare_magnitude(self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

/// Lowercase hex, most significant digit first, with a minus sign below zero.
impl core::fmt::LowerHex for Integer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.negative {
            f.write_str("-")?;
        }
        match self.limbs().split_last() {
            None => f.write_str("0"),
            Some((top, rest)) => {
                write!(f, "{top:x}")?;
                rest.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
            }
        }
    }
}

impl core::fmt::Debug for Integer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:x}")
    }
}
