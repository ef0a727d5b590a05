//! The extended gcd behind compositions, made fast (Lehmer, two levels): quotients come from the
//! leading 64 bits, two such runs are joined into cofactors of 63 bits, and only those touch the
//! long numbers.
//!
//! Quotients are not held to be the exact ones of Euclid's algorithm. Any sequence of unimodular
//! steps that makes the numbers small serves: a remainder that comes out negative because its
//! leading bits lied is negated together with its cofactor. That saves the tests of the exact
//! algorithm; the one place whose result depends on the exact steps is [`super::partial`].

use super::integer::Integer;
use super::limbs;

/// Limbs of a coefficient of a reduced form.
pub(crate) const COEFFICIENT: usize = 8;
/// Room for a cofactor: it stays below twice the modulus, and one limb for what a step adds.
const COFACTOR: usize = COEFFICIENT + 2;
/// A run on leading words ends before its smaller number falls below this, so that cofactors stay
/// below 2^31 and the product of two runs below 2^63.
const WORD_FLOOR: u64 = 1 << 33;
/// Bits that the leading 128 of a long number must keep after the first run for a second one: what
/// the first run lost to truncation is below 2^34 of them.
const SECOND_RUN_BITS: u32 = 96;

/// Two remainders of (modulus, number) and their cofactors: `remainder ≡ cofactor·number` modulo
/// the modulus, for both rows.
pub(crate) struct Euclid {
    /// The larger remainder, as a rule.
    pub(crate) r0: [u64; COEFFICIENT],
    /// The smaller remainder.
    pub(crate) r1: [u64; COEFFICIENT],
    /// Limbs in use in either remainder.
    pub(crate) length: usize,
    /// Magnitude of the cofactor of `r0`.
    pub(crate) s0: [u64; COFACTOR],
    /// Magnitude of the cofactor of `r1`.
    pub(crate) s1: [u64; COFACTOR],
    /// Limbs in use in either cofactor.
    pub(crate) cofactor_length: usize,
    /// Signs of the cofactors.
    pub(crate) negative0: bool,
    /// Sign of the cofactor of `r1`.
    pub(crate) negative1: bool,
    /// The determinant of all steps so far is −1.
    pub(crate) flipped: bool,
}

/// Cofactors of a run: the new pair is `[u, v; w, z]` times the old one.
#[derive(Clone, Copy)]
struct Matrix {
    u: i64,
    v: i64,
    w: i64,
    z: i64,
    /// The determinant is −1 and not 1.
    flips: bool,
}

impl Euclid {
    /// Starts with the rows (modulus, 0) and (number, 1).
    pub(crate) fn new(modulus: &[u64], number: &[u64]) -> Self {
        let mut this = Self {
            r0: [0; COEFFICIENT],
            r1: [0; COEFFICIENT],
            length: limbs::significant(modulus).max(limbs::significant(number)),
            s0: [0; COFACTOR],
            s1: [0; COFACTOR],
            cofactor_length: 1,
            negative0: false,
            negative1: false,
            flipped: false,
        };
        for (to, from) in this.r0.iter_mut().zip(modulus) {
            *to = *from;
        }
        for (to, from) in this.r1.iter_mut().zip(number) {
            *to = *from;
        }
        this.s1[0] = 1;
        this
    }

    /// The greatest common divisor and the number's cofactor for it.
    pub(crate) fn gcd(mut self) -> (Integer, Integer) {
        self.run(&[2]);
        if limbs::compare(&self.r1, &[1]).is_eq() {
            (Integer::ONE, Integer::from_limbs(&self.s1, self.negative1))
        } else {
            (Integer::from_limbs(&self.r0, false), Integer::from_limbs(&self.s0, self.negative0))
        }
    }

    /// Steps until the smaller remainder is below `floor`, which is at least two.
    pub(crate) fn run(&mut self, floor: &[u64]) {
        let floor_length = limbs::significant(floor);
        loop {
            self.shrink();
            self.order();
            let below = match self.smaller_length().cmp(&floor_length) {
                core::cmp::Ordering::Less => true,
                core::cmp::Ordering::Equal => limbs::compare(&self.r1, floor).is_lt(),
                core::cmp::Ordering::Greater => false,
            };
            if below {
                return;
            }
            match self.leading_steps(floor) {
                Some(matrix) => self.apply(&matrix),
                None => self.divide(),
            }
        }
    }

    fn smaller_length(&self) -> usize {
        limbs::significant(&self.r1[..self.length])
    }

    fn shrink(&mut self) {
        while let Some(top) = self.length.checked_sub(1) {
            if self.r0[top] | self.r1[top] != 0 {
                break;
            }
            self.length = top;
        }
    }

