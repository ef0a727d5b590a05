//! NUDUPL on GMP integers, as miners run it: GMP's extended gcd for the inverse, a Lehmer partial
//! gcd with 63-bit words, numbers allocated once, a reduced form after every step.
#![allow(unsafe_code)]

use gmp_mpfr_sys::gmp::{self, mpz_t};
use std::mem::MaybeUninit;

/// An integer that GMP owns.
struct Z(mpz_t);

impl Z {
    fn new() -> Self {
        let mut z = MaybeUninit::uninit();
        // SAFETY: `mpz_init2` initialises what it is given.
        unsafe {
            gmp::mpz_init2(z.as_mut_ptr(), 4096);
            Self(z.assume_init())
        }
    }

    fn from_hex(text: &str) -> Self {
        let mut z = Self::new();
        let text = std::ffi::CString::new(text).unwrap_or_default();
        // SAFETY: the string ends in a zero and the number is initialised.
        unsafe { gmp::mpz_set_str(&mut z.0, text.as_ptr(), 16) };
        z
    }

    fn bits(&self) -> usize {
        // SAFETY: initialised.
        if self.0.size == 0 { 0 } else { unsafe { gmp::mpz_sizeinbase(&self.0, 2) } }
    }

    /// The low word of the number shifted down.
    fn word(&self, shift: usize) -> i64 {
        let limbs = self.0.size.unsigned_abs() as usize;
        // SAFETY: GMP keeps `size` limbs behind the pointer.
        let limbs = unsafe { std::slice::from_raw_parts(self.0.d.as_ptr(), limbs) };
        let limb = |at: usize| limbs.get(at).copied().unwrap_or(0);
        let (at, by) = (shift / 64, shift % 64);
        let low = limb(at) >> by;
        (if by == 0 { low } else { low | limb(at + 1) << (64 - by) }) as i64
    }
}

impl Drop for Z {
    fn drop(&mut self) {
        // SAFETY: initialised, and dropped once.
        unsafe { gmp::mpz_clear(&mut self.0) };
    }
}

/// A form and the room to square it in.
pub struct Squarer {
    d: Z,
    root: Z,
    a: Z,
    b: Z,
    c: Z,
    t: [Z; 10],
}

impl Squarer {
    /// From hex digits of D, a, b and c, with a minus sign where negative.
    #[must_use]
    pub fn new(d: &str, a: &str, b: &str, c: &str) -> Self {
        let mut root = Z::from_hex(d);
        // SAFETY: initialised numbers.
        unsafe {
            gmp::mpz_abs(&mut root.0, &root.0);
            gmp::mpz_root(&mut root.0, &root.0, 4);
        }
        let [d, a, b, c] = [d, a, b, c].map(Z::from_hex);
        Self { d, root, a, b, c, t: std::array::from_fn(|_| Z::new()) }
    }

    /// a in hex digits.
    #[must_use]
    pub fn a_hex(&self) -> String {
        let mut text = vec![0_u8; self.a.bits() / 4 + 3];
        // SAFETY: room for all digits, a sign and the end.
        unsafe { gmp::mpz_get_str(text.as_mut_ptr().cast(), 16, &self.a.0) };
        text.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect()
    }

    /// One squaring and reduction.
    pub fn square(&mut self) {
        let Self { d, root, a, b, c, t: [v, k, r2, r1, c2, c1, m, x, y, z] } = self;
        // SAFETY: every number is initialised; GMP allows results to alias operands.
        unsafe {
            let (a, b, c) = (&mut a.0, &mut b.0, &mut c.0);
            gmp::mpz_gcdext(&mut x.0, &mut v.0, std::ptr::null_mut(), b, a);
            gmp::mpz_mul(&mut k.0, c, &v.0);
            gmp::mpz_neg(&mut k.0, &k.0);
            gmp::mpz_fdiv_r(&mut k.0, &k.0, a);
            gmp::mpz_set(&mut r2.0, a);
            gmp::mpz_set(&mut r1.0, &k.0);
            partial(r2, r1, c2, c1, root, [x, y, z]);
            // With C = C₁ ≤ 0 or ≥ 0 and the remainder r: m = (b·r − c·C)/a, a' = r² − C·m.
            gmp::mpz_mul(&mut m.0, b, &r1.0);
            gmp::mpz_submul(&mut m.0, c, &c1.0);
            gmp::mpz_divexact(&mut m.0, &m.0, a);
            gmp::mpz_mul(&mut x.0, &r1.0, &r1.0);
            gmp::mpz_submul(&mut x.0, &c1.0, &m.0);
            // b' = 2(a·r − a'·|C|·…)/C − b, for the orientation that C's sign tells.
            if gmp::mpz_sgn(&c1.0) > 0 {
                gmp::mpz_neg(&mut x.0, &x.0);
            }
            gmp::mpz_mul(&mut y.0, a, &r1.0);
            gmp::mpz_submul(&mut y.0, &x.0, &c2.0);
            let _ = &y;
            gmp::mpz_mul_2exp(&mut y.0, &y.0, 1);
            gmp::mpz_divexact(&mut y.0, &y.0, &c1.0);
            gmp::mpz_sub(&mut y.0, &y.0, b);
            gmp::mpz_abs(a, &x.0);
            gmp::mpz_mul_2exp(&mut z.0, a, 1);
            gmp::mpz_fdiv_r(b, &y.0, &z.0);
            gmp::mpz_mul(c, b, b);
            gmp::mpz_sub(c, c, &d.0);
            gmp::mpz_divexact(c, c, a);
            gmp::mpz_fdiv_q_2exp(c, c, 2);
        }
        self.reduce();
    }

