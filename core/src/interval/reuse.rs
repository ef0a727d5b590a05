//! The reuse-entropy score: how much of a window could be had without a forward pass.

use super::TOLERANCE;
use crate::credit::BadBounds;

/// The reuse-entropy score of a proof: how much of the window could be had for less than a forward
/// pass, in units of 2^-32. spec: verification §7
#[derive(Debug, Clone, Copy, Default)]
pub struct ReuseScore {
    prefix: u32,
    score: u64,
}

impl ReuseScore {
    /// The node's cap: `ceil(57.716742 · 2^32)`. spec: verification §7
    pub const CAP: u64 = 247_891_519_322;

    /// Adds one step.
    ///
    /// # Errors
    /// [`BadBounds`] when a bound is not finite or they are in the wrong order.
    pub fn add(&mut self, lower: f32, upper: f32) -> Result<(), BadBounds> {
        let (lower, upper) = (f64::from(lower), f64::from(upper));
        if !(lower.is_finite() && upper.is_finite()) || upper < lower {
            return Err(BadBounds { lower, upper });
        }
        let mass = ((upper - lower) + 2.0 * f64::from(TOLERANCE)).clamp(0.0, 1.0);
        self.prefix = (self.prefix + mass_bits(mass)).min(32);
        let step = if self.prefix == 32 { 1 } else { 1_u64 << 32 >> self.prefix };
        self.score = self.score.saturating_add(step);
        Ok(())
    }

    /// The score so far, in units of 2^-32.
    #[must_use]
    pub fn get(self) -> u64 {
        self.score
    }

    /// True when the node refuses the proof.
    #[must_use]
    pub fn exceeds_cap(self) -> bool {
        self.score > Self::CAP
    }
}

/// The largest `b ≤ 32` with `mass ≤ 2^-b`.
fn mass_bits(mass: f64) -> u32 {
    let mut bound = 1.0_f64;
    let mut bits = 0;
    while bits < 32 && mass <= bound / 2.0 {
        bound /= 2.0;
        bits += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mass_bits_is_inclusive() {
        assert_eq!(
            [0.0, 0.25, 0.250_000_1, 0.5, 1.0].map(mass_bits),
            [32, 2, 1, 1, 0],
            "m ≤ 2^-b with equality"
        );
    }

    #[test]
    fn a_certain_token_costs_a_whole_unit_and_exact_half_earns_nothing() {
        let mut score = ReuseScore::default();
        score.add(0.0, 1.0).unwrap();
        assert_eq!(score.get(), 1 << 32);
        score.add(0.0, 0.5).unwrap(); // widened by the tolerance: above one half
        assert_eq!(score.get(), 2 << 32);
        score.add(0.0, 0.25).unwrap();
        assert_eq!(score.get(), (2 << 32) + (1 << 31));
        assert_eq!(score.add(0.5, 0.25), Err(BadBounds { lower: 0.5, upper: 0.25 }));
    }
}