    /// Puts the larger remainder first. Truncation may have turned the last step's pair around, and
    /// a pair in the wrong order would only be swapped to and fro.
    #[inline]
    fn order(&mut self) {
        let n = self.length;
        if self.r0[..n].iter().rev().lt(self.r1[..n].iter().rev()) {
            core::mem::swap(&mut self.r0, &mut self.r1);
            core::mem::swap(&mut self.s0, &mut self.s1);
            core::mem::swap(&mut self.negative0, &mut self.negative1);
            self.flipped = !self.flipped;
        }
    }

    /// The steps that the leading 128 bits allow; none when they are not even sure of one.
    #[inline]
    fn leading_steps(&self, floor: &[u64]) -> Option<Matrix> {
        let n = self.length;
        if n <= 2 {
            let pair = |x: &[u64]| u128::from(x[1]) << 64 | u128::from(x[0]);
            let floor = u128::from(floor.get(1).copied().unwrap_or(0)) << 64
                | u128::from(floor.first().copied().unwrap_or(0));
            return steps(pair(&self.r0), pair(&self.r1), floor, true);
        }
        let zeros = (self.r0[n - 1] | self.r1[n - 1]).leading_zeros();
        let window = |x: &[u64]| {
            let limb = |at: usize| x.get(at).copied().unwrap_or(0);
            let high = u128::from(limb(n - 1)) << 64 | u128::from(limb(n - 2));
            high << zeros | u128::from(limb(n - 3)) >> (64 - zeros)
        };
        steps(window(&self.r0), window(&self.r1), window(floor), false)
    }

    fn apply(&mut self, m: &Matrix) {
        let n = self.length;
        let (r0, below0) = remainder_row(&self.r0, m.u, &self.r1, m.v, n);
        let (r1, below1) = remainder_row(&self.r0, m.w, &self.r1, m.z, n);
        (self.r0, self.r1) = (r0, r1);
        let signs = (self.negative0, self.negative1);
        let l = self.cofactor_length;
        let (s0, negative0) = cofactor_row(&self.s0, m.u, &self.s1, m.v, signs, l);
        let (s1, negative1) = cofactor_row(&self.s0, m.w, &self.s1, m.z, signs, l);
        (self.s0, self.s1) = (s0, s1);
        if l < COFACTOR && s0[l] | s1[l] != 0 {
            self.cofactor_length = l + 1;
        }
        self.negative0 = negative0 != below0;
        self.negative1 = negative1 != below1;
        self.flipped ^= m.flips ^ below0 ^ below1;
    }

    /// One step by long division, for a quotient too long for a word: rare, and needed for
    /// progress.
    #[cold]
    fn divide(&mut self) {
        let number = |x: &[u64]| Integer::from_limbs(x, false);
        let (quotient, rest) = number(&self.r0).divide(&number(&self.r1));
        let cofactor = Integer::from_limbs(&self.s0, self.negative0)
            - quotient * Integer::from_limbs(&self.s1, self.negative1);
        (self.r0, self.s0, self.negative0) = (self.r1, self.s1, self.negative1);
        self.r1 = fixed(&rest);
        self.s1 = fixed(&cofactor);
        self.negative1 = cofactor.is_negative();
        self.cofactor_length =
            limbs::significant(&self.s0).max(limbs::significant(&self.s1)).max(1);
        self.flipped = !self.flipped;
    }
}

/// The magnitude in a fixed number of limbs.
pub(crate) fn fixed<const N: usize>(x: &Integer) -> [u64; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(x.limbs()) {
        *to = *from;
    }
    out
}

/// `|u·x + v·y|` over `n` limbs, and whether the sum was negative. It is a remainder, so it does
/// not grow.
#[inline]
fn remainder_row(
    x: &[u64; COEFFICIENT],
    u: i64,
    y: &[u64; COEFFICIENT],
    v: i64,
    n: usize,
) -> ([u64; COEFFICIENT], bool) {
    let mut out = [0; COEFFICIENT];
    let n = n.min(COEFFICIENT);
    // As a rule u and v have opposite signs; the positive one goes first.
    let same_sign = u != 0 && v != 0 && (u < 0) == (v < 0);
    if same_sign {
        add_rows(&mut out[..n], &x[..n], u.unsigned_abs(), &y[..n], v.unsigned_abs());
        return (out, u < 0);
    }
    let swap = u < 0 || v > 0;
    let (p, q) = if swap { (y, x) } else { (x, y) };
    let (positive, negative) = if swap {
        (v.unsigned_abs(), u.unsigned_abs())
    } else {
        (u.unsigned_abs(), v.unsigned_abs())
    };
    let below = subtract_rows(&mut out[..n], &p[..n], positive, &q[..n], negative);
    if below {
        limbs::negate(&mut out[..n]);
    }
    (out, below)
}

