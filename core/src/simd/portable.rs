//! The kernels in plain Rust: loops over fixed lanes, which a compiler turns into whatever vector
//! instructions the target has. The other paths are held to these, bit for bit.

use super::{CAPACITY, Extremes, GROUPS, LANES, Lanes, QUAD, ROOM, Sweep, Swept, fold};
use crate::precision::{self, Snap};

/// Exponents below this count as this: e^-86 is nothing beside the largest term.
pub(super) const LOWEST: f32 = -86.0;
/// Adding it to a small number rounds that to an integer, which then stands in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
/// `(2^f − 1) / f` on |f| ≤ ½, highest power first; relative error of 2^f below 2e-7, its rounding
/// included.
pub(super) const POWERS: [f32; 5] =
    [0.001_330_060_5, 0.009_669_691, 0.055_505_585, 0.240_222_83, core::f32::consts::LN_2];

/// As `max` of the vector instructions.
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `e^x` for `x` up to 80, at least [`LOWEST`]: 2^n times a polynomial. The relative error is below
/// 2.5e-7 + 7.5e-8·|x|, most of it from rounding `x·log2 e`; that of a sum over a row, in which a
/// term weighs less the larger it is, stays below 1.2e-6 for 2^18 terms.
pub(super) fn exp(x: f32) -> f32 {
    let t = max(x, LOWEST) * core::f32::consts::LOG2_E;
    let shifted = t + ROUND;
    let f = t - (shifted - ROUND);
    let [first, rest @ ..] = POWERS;
    let p = rest.iter().fold(first, |p, c| p * f + c) * f + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

pub(super) fn scan(row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
    maxima.fill(f32::NEG_INFINITY);
    let mut extremes = Extremes::NONE;
    for chunk in row.chunks(GROUPS) {
        scan_chunk(chunk, maxima, &mut extremes);
    }
    extremes
}

/// Counts consecutive values in to consecutive groups.
pub(super) fn scan_chunk(values: &[f32], maxima: &mut [f32], extremes: &mut Extremes) {
    let Extremes { mut signed, mut unsigned, mut union } = *extremes;
    for (value, maximum) in values.iter().zip(maxima) {
        let bits = value.to_bits();
        signed = signed.max(bits.cast_signed());
        unsigned = unsigned.max(bits);
        union |= bits;
        *maximum = max(*value, *maximum);
    }
    *extremes = Extremes { signed, unsigned, union };
}

pub(super) fn sweep(row: &[f32], how: &Sweep, ids: &mut [u32; ROOM]) -> Swept {
    let mut lanes = Lanes::new();
    sweep_from(row, 0, how, &mut lanes, ids);
    lanes.fold()
}

/// Goes on with a sweep at an id that is a multiple of 64.
pub(super) fn sweep_from(
    row: &[f32],
    from: usize,
    how: &Sweep,
    lanes: &mut Lanes,
    ids: &mut [u32; ROOM],
) {
    let rest = row.get(from..).unwrap_or_default();
    let mut quads = rest.chunks_exact(QUAD);
    let mut values = [0.0; QUAD];
    let mut exps = [0.0; QUAD];
    let mut id = from;
    for quad in &mut quads {
        for (value, raw) in values.iter_mut().zip(quad) {
            *value = how.settled(*raw);
        }
        exponentials(how, &values, &mut exps);
        add_quad(&values, &exps, lanes);
        for vector in values.as_chunks::<LANES>().0 {
            collect(vector, id, how.threshold, lanes, ids);
            id += LANES;
        }
    }
    let tail = quads.remainder();
    if !tail.is_empty() {
        values.fill(0.0);
        for (value, raw) in values.iter_mut().zip(tail) {
            *value = how.settled(*raw);
        }
        exponentials(how, &values, &mut exps);
        exps.iter_mut().skip(tail.len()).for_each(|exp| *exp = 0.0);
        add_quad(&values, &exps, lanes);
        collect(values.get(..tail.len()).unwrap_or_default(), id, how.threshold, lanes, ids);
    }
}

fn exponentials(how: &Sweep, values: &[f32; QUAD], exps: &mut [f32; QUAD]) {
    // Without the division the loop is half as long, and x / 1 is x.
    if how.temperature == 1.0 {
        for (exp, value) in exps.iter_mut().zip(values) {
            *exp = self::exp(value - how.reference);
        }
    } else {
        for (exp, value) in exps.iter_mut().zip(values) {
            *exp = self::exp(value / how.temperature - how.reference);
        }
    }
}

fn add_quad(values: &[f32; QUAD], exps: &[f32; QUAD], lanes: &mut Lanes) {
    for (of, to) in [(values, &mut lanes.sums), (exps, &mut lanes.exps)] {
        let ([a, b, c, d], _) = of.as_chunks::<LANES>() else { continue };
        for (lane, (((a, b), c), d)) in to.iter_mut().zip(a.iter().zip(b).zip(c).zip(d)) {
            *lane += f64::from((a + b) + (c + d));
        }
    }
}

/// Notes the ids of the values above the threshold. Most vectors have none.
fn collect(values: &[f32], first: usize, threshold: f32, lanes: &mut Lanes, ids: &mut [u32; ROOM]) {
    if !values.iter().fold(false, |any, value| any | (*value > threshold)) {
        return;
    }
    for (id, value) in (first..).zip(values) {
        // Written always, kept if it counts: half of these would be guessed wrong.
        if let Some(slot) = ids.get_mut(lanes.above.min(CAPACITY)) {
            #[allow(clippy::cast_possible_truncation)] // vocabularies are far below 2^32
            {
                *slot = id as u32;
            }
        }
        lanes.above += usize::from(*value > threshold);
    }
}

pub(super) fn count_above(values: &[[f32; LANES]], threshold: f32) -> usize {
    let mut counts = [0_u32; LANES];
    for vector in values {
        for (count, value) in counts.iter_mut().zip(vector) {
            *count += u32::from(*value > threshold);
        }
    }
    counts.iter().map(|count| *count as usize).sum()
}

pub(super) fn sum_above(values: &[[f32; LANES]], threshold: f32) -> f64 {
    let mut lanes = [0.0; LANES];
    for vector in values {
        for (lane, value) in lanes.iter_mut().zip(vector) {
            *lane += if *value > threshold { f64::from(*value) } else { 0.0 };
        }
    }
    fold(lanes)
}

/// The smallest and the largest value; +∞ and −∞ for none. NaN is passed over.
pub(super) fn range(values: &[f32]) -> (f32, f32) {
    // In lanes: one value after the other would wait for the comparison before.
    let mut least = [f32::INFINITY; LANES];
    let mut most = [f32::NEG_INFINITY; LANES];
    for vector in values.chunks(LANES) {
        for ((least, most), value) in least.iter_mut().zip(&mut most).zip(vector) {
            *least = if *value < *least { *value } else { *least };
            *most = max(*value, *most);
        }
    }
    let least = least.into_iter().fold(f32::INFINITY, |a, b| if b < a { b } else { a });
    (least, most.into_iter().fold(f32::NEG_INFINITY, max))
}

/// Rounds values to their grid in place, smaller ones than `floor` to that.
pub(super) fn settle(values: &mut [f32], snap: Snap, floor: f32) {
    match snap {
        // Written out, so that the loop is a plain one.
        Snap::Bf16 => values.iter_mut().for_each(|v| *v = max(precision::bf16(*v), floor)),
        Snap::None => values.iter_mut().for_each(|v| *v = max(*v, floor)),
        snap => values.iter_mut().for_each(|v| *v = max(snap.apply(*v), floor)),
    }
}
