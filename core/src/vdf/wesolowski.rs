//! Wesolowski's proof: the Fiat–Shamir prime, the equation, and the node's verdict on blobs.

use super::discriminant::Discriminant;
use super::encoding::FORM_BYTES;
use super::error::{FormError, VdfError};
use super::form::Form;
use super::hash_prime::hash_prime;
use super::integer::Integer;
use super::power::product_of_powers;
use crate::units::BlockHash;

/// Bits of the Fiat–Shamir prime. spec: vdf §1
const PRIME_BITS: u32 = 264;
/// Bytes of the Fiat–Shamir prime.
const PRIME_BYTES: usize = 33;
/// Bytes of the proof of one stretch: y and π. spec: vdf §1
pub const PROOF_BYTES: usize = 2 * FORM_BYTES;
/// Bytes of one segment of an n-Wesolowski proof. spec: vdf §7
pub const SEGMENT_BYTES: usize = 8 + PRIME_BYTES + FORM_BYTES;
/// Size of the network's discriminants. spec: vdf §1
pub const DISCRIMINANT_BITS: u32 = 1024;

/// The node's verdict on a block's VDF: 1024 bits, depth 0, from the generator. `challenge` is the
/// previous block's hash in header order. spec: vdf §8, §9
///
/// Costs a discriminant and about 530 compositions of forms, whatever the blob. With the
/// discriminant at hand [`verify_proof`] saves the first.
///
/// # Errors
/// [`VdfError`] names the first condition that fails.
pub fn verify(challenge: &BlockHash, tick: u64, blob: &[u8]) -> Result<(), VdfError> {
    verify_with(challenge.as_bytes(), DISCRIMINANT_BITS, 0, tick, blob)
}

/// The node's verdict for any size and depth: from the generator of the discriminant that the
/// challenge gives. `depth` is read as an i32. spec: vdf §8
///
/// # Errors
/// [`VdfError`] names the first condition that fails; the length is looked at before the
/// discriminant, which costs much more.
pub fn verify_with(
    challenge: &[u8],
    bits: u32,
    depth: u32,
    tick: u64,
    blob: &[u8],
) -> Result<(), VdfError> {
    if bits > Discriminant::MAX_BITS {
        return Err(VdfError::TooLarge { bits });
    }
    check_length(depth, blob)?;
    let d = Discriminant::from_challenge(challenge, bits)?;
    verify_segments(&d, Form::generator(&d), depth, tick, blob)
}

/// Verifies a proof of depth 0 under a discriminant at hand, from the generator.
/// spec: vdf §6, §8
///
/// # Errors
/// As for [`verify`].
pub fn verify_proof(d: &Discriminant, tick: u64, blob: &[u8]) -> Result<(), VdfError> {
    verify_segments(d, Form::generator(d), 0, tick, blob)
}

/// Verifies a proof of any depth that starts from the encoded form `start`. spec: vdf §7
///
/// # Errors
/// [`VdfError`] names the first condition that fails.
pub fn verify_from(
    d: &Discriminant,
    start: &[u8],
    depth: u32,
    tick: u64,
    blob: &[u8],
) -> Result<(), VdfError> {
    check_length(depth, blob)?;
    let start = Form::decode(start, d).map_err(VdfError::Start)?;
    verify_segments(d, start, depth, tick, blob)
}

/// The depth is not negative and the length follows from it. spec: vdf §8 step 4
fn check_length(depth: u32, blob: &[u8]) -> Result<(), VdfError> {
    if depth > i32::MAX as u32 {
        return Err(VdfError::Depth { depth });
    }
    let expected = PROOF_BYTES as u64 + SEGMENT_BYTES as u64 * u64::from(depth);
    if blob.len() as u64 == expected {
        Ok(())
    } else {
        Err(VdfError::Length { expected, found: blob.len() })
    }
}