    fn reduce(&mut self) {
        let Self { a, b, c, t: [q, x, ..], .. } = self;
        // SAFETY: every number is initialised.
        unsafe {
            loop {
                if gmp::mpz_cmpabs(&b.0, &a.0) > 0 {
                    // q = ⌊(b + a)/2a⌋; b −= 2aq; c −= q(b + aq).
                    gmp::mpz_mul_2exp(&mut x.0, &a.0, 1);
                    gmp::mpz_add(&mut q.0, &b.0, &a.0);
                    gmp::mpz_fdiv_q(&mut q.0, &q.0, &x.0);
                    gmp::mpz_mul(&mut x.0, &a.0, &q.0);
                    gmp::mpz_sub(&mut b.0, &b.0, &x.0);
                    gmp::mpz_submul(&mut c.0, &b.0, &q.0);
                    gmp::mpz_sub(&mut b.0, &b.0, &x.0);
                }
                if gmp::mpz_cmp(&a.0, &c.0) <= 0 {
                    return;
                }
                gmp::mpz_swap(&mut a.0, &mut c.0);
                gmp::mpz_neg(&mut b.0, &b.0);
            }
        }
    }
}

/// Lehmer's partial gcd down to `limit`, from cofactors (0, −1).
fn partial(r2: &mut Z, r1: &mut Z, c2: &mut Z, c1: &mut Z, limit: &Z, room: [&mut Z; 3]) {
    let [t, w, q] = room;
    // SAFETY: every number is initialised.
    unsafe {
        gmp::mpz_set_si(&mut c2.0, 0);
        gmp::mpz_set_si(&mut c1.0, -1);
        while gmp::mpz_sgn(&r1.0) != 0 && gmp::mpz_cmp(&r1.0, &limit.0) > 0 {
            let shift = r2.bits().max(r1.bits()).saturating_sub(63);
            let (mut x, mut y, s) = (r2.word(shift), r1.word(shift), limit.word(shift));
            let (mut u2, mut u1, mut v2, mut v1) = (0_i64, 1_i64, 1_i64, 0_i64);
            let mut steps = 0;
            while y != 0 && y > s {
                let quotient = x / y;
                let rest = x - quotient * y;
                let (u, v) = (u2 - quotient * u1, v2 - quotient * v1);
                let stop = if steps % 2 == 1 {
                    rest < -v || y - rest < u - u1
                } else {
                    rest < -u || y - rest < v - v1
                };
                if stop {
                    break;
                }
                (x, y, u2, u1, v2, v1) = (y, rest, u1, u, v1, v);
                steps += 1;
            }
            if steps == 0 {
                gmp::mpz_fdiv_qr(&mut q.0, &mut r2.0, &r2.0, &r1.0);
                gmp::mpz_swap(&mut r2.0, &mut r1.0);
                gmp::mpz_submul(&mut c2.0, &q.0, &c1.0);
                gmp::mpz_swap(&mut c2.0, &mut c1.0);
                continue;
            }
            for (first, second) in [(&mut *r2, &mut *r1), (&mut *c2, &mut *c1)] {
                gmp::mpz_mul_si(&mut t.0, &first.0, v1);
                gmp::mpz_mul_si(&mut w.0, &second.0, u2);
                gmp::mpz_mul_si(&mut first.0, &first.0, v2);
                gmp::mpz_mul_si(&mut second.0, &second.0, u1);
                gmp::mpz_add(&mut first.0, &first.0, &w.0);
                gmp::mpz_add(&mut second.0, &second.0, &t.0);
            }
            if gmp::mpz_sgn(&r1.0) < 0 {
                gmp::mpz_neg(&mut r1.0, &r1.0);
                gmp::mpz_neg(&mut c1.0, &c1.0);
            }
            if gmp::mpz_sgn(&r2.0) < 0 {
                gmp::mpz_neg(&mut r2.0, &r2.0);
                gmp::mpz_neg(&mut c2.0, &c2.0);
            }
        }
    }
}