/// `u·x + v·y` for signed x and y: magnitude and sign.
#[inline]
fn cofactor_row(
    x: &[u64; COFACTOR],
    u: i64,
    y: &[u64; COFACTOR],
    v: i64,
    (x_negative, y_negative): (bool, bool),
    n: usize,
) -> ([u64; COFACTOR], bool) {
    let mut out = [0; COFACTOR];
    // One limb more than in use, where both are zero.
    let n = (n + 1).min(COFACTOR);
    let (first, second) = (x_negative != (u < 0), y_negative != (v < 0));
    let (u, v) = (u.unsigned_abs(), v.unsigned_abs());
    // A vanishing term has no sign to disagree with.
    let x_zero = u == 0 || x[..n].iter().all(|limb| *limb == 0);
    let y_zero = v == 0 || y[..n].iter().all(|limb| *limb == 0);
    if first == second || x_zero || y_zero {
        add_rows(&mut out[..n], &x[..n], u, &y[..n], v);
        return (out, if x_zero { second } else { first });
    }
    let below = subtract_rows(&mut out[..n], &x[..n], u, &y[..n], v);
    if below {
        limbs::negate(&mut out[..n]);
    }
    (out, first != below)
}

/// `out := u·x + v·y` for u, v below 2^63, modulo the common length.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // low and high halves
fn add_rows(out: &mut [u64], x: &[u64], u: u64, y: &[u64], v: u64) {
    let mut carry = 0_u128;
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        let sum = u128::from(*x) * u128::from(u) + u128::from(*y) * u128::from(v) + carry;
        *out = sum as u64;
        carry = sum >> 64;
    }
}

/// `out := u·x − v·y` for u, v below 2^63, in two's complement of the common length; true when the
/// difference is negative.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)] // halves
fn subtract_rows(out: &mut [u64], x: &[u64], u: u64, y: &[u64], v: u64) -> bool {
    let mut carry = 0_i128;
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        let plus = (u128::from(*x) * u128::from(u)) as i128;
        let minus = (u128::from(*y) * u128::from(v)) as i128;
        let sum = plus - minus + carry;
        *out = sum as u64;
        carry = sum >> 64;
    }
    carry < 0
}

/// Two joined runs on 128 leading bits. `exact` says that these are all bits there are.
#[inline]
#[allow(clippy::cast_possible_truncation)] // shifted to 64 bits
fn steps(x: u128, y: u128, floor: u128, exact: bool) -> Option<Matrix> {
    // One bit is kept free for signs; what it costs is no longer all there is.
    let full = (x | y) >> 127 == 1;
    let (x, y, floor) = if full { (x >> 1, y >> 1, floor >> 1) } else { (x, y, floor) };
    let exact = exact && !full;
    let bits = 128 - (x | y).leading_zeros();
    if bits <= 64 {
        // Whole numbers: the cofactors stay below 2^63 because the floor is at least two.
        return if exact { run_words(x as u64, y as u64, floor as u64) } else { None };
    }
    let word = |number: u128, shift: u32| (number >> shift) as u64;
    let shift = bits - 64;
    let mut first = run_words(word(x, shift), word(y, shift), WORD_FLOOR.max(word(floor, shift)))?;
    let (x, y) = first.apply_wide(x, y);
    let bits = 128 - (x | y).leading_zeros();
    if bits < SECOND_RUN_BITS {
        return Some(first);
    }
    let shift = bits - 64;
    match run_words(word(x, shift), word(y, shift), WORD_FLOOR.max(word(floor, shift))) {
        Some(second) => Some(second.after(&first)),
        None => Some(first),
    }
}

impl Matrix {
    /// Applies a run to the 128 bits it came from and makes both results positive, here and in the
    /// rows of the matrix.
    #[inline]
    fn apply_wide(&mut self, x: u128, y: u128) -> (u128, u128) {
        // Modulo 2^128; the true values have at most 127 bits, about 98 after a whole run.
        let row = |u: i64, v: i64| {
            let wide = |k: i64| i128::from(k) as u128;
            wide(u).wrapping_mul(x).wrapping_add(wide(v).wrapping_mul(y)) as i128
        };
        let (first, second) = (row(self.u, self.v), row(self.w, self.z));
        if first < 0 {
            (self.u, self.v, self.flips) = (-self.u, -self.v, !self.flips);
        }
        if second < 0 {
            (self.w, self.z, self.flips) = (-self.w, -self.z, !self.flips);
        }
        (first.unsigned_abs(), second.unsigned_abs())
    }

