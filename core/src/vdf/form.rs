//! Binary quadratic forms and the one reduced form of each class, in plain arithmetic.

use super::discriminant::Discriminant;
use super::error::FormError;
use super::integer::Integer;

/// A form (a, b, c): a·x² + b·xy + c·y², positive definite. Values of this type are reduced unless
/// a function says otherwise, so that equal classes are equal values. spec: vdf §4
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub(crate) a: Integer,
    pub(crate) b: Integer,
    pub(crate) c: Integer,
}

/// Bits of a coefficient that [`Form::reduce`] takes; the product of two fits an [`Integer`].
const MAX_COEFFICIENT_BITS: usize = 1280;

impl Form {
    /// The neutral element. spec: vdf §4
    #[must_use]
    pub fn identity(d: &Discriminant) -> Self {
        let c = (*d.magnitude() + Integer::ONE).shifted_right(2);
        Self { a: Integer::ONE, b: Integer::ONE, c }
    }

    /// The class of (2, 1), where every VDF of the network starts. spec: vdf §1, §4
    #[must_use]
    pub fn generator(d: &Discriminant) -> Self {
        let c = (*d.magnitude() + Integer::ONE).shifted_right(3);
        reduced(Integer::small(2), Integer::ONE, c)
    }

    /// The reduced form of the class of (a, b). spec: vdf §4
    ///
    /// # Errors
    /// [`FormError::NoSuchForm`] unless a > 0 and 4a divides b² − D, and for coefficients of more
    /// than 1280 bits.
    pub fn from_ab(a: &Integer, b: &Integer, d: &Discriminant) -> Result<Self, FormError> {
        let fits = a.bits().max(b.bits()) <= MAX_COEFFICIENT_BITS;
        if !fits || a.is_zero() || a.is_negative() {
            return Err(FormError::NoSuchForm);
        }
        let (c, rest) = (*b * *b + *d.magnitude()).divide(&a.shifted_left(2));
        if !rest.is_zero() {
            return Err(FormError::NoSuchForm);
        }
        Ok(reduced(*a, *b, c))
    }

    /// Completes the pair of a form known to be reduced.
    #[cfg(feature = "alloc")]
    pub(crate) fn of_reduced_pair(a: Integer, b: Integer, d: &Discriminant) -> Self {
        let c = (b * b + *d.magnitude()).divide(&a.shifted_left(2)).0;
        Self { a, b, c }
    }

    /// The reduced form of a class given by all three coefficients.
    ///
    /// # Errors
    /// [`FormError::NoSuchForm`] unless the form is positive definite with coefficients of at most
    /// 1280 bits.
    pub fn reduce(a: &Integer, b: &Integer, c: &Integer) -> Result<Self, FormError> {
        let fits = [a, b, c].iter().all(|x| x.bits() <= MAX_COEFFICIENT_BITS);
        let definite =
            !a.is_negative() && !c.is_negative() && fits && *b * *b < (*a * *c).shifted_left(2);
        if definite { Ok(reduced(*a, *b, *c)) } else { Err(FormError::NoSuchForm) }
    }

    /// The inverse class.
    #[must_use]
    pub fn inverse(&self) -> Self {
        reduced(self.a, -self.b, self.c)
    }

    /// First coefficient.
    #[must_use]
    pub const fn a(&self) -> &Integer {
        &self.a
    }

    /// Middle coefficient.
    #[must_use]
    pub const fn b(&self) -> &Integer {
        &self.b
    }

    /// Last coefficient.
    #[must_use]
    pub const fn c(&self) -> &Integer {
        &self.c
    }
}

/// Reduction: −a < b ≤ a ≤ c, and b ≥ 0 when a = c. The form is positive definite.
/// spec: vdf §4
pub(crate) fn reduced(a: Integer, b: Integer, c: Integer) -> Form {
    let (mut a, mut b, mut c) = normalized(a, b, c);
    while a > c || (a == c && b.is_negative()) {
        (a, b, c) = normalized(c, -b, a);
    }
    Form { a, b, c }
}

/// Moves b into (−a, a] by the substitution that adds a multiple of the first variable.
fn normalized(a: Integer, b: Integer, c: Integer) -> (Integer, Integer, Integer) {
    let (r, rest) = (a - b).divide_floor(&a.shifted_left(1));
    if r.is_zero() {
        return (a, b, c);
    }
    // a·r² + b·r + c, with b + a·r written as half of (b + new b).
    let new_b = a - rest;
    (a, new_b, ((b + new_b) * r).shifted_right(1) + c)
}

impl core::fmt::Debug for Form {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Form({:x}, {:x}, {:x})", self.a, self.b, self.c)
    }
}
