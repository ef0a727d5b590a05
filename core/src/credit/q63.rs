//! Numbers in `[0, 1]` as integers of 2^-63, and the mass of an interval in them.

use super::BadBounds;
use core::fmt;

/// A number from 0 to 1 in units of 2^-63. spec: admission §6.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Q63(u64);

impl Q63 {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// One.
    pub const ONE: Self = Self(1 << 63);

    /// Takes a count of 2^-63; above one it is one.
    #[must_use]
    pub const fn saturating(count: u64) -> Self {
        if count > Self::ONE.0 { Self::ONE } else { Self(count) }
    }

    /// The count of 2^-63.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Q63 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/2^63", self.0)
    }
}

/// `⌈f64(0.0001) · 2^63⌉`, by which an interval is widened on either side.
/// spec: admission §1, §6.2
pub const ATOL: u64 = 922_337_203_685_478;

/// Which shift is meant for bounds between 0 and 2^-74; nothing else differs.
/// spec: admission §6.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The definition.
    Exact,
    /// The node's: a shift of 64 or more is taken mod 64, and the difference of two edges wraps.
    Node,
}

/// A positive f64 below 1 as `mantissa · 2^-shift` in units of 2^-63, the mantissa below 2^53.
/// spec: admission §6.1
fn parts(x: f64) -> (u64, i32) {
    const FRACTION_BITS: u32 = 52;
    let bits = x.to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let biased = (bits >> FRACTION_BITS & 0x7FF) as i32;
    // x = mantissa · 2^(biased − 1075), and a unit is 2^-63.
    if biased > 0 {
        return (fraction | 1 << FRACTION_BITS, 1012 - biased);
    }
    // Subnormal: the leading bit moves to where a normal number has it.
    let up = fraction.leading_zeros() - (63 - FRACTION_BITS);
    (fraction << up, 1011 + up as i32)
}

/// The largest [`Q63`] not above `x`, clamped to `[0, 1]`; NaN counts as 0.
/// spec: admission §6.1
#[must_use]
pub fn q63_floor(x: f64, arithmetic: Arithmetic) -> Q63 {
    convert(x, arithmetic, |_| 0)
}

/// The smallest [`Q63`] not below `x`, clamped to `[0, 1]`; NaN counts as 0.
/// spec: admission §6.1
#[must_use]
pub fn q63_ceil(x: f64, arithmetic: Arithmetic) -> Q63 {
    convert(x, arithmetic, |shift| (1_u64 << shift) - 1)
}

/// `(mantissa + carry(shift)) >> shift`. The sum stays far below 2^64: the mantissa has 53 bits, the
/// carry at most 63.
fn convert(x: f64, arithmetic: Arithmetic, carry: fn(u32) -> u64) -> Q63 {
    if x.is_nan() || x <= 0.0 {
        return Q63::ZERO;
    }
    if x >= 1.0 {
        return Q63::ONE;
    }
    let (mantissa, shift) = parts(x);
    let Ok(shift) = u32::try_from(shift) else { return Q63(mantissa << shift.unsigned_abs()) };
    match (shift, arithmetic) {
        // Everything is shifted out: what the rounding adds is all that remains.
        (64.., Arithmetic::Exact) => Q63(u64::from(carry(1) > 0)),
        (_, _) => {
            let shift = shift & 63;
            Q63((mantissa + carry(shift)) >> shift)
        }
    }
}

/// The mass of an interval, rounded outwards and widened. spec: admission §6.2
///
/// # Errors
/// [`BadBounds`] when a bound is not finite or they are in the wrong order.
pub fn mass(lower: f64, upper: f64, arithmetic: Arithmetic) -> Result<Q63, BadBounds> {
    mass_widened(lower, upper, ATOL, arithmetic)
}

/// [`mass`] with another widening on either side, in units of 2^-63.
///
/// # Errors
/// As for [`mass`].
pub fn mass_widened(
    lower: f64,
    upper: f64,
    atol: u64,
    arithmetic: Arithmetic,
) -> Result<Q63, BadBounds> {
    if !(lower.is_finite() && upper.is_finite()) || upper < lower {
        return Err(BadBounds { lower, upper });
    }
    let (from, to) = (q63_floor(lower, arithmetic).0, q63_ceil(upper, arithmetic).0);
    let width = match arithmetic {
        Arithmetic::Exact => to.saturating_sub(from),
        Arithmetic::Node => to.wrapping_sub(from),
    };
    Ok(Q63::saturating(width.saturating_add(atol.saturating_mul(2))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_node_keeps_bits_that_a_shift_of_64_should_lose() {
        let tiny = f64::from_bits(0x3b40_0000_0000_0000); // 2^-75
        assert_eq!(q63_floor(tiny, Arithmetic::Exact), Q63(0));
        assert_eq!(q63_ceil(tiny, Arithmetic::Exact), Q63(1));
        assert_eq!(q63_floor(tiny, Arithmetic::Node), Q63(1 << 52));
        assert_eq!(q63_ceil(tiny, Arithmetic::Node), Q63(1 << 52));
    }

    #[test]
    fn the_mass_of_nothing_is_the_widening_and_the_mass_of_all_is_one() {
        assert_eq!(mass(0.5, 0.5, Arithmetic::Exact), Ok(Q63(2 * ATOL)));
        assert_eq!(mass(-1.0, 7.0, Arithmetic::Exact), Ok(Q63::ONE));
        assert!(mass(0.5, f64::NAN, Arithmetic::Exact).is_err());
        assert!(mass(0.5, 0.25, Arithmetic::Node).is_err());
    }

    proptest! {
        #[test]
        fn floor_and_ceil_enclose_the_value_and_agree_with_the_node_above_2_to_minus_74(
            x in 5.3e-23_f64..1.0,
        ) {
            let (floor, ceil) = (q63_floor(x, Arithmetic::Exact), q63_ceil(x, Arithmetic::Exact));
            // A power of two scales exactly.
            let scaled = x * 9_223_372_036_854_775_808.0;
            prop_assert_eq!(floor.get(), scaled as u64);
            let is_whole = scaled as u64 as f64 == scaled;
            prop_assert_eq!(ceil.get() - floor.get(), u64::from(!is_whole));
            prop_assert_eq!(q63_floor(x, Arithmetic::Node), floor);
            prop_assert_eq!(q63_ceil(x, Arithmetic::Node), ceil);
        }
    }
}
