//! The 32-bit compact form of a target: one byte of exponent, 23 bits of mantissa and a sign.
//! Follows the node, whose flags differ from those of the Python miner's library.

use super::Target;
use core::fmt;
use crypto_bigint::U256;

/// A target in compact form ("bits"): any 32-bit value, valid or not. spec: targets §2
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompactTarget(u32);

/// What a compact form expands to. The target is meaningless as a threshold when a flag is set;
/// [`CompactTarget::derive`] checks that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expanded {
    /// The value modulo 2^256.
    pub target: Target,
    /// The sign bit is set on a mantissa that is not zero.
    pub negative: bool,
    /// Bits of the mantissa were lost above 2^256.
    pub overflow: bool,
}

/// Why a compact form stands for no valid target. spec: targets §2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompactError {
    /// The compact form is negative.
    Negative,
    /// The compact form exceeds 256 bits.
    Overflow,
    /// The compact form is zero.
    Zero,
    /// The target is easier than the network's limit.
    AbovePowLimit,
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Negative => "the compact target is negative",
            Self::Overflow => "the compact target exceeds 256 bits",
            Self::Zero => "the compact target is zero",
            Self::AbovePowLimit => "the compact target is above the network's limit",
        })
    }
}

impl core::error::Error for CompactError {}

impl CompactTarget {
    /// Takes the number a header carries little-endian.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The number a header carries little-endian.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// Bits to target, with the node's flags. spec: targets §2
    #[must_use]
    pub fn expand(self) -> Expanded {
        let exponent = self.0 >> 24;
        let mut mantissa = self.0 & 0x007f_ffff;
        let target = if exponent <= 3 {
            mantissa >>= 8 * (3 - exponent);
            U256::from_u32(mantissa)
        } else {
            U256::from_u32(mantissa).wrapping_shl_vartime(8 * (exponent - 3))
        };
        Expanded {
            target: Target(target),
            negative: mantissa != 0 && self.0 & 0x0080_0000 != 0,
            overflow: mantissa != 0
                && (exponent > 34
                    || (mantissa > 0xff && exponent > 33)
                    || (mantissa > 0xffff && exponent > 32)),
        }
    }

    /// The valid target this stands for: not negative, no overflow, not zero, at most `pow_limit`.
    /// spec: targets §2
    ///
    /// # Errors
    /// [`CompactError`] names the first of these conditions that fails.
    pub fn derive(self, pow_limit: &Target) -> Result<Target, CompactError> {
        let Expanded { target, negative, overflow } = self.expand();
        if negative {
            Err(CompactError::Negative)
        } else if overflow {
            Err(CompactError::Overflow)
        } else if target.is_zero() {
            Err(CompactError::Zero)
        } else if target > *pow_limit {
            Err(CompactError::AbovePowLimit)
        } else {
            Ok(target)
        }
    }
}

impl Target {
    /// Target to bits, rounding down: the expansion is never above this target.
    /// spec: targets §2
    #[must_use]
    pub fn compact(&self) -> CompactTarget {
        let bytes = self.to_be_bytes();
        let significant = bytes.iter().skip_while(|byte| **byte == 0);
        // The three leading bytes, zeros appended to a shorter number.
        let leading = significant.clone().chain([0, 0, 0].iter()).take(3);
        let mut mantissa = leading.fold(0, |value, byte| value << 8 | u32::from(*byte));
        let mut exponent = significant.fold(0, |count, _| count + 1);
        if mantissa & 0x0080_0000 != 0 {
            // This bit is the sign.
            mantissa >>= 8;
            exponent += 1;
        }
        CompactTarget(exponent << 24 | mantissa)
    }
}

impl fmt::Debug for CompactTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompactTarget({self})")
    }
}

/// `0x` and eight hex digits.
impl fmt::Display for CompactTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn expand(bits: u32) -> Expanded {
        CompactTarget::from_bits(bits).expand()
    }

    #[test]
    fn the_genesis_bits_expand_to_the_documented_target() {
        let expanded = expand(0x1f5b_05b0);
        assert_eq!(expanded.target.to_string(), "005b05b0".to_string() + &"0".repeat(56));
        assert!(!expanded.negative && !expanded.overflow);
        assert_eq!(expanded.target.compact(), CompactTarget::from_bits(0x1f5b_05b0));
    }

    #[test]
    fn the_limits_have_the_documented_bits() {
        assert_eq!(Target::POW_LIMIT_TENSOR.compact().to_bits(), 0x207f_ffff);
        assert_eq!(Target::MAX.compact().to_bits(), 0x2100_ffff);
        assert_eq!(Target::ZERO.compact().to_bits(), 0);
    }

    #[test]
    fn a_mantissa_shifted_to_zero_is_neither_negative_nor_an_overflow() {
        assert_eq!(
            expand(0x0180_0001),
            Expanded { target: Target::ZERO, negative: false, overflow: false }
        );
        assert_eq!(
            expand(0xff80_0000),
            Expanded { target: Target::ZERO, negative: false, overflow: false }
        );
        assert!(expand(0x0481_0000).negative);
    }

    #[test]
    fn overflow_begins_where_a_set_bit_leaves_the_256_bits() {
        for (bits, overflow) in [
            (0x0412_3456, false),
            (0x207f_ffff, false),
            (0x2100_ffff, false),
            (0x2101_0000, true),
            (0x2200_00ff, false),
            (0x2200_0100, true),
            (0x2300_0001, true),
            (0xff00_0001, true),
        ] {
            assert_eq!(expand(bits).overflow, overflow, "{bits:08x}");
        }
    }

    #[test]
    fn derive_names_what_is_wrong() {
        let derive = |bits| CompactTarget::from_bits(bits).derive(&Target::POW_LIMIT_TENSOR);
        assert_eq!(derive(0x0481_0000), Err(CompactError::Negative));
        assert_eq!(derive(0x2300_0001), Err(CompactError::Overflow));
        assert_eq!(derive(0), Err(CompactError::Zero));
        assert_eq!(derive(0x2100_ffff), Err(CompactError::AbovePowLimit));
        assert_eq!(derive(0x207f_ffff).map(|target| target.compact().to_bits()), Ok(0x207f_ffff));
    }

    proptest! {
        #[test]
        fn compacting_rounds_down_by_less_than_a_mantissa_unit(
            mut bytes: [u8; 32],
            zeros in 0_usize..32,
        ) {
            bytes[..zeros].fill(0);
            let target = Target::from_be_bytes(bytes);
            let bits = target.compact();
            let expanded = bits.expand();
            prop_assert!(expanded.target <= target);
            prop_assert!(!expanded.negative && !expanded.overflow);
            if bits.to_bits() >> 24 <= 3 {
                prop_assert_eq!(expanded.target, target);
            } else {
                let next = CompactTarget::from_bits(bits.to_bits() + 1).expand();
                prop_assert!(next.overflow || next.negative || next.target > target);
            }
        }

        #[test]
        fn compact_of_expand_is_a_fixed_point(bits: u32) {
            let once = expand(bits).target.compact();
            prop_assert_eq!(once.expand().target.compact(), once);
        }
    }
}
