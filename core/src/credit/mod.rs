//! Credited entropy: how many bits of a window an observer could not have foreseen, in integer
//! units of 1/1024 bit, and the admission tier that follows. Everything is exact integer
//! arithmetic on the interval bounds; no logarithm is taken anywhere.
//!
//! The node shifts tiny bounds by a wrapped count, which consensus inherits; so there are two
//! arithmetics ([`Arithmetic`]). The node's decides validity, a self-check takes the smaller sum.

mod q63;
mod table;
mod units;

pub use q63::{ATOL, Arithmetic, Q63, mass, mass_widened, q63_ceil, q63_floor};
pub use table::{BASE, MAX_STEP_UNITS, UNITS_PER_BIT, threshold};
pub use units::{BCred, CreditUnits, Tier, credit, tier};

use core::fmt;

/// The two edges of an interval are not finite, or in the wrong order. Such a proof is invalid.
/// spec: admission §6.2
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BadBounds {
    /// The lower edge.
    pub lower: f64,
    /// The upper edge.
    pub upper: f64,
}

impl fmt::Display for BadBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {} is no interval", self.lower, self.upper)
    }
}

impl core::error::Error for BadBounds {}
