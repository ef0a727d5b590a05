//! Composition of classes: Shanks' NUCOMP and NUDUPL, which reduce while they multiply so that no
//! number grows beyond the size of the discriminant, and beside them the textbook composition
//! they must agree with.
//!
//! For a form (A, B, ·) with A = a₁a₂ that the textbook would make, rows (r, Y) of Euclid's
//! algorithm on (a₁, k) are the substitutions that shorten it: with m₁ = (a₂r − nY)/a₁ and
//! m₂ = (sr + c₂Y)/a₁ the form takes the value r·m₁ + Y·m₂ there. Two consecutive rows in the
//! middle, where r and Y are about equally long, give a nearly reduced form.

use super::discriminant::Discriminant;
use super::euclid::{Euclid, fixed};
use super::form::{Form, reduced};
use super::integer::Integer;
use super::square;

impl Form {
    /// The product of two classes. spec: vdf §4
    #[must_use]
    pub fn compose(&self, other: &Self, d: &Discriminant) -> Self {
        if self == other {
            return self.square(d);
        }
        if self.a < other.a { nucomp(other, self, d) } else { nucomp(self, other, d) }
    }

    /// The square of a class. spec: vdf §4
    #[must_use]
    pub fn square(&self, d: &Discriminant) -> Self {
        square::fast(self, d).unwrap_or_else(|| self.square_generally(d))
    }

    /// `count` squarings, one after the other: the work that a VDF proves. spec: vdf §6
    #[must_use]
    pub fn square_repeatedly(&self, count: u64, d: &Discriminant) -> Self {
        square::repeat(self, count, d)
    }

    /// The square of a form of any shape.
    pub(super) fn square_generally(&self, d: &Discriminant) -> Self {
        nudupl(self, d).unwrap_or_else(|| self.compose_plain(self, d))
    }

    /// The product as the textbook has it (Dirichlet's united forms): the slow twin of
    /// [`Self::compose`] and [`Self::square`], kept to be read and compared with. spec: vdf §4
    #[must_use]
    pub fn compose_plain(&self, other: &Self, d: &Discriminant) -> Self {
        let (f, g) = (self, other);
        let s = (f.b + g.b).shifted_right(1);
        // common = gcd(a₁, a₂, s) = (…)·a₁ + v·a₂ + w·s
        let (of_both, _, v) = Integer::extended_gcd(&f.a, &g.a);
        let (common, e, w) = Integer::extended_gcd(&of_both, &s);
        let (a1, a2) = (f.a.divide(&common).0, g.a.divide(&common).0);
        // B = b₂ + 2·(a₂/d)·(v·(b₁ − b₂)/2 − w·c₂), where only the bracket modulo a₁/d matters.
        let n = (f.b - g.b).shifted_right(1);
        let bracket = ((v * e).modulo(&a1) * n - w * g.c).modulo(&a1);
        let (a, b) = (a1 * a2, g.b + (a2 * bracket).shifted_left(1));
        reduced(a, b, last_coefficient(&a, &b, d))
    }
}

/// c from a and b of a form.
fn last_coefficient(a: &Integer, b: &Integer, d: &Discriminant) -> Integer {
    (*b * *b + *d.magnitude()).divide(&a.shifted_left(2)).0
}

/// f·g for a of f not below a of g.
fn nucomp(f: &Form, g: &Form, d: &Discriminant) -> Form {
    let s = (f.b + g.b).shifted_right(1);
    let n = (f.b - g.b).shifted_right(1);
    let (of_both, v) = Euclid::new(f.a.limbs(), g.a.limbs()).gcd();
    let (common, a1, a2, k);
    if of_both == Integer::ONE {
        (common, a1, a2) = (of_both, f.a, g.a);
        k = (v * n).modulo(&a1);
    } else {
        // common = gcd(a₁, a₂, s) = x·gcd(a₁, a₂) + w·s
        let (whole, x, w) = if s.divide(&of_both).1.is_zero() {
            (of_both, Integer::ONE, Integer::ZERO)
        } else {
            Integer::extended_gcd(&of_both, &s)
        };
        (common, a1, a2) = (whole, f.a.divide(&whole).0, g.a.divide(&whole).0);
        k = ((v * x).modulo(&a1) * n - w * g.c).modulo(&a1);
    }
    let rows = Rows::new(&a1, &k, d, a1.bits().saturating_sub(a2.bits()) / 2);
    let m1 = (a2 * rows.r1 - n * rows.y1).divide(&a1).0;
    let m2 = (s * rows.r1 + common * g.c * rows.y1).divide(&a1).0;
    rows.form(&m1, &m2, &f.b, d)
}

/// f² when a and b are coprime, as they are for every prime discriminant.
fn nudupl(f: &Form, d: &Discriminant) -> Option<Form> {
    let (common, v) = Euclid::new(f.a.limbs(), f.b.limbs()).gcd();
    if common != Integer::ONE {
        return None;
    }
    let v = if f.b.is_negative() { -v } else { v };
    let k = (-(f.c * v)).modulo(&f.a);
    let rows = Rows::new(&f.a, &k, d, 0);
    let m = (f.b * rows.r1 + f.c * rows.y1).divide(&f.a).0;
    Some(rows.form(&rows.r1, &m, &f.b, d))
}

/// Two consecutive rows of Euclid's algorithm on (a₁, k), the shorter remainder first.
struct Rows {
    r1: Integer,
    r2: Integer,
    y1: Integer,
    y2: Integer,
    /// The substitution of these rows reverses the orientation.
    reversed: bool,
}

impl Rows {
    /// Stops at the fourth root of |D| times 2^`later`.
    fn new(a1: &Integer, k: &Integer, d: &Discriminant, later: usize) -> Self {
        let floor = d.fourth_root().shifted_left(later).max(Integer::small(2));
        let mut euclid = Euclid::new(a1.limbs(), k.limbs());
        euclid.run(&fixed::<8>(&floor));
        Self {
            r1: Integer::from_limbs(&euclid.r1, false),
            r2: Integer::from_limbs(&euclid.r0, false),
            y1: Integer::from_limbs(&euclid.s1, euclid.negative1),
            y2: Integer::from_limbs(&euclid.s0, euclid.negative0),
            // As the shorter row comes first, the untouched rows are reversed already.
            reversed: !euclid.flipped,
        }
    }

    /// The reduced form: a' = r₁m₁ + Y₁m₂ and b' = ±2(r₂m₁ + Y₂m₂) − b₁.
    fn form(&self, m1: &Integer, m2: &Integer, b1: &Integer, d: &Discriminant) -> Form {
        let a = self.r1 * *m1 + self.y1 * *m2;
        let mixed = (self.r2 * *m1 + self.y2 * *m2).shifted_left(1);
        let b = if self.reversed { -mixed - *b1 } else { mixed - *b1 };
        reduced(a, b, last_coefficient(&a, &b, d))
    }
}
