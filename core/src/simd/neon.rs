//! The kernels with NEON, which every 64-bit ARM processor has: a quarter of a vector of 16 an
//! instruction. `portable.rs` is the text to read.

#![allow(unsafe_code)] // loads and stores

use super::portable::{self, LOWEST, POWERS, ROUND};
use super::{DEPTH, Extremes, GROUPS, LANES, Lanes, QUAD, ROOM, Sweep, Swept, fold, list};
use crate::precision::Snap;
use core::arch::aarch64::{
    float32x4_t, float64x2_t, int32x4_t, uint32x4_t, vaddq_f32, vaddq_f64, vaddq_u32, vaddvq_u32,
    vandq_u32, vbslq_f32, vcgtq_f32, vcgtq_u32, vcvt_f64_f32, vcvt_high_f64_f32, vcvtq_f32_u32,
    vdivq_f32, vdupq_n_f32, vdupq_n_f64, vdupq_n_s32, vdupq_n_u32, vget_low_f32, vld1q_f32,
    vld1q_u32, vmaxq_s32, vmaxq_u32, vmaxvq_s32, vmaxvq_u32, vmulq_f32, vnegq_s32, vorrq_u32,
    vreinterpretq_f32_u32, vreinterpretq_s32_f32, vreinterpretq_s32_u32, vreinterpretq_u32_f32,
    vshlq_n_u32, vshlq_u32, vshrq_n_u32, vst1q_f32, vst1q_f64, vst1q_u32, vsubq_f32, vsubq_u32,
};

/// Values in a register.
const QUARTER: usize = LANES / 4;
/// A vector of 16.
type Vector = [float32x4_t; 4];

/// The proof that the processor has NEON: the target says so, where this file is compiled at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neon(());

impl Neon {
    pub(super) const THERE: Self = Self(());

    pub(super) fn scan(self, row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
        // SAFETY: `self` proves NEON.
        unsafe { scan(row, maxima) }
    }

    pub(super) fn sweep(self, row: &[f32], how: &Sweep, ids: &mut [u32; ROOM]) -> Swept {
        let scaled = how.temperature != 1.0;
        // SAFETY: `self` proves NEON.
        unsafe {
            match (how.snap, scaled) {
                (Snap::None, false) => sweep::<UNCHANGED, false>(row, how, ids),
                (Snap::None, true) => sweep::<UNCHANGED, true>(row, how, ids),
                (Snap::Bf16, false) => sweep::<BF16, false>(row, how, ids),
                (Snap::Bf16, true) => sweep::<BF16, true>(row, how, ids),
                (Snap::Fp16, false) => sweep::<FP16, false>(row, how, ids),
                (Snap::Fp16, true) => sweep::<FP16, true>(row, how, ids),
                (Snap::Int8, _) => portable::sweep(row, how, ids),
            }
        }
    }

    pub(super) fn count_above(self, values: &[[f32; LANES]], threshold: f32) -> usize {
        // SAFETY: `self` proves NEON.
        unsafe { count_above(values, threshold) }
    }

    pub(super) fn sum_above(self, values: &[[f32; LANES]], threshold: f32) -> f64 {
        // SAFETY: `self` proves NEON.
        unsafe { sum_above(values, threshold) }
    }
}

// What a sweep rounds to, known when it is compiled.
const UNCHANGED: u8 = 0;
const BF16: u8 = 1;
const FP16: u8 = 2;

#[target_feature(enable = "neon")]
fn load(values: &[f32; QUARTER]) -> float32x4_t {
    // SAFETY: four values are there.
    unsafe { vld1q_f32(values.as_ptr()) }
}

/// The four registers of a vector.
#[target_feature(enable = "neon")]
fn quarters(values: &[f32; LANES]) -> Vector {
    let pointer = values.as_ptr();
    // SAFETY: sixteen values are there.
    unsafe {
        [
            vld1q_f32(pointer),
            vld1q_f32(pointer.add(QUARTER)),
            vld1q_f32(pointer.add(2 * QUARTER)),
            vld1q_f32(pointer.add(3 * QUARTER)),
        ]
    }
}

