//! The passes over a logits row, and the one place where the instructions for them are chosen.
//!
//! Four kernels: `scan` and `sweep` read the row, `count_above` and
//! `sum_above` a few thousand values taken from it. `portable` is the text to read; `avx2`,
//! `avx512` and `neon` say the same in wider instructions and give the same bits on any input, because
//! the arithmetic leaves nothing to the machine:
//!
//! * Value `i` belongs to lane `i mod 16`. Four vectors of 16 are added in f32, per lane as
//!   `(a + b) + (c + d)`, and that sum goes to the lane's f64. At the end the lanes are folded in
//!   halves. A row that is no multiple of 64 is continued by zeros.
//! * No operation is fused with another.
//! * `max(a, b)` is `a` where `a > b`, else `b`: also for NaN, and for zeros of two signs.
//!
//! What a row must be, and what follows from the numbers, is not known here.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod portable;
#[cfg(test)]
mod tests;

use crate::precision::Snap;

/// Values side by side in a vector, and sums side by side in a row.
pub(crate) const LANES: usize = 16;
/// Vectors that are added in f32 before f64 takes over.
const DEPTH: usize = 4;
/// Values of one such group.
const QUAD: usize = LANES * DEPTH;
/// Groups whose maxima a scan takes: value `i` of the row belongs to group `i mod GROUPS`, so that
/// a vocabulary's neighbours, which are alike, are in different ones.
pub(crate) const GROUPS: usize = 4096;
/// Most ids a sweep collects.
pub(crate) const CAPACITY: usize = 6144;
/// Room for them, in whole vectors, and a place more for the id that comes too late.
pub(crate) const ROOM: usize = CAPACITY + LANES;

/// Which instructions read the rows. All paths give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path(Kind);

// The wide ones hold the proof that the processor has what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon(neon::Neon),
}

/// What one look at every value tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extremes {
    /// Largest bit pattern as a signed integer: NaN and +∞ lead it.
    pub(crate) signed: i32,
    /// Largest bit pattern as an unsigned integer: negative NaN and −∞ lead it.
    pub(crate) unsigned: u32,
    /// All bits that are set anywhere.
    pub(crate) union: u32,
}

impl Extremes {
    /// Of no value.
    const NONE: Self = Self { signed: i32::MIN, unsigned: 0, union: 0 };

    /// Of both parts of a row.
    #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
    fn with(self, other: Self) -> Self {
        Self {
            signed: self.signed.max(other.signed),
            unsigned: self.unsigned.max(other.unsigned),
            union: self.union | other.union,
        }
    }
}

/// What a sweep does to every value before it is counted in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sweep {
    /// Rounding to the grid.
    pub(crate) snap: Snap,
    /// Smaller values, which are −∞ alone, become this.
    pub(crate) floor: f32,
    /// Divides what is exponentiated.
    pub(crate) temperature: f32,
    /// Taken off the exponents; close to the largest of them.
    pub(crate) reference: f32,
    /// Ids of larger values are collected.
    pub(crate) threshold: f32,
}

impl Sweep {
    /// A value as the sums take it.
    pub(crate) fn settled(&self, raw: f32) -> f32 {
        portable::max(self.snap.apply(raw), self.floor)
    }

    /// [`Sweep::settled`] of values in place.
    pub(crate) fn settle(&self, values: &mut [f32]) {
        settle(values, self.snap, self.floor);
    }
}

/// Rounds values to their grid, and makes what is smaller than `floor` equal to it.
pub(crate) fn settle(values: &mut [f32], snap: Snap, floor: f32) {
    portable::settle(values, snap, floor);
}

/// The smallest and the largest of some values.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    portable::range(values)
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Swept {
    /// Sum of the values.
    pub(crate) sum: f64,
    /// `Σ exp(value / temperature − reference)`; see [`portable::exp`] for its error.
    pub(crate) exp_sum: f64,
    /// Values above the threshold, of which no more than [`CAPACITY`] have their id collected.
    pub(crate) above: usize,
}

