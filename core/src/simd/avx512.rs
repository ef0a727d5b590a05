//! The kernels with AVX-512: a vector of 16 an instruction, comparisons into mask
//! registers. `portable.rs` is the text to read.

#![allow(unsafe_code)] // loads, stores, and what not every processor has

use super::portable::{self, LOWEST, POWERS, ROUND};
use super::{DEPTH, Extremes, GROUPS, LANES, Lanes, QUAD, ROOM, Sweep, Swept, fold, list};
use crate::precision::Snap;
use core::arch::x86_64::{
    __m512, __m512d, __m512i, _CMP_GT_OQ, _mm256_castpd_ps, _mm512_add_epi32, _mm512_add_pd,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_pd, _mm512_castps_si512, _mm512_castps512_ps256,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cmpgt_epi32_mask, _mm512_cvtepi32_ps,
    _mm512_cvtps_pd, _mm512_div_ps, _mm512_extractf64x4_pd, _mm512_loadu_ps, _mm512_mask_blend_ps,
    _mm512_mask_sub_epi32, _mm512_maskz_mov_ps, _mm512_max_epi32, _mm512_max_epu32, _mm512_max_ps,
    _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_epi32, _mm512_reduce_max_epi32,
    _mm512_reduce_max_epu32, _mm512_reduce_or_epi32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_pd, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_srlv_epi32,
    _mm512_storeu_pd, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_sub_ps,
};

// The second is asked for because processors without it slow down on wide registers.
cpufeatures::new!(has_avx512, "avx512f", "avx512vbmi2");

/// The proof that the processor has AVX-512: made by asking it, and in no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        has_avx512::get().then_some(Self(()))
    }

    pub(super) fn scan(self, row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
        // SAFETY: `self` proves AVX-512.
        unsafe { scan(row, maxima) }
    }

    pub(super) fn sweep(self, row: &[f32], how: &Sweep, ids: &mut [u32; ROOM]) -> Swept {
        let scaled = how.temperature != 1.0;
        // SAFETY: `self` proves AVX-512.
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
        // SAFETY: `self` proves AVX-512.
        unsafe { count_above(values, threshold) }
    }

    pub(super) fn sum_above(self, values: &[[f32; LANES]], threshold: f32) -> f64 {
        // SAFETY: `self` proves AVX-512.
        unsafe { sum_above(values, threshold) }
    }
}

// What a sweep rounds to, known when it is compiled.
const UNCHANGED: u8 = 0;
const BF16: u8 = 1;
const FP16: u8 = 2;