    /// The product: this run after an earlier one, both with entries below 2^31.
    #[inline]
    fn after(&self, earlier: &Self) -> Self {
        Self {
            u: self.u * earlier.u + self.v * earlier.w,
            v: self.u * earlier.v + self.v * earlier.z,
            w: self.w * earlier.u + self.z * earlier.w,
            z: self.w * earlier.v + self.z * earlier.z,
            flips: self.flips != earlier.flips,
        }
    }
}

/// Euclid's algorithm on words while the smaller one is at least `floor`, which is at least two;
/// none when there is no step to take.
#[inline]
fn run_words(mut x: u64, mut y: u64, floor: u64) -> Option<Matrix> {
    if y < floor {
        return None;
    }
    let (mut u, mut v, mut w, mut z) = (1_i64, 0_i64, 0_i64, 1_i64);
    // Cofactors are at most x/y < 2^63 in magnitude, so nothing here wraps.
    loop {
        let q = x / y;
        x -= q * y;
        u = u.wrapping_sub((q as i64).wrapping_mul(w));
        v = v.wrapping_sub((q as i64).wrapping_mul(z));
        if x < floor {
            return Some(Matrix { u: w, v: z, w: u, z: v, flips: true });
        }
        let q = y / x;
        y -= q * x;
        w = w.wrapping_sub((q as i64).wrapping_mul(u));
        z = z.wrapping_sub((q as i64).wrapping_mul(v));
        if y < floor {
            return Some(Matrix { u, v, w, z, flips: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number of up to 512 bits of which a random part is in use, with runs of equal bits.
    fn number() -> impl Strategy<Value = Integer> {
        let limb = prop_oneof![3 => any::<u64>(), 1 => Just(0), 1 => Just(u64::MAX)];
        (prop::collection::vec(limb, COEFFICIENT), 0..512_usize)
            .prop_map(|(limbs, less)| Integer::from_limbs(&limbs, false).shifted_right(less))
    }

    /// Both rows keep `r ≡ s·number`, r₁s₂ − r₂s₁ is ± the modulus as `flipped` says, and the
    /// smaller remainder is below the floor.
    fn check(modulus: Integer, start: Integer, floor: Integer) -> Result<(), TestCaseError> {
        let mut e = Euclid::new(modulus.limbs(), start.limbs());
        e.run(&fixed::<COEFFICIENT>(&floor));
        let (r0, r1) = (Integer::from_limbs(&e.r0, false), Integer::from_limbs(&e.r1, false));
        let s0 = Integer::from_limbs(&e.s0, e.negative0);
        let s1 = Integer::from_limbs(&e.s1, e.negative1);
        prop_assert!(r1 < floor && r1 <= r0);
        prop_assert!((r0 - s0 * start).divide(&modulus).1.is_zero());
        prop_assert!((r1 - s1 * start).divide(&modulus).1.is_zero());
        let determinant = r1 * s0 - r0 * s1;
        prop_assert_eq!(determinant, if e.flipped { modulus } else { -modulus });
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn rows_keep_their_invariants(
            modulus in number(),
            start in number(),
            floor in number(),
        ) {
            let modulus = modulus.max(Integer::ONE);
            let start = start.modulo(&modulus);
            check(modulus, start, floor.max(Integer::small(2)))?;
        }

        #[test]
        fn a_floor_just_below_the_start_ends_the_run_after_a_step(
            modulus in number(),
            less in number(),
            less_still in number(),
            shift in 3..9_usize,
        ) {
            // Modulus, start and floor that agree in their leading bits, which are ones.
            let modulus = Integer::ONE.shifted_left(modulus.bits().max(8)) - Integer::ONE
                - modulus.shifted_right(6);
            let start = modulus - less.modulo(&modulus).shifted_right(shift);
            let floor = start - less_still.modulo(&start).shifted_right(8);
            check(modulus, start, floor.max(Integer::small(2)))?;
        }

        #[test]
        fn the_gcd_is_the_plain_one(x in number(), y in number(), common in number()) {
            let cut = |n: Integer| n.shifted_right(n.bits().saturating_sub(256)).max(Integer::ONE);
            let (x, y, common) = (cut(x), cut(y), cut(common));
            let (x, y) = (x * common, y * common);
            let (gcd, cofactor) = Euclid::new(x.limbs(), y.limbs()).gcd();
            prop_assert_eq!(gcd, Integer::extended_gcd(&x, &y).0);
            prop_assert!((gcd - cofactor * y).divide(&x).1.is_zero());
        }
    }
}