#[target_feature(enable = "neon")]
fn store(values: &mut [f32; QUARTER], from: float32x4_t) {
    // SAFETY: there is room for four values.
    unsafe { vst1q_f32(values.as_mut_ptr(), from) }
}

/// `a` where `a > b`, else `b`; the instruction called `max` decides otherwise about NaN and zeros.
#[target_feature(enable = "neon")]
fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// Bit patterns of the running extremes.
#[derive(Clone, Copy)]
struct Seen {
    signed: int32x4_t,
    unsigned: uint32x4_t,
    union: uint32x4_t,
}

impl Seen {
    #[target_feature(enable = "neon")]
    fn nothing() -> Self {
        let zero = vdupq_n_u32(0);
        Self { signed: vdupq_n_s32(i32::MIN), unsigned: zero, union: zero }
    }

    #[target_feature(enable = "neon")]
    fn take(&mut self, values: float32x4_t) {
        let bits = vreinterpretq_u32_f32(values);
        self.signed = vmaxq_s32(self.signed, vreinterpretq_s32_f32(values));
        self.unsigned = vmaxq_u32(self.unsigned, bits);
        self.union = vorrq_u32(self.union, bits);
    }

    #[target_feature(enable = "neon")]
    fn extremes(self) -> Extremes {
        let union = words(self.union).into_iter().fold(0, |union, bits| union | bits);
        Extremes { signed: vmaxvq_s32(self.signed), unsigned: vmaxvq_u32(self.unsigned), union }
    }
}

#[target_feature(enable = "neon")]
fn words(vector: uint32x4_t) -> [u32; QUARTER] {
    let mut words = [0; QUARTER];
    // SAFETY: there is room for four words.
    unsafe { vst1q_u32(words.as_mut_ptr(), vector) };
    words
}

#[target_feature(enable = "neon")]
fn scan(row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
    maxima.fill(f32::NEG_INFINITY);
    let mut seen = Seen::nothing();
    let (blocks, rest) = row.as_chunks::<{ DEPTH * GROUPS }>();
    for block in blocks {
        let ([a, b, c, d], _) = block.as_chunks::<GROUPS>() else { continue };
        let groups = maxima.as_chunks_mut::<QUARTER>().0.iter_mut();
        let [a, b, c, d] = [a, b, c, d].map(|chunk| chunk.as_chunks::<QUARTER>().0);
        for ((((maximum, a), b), c), d) in groups.zip(a).zip(b).zip(c).zip(d) {
            let mut highest = load(maximum);
            for values in [a, b, c, d] {
                let values = load(values);
                seen.take(values);
                highest = max(values, highest);
            }
            store(maximum, highest);
        }
    }
    let mut tail = Extremes::NONE;
    for chunk in rest.chunks(GROUPS) {
        let (vectors, remainder) = chunk.as_chunks::<QUARTER>();
        for (maximum, values) in maxima.as_chunks_mut::<QUARTER>().0.iter_mut().zip(vectors) {
            let values = load(values);
            seen.take(values);
            let highest = max(values, load(maximum));
            store(maximum, highest);
        }
        let groups = maxima.get_mut(vectors.len() * QUARTER..).unwrap_or_default();
        portable::scan_chunk(remainder, groups, &mut tail);
    }
    seen.extremes().with(tail)
}

/// Rounds to bfloat16, as [`crate::precision::bf16`].
#[target_feature(enable = "neon")]
fn bf16(raw: float32x4_t) -> float32x4_t {
    let bits = vreinterpretq_u32_f32(raw);
    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
    let rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
    vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(!0xFFFF)))
}