#[target_feature(enable = "avx512f")]
fn load(values: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen values are there.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn store(values: &mut [f32; LANES], from: __m512) {
    // SAFETY: there is room for sixteen values.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), from) }
}

/// Bit patterns of the running extremes.
#[derive(Clone, Copy)]
struct Seen {
    signed: __m512i,
    unsigned: __m512i,
    union: __m512i,
}

impl Seen {
    #[target_feature(enable = "avx512f")]
    fn nothing() -> Self {
        let zero = _mm512_set1_epi32(0);
        Self { signed: _mm512_set1_epi32(i32::MIN), unsigned: zero, union: zero }
    }

    #[target_feature(enable = "avx512f")]
    fn take(&mut self, values: __m512) {
        let bits = _mm512_castps_si512(values);
        self.signed = _mm512_max_epi32(self.signed, bits);
        self.unsigned = _mm512_max_epu32(self.unsigned, bits);
        self.union = _mm512_or_si512(self.union, bits);
    }

    #[target_feature(enable = "avx512f")]
    fn extremes(self) -> Extremes {
        Extremes {
            signed: _mm512_reduce_max_epi32(self.signed),
            unsigned: _mm512_reduce_max_epu32(self.unsigned),
            union: _mm512_reduce_or_epi32(self.union).cast_unsigned(),
        }
    }
}

#[target_feature(enable = "avx512f")]
fn scan(row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
    maxima.fill(f32::NEG_INFINITY);
    let mut seen = Seen::nothing();
    let (blocks, rest) = row.as_chunks::<{ DEPTH * GROUPS }>();
    for block in blocks {
        let ([a, b, c, d], _) = block.as_chunks::<GROUPS>() else { continue };
        let [a, b, c, d] = [a, b, c, d].map(|chunk| chunk.as_chunks::<LANES>().0);
        let groups = maxima.as_chunks_mut::<LANES>().0.iter_mut();
        for ((((maximum, a), b), c), d) in groups.zip(a).zip(b).zip(c).zip(d) {
            let mut highest = load(maximum);
            for values in [a, b, c, d] {
                let values = load(values);
                seen.take(values);
                highest = _mm512_max_ps(values, highest);
            }
            store(maximum, highest);
        }
    }
    let mut tail = Extremes::NONE;
    for chunk in rest.chunks(GROUPS) {
        let (vectors, remainder) = chunk.as_chunks::<LANES>();
        for (maximum, values) in maxima.as_chunks_mut::<LANES>().0.iter_mut().zip(vectors) {
            let values = load(values);
            seen.take(values);
            let highest = _mm512_max_ps(values, load(maximum));
            store(maximum, highest);
        }
        let groups = maxima.get_mut(vectors.len() * LANES..).unwrap_or_default();
        portable::scan_chunk(remainder, groups, &mut tail);
    }
    seen.extremes().with(tail)
}

/// Rounds to bfloat16, as [`crate::precision::bf16`].
#[target_feature(enable = "avx512f")]
fn bf16(raw: __m512) -> __m512 {
    let bits = _mm512_castps_si512(raw);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    let kept = _mm512_and_si512(rounded, _mm512_set1_epi32(!0xFFFF));
    _mm512_castsi512_ps(kept)
}

/// Rounds to half precision what is not NaN, as [`crate::precision::fp16`].
#[target_feature(enable = "avx512f")]
fn fp16(raw: __m512) -> __m512 {
    let word = |value: i32| _mm512_set1_epi32(value);
    let sign = _mm512_and_si512(_mm512_castps_si512(raw), word(i32::MIN));
    let bits = _mm512_and_si512(_mm512_castps_si512(raw), word(i32::MAX));
    let odd = _mm512_and_si512(_mm512_srli_epi32::<13>(bits), word(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, word(0xFFF)), odd);
    let normal = _mm512_and_si512(rounded, word(!0x1FFF));
    // From 65536 on there is infinity only.
    let beyond = _mm512_cmpgt_epi32_mask(normal, word(0x477F_FFFF));
    let infinity = _mm512_set1_ps(f32::INFINITY);
    let normal = _mm512_mask_blend_ps(beyond, _mm512_castsi512_ps(normal), infinity);
    // Below 2^-14: the significand cut, ties up, a carry lost.
    let shift = _mm512_sub_epi32(word(113), _mm512_srli_epi32::<23>(bits));
    let fraction = _mm512_and_si512(bits, word(0x007F_FFFF));
    let significand = _mm512_srlv_epi32(_mm512_or_si512(fraction, word(0x0080_0000)), shift);
    let up = _mm512_and_si512(_mm512_srli_epi32::<12>(significand), word(1));
    let units = _mm512_add_epi32(_mm512_srli_epi32::<13>(significand), up);
    let units = _mm512_cvtepi32_ps(_mm512_and_si512(units, word(0x3FF)));
    let subnormal = _mm512_mul_ps(units, _mm512_set1_ps(f32::from_bits(0x3380_0000)));
    let small = _mm512_cmpgt_epi32_mask(word(0x3880_0000), bits);
    let magnitude = _mm512_castps_si512(_mm512_mask_blend_ps(small, normal, subnormal));
    _mm512_castsi512_ps(_mm512_or_si512(magnitude, sign))
}

#[target_feature(enable = "avx512f")]
fn settled<const SNAP: u8>(raw: __m512, floor: __m512) -> __m512 {
    let value = match SNAP {
        BF16 => bf16(raw),
        FP16 => fp16(raw),
        _ => raw,
    };
    _mm512_max_ps(value, floor)
}

#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let all = |value: f32| _mm512_set1_ps(value);
    let x = _mm512_max_ps(x, all(LOWEST));
    let t = _mm512_mul_ps(x, all(core::f32::consts::LOG2_E));
    let shifted = _mm512_add_ps(t, all(ROUND));
    let f = _mm512_sub_ps(t, _mm512_sub_ps(shifted, all(ROUND)));
    let [first, rest @ ..] = POWERS;
    let mut p = all(first);
    for c in rest {
        p = _mm512_add_ps(_mm512_mul_ps(p, f), all(c));
    }
    let p = _mm512_add_ps(_mm512_mul_ps(p, f), all(1.0));
    let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), power))
}