/// Walks the segments, earliest first, and then checks the last stretch. spec: vdf §6, §7
fn verify_segments(
    d: &Discriminant,
    start: Form,
    depth: u32,
    tick: u64,
    blob: &[u8],
) -> Result<(), VdfError> {
    check_length(depth, blob)?;
    let (last, segments) = blob.split_at_checked(PROOF_BYTES).unwrap_or((blob, &[]));
    let (mut x, mut remaining) = (start, tick);
    // They lie in reverse order of time.
    for (index, segment) in (0_u32..).zip(segments.rchunks(SEGMENT_BYTES)) {
        let Segment { ticks, prime, proof } = Segment::read(segment)
            .ok_or(VdfError::Length { expected: SEGMENT_BYTES as u64, found: segment.len() })?;
        let refused = |error| VdfError::Segment { index, error };
        let proof = Form::decode(proof, d).map_err(refused)?;
        if prime.is_zero() {
            return Err(VdfError::SegmentPrime { index });
        }
        let y = output(d, &x, &proof, &prime, ticks);
        if fiat_shamir_prime(&x, &y, d).map_err(|error| error.or(refused))? != prime {
            return Err(VdfError::SegmentPrime { index });
        }
        remaining = remaining.checked_sub(ticks).ok_or(VdfError::SegmentTicks { index })?;
        x = y;
    }
    let (y, proof) = last.split_at_checked(FORM_BYTES).unwrap_or((last, &[]));
    let y = Form::decode(y, d).map_err(VdfError::Output)?;
    let proof = Form::decode(proof, d).map_err(VdfError::Proof)?;
    let prime = fiat_shamir_prime(&x, &y, d).map_err(|error| error.or(VdfError::Output))?;
    if output(d, &x, &proof, &prime, remaining) == y { Ok(()) } else { Err(VdfError::Equation) }
}

/// One segment of an n-Wesolowski proof. spec: vdf §7
struct Segment<'a> {
    ticks: u64,
    prime: Integer,
    proof: &'a [u8],
}

impl<'a> Segment<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (ticks, rest) = bytes.split_first_chunk()?;
        let (prime, proof) = rest.split_at_checked(PRIME_BYTES)?;
        Some(Self {
            ticks: u64::from_be_bytes(*ticks),
            prime: Integer::from_be_bytes(prime)?,
            proof,
        })
    }
}

/// Why there is no Fiat–Shamir prime for two forms; neither has ever been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimeError {
    /// A form does not encode.
    Form(FormError),
    /// No prime among the candidates.
    Exhausted(super::DiscriminantError),
}

impl PrimeError {
    fn or(self, of_form: impl Fn(FormError) -> VdfError) -> VdfError {
        match self {
            Self::Form(error) => of_form(error),
            Self::Exhausted(error) => VdfError::Discriminant(error),
        }
    }
}

/// B: the prime that the encodings of the start and the output hash to. spec: vdf §6
///
/// # Errors
/// [`PrimeError`]: a form that does not encode, or no prime among 131072 candidates.
pub fn fiat_shamir_prime(x: &Form, y: &Form, d: &Discriminant) -> Result<Integer, PrimeError> {
    let mut seed = [0; 2 * FORM_BYTES];
    let (first, second) = seed.split_at_mut(FORM_BYTES);
    first.copy_from_slice(&x.encode(d).map_err(PrimeError::Form)?);
    second.copy_from_slice(&y.encode(d).map_err(PrimeError::Form)?);
    hash_prime(&seed, PRIME_BITS, &[PRIME_BITS - 1]).map_err(PrimeError::Exhausted)
}

/// 2^exponent modulo a positive number.
pub(crate) fn power_of_two(exponent: u64, modulus: &Integer) -> Integer {
    let mut power = Integer::ONE.modulo(modulus);
    for at in (0..64 - exponent.leading_zeros()).rev() {
        power = (power * power).modulo(modulus);
        if exponent >> at & 1 == 1 {
            power = power.shifted_left(1).modulo(modulus);
        }
    }
    power
}

/// The output a proof speaks of: π^B·x^r with r = 2^ticks mod B. spec: vdf §6
fn output(d: &Discriminant, x: &Form, proof: &Form, prime: &Integer, ticks: u64) -> Form {
    product_of_powers(d, proof, prime, x, &power_of_two(ticks, prime))
}