/// Rounds to half precision what is not NaN, as [`crate::precision::fp16`].
#[target_feature(enable = "neon")]
fn fp16(raw: float32x4_t) -> float32x4_t {
    let word = |value: u32| vdupq_n_u32(value);
    let raw = vreinterpretq_u32_f32(raw);
    let sign = vandq_u32(raw, word(0x8000_0000));
    let bits = vandq_u32(raw, word(0x7FFF_FFFF));
    let odd = vandq_u32(vshrq_n_u32::<13>(bits), word(1));
    let rounded = vaddq_u32(vaddq_u32(bits, word(0xFFF)), odd);
    let normal = vandq_u32(rounded, word(!0x1FFF));
    // From 65536 on there is infinity only.
    let beyond = vcgtq_u32(normal, word(0x477F_FFFF));
    let infinity = vdupq_n_f32(f32::INFINITY);
    let normal = vbslq_f32(beyond, infinity, vreinterpretq_f32_u32(normal));
    // Below 2^-14: the significand cut, ties up, a carry lost. A shift to the right is one to the
    // left by a negative number.
    let shift = vreinterpretq_s32_u32(vsubq_u32(word(113), vshrq_n_u32::<23>(bits)));
    let fraction = vandq_u32(bits, word(0x007F_FFFF));
    let significand = vshlq_u32(vorrq_u32(fraction, word(0x0080_0000)), vnegq_s32(shift));
    let up = vandq_u32(vshrq_n_u32::<12>(significand), word(1));
    let units = vaddq_u32(vshrq_n_u32::<13>(significand), up);
    let units = vcvtq_f32_u32(vandq_u32(units, word(0x3FF)));
    let subnormal = vmulq_f32(units, vdupq_n_f32(f32::from_bits(0x3380_0000)));
    let small = vcgtq_u32(word(0x3880_0000), bits);
    let magnitude = vreinterpretq_u32_f32(vbslq_f32(small, subnormal, normal));
    vreinterpretq_f32_u32(vorrq_u32(magnitude, sign))
}

#[target_feature(enable = "neon")]
fn settled<const SNAP: u8>(raw: float32x4_t, floor: float32x4_t) -> float32x4_t {
    let value = match SNAP {
        BF16 => bf16(raw),
        FP16 => fp16(raw),
        _ => raw,
    };
    max(value, floor)
}

#[target_feature(enable = "neon")]
fn exp(x: float32x4_t) -> float32x4_t {
    let all = |value: f32| vdupq_n_f32(value);
    let x = max(x, all(LOWEST));
    let t = vmulq_f32(x, all(core::f32::consts::LOG2_E));
    let shifted = vaddq_f32(t, all(ROUND));
    let f = vsubq_f32(t, vsubq_f32(shifted, all(ROUND)));
    let [first, rest @ ..] = POWERS;
    let mut p = all(first);
    for c in rest {
        p = vaddq_f32(vmulq_f32(p, f), all(c));
    }
    let p = vaddq_f32(vmulq_f32(p, f), all(1.0));
    let power = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
    vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(p), power))
}

/// Sixteen sums in f64.
#[derive(Clone, Copy)]
struct Sums([float64x2_t; 8]);

impl Sums {
    #[target_feature(enable = "neon")]
    fn zero() -> Self {
        Self([vdupq_n_f64(0.0); 8])
    }

    #[target_feature(enable = "neon")]
    fn add(&mut self, vector: Vector) {
        for (pair, quarter) in self.0.as_chunks_mut::<2>().0.iter_mut().zip(vector) {
            pair[0] = vaddq_f64(pair[0], vcvt_f64_f32(vget_low_f32(quarter)));
            pair[1] = vaddq_f64(pair[1], vcvt_high_f64_f32(quarter));
        }
    }

    /// Adds four vectors, first among themselves.
    #[target_feature(enable = "neon")]
    fn add_quad(&mut self, quad: &[Vector; DEPTH]) {
        let [a, b, c, d] = quad;
        let tree = |at: usize| vaddq_f32(vaddq_f32(a[at], b[at]), vaddq_f32(c[at], d[at]));
        self.add([tree(0), tree(1), tree(2), tree(3)]);
    }

