//! Multi-limb arithmetic on slices: 64-bit limbs, least significant first, any lengths. The
//! portable floor under everything else in [`crate::vdf`]; nothing here allocates, panics on its
//! values, or knows what a form is.

use core::cmp::Ordering;

/// Limbs up to and including the highest one that is not zero.
pub(crate) fn significant(x: &[u64]) -> usize {
    x.iter().rposition(|limb| *limb != 0).map_or(0, |at| at + 1)
}

/// Bits up to and including the highest one that is set.
pub(crate) fn bit_length(x: &[u64]) -> usize {
    let n = significant(x);
    n.checked_sub(1)
        .and_then(|top| x.get(top))
        .map_or(0, |limb| 64 * n - limb.leading_zeros() as usize)
}

/// Order of two numbers whose slices may differ in length.
pub(crate) fn compare(x: &[u64], y: &[u64]) -> Ordering {
    let (n, m) = (significant(x), significant(y));
    n.cmp(&m).then_with(|| x[..n].iter().rev().cmp(y[..m].iter().rev()))
}

/// Low and high limb of `x·y + add + carry`, which always fits.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // the two halves
pub(crate) const fn multiply_add(x: u64, y: u64, add: u64, carry: u64) -> (u64, u64) {
    let wide = x as u128 * y as u128 + add as u128 + carry as u128;
    (wide as u64, (wide >> 64) as u64)
}

/// `x + y + carry` and the carry out.
#[inline(always)]
pub(crate) const fn add_carry(x: u64, y: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = x.overflowing_add(y);
    let (sum, second) = sum.overflowing_add(carry as u64);
    (sum, first | second)
}

/// `x − y − borrow` and the borrow out.
#[inline(always)]
pub(crate) const fn subtract_borrow(x: u64, y: u64, borrow: bool) -> (u64, bool) {
    let (difference, first) = x.overflowing_sub(y);
    let (difference, second) = difference.overflowing_sub(borrow as u64);
    (difference, first | second)
}

/// `x += y`, modulo the width of `x`; true when a carry left it. Limbs of `y` beyond `x` are not
/// looked at.
#[inline]
pub(crate) fn add_assign(x: &mut [u64], y: &[u64]) -> bool {
    let mut carry = false;
    let shared = x.len().min(y.len());
    let (low, high) = x.split_at_mut(shared);
    for (x, y) in low.iter_mut().zip(y) {
        (*x, carry) = add_carry(*x, *y, carry);
    }
    for x in high {
        if !carry {
            break;
        }
        (*x, carry) = x.overflowing_add(1);
    }
    carry
}

/// `x −= y`, modulo the width of `x`; true when a borrow left it. Limbs of `y` beyond `x` are not
/// looked at.
#[inline]
pub(crate) fn subtract_assign(x: &mut [u64], y: &[u64]) -> bool {
    let mut borrow = false;
    let shared = x.len().min(y.len());
    let (low, high) = x.split_at_mut(shared);
    for (x, y) in low.iter_mut().zip(y) {
        (*x, borrow) = subtract_borrow(*x, *y, borrow);
    }
    for x in high {
        if !borrow {
            break;
        }
        (*x, borrow) = x.overflowing_sub(1);
    }
    borrow
}

