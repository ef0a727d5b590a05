//! Arithmetic on arrays of a length known when compiling, for the squaring loop: the compiler
//! unrolls it, and nothing is counted or copied that need not be.

use super::limbs::{add_assign, multiply_add, negate, subtract_assign};
use super::montgomery::inverse_mod_word;

/// The lowest `O` limbs of `x·y`.
#[inline(always)]
pub(crate) fn multiply<const N: usize, const M: usize, const O: usize>(
    x: &[u64; N],
    y: &[u64; M],
) -> [u64; O] {
    let mut out = [0; O];
    for i in 0..M {
        let mut carry = 0;
        for j in 0..N {
            if i + j < O {
                (out[i + j], carry) = multiply_add(x[j], y[i], out[i + j], carry);
            }
        }
        if i + N < O {
            out[i + N] = carry;
        }
    }
    out
}

/// `numerator / denominator` modulo 2^(64·N), where the denominator is odd. Exact whenever the true
/// quotient is an integer that fits, in two's complement when it is negative.
#[inline(always)]
pub(crate) fn divide_exact<const N: usize>(
    mut numerator: [u64; N],
    denominator: &[u64; N],
) -> [u64; N] {
    let inverse = inverse_mod_word(denominator[0]);
    let mut quotient = [0; N];
    for i in 0..N {
        let digit = numerator[i].wrapping_mul(inverse);
        quotient[i] = digit;
        let mut carry = 0;
        for j in 0..N {
            if i + j < N {
                let (low, high) = multiply_add(digit, denominator[j], carry, 0);
                let (difference, borrow) = numerator[i + j].overflowing_sub(low);
                numerator[i + j] = difference;
                carry = high + u64::from(borrow);
            }
        }
    }
    quotient
}

/// The `O` limbs that begin at bit `shift` < 64 of `x`, which has at least `O + 1`.
#[inline(always)]
pub(crate) fn shifted_right<const N: usize, const O: usize>(x: &[u64; N], shift: u32) -> [u64; O] {
    let mut out = [0; O];
    for i in 0..O {
        let high = if i + 1 < N { x[i + 1] } else { 0 };
        // Two shifts, as one by 64 is none.
        out[i] = x[i] >> shift | (high << 1) << (63 - shift);
    }
    out
}

/// A number in sign and magnitude.
#[derive(Clone, Copy)]
pub(crate) struct Signed<const N: usize> {
    pub(crate) magnitude: [u64; N],
    pub(crate) negative: bool,
}

impl<const N: usize> Signed<N> {
    /// From two's complement.
    #[inline(always)]
    pub(crate) fn from_twos_complement(mut x: [u64; N]) -> Self {
        let negative = x[N - 1] >> 63 == 1;
        if negative {
            negate(&mut x);
        }
        Self { magnitude: x, negative }
    }

    /// `self + other`; the sum must leave the highest bit free.
    #[inline(always)]
    pub(crate) fn add(&self, other: &Self) -> Self {
        let mut sum = self.magnitude;
        if self.negative == other.negative {
            add_assign(&mut sum, &other.magnitude);
            return Self { magnitude: sum, negative: self.negative };
        }
        let below = subtract_assign(&mut sum, &other.magnitude);
        if below {
            negate(&mut sum);
        }
        Self { magnitude: sum, negative: self.negative != below }
    }
}

/// The array with zeros above; limbs that do not fit must be zero.
#[inline(always)]
pub(crate) fn resized<const N: usize, const O: usize>(x: &[u64; N]) -> [u64; O] {
    let mut out = [0; O];
    let shared = N.min(O);
    out[..shared].copy_from_slice(&x[..shared]);
    out
}

/// True when every limb from `from` on is zero.
#[inline(always)]
pub(crate) fn fits(x: &[u64], from: usize) -> bool {
    x.iter().skip(from).all(|limb| *limb == 0)
}
