//! The float functions of the protocol. What decides a token uses `libm`'s `exp` and `log` (below
//! one ulp, the same bits on every platform); what only feeds a statistic with a tolerance uses
//! the polynomial below, which a compiler can vectorise.

/// `ln Σ exp(x)` in f64 over f32 values in the order given: the largest value is taken out first.
/// −∞ for no value, or when all are −∞. spec: verification §6 step 8
pub fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f64 {
    let max = values.clone().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let sum: f64 = values
        .filter(|v| *v != f32::NEG_INFINITY)
        .map(|v| libm::exp(f64::from(v) - f64::from(max)))
        .sum();
    f64::from(max) + libm::log(sum)
}

/// `f32(exp(x − log_z))`: the probability of a logit. spec: sampler §5.5
#[must_use]
#[allow(clippy::cast_possible_truncation)] // the rule rounds to f32
pub fn probability(logit: f32, log_z: f64) -> f32 {
    libm::exp(f64::from(logit) - log_z) as f32
}

/// Lanes summed side by side, so that the order of additions does not depend on the machine.
const LANES: usize = 8;

/// `Σ exp(scale·(l − max))` over a row, for the statistic of the whole vocabulary: relative error
/// of a term below 1e-9, terms below e^-700 count as zero. −∞ contributes nothing. `scaled` maps a
/// logit to its post-temperature value. spec: sampler §6
pub fn sum_exp(row: &[f32], max: f32, scaled: impl Fn(f32) -> f32) -> f64 {
    let max = f64::from(max);
    let mut lanes = [0.0_f64; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, l) in lanes.iter_mut().zip(chunk) {
            *lane += exp_below_one(f64::from(scaled(*l)) - max);
        }
    }
    for (lane, l) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += exp_below_one(f64::from(scaled(*l)) - max);
    }
    lanes.iter().sum()
}

/// `exp(x)` for `x ≤ 0`: 2^n times a polynomial on |r| ≤ ln2/2.
fn exp_below_one(x: f64) -> f64 {
    /// Adding and taking away this rounds to an integer, which then sits in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    let x = if x > -700.0 { x } else { -700.0 };
    let shifted = x * core::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * core::f64::consts::LN_2;
    let polynomial = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0
                    + r * (1.0 / 24.0
                        + r * (1.0 / 120.0
                            + r * (1.0 / 720.0 + r * (1.0 / 5_040.0 + r / 40_320.0)))))));
    // The integer stands in the low mantissa bits of `shifted`; moved to the exponent it is 2^n.
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(0x3FF0_0000_0000_0000));
    polynomial * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_within_its_stated_error() {
        for i in 0..70_000 {
            let x = -f64::from(i) / 100.0;
            let error = (exp_below_one(x) / libm::exp(x) - 1.0).abs();
            assert!(error < 1e-9, "exp({x}): relative error {error:e}");
        }
        assert!(exp_below_one(f64::NEG_INFINITY) < 1e-300);
    }

    #[test]
    fn log_sum_exp_of_nothing_is_minus_infinity() {
        assert_eq!(log_sum_exp([].into_iter()), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp([f32::NEG_INFINITY; 3].into_iter()), f64::NEG_INFINITY);
        assert!((log_sum_exp([0.0, 0.0].into_iter()) - core::f64::consts::LN_2).abs() < 1e-15);
    }
}