/// Sixteen sums in f64.
#[derive(Clone, Copy)]
struct Sums([__m512d; 2]);

impl Sums {
    #[target_feature(enable = "avx512f")]
    fn zero() -> Self {
        Self([_mm512_setzero_pd(); 2])
    }

    #[target_feature(enable = "avx512f")]
    fn add(&mut self, vector: __m512) {
        let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(vector)));
        self.0[0] = _mm512_add_pd(self.0[0], _mm512_cvtps_pd(_mm512_castps512_ps256(vector)));
        self.0[1] = _mm512_add_pd(self.0[1], _mm512_cvtps_pd(upper));
    }

    /// Adds four vectors, first among themselves.
    #[target_feature(enable = "avx512f")]
    fn add_quad(&mut self, [a, b, c, d]: [__m512; DEPTH]) {
        self.add(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
    }

    #[target_feature(enable = "avx512f")]
    fn lanes(self) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        for (room, sums) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            // SAFETY: there is room for eight values.
            unsafe { _mm512_storeu_pd(room.as_mut_ptr(), sums) };
        }
        lanes
    }
}

#[target_feature(enable = "avx512f")]
fn sweep<const SNAP: u8, const SCALED: bool>(
    row: &[f32],
    how: &Sweep,
    ids: &mut [u32; ROOM],
) -> Swept {
    let floor = _mm512_set1_ps(how.floor);
    let temperature = _mm512_set1_ps(how.temperature);
    let reference = _mm512_set1_ps(how.reference);
    let threshold = _mm512_set1_ps(how.threshold);
    let mut sums = Sums::zero();
    let mut exps = Sums::zero();
    let mut above = 0;
    let (quads, _) = row.as_chunks::<QUAD>();
    for (quad_at, quad) in quads.iter().enumerate() {
        let mut values = [_mm512_setzero_ps(); DEPTH];
        for (value, raw) in values.iter_mut().zip(quad.as_chunks::<LANES>().0) {
            *value = settled::<SNAP>(load(raw), floor);
        }
        sums.add_quad(values);
        let mut larger = 0;
        for (at, value) in values.into_iter().enumerate() {
            let mask = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, threshold);
            larger |= u64::from(mask) << (LANES * at);
        }
        list(larger, quad_at * QUAD, ids, &mut above);
        for value in &mut values {
            let scaled = if SCALED { _mm512_div_ps(*value, temperature) } else { *value };
            *value = exp(_mm512_sub_ps(scaled, reference));
        }
        exps.add_quad(values);
    }
    let mut lanes = Lanes { sums: sums.lanes(), exps: exps.lanes(), above };
    portable::sweep_from(row, quads.len() * QUAD, how, &mut lanes, ids);
    lanes.fold()
}

#[target_feature(enable = "avx512f")]
fn count_above(values: &[[f32; LANES]], threshold: f32) -> usize {
    let threshold = _mm512_set1_ps(threshold);
    let mut counts = _mm512_set1_epi32(0);
    for vector in values {
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(load(vector), threshold);
        counts = _mm512_mask_sub_epi32(counts, above, counts, _mm512_set1_epi32(-1));
    }
    _mm512_reduce_add_epi32(counts).unsigned_abs() as usize
}

#[target_feature(enable = "avx512f")]
fn sum_above(values: &[[f32; LANES]], threshold: f32) -> f64 {
    let threshold = _mm512_set1_ps(threshold);
    let mut sums = Sums::zero();
    for vector in values {
        let value = load(vector);
        let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, threshold);
        sums.add(_mm512_maskz_mov_ps(above, value));
    }
    fold(sums.lanes())
}
