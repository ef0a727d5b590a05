//! The partial extended gcd of the encoding. Its overshoot, the steps it takes beyond the first
//! remainder below the limit because its stop test looks at truncated words, is part of the byte
//! format: about one form in 1430 depends on it. So this is written as the specification has it
//! and shares no code with the gcd that squares forms ([`super::euclid`]), which is free to be fast.

use super::integer::Integer;

/// What [`partial_gcd`] ends with: two consecutive remainders and their cofactors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Cofactor of `r2`.
    pub c2: Integer,
    /// Cofactor of `r1`.
    pub c1: Integer,
    /// The last remainder but one.
    pub r2: Integer,
    /// The last remainder.
    pub r1: Integer,
}

/// Runs Euclid's algorithm on `r2`, `r1` until a remainder is at most `limit` or, now and then, a
/// step or more further. All three are not negative; `r1` may exceed `r2`. spec: vdf §5.3
#[must_use]
pub fn partial_gcd(r2: &Integer, r1: &Integer, limit: &Integer) -> Partial {
    let mut at = Partial { c2: Integer::ZERO, c1: Integer::from_i64(-1), r2: *r2, r1: *r1 };
    while !at.r1.is_zero() && at.r1 > *limit {
        let shift = at.r2.bits().max(at.r1.bits()).saturating_sub(63);
        #[allow(clippy::cast_possible_wrap)] // 63 bits
        let word = |number: &Integer| number.shifted_right(shift).low() as i64;
        match batch(word(&at.r2), word(&at.r1), word(limit)) {
            None => {
                let (quotient, rest) = at.r2.divide(&at.r1);
                (at.r2, at.r1) = (at.r1, rest);
                (at.c2, at.c1) = (at.c1, at.c2 - quotient * at.c1);
            }
            Some([u2, u1, v2, v1]) => {
                let [u2, u1, v2, v1] = [u2, u1, v2, v1].map(Integer::from_i64);
                (at.r2, at.r1) = (v2 * at.r2 + u2 * at.r1, v1 * at.r2 + u1 * at.r1);
                (at.c2, at.c1) = (v2 * at.c2 + u2 * at.c1, v1 * at.c2 + u1 * at.c1);
                if at.r1.is_negative() {
                    (at.r1, at.c1) = (-at.r1, -at.c1);
                }
                if at.r2.is_negative() {
                    (at.r2, at.c2) = (-at.r2, -at.c2);
                }
            }
        }
    }
    at
}

/// Steps on the leading 63 bits: the cofactors u2, u1, v2, v1, or none when not even the first step
/// is sure. spec: vdf §5.3
fn batch(mut x: i64, mut y: i64, limit: i64) -> Option<[i64; 4]> {
    let (mut u2, mut u1, mut v2, mut v1) = (0_i64, 1_i64, 1_i64, 0_i64);
    let mut steps = 0_u32;
    while y != 0 && y > limit {
        let q = x / y;
        let z = x - q * y;
        // A cofactor that wraps fails the test below: accepted ones stay below the remainder.
        let u = u2.wrapping_sub(q.wrapping_mul(u1));
        let v = v2.wrapping_sub(q.wrapping_mul(v1));
        let (own, other, other_before) = if steps % 2 == 1 { (v, u, u1) } else { (u, v, v1) };
        if z < own.wrapping_neg() || y - z < other.wrapping_sub(other_before) {
            break;
        }
        (x, y) = (y, z);
        (u2, u1) = (u1, u);
        (v2, v1) = (v1, v);
        steps += 1;
    }
    (steps > 0).then_some([u2, u1, v2, v1])
}
