//! The float functions of the protocol. What decides a token uses `libm`'s `exp` and `log` (below
//! one ulp, the same bits on every platform); what only feeds a statistic with a tolerance uses the
//! polynomial of [`crate::simd`].

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_of_nothing_is_minus_infinity() {
        assert_eq!(log_sum_exp([].into_iter()), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp([f32::NEG_INFINITY; 3].into_iter()), f64::NEG_INFINITY);
        assert!((log_sum_exp([0.0, 0.0].into_iter()) - core::f64::consts::LN_2).abs() < 1e-15);
    }
}
