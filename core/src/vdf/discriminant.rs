//! The discriminant of a class group, and the sizes that follow from it.

use super::error::DiscriminantError;
use super::hash_prime::hash_prime;
use super::integer::Integer;

/// A negative discriminant, 1 modulo 8, of at most 1024 bits. spec: vdf §1, §3
///
/// Deriving one costs some milliseconds; keep it as long as its challenge lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Discriminant {
    /// |D|.
    magnitude: Integer,
    /// ⌊|D|^¼⌋, where the partial gcd of a composition stops.
    fourth_root: Integer,
}

impl Discriminant {
    /// Most bits a discriminant can have. spec: vdf §1
    pub const MAX_BITS: u32 = 1024;

    /// The discriminant of a challenge. The network's are of 1024 bits and of the previous block's
    /// hash in header order. spec: vdf §2, §3
    ///
    /// # Errors
    /// [`DiscriminantError::Size`] unless `bits` is a multiple of 8 from 8 to 1024,
    /// [`DiscriminantError::EmptySeed`] and [`DiscriminantError::Exhausted`] for seeds that cannot
    /// serve.
    pub fn from_challenge(challenge: &[u8], bits: u32) -> Result<Self, DiscriminantError> {
        if bits > Self::MAX_BITS {
            return Err(DiscriminantError::Size { bits });
        }
        Self::from_value(&-magnitude_from_challenge(challenge, bits)?)
    }

    /// Takes D itself. Whether |D| is prime is not looked at: with a composite one some forms
    /// have no square.
    ///
    /// # Errors
    /// [`DiscriminantError::Shape`] unless D is negative, 1 modulo 8 and of at most 1024 bits.
    pub fn from_value(value: &Integer) -> Result<Self, DiscriminantError> {
        let magnitude = value.abs();
        let fits = magnitude.bits() <= Self::MAX_BITS as usize && magnitude.low() & 7 == 7;
        if !value.is_negative() || !fits {
            return Err(DiscriminantError::Shape);
        }
        Ok(Self { magnitude, fourth_root: magnitude.square_root().square_root() })
    }

    /// D, a negative number.
    #[must_use]
    pub fn value(&self) -> Integer {
        -self.magnitude
    }

    /// |D|.
    pub(crate) fn magnitude(&self) -> &Integer {
        &self.magnitude
    }

    /// ⌊|D|^¼⌋.
    pub(crate) fn fourth_root(&self) -> &Integer {
        &self.fourth_root
    }

    /// Bits of |D|.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.magnitude.bits()
    }

    /// Bits of |D| rounded up to a multiple of 32, which lays out an encoded form. spec: vdf §5
    pub(crate) fn encoding_bits(&self) -> usize {
        self.bits().div_ceil(32) * 32
    }
}

/// |D| of a challenge for sizes up to 2048 bits; those above 1024 serve no proof.
/// spec: vdf §3
///
/// # Errors
/// As for [`hash_prime`].
pub fn magnitude_from_challenge(challenge: &[u8], bits: u32) -> Result<Integer, DiscriminantError> {
    hash_prime(challenge, bits, &[0, 1, 2, bits.saturating_sub(1)])
}

impl core::fmt::Debug for Discriminant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Discriminant({:x})", self.value())
    }
}
