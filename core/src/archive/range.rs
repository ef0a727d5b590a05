//! The entropy coder: a range coder over adaptive models of sixteen symbols. Encoder and decoder
//! stand behind one trait, so that what is coded is described once and walked in either direction:
//! the encoder writes the value it is given, the decoder puts the value it reads in its place.

use alloc::vec::Vec;

/// Shares of a model add up to two to this.
const TOTAL_BITS: u32 = 15;
/// What of the total adapts; the rest gives each symbol a share of at least one.
const ADAPTED: i16 = i16::MAX - 15;
/// A range below this is widened by 32 bits.
const NARROW: u64 = 1 << 32;

/// An adaptive model of sixteen symbols.
#[derive(Debug, Clone)]
pub(super) struct Nibble {
    /// Share of the symbols below each symbol, out of [`ADAPTED`]; never decreases.
    below: [i16; 16],
    /// Symbols seen, up to where the rate stays.
    seen: u8,
}

/// What each model moves to when a symbol comes: nothing below it and up to it, all above it.
const GOALS: [[i16; 16]; 16] = {
    let mut goals = [[0; 16]; 16];
    let mut symbol = 0;
    while symbol < 16 {
        let mut at = symbol + 1;
        while at < 16 {
            goals[symbol][at] = ADAPTED;
            at += 1;
        }
        symbol += 1;
    }
    goals
};

/// How far a model moves, as a right shift, by the symbols it has seen: fast at first, slowly once
/// it knows.
const RATES: [u8; 65] = {
    let mut rates = [6; 65];
    let mut seen = 0;
    while seen < 64 {
        rates[seen] = if seen < 4 {
            3
        } else if seen < 16 {
            4
        } else {
            5
        };
        seen += 1;
    }
    rates
};

impl Nibble {
    /// All symbols are equally likely.
    pub(super) const NEW: Self = {
        let mut below = [0; 16];
        let mut at = 0;
        while at < 16 {
            below[at] = (ADAPTED / 16) * at as i16;
            at += 1;
        }
        Self { below, seen: 0 }
    };

    /// Where a symbol's share begins, and its size, out of 2^[`TOTAL_BITS`].
    #[inline]
    #[allow(clippy::cast_sign_loss)] // shares are never negative
    fn share(&self, symbol: usize) -> (u64, u64) {
        let symbol = symbol & 15;
        let from = self.below[symbol] as u64 + symbol as u64;
        let to = match symbol {
            15 => 1 << TOTAL_BITS,
            _ => self.below[(symbol + 1) & 15] as u64 + symbol as u64 + 1,
        };
        (from, to - from)
    }

    /// The symbol whose share holds a point.
    #[inline]
    fn find(&self, point: i16) -> usize {
        const PLACES: [i16; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        // Counting all of them is faster than stopping at the first above: there are no branches.
        let up_to = |(below, place): (&i16, i16)| i16::from(below + place <= point);
        let count: i16 = self.below.iter().zip(PLACES).map(up_to).sum();
        usize::from(count.unsigned_abs()).saturating_sub(1)
    }

    #[inline]
    fn learn(&mut self, symbol: usize) {
        let rate = RATES[usize::from(self.seen).min(64)];
        self.seen = self.seen.saturating_add(1);
        for (below, goal) in self.below.iter_mut().zip(&GOALS[symbol & 15]) {
            *below += (goal - *below) >> rate;
        }
    }
}

/// Codes values in one of the two directions.
pub(super) trait Coder {
    /// Codes a value below 16.
    fn nibble(&mut self, model: &mut Nibble, value: u32) -> u32;

    /// Codes the low `bits` bits of a value as they are; at most 32.
    fn raw(&mut self, bits: u32, value: u32) -> u32;
}

/// Writes; returns what it was given.
#[derive(Debug)]
pub(super) struct Encoder {
    out: Vec<u8>,
    low: u64,
    range: u64,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { out: Vec::new(), low: 0, range: u64::MAX }
    }

    #[inline]
    fn narrow(&mut self, unit: u64, from: u64, size: u64) {
        let (low, carry) = self.low.overflowing_add(unit * from);
        self.low = low;
        if carry {
            self.carry();
        }
        self.range = unit * size;
        if self.range < NARROW {
            self.out.extend_from_slice(&((self.low >> 32) as u32).to_be_bytes());
            self.low <<= 32;
            self.range <<= 32;
        }
    }

    /// Adds one to what was written.
    fn carry(&mut self) {
        for byte in self.out.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }

    /// The code. Zeros at its end are left out: a decoder reads zeros behind the end.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // Any point of the range will do; the one with the most zeros at its end is shortest.
        let point = self.low.checked_add(NARROW - 1).map(|high| high & !(NARROW - 1));
        match point {
            Some(point) => self.low = point,
            None => {
                self.carry();
                self.low = 0;
            }
        }
        self.out.extend_from_slice(&self.low.to_be_bytes());
        let used = self.out.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.out.truncate(used);
        self.out
    }
}

impl Coder for Encoder {
    #[inline]
    fn nibble(&mut self, model: &mut Nibble, value: u32) -> u32 {
        let symbol = (value & 15) as usize;
        let (from, size) = model.share(symbol);
        self.narrow(self.range >> TOTAL_BITS, from, size);
        model.learn(symbol);
        value
    }

    #[inline]
    fn raw(&mut self, bits: u32, value: u32) -> u32 {
        if bits > 0 {
            let low_bits = u64::from(value) & ((1 << bits) - 1);
            self.narrow(self.range >> bits, low_bits, 1);
        }
        value
    }
}

/// Reads; behind the end of the code it reads zeros.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    /// Distance of the code from the range's low end.
    code: u64,
    range: u64,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { rest: bytes, code: 0, range: u64::MAX };
        decoder.code = decoder.word() << 32;
        decoder.code |= decoder.word();
        decoder
    }

    /// True when the code was read to its end.
    pub(super) const fn finished(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next four bytes.
    fn word(&mut self) -> u64 {
        let mut word = [0; 4];
        match self.rest.split_first_chunk() {
            Some((head, rest)) => {
                word = *head;
                self.rest = rest;
            }
            None => {
                word.iter_mut().zip(self.rest).for_each(|(to, from)| *to = *from);
                self.rest = &[];
            }
        }
        u64::from(u32::from_be_bytes(word))
    }

    #[inline]
    fn narrow(&mut self, unit: u64, from: u64, size: u64) {
        self.code = self.code.wrapping_sub(unit * from);
        self.range = unit * size;
        if self.range < NARROW {
            self.code = self.code << 32 | self.word();
            self.range <<= 32;
        }
    }
}

impl Coder for Decoder<'_> {
    #[inline]
    fn nibble(&mut self, model: &mut Nibble, _: u32) -> u32 {
        let unit = self.range >> TOTAL_BITS;
        // What the division leaves of the range belongs to nobody; hostile bytes may point there.
        let point = i16::try_from(self.code / unit).unwrap_or(i16::MAX);
        let symbol = model.find(point);
        let (from, size) = model.share(symbol);
        self.narrow(unit, from, size);
        model.learn(symbol);
        symbol as u32
    }

    #[inline]
    fn raw(&mut self, bits: u32, _: u32) -> u32 {
        if bits == 0 {
            return 0;
        }
        let unit = self.range >> bits;
        let value = (self.code / unit).min((1 << bits) - 1);
        self.narrow(unit, value, 1);
        value as u32
    }
}
