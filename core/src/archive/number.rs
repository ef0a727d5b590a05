//! Integers as the coder sees them: the length of a number and its leading bits are modelled, the
//! rest is taken as it is. The same model serves deltas of logits, indices into the dictionary and
//! the few bits by which a prediction misses.

use super::range::{Coder, Nibble};
use alloc::boxed::Box;

/// Lengths from here on are coded in two steps.
const LONG: u32 = 15;
/// Numbers of this length and above are written with all their 32 bits.
const WHOLE: u32 = 30;

/// An adaptive model of 32-bit numbers that are mostly small. `LEAD` bits behind the leading one are
/// modelled, at most 4.
#[derive(Debug, Clone)]
pub(super) struct Number<const LEAD: u32 = 4> {
    length: Nibble,
    long_length: Nibble,
    /// The bits behind the leading one, by length.
    lead: Box<[Nibble; WHOLE as usize]>,
}

/// A model of numbers whose bits behind the leading one tell nothing.
pub(super) type FlatNumber = Number<0>;

impl<const LEAD: u32> Number<LEAD> {
    pub(super) fn new() -> Self {
        let lead = Box::new([const { Nibble::NEW }; WHOLE as usize]);
        Self { length: Nibble::NEW, long_length: Nibble::NEW, lead }
    }

    /// Codes a number.
    #[inline]
    pub(super) fn code(&mut self, coder: &mut impl Coder, value: u32) -> u32 {
        let length = (u32::BITS - value.leading_zeros()).min(WHOLE);
        let mut coded = coder.nibble(&mut self.length, length.min(LONG));
        if coded == LONG {
            coded += coder.nibble(&mut self.long_length, length.saturating_sub(LONG));
        }
        let Some(behind) = coded.checked_sub(1) else { return 0 };
        let Some(lead) = self.lead.get_mut(coded as usize) else { return coder.raw(32, value) };
        if behind == 0 {
            return 1;
        }
        let modelled = behind.min(LEAD);
        let rest = behind - modelled;
        if modelled == 0 {
            return 1 << behind | coder.raw(rest, value & ((1 << rest) - 1));
        }
        let head = coder.nibble(lead, value >> rest & ((1 << modelled) - 1));
        let tail = coder.raw(rest, value & ((1 << rest) - 1));
        // Hostile bytes may name a head wider than the number has room for.
        1 << behind | (head & ((1 << modelled) - 1)) << rest | tail
    }

    /// Codes a value as its difference from a prediction, small in either direction.
    #[inline]
    pub(super) fn code_near(&mut self, coder: &mut impl Coder, predicted: u32, value: u32) -> u32 {
        let off = value.wrapping_sub(predicted);
        // Zigzag: 0, −1, 1, −2, … become 0, 1, 2, 3, …
        let folded = off << 1 ^ (off >> 31).wrapping_neg();
        let folded = self.code(coder, folded);
        predicted.wrapping_add(folded >> 1 ^ (folded & 1).wrapping_neg())
    }
}

/// An adaptive model of words of any kind, byte by byte.
#[derive(Debug, Clone)]
pub(super) struct AnyWord {
    high: [Nibble; 4],
    low: Box<[[Nibble; 16]; 4]>,
}

impl AnyWord {
    pub(super) fn new() -> Self {
        Self {
            high: [const { Nibble::NEW }; 4],
            low: Box::new([const { [const { Nibble::NEW }; 16] }; 4]),
        }
    }

    /// Codes a word.
    pub(super) fn code(&mut self, coder: &mut impl Coder, word: u32) -> u32 {
        let bytes = word.to_be_bytes();
        let mut coded = [0_u8; 4];
        for (((to, byte), high), low) in
            coded.iter_mut().zip(bytes).zip(&mut self.high).zip(self.low.iter_mut())
        {
            let upper = coder.nibble(high, u32::from(byte >> 4)) & 15;
            let lower = match low.get_mut(upper as usize) {
                Some(low) => coder.nibble(low, u32::from(byte & 15)) & 15,
                None => 0,
            };
            #[allow(clippy::cast_possible_truncation)] // two nibbles
            {
                *to = (upper << 4 | lower) as u8;
            }
        }
        u32::from_be_bytes(coded)
    }
}
