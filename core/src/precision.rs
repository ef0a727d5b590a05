//! The grids that logits are rounded to before anything else reads them. The declared precision of
//! a proof promises that every evidence logit lies on that type's grid, so an engine whose logits
//! are wider rounds first and samples from the rounded values.

/// Rounding of a logits row, chosen by the precision label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snap {
    /// Values pass unchanged (`fp32`, `fp8`, `""` and every unknown label).
    None,
    /// bfloat16, nearest, ties to even.
    Bf16,
    /// IEEE half precision, with the reference's subnormal range.
    Fp16,
    /// `round(127·clamp(l))/127`.
    Int8,
}

impl Snap {
    /// The rounding the reference's library applies for a label. spec: sampler §5.1
    #[must_use]
    pub fn for_label(label: &str) -> Self {
        match label {
            "bf16" => Self::Bf16,
            "fp16" => Self::Fp16,
            "int8" => Self::Int8,
            _ => Self::None,
        }
    }

    /// Rounds one logit.
    #[must_use]
    pub fn apply(self, logit: f32) -> f32 {
        match self {
            Self::None => logit,
            Self::Bf16 => bf16(logit),
            Self::Fp16 => fp16(logit),
            Self::Int8 => int8(logit),
        }
    }
}

/// Rounds to bfloat16 on the bit pattern: nearest, ties to even, infinities kept.
/// spec: sampler §5.1
#[must_use]
pub fn bf16(logit: f32) -> f32 {
    let bits = logit.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
    f32::from_bits(rounded)
}

/// Rounds to IEEE half precision. Normal results round to nearest, ties to even; the subnormal
/// range is the reference's, which a verifier's replay of its proofs depends on: the significand is
/// cut, then ties go up, then a carry out of the fraction is lost. spec: sampler §5.1
#[must_use]
pub fn fp16(logit: f32) -> f32 {
    let bits = logit.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let exponent = bits >> 23 & 0xFF;
    let fraction = bits & 0x007F_FFFF;
    if exponent == 0xFF {
        return logit_of_half(sign | 0x7C00 | u32::from(fraction != 0) << 9);
    }
    // The biased exponent of a half is this minus 112; written so that nothing goes below zero.
    if exponent <= 112 {
        let result = if exponent < 102 {
            0
        } else {
            let shift = 113 - exponent;
            let significand = (fraction | 0x0080_0000) >> shift;
            ((significand >> 13) + (significand >> 12 & 1)) & 0x3FF
        };
        return logit_of_half(sign | result);
    }
    if exponent >= 143 {
        return logit_of_half(sign | 0x7C00);
    }
    let kept = ((exponent - 112) << 10) | (fraction >> 13);
    let rest = fraction & 0x1FFF;
    let up = rest > 0x1000 || (rest == 0x1000 && kept & 1 == 1);
    // A carry out of the fraction raises the exponent; out of the largest it makes infinity.
    logit_of_half(sign | (kept + u32::from(up)))
}

/// Widens a half-precision bit pattern, exactly.
fn logit_of_half(half: u32) -> f32 {
    let sign = (half & 0x8000) << 16;
    let exponent = half >> 10 & 0x1F;
    let fraction = half & 0x3FF;
    match (exponent, fraction) {
        (0, _) => {
            // 2^-24 per unit; the product of two exact powers is exact.
            #[allow(clippy::cast_precision_loss)] // at most 1023
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(sign | magnitude.to_bits())
        }
        (31, _) => f32::from_bits(sign | 0x7F80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The `int8` grid: 127 steps to one, halves away from zero; NaN and −0 give 0.
/// spec: sampler §5.1
#[must_use]
pub fn int8(logit: f32) -> f32 {
    if logit.is_nan() {
        return 0.0;
    }
    // The value passes through an integer, which has no −0.
    (libm::roundf((127.0 * logit).clamp(-128.0, 127.0)) + 0.0) / 127.0
}
