//! How values that a producer holds in wider types become the words of a proof. A producer that
//! already holds the right width stores its bits unchanged. spec: proof-encoding §3

/// A float held as f64: nearest f32, ties to even; above the range infinity; subnormals and NaN
/// stay what they are.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // the rule is the rounding conversion
pub const fn float(value: f64) -> f32 {
    value as f32
}

/// A token id: the low 32 bits, two's complement (-1 becomes 4294967295).
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the rule is "low 32 bits"
pub const fn token(id: i64) -> u32 {
    id as u32
}

/// A time with a fraction: cut toward zero, then taken mod 2^64. None for a NaN or an infinity.
#[must_use]
pub fn timestamp(seconds: f64) -> Option<u64> {
    if !seconds.is_finite() {
        return None;
    }
    let bits = seconds.to_bits();
    // The exponent of the lowest mantissa bit: below -52 the value is less than 1, from 64 on every
    // bit of it stands at 2^64 or above.
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0) - 1075;
    let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
    let whole = match exponent {
        ..-52 => 0,
        -52..0 => mantissa >> exponent.unsigned_abs(),
        0..64 => mantissa << exponent.unsigned_abs(),
        _ => 0,
    };
    Some(if seconds < 0.0 { whole.wrapping_neg() } else { whole })
}

#[cfg(test)]
mod tests {
    use super::{float, timestamp, token};

    #[test]
    fn a_token_id_keeps_its_low_32_bits() {
        assert_eq!(token(-1), u32::MAX);
        assert_eq!(token((1 << 32) + 5), 5);
    }

    #[test]
    fn a_float_rounds_to_nearest_even_and_overflows_to_infinity() {
        assert_eq!(float(f64::from_bits(0x47ef_ffff_f000_0000)).to_bits(), 0x7f80_0000);
        assert_eq!(float(f64::from_bits(0x47ef_ffff_efff_ffff)), f32::MAX);
        assert_eq!(float(1.401_298_464_324_817e-45).to_bits(), 1);
    }

    #[test]
    fn a_time_is_cut_toward_zero_and_wraps() {
        for (seconds, whole) in [
            (0.0, 0),
            (0.999_999, 0),
            (-0.5, 0),
            (1.0, 1),
            (1_780_000_123.987, 1_780_000_123),
            (-1.5, u64::MAX),
            (2_251_799_813_685_249.5, 2_251_799_813_685_249),
            (9_007_199_254_740_993.0, 9_007_199_254_740_992),
            (18_446_744_073_709_549_568.0, 18_446_744_073_709_549_568),
            (18_446_744_073_709_551_616.0, 0),
            (18_446_744_073_709_555_712.0, 4096),
            (1e300, 0),
            (5e-324, 0),
        ] {
            assert_eq!(timestamp(seconds), Some(whole), "{seconds}");
        }
        assert_eq!(timestamp(f64::NAN), None);
        assert_eq!(timestamp(f64::INFINITY), None);
    }
}
