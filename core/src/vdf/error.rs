//! Why a VDF proof, a form or a discriminant is refused.

use core::fmt;

/// Why there is no discriminant for a challenge. spec: vdf §3
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscriminantError {
    /// The size is zero, no multiple of 8, or above 2048 bits.
    Size {
        /// Bits asked for.
        bits: u32,
    },
    /// The seed is empty.
    EmptySeed,
    /// No candidate was prime before the counter of a short seed came round.
    Exhausted,
    /// The number is no discriminant: −D must be 7 modulo 8 and have at most 1024 bits.
    Shape,
}

impl fmt::Display for DiscriminantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { bits } => {
                write!(f, "a prime of {bits} bits: needs a multiple of 8 from 8 to 2048")
            }
            Self::EmptySeed => f.write_str("an empty seed gives no prime"),
            Self::Exhausted => f.write_str("the seed is too short: it ran out before a prime came"),
            Self::Shape => {
                f.write_str("a discriminant is a negative number of at most 1024 bits, 1 modulo 8")
            }
        }
    }
}

impl core::error::Error for DiscriminantError {}

/// Why 100 bytes are no form, or a form has no 100 bytes. spec: vdf §5
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormError {
    /// The slice has another length.
    Length {
        /// Bytes found.
        found: usize,
    },
    /// The length of g does not fit the size of the discriminant.
    CofactorLength,
    /// a' is zero.
    ZeroCoefficient,
    /// t has no inverse modulo a'.
    NotInvertible,
    /// t²·D is no square modulo a' in the sense of the format.
    NotSquare,
    /// Encoding the form again gives other bytes.
    NotCanonical,
    /// A field of the form is too long for its slot.
    NotEncodable,
    /// (a, b) belongs to no positive definite form of the discriminant.
    NoSuchForm,
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => write!(f, "a form has 100 bytes, not {found}"),
            Self::CofactorLength => {
                f.write_str("the length of g is too large for the discriminant")
            }
            Self::ZeroCoefficient => f.write_str("the first coefficient is zero"),
            Self::NotInvertible => f.write_str("the cofactor is not invertible"),
            Self::NotSquare => f.write_str("the cofactor leads to no square"),
            Self::NotCanonical => f.write_str("these bytes are not what the form encodes to"),
            Self::NotEncodable => f.write_str("the form does not fit the encoding"),
            Self::NoSuchForm => f.write_str("no form of the discriminant has these coefficients"),
        }
    }
}

impl core::error::Error for FormError {}

/// Why a VDF proof is refused. The node only says "bad-vdf-proof". spec: vdf §8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VdfError {
    /// The blob has another length than its depth asks for.
    Length {
        /// Bytes the depth asks for.
        expected: u64,
        /// Bytes found.
        found: usize,
    },
    /// The recursion depth is negative as an i32.
    Depth {
        /// The depth as given.
        depth: u32,
    },
    /// The discriminant would have more than 1024 bits.
    TooLarge {
        /// Bits asked for.
        bits: u32,
    },
    /// There is no discriminant.
    Discriminant(DiscriminantError),
    /// The starting form is refused.
    Start(FormError),
    /// The output form is refused.
    Output(FormError),
    /// The proof form of the last stretch is refused.
    Proof(FormError),
    /// The proof form of a segment is refused.
    Segment {
        /// Number of the segment, the earliest is 0.
        index: u32,
        /// Why.
        error: FormError,
    },
    /// A segment's prime is not the one its forms hash to.
    SegmentPrime {
        /// Number of the segment, the earliest is 0.
        index: u32,
    },
    /// The segments count more squarings than the whole proof.
    SegmentTicks {
        /// Number of the segment, the earliest is 0.
        index: u32,
    },
    /// π^B·x^r is not y.
    Equation,
}

impl fmt::Display for VdfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "a VDF proof of this depth has {expected} bytes, not {found}")
            }
            Self::Depth { depth } => write!(f, "depth {depth} is negative"),
            Self::TooLarge { bits } => {
                write!(f, "discriminants have at most 1024 bits, not {bits}")
            }
            Self::Discriminant(error) => write!(f, "no discriminant: {error}"),
            Self::Start(error) => write!(f, "the starting form: {error}"),
            Self::Output(error) => write!(f, "the output form: {error}"),
            Self::Proof(error) => write!(f, "the proof form: {error}"),
            Self::Segment { index, error } => write!(f, "the form of segment {index}: {error}"),
            Self::SegmentPrime { index } => {
                write!(f, "segment {index} names another prime than its forms hash to")
            }
            Self::SegmentTicks { index } => {
                write!(f, "segment {index} counts more squarings than are left")
            }
            Self::Equation => f.write_str("the proof does not belong to the output and the tick"),
        }
    }
}

impl core::error::Error for VdfError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Discriminant(error) => Some(error),
            Self::Start(error) | Self::Output(error) | Self::Proof(error) => Some(error),
            Self::Segment { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<DiscriminantError> for VdfError {
    fn from(error: DiscriminantError) -> Self {
        Self::Discriminant(error)
    }
}