    #[target_feature(enable = "neon")]
    fn lanes(self) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        for (room, sums) in lanes.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            // SAFETY: there is room for two values.
            unsafe { vst1q_f64(room.as_mut_ptr(), sums) };
        }
        lanes
    }
}

/// Which of 64 values are above the threshold, a bit each. Most often none is.
#[target_feature(enable = "neon")]
fn larger(values: &[Vector; DEPTH], threshold: float32x4_t) -> u64 {
    let above = |quarter: &float32x4_t| vcgtq_f32(*quarter, threshold);
    let quarters = values.as_flattened();
    let any = quarters.iter().fold(vdupq_n_u32(0), |any, q| vorrq_u32(any, above(q)));
    if vmaxvq_u32(any) == 0 {
        return 0;
    }
    // SAFETY: four words are there.
    let places = unsafe { vld1q_u32([1, 2, 4, 8].as_ptr()) };
    let mask = |quarter| u64::from(vaddvq_u32(vandq_u32(above(quarter), places)));
    (0..).zip(quarters).fold(0, |all, (at, quarter)| all | mask(quarter) << (QUARTER * at))
}

#[target_feature(enable = "neon")]
fn sweep<const SNAP: u8, const SCALED: bool>(
    row: &[f32],
    how: &Sweep,
    ids: &mut [u32; ROOM],
) -> Swept {
    let floor = vdupq_n_f32(how.floor);
    let temperature = vdupq_n_f32(how.temperature);
    let reference = vdupq_n_f32(how.reference);
    let threshold = vdupq_n_f32(how.threshold);
    let mut sums = Sums::zero();
    let mut exps = Sums::zero();
    let mut above = 0;
    let (quads, _) = row.as_chunks::<QUAD>();
    for (quad_at, quad) in quads.iter().enumerate() {
        let mut values = [[vdupq_n_f32(0.0); 4]; DEPTH];
        for (value, raw) in values.iter_mut().zip(quad.as_chunks::<LANES>().0) {
            *value = quarters(raw);
            for quarter in value {
                *quarter = settled::<SNAP>(*quarter, floor);
            }
        }
        sums.add_quad(&values);
        list(larger(&values, threshold), quad_at * QUAD, ids, &mut above);
        for quarter in values.as_flattened_mut() {
            let scaled = if SCALED { vdivq_f32(*quarter, temperature) } else { *quarter };
            *quarter = exp(vsubq_f32(scaled, reference));
        }
        exps.add_quad(&values);
    }
    let mut lanes = Lanes { sums: sums.lanes(), exps: exps.lanes(), above };
    portable::sweep_from(row, quads.len() * QUAD, how, &mut lanes, ids);
    lanes.fold()
}

#[target_feature(enable = "neon")]
fn count_above(values: &[[f32; LANES]], threshold: f32) -> usize {
    let threshold = vdupq_n_f32(threshold);
    let mut counts = [vdupq_n_u32(0); 4];
    for vector in values {
        for (count, quarter) in counts.iter_mut().zip(quarters(vector)) {
            // A comparison that holds is −1.
            *count = vsubq_u32(*count, vcgtq_f32(quarter, threshold));
        }
    }
    counts.into_iter().flat_map(|count| words(count)).map(|count| count as usize).sum()
}

#[target_feature(enable = "neon")]
fn sum_above(values: &[[f32; LANES]], threshold: f32) -> f64 {
    let threshold = vdupq_n_f32(threshold);
    let mut sums = Sums::zero();
    for vector in values {
        let mut kept = quarters(vector);
        for quarter in &mut kept {
            let above = vcgtq_f32(*quarter, threshold);
            *quarter = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(*quarter), above));
        }
        sums.add(kept);
    }
    fold(sums.lanes())
}