/// Sums of a sweep before they are folded.
#[derive(Debug, Clone)]
struct Lanes {
    sums: [f64; LANES],
    exps: [f64; LANES],
    above: usize,
}

impl Lanes {
    const fn new() -> Self {
        Self { sums: [0.0; LANES], exps: [0.0; LANES], above: 0 }
    }

    fn fold(self) -> Swept {
        Swept { sum: fold(self.sums), exp_sum: fold(self.exps), above: self.above }
    }
}

/// Notes the ids of the values above the threshold: bit `i` stands for id `first + i`. There is one
/// such value among 64 or none, so a loop over the bits beats anything without branches.
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon")))]
#[inline]
fn list(mut larger: u64, first: usize, ids: &mut [u32; ROOM], above: &mut usize) {
    while larger != 0 {
        if let Some(slot) = ids.get_mut((*above).min(CAPACITY)) {
            #[allow(clippy::cast_possible_truncation)] // vocabularies are far below 2^32
            {
                *slot = first as u32 + larger.trailing_zeros();
            }
        }
        *above += 1;
        larger &= larger - 1;
    }
}

/// Adds lanes in halves: 8 apart, then 4, 2, 1.
fn fold(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    lanes[0]
}

impl Path {
    /// The path every machine has.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The widest path this machine has.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(avx512) = avx512::Avx512::detect() {
                return Self(Kind::Avx512(avx512));
            }
            if let Some(avx2) = avx2::Avx2::detect() {
                return Self(Kind::Avx2(avx2));
            }
        }
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        let always = Self(Kind::Neon(neon::Neon::THERE));
        #[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
        let always = Self::PORTABLE;
        always
    }

    /// All paths this machine has, the portable one first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            avx2::Avx2::detect().map(|avx2| Self(Kind::Avx2(avx2))),
            avx512::Avx512::detect().map(|avx512| Self(Kind::Avx512(avx512))),
        ];
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        let wide = [Some(Self(Kind::Neon(neon::Neon::THERE)))];
        #[cfg(not(any(
            target_arch = "x86_64",
            all(target_arch = "aarch64", target_feature = "neon")
        )))]
        let wide = [None];
        core::iter::once(Self::PORTABLE).chain(wide.into_iter().flatten())
    }

    /// The path's name: `portable`, `avx2`, `avx512`, `neon`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon(_) => "neon",
        }
    }

    /// Largest value of each group (−∞ for none; NaN is passed over) and the row's extremes.
    pub(crate) fn scan(self, row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
        match self.0 {
            Kind::Portable => portable::scan(row, maxima),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.scan(row, maxima),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.scan(row, maxima),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon(neon) => neon.scan(row, maxima),
        }
    }

    /// Sums a row and collects the ids, ascending, of the values above a threshold.
    pub(crate) fn sweep(self, row: &[f32], how: &Sweep, ids: &mut [u32; ROOM]) -> Swept {
        // The wide paths round to no grid that is not mined on.
        if how.snap == Snap::Int8 {
            return portable::sweep(row, how, ids);
        }
        match self.0 {
            Kind::Portable => portable::sweep(row, how, ids),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.sweep(row, how, ids),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.sweep(row, how, ids),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon(neon) => neon.sweep(row, how, ids),
        }
    }

    /// How many of whole vectors of values are above a threshold.
    pub(crate) fn count_above(self, values: &[[f32; LANES]], threshold: f32) -> usize {
        match self.0 {
            Kind::Portable => portable::count_above(values, threshold),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.count_above(values, threshold),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.count_above(values, threshold),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon(neon) => neon.count_above(values, threshold),
        }
    }

    /// The sum of those values, each added to its lane's f64.
    pub(crate) fn sum_above(self, values: &[[f32; LANES]], threshold: f32) -> f64 {
        match self.0 {
            Kind::Portable => portable::sum_above(values, threshold),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.sum_above(values, threshold),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.sum_above(values, threshold),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon(neon) => neon.sum_above(values, threshold),
        }
    }
}
