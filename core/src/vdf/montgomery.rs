//! Arithmetic modulo an odd number of `N` limbs in Montgomery form, for the primality tests.
//! Variable time: every number here is public.

use super::limbs::subtract_assign;
use super::limbs::{add_assign, add_carry, compare, multiply_add, negate, shift_left};

/// An odd modulus with what Montgomery reduction needs to know about it. The top limb may be zero.
pub(crate) struct Montgomery<const N: usize> {
    modulus: [u64; N],
    /// −modulus⁻¹ mod 2^64.
    inverse: u64,
    /// 2^(64·N) mod modulus: the number one.
    one: [u64; N],
}

/// The inverse of an odd number modulo 2^64.
#[inline]
pub(crate) const fn inverse_mod_word(odd: u64) -> u64 {
    // Five correct bits to start from; every step doubles them.
    let mut inverse = odd.wrapping_mul(3) ^ 2;
    let mut step = 0;
    while step < 4 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

impl<const N: usize> Montgomery<N> {
    /// Prepares a modulus, which must be odd and above one.
    pub(crate) fn new(modulus: &[u64; N]) -> Self {
        let mut this = Self {
            modulus: *modulus,
            inverse: inverse_mod_word(modulus[0]).wrapping_neg(),
            one: [0; N],
        };
        // 2^bits − modulus is below the modulus for its exact bit length; doubling takes it to R.
        let bits = super::limbs::bit_length(modulus);
        let mut one = *modulus;
        negate(&mut one);
        if bits < 64 * N {
            let mut power = [0; N];
            power[0] = 1;
            shift_left(&mut power, bits);
            subtract_assign(&mut power, modulus);
            one = power;
        }
        for _ in bits..64 * N {
            one = this.double(&one);
        }
        this.one = one;
        this
    }

    /// The number one.
    pub(crate) fn one(&self) -> [u64; N] {
        self.one
    }

    /// `x + y`.
    #[inline]
    pub(crate) fn add(&self, x: &[u64; N], y: &[u64; N]) -> [u64; N] {
        let mut sum = *x;
        let carry = add_assign(&mut sum, y);
        self.reduced(sum, carry)
    }

    /// `2·x`.
    #[inline]
    pub(crate) fn double(&self, x: &[u64; N]) -> [u64; N] {
        self.add(x, x)
    }

    /// `x − y`.
    #[inline]
    pub(crate) fn subtract(&self, x: &[u64; N], y: &[u64; N]) -> [u64; N] {
        let mut difference = *x;
        if subtract_assign(&mut difference, y) {
            add_assign(&mut difference, &self.modulus);
        }
        difference
    }

    /// `−x`.
    pub(crate) fn negated(&self, x: &[u64; N]) -> [u64; N] {
        self.subtract(&[0; N], x)
    }

    /// `x/2`.
    pub(crate) fn halve(&self, x: &[u64; N]) -> [u64; N] {
        let mut half = *x;
        let carry = half[0] & 1 == 1 && add_assign(&mut half, &self.modulus);
        super::limbs::shift_right(&mut half, 1);
        half[N - 1] |= u64::from(carry) << 63;
        half
    }

    /// A small number, by doubling and adding.
    pub(crate) fn small(&self, value: u64) -> [u64; N] {
        let mut out = [0; N];
        for bit in (0..64 - value.leading_zeros()).rev() {
            out = self.double(&out);
            if value >> bit & 1 == 1 {
                out = self.add(&out, &self.one);
            }
        }
        out
    }

    /// Takes the modulus off once when a value below twice the modulus needs it.
    #[inline]
    fn reduced(&self, mut x: [u64; N], carry: bool) -> [u64; N] {
        if carry || compare_fixed(&x, &self.modulus) {
            subtract_assign(&mut x, &self.modulus);
        }
        x
    }

    /// `x·y`, rows of products and rows of reduction in turn.
    #[inline]
    pub(crate) fn multiply(&self, x: &[u64; N], y: &[u64; N]) -> [u64; N] {
        let mut sum = [0; N];
        let mut top = false;
        for limb in y {
            let mut carry = 0;
            for (sum, x) in sum.iter_mut().zip(x) {
                (*sum, carry) = multiply_add(*x, *limb, *sum, carry);
            }
            let factor = sum[0].wrapping_mul(self.inverse);
            let (_, mut fold) = multiply_add(factor, self.modulus[0], sum[0], 0);
            for at in 1..N {
                (sum[at - 1], fold) = multiply_add(factor, self.modulus[at], sum[at], fold);
            }
            (sum[N - 1], top) = add_carry(carry, fold, top);
        }
        self.reduced(sum, top)
    }

    /// `x²`: the products of different limbs only once, then all rows of reduction.
    #[inline]
    pub(crate) fn square(&self, x: &[u64; N]) -> [u64; N] {
        // Low and high half of the square; 2·N is no array length the language lets us write.
        let mut square = [[0; N]; 2];
        let square = square.as_flattened_mut();
        for i in 0..N {
            let mut carry = 0;
            for (sum, other) in square[2 * i + 1..i + N].iter_mut().zip(&x[i + 1..]) {
                (*sum, carry) = multiply_add(x[i], *other, *sum, carry);
            }
            square[i + N] = carry;
        }
        let (mut shifted_out, mut carry) = (0, false);
        for i in 0..N {
            let (low, high) = multiply_add(x[i], x[i], 0, 0);
            let (even, odd) = (square[2 * i], square[2 * i + 1]);
            (square[2 * i], carry) = add_carry(even << 1 | shifted_out, low, carry);
            (square[2 * i + 1], carry) = add_carry(odd << 1 | even >> 63, high, carry);
            shifted_out = odd >> 63;
        }
        let mut top = false;
        for i in 0..N {
            let factor = square[i].wrapping_mul(self.inverse);
            let mut fold = 0;
            for (sum, limb) in square[i..i + N].iter_mut().zip(&self.modulus) {
                (*sum, fold) = multiply_add(factor, *limb, *sum, fold);
            }
            (square[i + N], top) = add_carry(square[i + N], fold, top);
        }
        let mut out = [0; N];
        out.copy_from_slice(&square[N..]);
        self.reduced(out, top)
    }
}

/// `x ≥ y` for equal lengths, from the top.
#[inline]
fn compare_fixed<const N: usize>(x: &[u64; N], y: &[u64; N]) -> bool {
    compare(x, y).is_ge()
}