/// `x := −x` modulo the width of `x`.
#[inline]
pub(crate) fn negate(x: &mut [u64]) {
    let mut carry = true;
    for limb in x {
        (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
    }
}

/// `out += x·y`, modulo the width of `out`; the limb that leaves it.
#[inline]
pub(crate) fn add_multiple(out: &mut [u64], x: &[u64], y: u64) -> u64 {
    let mut carry = 0;
    let shared = out.len().min(x.len());
    let (low, high) = out.split_at_mut(shared);
    for (out, x) in low.iter_mut().zip(x) {
        (*out, carry) = multiply_add(*x, y, *out, carry);
    }
    for out in high {
        if carry == 0 {
            break;
        }
        let (sum, more) = out.overflowing_add(carry);
        (*out, carry) = (sum, u64::from(more));
    }
    carry
}

/// `out −= x·y` over the length of `x`; the limb borrowed beyond it.
#[inline]
pub(crate) fn subtract_multiple(out: &mut [u64], x: &[u64], y: u64) -> u64 {
    let mut carry = 0;
    for (out, x) in out.iter_mut().zip(x) {
        let (low, high) = multiply_add(*x, y, carry, 0);
        let (difference, borrow) = out.overflowing_sub(low);
        *out = difference;
        carry = high + u64::from(borrow);
    }
    carry
}

/// `out := x·y` modulo the width of `out`.
#[inline]
pub(crate) fn multiply(out: &mut [u64], x: &[u64], y: &[u64]) {
    out.fill(0);
    for (at, limb) in y.iter().enumerate() {
        let Some(room) = out.get_mut(at..).filter(|room| !room.is_empty()) else { return };
        add_multiple(room, x, *limb);
    }
}

/// `x <<= bits` modulo the width of `x`.
pub(crate) fn shift_left(x: &mut [u64], bits: usize) {
    let (limbs, bits) = (bits / 64, bits % 64);
    if limbs >= x.len() {
        return x.fill(0);
    }
    for at in (0..x.len()).rev() {
        let limb = |at: Option<usize>| at.and_then(|at| x.get(at)).copied().unwrap_or(0);
        let (high, low) = (limb(at.checked_sub(limbs)), limb(at.checked_sub(limbs + 1)));
        x[at] = if bits == 0 { high } else { high << bits | low >> (64 - bits) };
    }
}

/// `x >>= bits`.
pub(crate) fn shift_right(x: &mut [u64], bits: usize) {
    let (limbs, bits) = (bits / 64, bits % 64);
    for at in 0..x.len() {
        let limb = |at: usize| x.get(at).copied().unwrap_or(0);
        let (low, high) = (limb(at + limbs), limb(at + limbs + 1));
        x[at] = if bits == 0 { low } else { low >> bits | high << (64 - bits) };
    }
}

/// Quotient and remainder of `high·2^64 + low` by `divisor`, where `high < divisor`.
#[inline]
#[allow(clippy::cast_possible_truncation)] // both fit one limb then
const fn divide_two_by_one(high: u64, low: u64, divisor: u64) -> (u64, u64) {
    let wide = (high as u128) << 64 | low as u128;
    let quotient = wide / divisor as u128;
    (quotient as u64, (wide - quotient * divisor as u128) as u64)
}

/// `x mod divisor`, one limb.
pub(crate) fn remainder_by_limb(x: &[u64], divisor: u64) -> u64 {
    x.iter().rev().fold(0, |high, low| divide_two_by_one(high, *low, divisor).1)
}

/// Divides in place: on return the low `y.len()` limbs of `x` hold the remainder and the limbs
/// above hold the quotient, whose length is therefore `x.len() − y.len()`.
///
/// The caller normalises: the highest bit of `y` is set, `y` has at least one limb, `x` is longer
/// than `y`, and the top `y.len()` limbs of `x` are less than `y`. (Knuth, algorithm D.)
pub(crate) fn divide_normalized(x: &mut [u64], y: &[u64]) {
    let n = y.len();
    let Some((&top, rest)) = y.split_last() else { return };
    let below = rest.last().copied().unwrap_or(0);
    for at in (0..x.len().saturating_sub(n)).rev() {
        let Some(window) = x.get_mut(at..=at + n) else { return };
        let (high, low) = (window[n], window[n - 1]);
        let mut quotient = if high >= top {
            u64::MAX
        } else {
            let (mut quotient, mut rest) = divide_two_by_one(high, low, top);
            let next = if n >= 2 { window[n - 2] } else { 0 };
            // At most two corrections by the second limb make the estimate exact or one too large.
            while u128::from(quotient) * u128::from(below)
                > (u128::from(rest) << 64 | u128::from(next))
            {
                quotient -= 1;
                let (sum, overflow) = rest.overflowing_add(top);
                if overflow {
                    break;
                }
                rest = sum;
            }
            quotient
        };
        let borrowed = subtract_multiple(&mut window[..n], y, quotient);
        let (mut rest, mut under) = window[n].overflowing_sub(borrowed);
        while under {
            quotient -= 1;
            let carry = add_assign(&mut window[..n], y);
            let (sum, back) = rest.overflowing_add(u64::from(carry));
            rest = sum;
            under = !back;
        }
        window[n] = quotient;
    }
}

/// `x += x`.
#[inline]
pub(crate) fn double(x: &mut [u64]) {
    let mut carry = 0;
    for limb in x {
        let next = *limb >> 63;
        *limb = *limb << 1 | carry;
        carry = next;
    }
}

/// A divisor of eight limbs, the highest not zero, prepared for taking remainders.
pub(crate) struct Divisor {
    normalized: [u64; 8],
    shift: u32,
    /// ⌊(2^192 − 1)/top two limbs⌋ − 2^64 of the normalised divisor. (Möller and Granlund.)
    inverse: u64,
}

impl Divisor {
    /// None when the highest limb is zero.
    #[inline]
    pub(crate) fn new(divisor: &[u64; 8]) -> Option<Self> {
        let shift = divisor[7].leading_zeros();
        if shift == 64 {
            return None;
        }
        let mut normalized = [0; 8];
        for i in 0..8 {
            let low = if i > 0 { divisor[i - 1] } else { 0 };
            normalized[i] = divisor[i] << shift | (low >> 1) >> (63 - shift);
        }
        Some(Self { normalized, shift, inverse: inverse_of_two(normalized[7], normalized[6]) })
    }

    /// `x` modulo the divisor.
    #[inline]
    pub(crate) fn remainder(&self, x: &[u64; 18]) -> [u64; 8] {
        let shift = self.shift;
        let mut rest = [0; 19];
        for i in 0..19 {
            let low = if i > 0 { x[i - 1] } else { 0 };
            let high = if i < 18 { x[i] } else { 0 };
            rest[i] = high << shift | (low >> 1) >> (63 - shift);
        }
        let top = significant(&rest).max(8);
        // The top eight limbs may not be below the divisor yet: begin one limb above them.
        for at in (0..=top.min(18) - 8).rev() {
            let Some(window) = rest.get_mut(at..=at + 8) else { break };
            self.reduce(window);
        }
        let mut out = [0; 8];
        for i in 0..8 {
            let high = if i < 7 { rest[i + 1] } else { 0 };
            out[i] = rest[i] >> shift | (high << 1) << (63 - shift);
        }
        out
    }

    /// Takes the right multiple of the divisor off nine limbs whose top eight are below it.
    #[inline]
    fn reduce(&self, window: &mut [u64]) {
        let [_, _, _, _, _, _, n0, n1, n2] = window else { return };
        let (d1, d0) = (self.normalized[7], self.normalized[6]);
        let quotient = if *n2 == d1 && *n1 == d0 {
            u64::MAX
        } else {
            three_by_two(*n2, *n1, *n0, d1, d0, self.inverse)
        };
        if quotient == 0 {
            return;
        }
        let (low, high) = window.split_at_mut(8);
        let borrowed = subtract_multiple(low, &self.normalized, quotient);
        let (mut rest, mut under) = high[0].overflowing_sub(borrowed);
        while under {
            let carry = add_assign(low, &self.normalized);
            let (sum, back) = rest.overflowing_add(u64::from(carry));
            (rest, under) = (sum, !back);
        }
        high[0] = rest;
    }
}

/// ⌊(2^192 − 1)/(d1·2^64 + d0)⌋ − 2^64 for d1 with its highest bit set.
#[inline]
#[allow(clippy::cast_possible_truncation)] // low halves
fn inverse_of_two(d1: u64, d0: u64) -> u64 {
    let mut inverse = (u128::MAX / u128::from(d1)) as u64;
    let mut p = d1.wrapping_mul(inverse).wrapping_add(d0);
    if p < d0 {
        inverse = inverse.wrapping_sub(1);
        if p >= d1 {
            inverse = inverse.wrapping_sub(1);
            p = p.wrapping_sub(d1);
        }
        p = p.wrapping_sub(d1);
    }
    let product = u128::from(d0) * u128::from(inverse);
    let (high, low) = ((product >> 64) as u64, product as u64);
    let (sum, carry) = p.overflowing_add(high);
    if carry {
        inverse = inverse.wrapping_sub(1);
        if sum > d1 || (sum == d1 && low >= d0) {
            inverse = inverse.wrapping_sub(1);
        }
    }
    inverse
}

/// The quotient of three limbs by two, where the upper two are below the divisor.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // halves
fn three_by_two(n2: u64, n1: u64, n0: u64, d1: u64, d0: u64, inverse: u64) -> u64 {
    let d = u128::from(d1) << 64 | u128::from(d0);
    let q = u128::from(n2) * u128::from(inverse) + (u128::from(n2) << 64 | u128::from(n1));
    let (mut q1, q0) = ((q >> 64) as u64, q as u64);
    let r1 = n1.wrapping_sub(q1.wrapping_mul(d1));
    let mut r = (u128::from(r1) << 64 | u128::from(n0))
        .wrapping_sub(u128::from(d0) * u128::from(q1))
        .wrapping_sub(d);
    q1 = q1.wrapping_add(1);
    if (r >> 64) as u64 >= q0 {
        q1 = q1.wrapping_sub(1);
        r = r.wrapping_add(d);
    }
    if r >= d { q1.wrapping_add(1) } else { q1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn quotient_times_divisor_plus_remainder_is_the_dividend(
            quotient in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 1..9),
            mut divisor in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 1..9),
            remainder in prop::collection::vec(any::<u64>(), 8),
        ) {
            let n = divisor.len();
            divisor[n - 1] |= 1 << 63;
            let mut remainder: Vec<u64> = remainder[..n].to_vec();
            if compare(&remainder, &divisor).is_ge() {
                subtract_assign(&mut remainder, &divisor);
            }
            let mut x = std::vec![0; quotient.len() + n];
            multiply(&mut x, &quotient, &divisor);
            prop_assert!(!add_assign(&mut x, &remainder));
            divide_normalized(&mut x, &divisor);
            prop_assert_eq!(&x[..n], &remainder[..]);
            prop_assert_eq!(&x[n..], &quotient[..]);
        }

        #[test]
        fn a_prepared_divisor_gives_the_same_remainder(
            x in prop::array::uniform18(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)]),
            mut divisor in prop::array::uniform8(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)]),
            shift in 0..64_u32,
        ) {
            divisor[7] = (divisor[7] >> shift).max(1);
            let ours = Divisor::new(&divisor).map(|d| d.remainder(&x));
            let number = |x: &[u64]| crate::vdf::Integer::from_limbs(x, false);
            let plain = number(&x).divide(&number(&divisor)).1;
            prop_assert_eq!(ours.map(|r| number(&r)), Some(plain));
        }

        #[test]
        fn shifts_are_inverse(x in prop::collection::vec(any::<u64>(), 5), by in 0_usize..200) {
            let mut wide = x.clone();
            wide.resize(10, 0);
            shift_left(&mut wide, by);
            shift_right(&mut wide, by);
            prop_assert_eq!(&wide[..5], &x[..]);
        }
    }
}
