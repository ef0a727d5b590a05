//! Credit units, their sum over a window, and the admission tier of the sum.

use super::table::{BASE, MAX_STEP_UNITS, UNITS_PER_BIT};
use super::{Arithmetic, BadBounds, Q63, mass};
use core::fmt;

/// Credited entropy in units of 1/1024 bit. spec: admission §6.4
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CreditUnits(pub u64);

impl CreditUnits {
    /// Whole bits in units.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits as u64 * UNITS_PER_BIT as u64)
    }

    /// The value in bits, for display only.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // shown with a few decimals
    pub fn bits(self) -> f64 {
        self.0 as f64 / f64::from(UNITS_PER_BIT)
    }
}

impl fmt::Display for CreditUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} units", self.0)
    }
}

/// The credit of a mass: the largest n with `T[n] ≥ mass`; none for a mass of 0, which has no
/// logarithm. spec: admission §6.4
#[must_use]
pub fn credit(mass: Q63) -> Option<CreditUnits> {
    let mass = mass.get();
    if mass == 0 {
        return None;
    }
    // Whole bits first: the largest q with 2^(63−q) ≥ mass, which T[1024·q] is.
    let whole = (mass - 1).leading_zeros().saturating_sub(1);
    if whole >= MAX_STEP_UNITS / UNITS_PER_BIT {
        return Some(CreditUnits(u64::from(MAX_STEP_UNITS)));
    }
    // T[b] >> q ≥ mass exactly when T[b] ≥ mass << q; T[0] = 2^63 is always one of them.
    let scaled = mass << whole;
    let fraction = BASE.partition_point(|threshold| *threshold >= scaled) - 1;
    Some(CreditUnits(u64::from(whole * UNITS_PER_BIT) + fraction as u64))
}

/// The credited entropy of a window, step by step, in both arithmetics. spec: admission §6.4
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BCred {
    exact: CreditUnits,
    node: CreditUnits,
}

impl BCred {
    /// Below this a bound differs between the arithmetics: 2^-74.
    const SAME_FROM: f64 = f64::from_bits(0x3B50_0000_0000_0000);

    /// Adds one step.
    ///
    /// # Errors
    /// [`BadBounds`] when the bounds make no interval; nothing is added then.
    pub fn add(&mut self, lower: f64, upper: f64) -> Result<(), BadBounds> {
        let of = |arithmetic| {
            let mass = mass(lower, upper, arithmetic)?;
            Ok(credit(mass).map_or(0, |units| units.0))
        };
        let exact = of(Arithmetic::Exact)?;
        let same = |x: f64| x <= 0.0 || x >= Self::SAME_FROM;
        let node = if same(lower) && same(upper) { exact } else { of(Arithmetic::Node)? };
        self.exact.0 = self.exact.0.saturating_add(exact);
        self.node.0 = self.node.0.saturating_add(node);
        Ok(())
    }

    /// The sum by definition.
    #[must_use]
    pub const fn exact(self) -> CreditUnits {
        self.exact
    }

    /// The node's sum, which decides whether a block is valid.
    #[must_use]
    pub const fn node(self) -> CreditUnits {
        self.node
    }

    /// The smaller of both: what every verifier grants.
    #[must_use]
    pub fn least(self) -> CreditUnits {
        self.exact.min(self.node)
    }
}

/// What a window's credited entropy demands of it. spec: admission §7
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Below the floor: refused, with or without a nonce.
    Invalid,
    /// Between floor and free: refused without an admission nonce.
    AdmissionRequired,
    /// No nonce needed; one that is there is still verified.
    Free,
}

impl Tier {
    /// The tier's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::AdmissionRequired => "admission required",
            Self::Free => "free",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tier of a sum under a chain's two thresholds. spec: admission §7
#[must_use]
pub fn tier(units: CreditUnits, floor: CreditUnits, free: CreditUnits) -> Tier {
    if units < floor {
        Tier::Invalid
    } else if units < free {
        Tier::AdmissionRequired
    } else {
        Tier::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credit::threshold;
    use proptest::prelude::*;

    #[test]
    fn a_threshold_earns_its_own_index_and_one_more_earns_one_less() {
        for n in (0..=MAX_STEP_UNITS).step_by(37).chain([1023, 1024, 1025, MAX_STEP_UNITS]) {
            let at = credit(Q63::saturating(threshold(n)));
            assert_eq!(at, Some(CreditUnits(u64::from(n))), "T[{n}]");
            let above = credit(Q63::saturating(threshold(n) + 1));
            assert_eq!(above, Some(CreditUnits(u64::from(n.saturating_sub(1)))), "T[{n}] + 1");
        }
        assert_eq!(credit(Q63::ZERO), None);
        assert_eq!(credit(Q63::saturating(1)), Some(CreditUnits(u64::from(MAX_STEP_UNITS))));
    }

    #[test]
    fn a_step_of_no_width_earns_the_most_a_real_step_can() {
        let mut sum = BCred::default();
        sum.add(0.0, 0.0).unwrap();
        assert_eq!((sum.exact(), sum.node()), (CreditUnits(12_582), CreditUnits(12_582)));
        assert!(sum.add(1.0, 0.5).is_err());
        assert_eq!(sum.least(), CreditUnits(12_582));
    }

    #[test]
    fn the_tiers_begin_at_their_thresholds() {
        let [floor, free] = [45, 70].map(CreditUnits::from_bits);
        for (units, expected) in [
            (0, Tier::Invalid),
            (46_079, Tier::Invalid),
            (46_080, Tier::AdmissionRequired),
            (71_679, Tier::AdmissionRequired),
            (71_680, Tier::Free),
        ] {
            assert_eq!(tier(CreditUnits(units), floor, free), expected, "{units}");
        }
    }

    proptest! {
        #[test]
        fn the_credit_is_the_largest_index_that_its_definition_allows(mass in 1..=1_u64 << 63) {
            let units = credit(Q63::saturating(mass)).unwrap().0 as u32;
            prop_assert!(threshold(units) >= mass);
            prop_assert!(units == MAX_STEP_UNITS || threshold(units + 1) < mass);
        }
    }
}
