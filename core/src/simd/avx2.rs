//! The kernels with AVX2: half a vector of 16 an instruction. `portable.rs` is the text to read.

#![allow(unsafe_code)] // loads, stores, and what not every processor has

use super::portable::{self, LOWEST, POWERS, ROUND};
use super::{DEPTH, Extremes, GROUPS, LANES, Lanes, QUAD, ROOM, Sweep, Swept, fold, list};
use crate::precision::Snap;
use core::arch::x86_64::{
    __m256, __m256d, __m256i, _CMP_GT_OQ, _mm256_add_epi32, _mm256_add_pd, _mm256_add_ps,
    _mm256_and_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtps_pd,
    _mm256_div_ps, _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_max_epi32, _mm256_max_epu32,
    _mm256_max_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_or_ps, _mm256_or_si256,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_pd, _mm256_setzero_ps, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_srlv_epi32, _mm256_storeu_pd, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_epi32, _mm256_sub_ps,
};

cpufeatures::new!(has_avx2, "avx2");

/// Values in a register.
const HALF: usize = LANES / 2;

/// The proof that the processor has AVX2: made by asking it, and in no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        has_avx2::get().then_some(Self(()))
    }

    pub(super) fn scan(self, row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
        // SAFETY: `self` proves AVX2.
        unsafe { scan(row, maxima) }
    }

    pub(super) fn sweep(self, row: &[f32], how: &Sweep, ids: &mut [u32; ROOM]) -> Swept {
        let scaled = how.temperature != 1.0;
        // SAFETY: `self` proves AVX2.
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
        // SAFETY: `self` proves AVX2.
        unsafe { count_above(values, threshold) }
    }

    pub(super) fn sum_above(self, values: &[[f32; LANES]], threshold: f32) -> f64 {
        // SAFETY: `self` proves AVX2.
        unsafe { sum_above(values, threshold) }
    }
}

// What a sweep rounds to, known when it is compiled.
const UNCHANGED: u8 = 0;
const BF16: u8 = 1;
const FP16: u8 = 2;

#[target_feature(enable = "avx2")]
fn load(values: &[f32; HALF]) -> __m256 {
    // SAFETY: eight values are there.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// The two registers of a vector.
#[target_feature(enable = "avx2")]
fn halves(values: &[f32; LANES]) -> [__m256; 2] {
    let pointer = values.as_ptr();
    // SAFETY: sixteen values are there.
    unsafe { [_mm256_loadu_ps(pointer), _mm256_loadu_ps(pointer.add(HALF))] }
}

#[target_feature(enable = "avx2")]
fn store(values: &mut [f32; HALF], from: __m256) {
    // SAFETY: there is room for eight values.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), from) }
}

/// Bit patterns of the running extremes.
#[derive(Clone, Copy)]
struct Seen {
    signed: __m256i,
    unsigned: __m256i,
    union: __m256i,
}

impl Seen {
    #[target_feature(enable = "avx2")]
    fn nothing() -> Self {
        let zero = _mm256_set1_epi32(0);
        Self { signed: _mm256_set1_epi32(i32::MIN), unsigned: zero, union: zero }
    }

    #[target_feature(enable = "avx2")]
    fn take(&mut self, values: __m256) {
        let bits = _mm256_castps_si256(values);
        self.signed = _mm256_max_epi32(self.signed, bits);
        self.unsigned = _mm256_max_epu32(self.unsigned, bits);
        self.union = _mm256_or_si256(self.union, bits);
    }

    #[target_feature(enable = "avx2")]
    fn extremes(self) -> Extremes {
        let words = |vector| words(vector).into_iter();
        Extremes {
            signed: words(self.signed).map(u32::cast_signed).fold(i32::MIN, i32::max),
            unsigned: words(self.unsigned).fold(0, u32::max),
            union: words(self.union).fold(0, |union, bits| union | bits),
        }
    }
}

#[target_feature(enable = "avx2")]
fn words(vector: __m256i) -> [u32; HALF] {
    let mut words = [0; HALF];
    // SAFETY: there is room for eight words.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}

#[target_feature(enable = "avx2")]
fn scan(row: &[f32], maxima: &mut [f32; GROUPS]) -> Extremes {
    maxima.fill(f32::NEG_INFINITY);
    let mut seen = Seen::nothing();
    let (blocks, rest) = row.as_chunks::<{ DEPTH * GROUPS }>();
    for block in blocks {
        let ([a, b, c, d], _) = block.as_chunks::<GROUPS>() else { continue };
        let groups = maxima.as_chunks_mut::<HALF>().0.iter_mut();
        let [a, b, c, d] = [a, b, c, d].map(|chunk| chunk.as_chunks::<HALF>().0);
        for ((((maximum, a), b), c), d) in groups.zip(a).zip(b).zip(c).zip(d) {
            let mut highest = load(maximum);
            for values in [a, b, c, d] {
                let values = load(values);
                seen.take(values);
                highest = _mm256_max_ps(values, highest);
            }
            store(maximum, highest);
        }
    }
    let mut tail = Extremes::NONE;
    for chunk in rest.chunks(GROUPS) {
        let (vectors, remainder) = chunk.as_chunks::<HALF>();
        for (maximum, values) in maxima.as_chunks_mut::<HALF>().0.iter_mut().zip(vectors) {
            let values = load(values);
            seen.take(values);
            let highest = _mm256_max_ps(values, load(maximum));
            store(maximum, highest);
        }
        let groups = maxima.get_mut(vectors.len() * HALF..).unwrap_or_default();
        portable::scan_chunk(remainder, groups, &mut tail);
    }
    seen.extremes().with(tail)
}

/// Rounds to bfloat16, as [`crate::precision::bf16`].
#[target_feature(enable = "avx2")]
fn bf16(raw: __m256) -> __m256 {
    let bits = _mm256_castps_si256(raw);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    let kept = _mm256_and_si256(rounded, _mm256_set1_epi32(!0xFFFF));
    _mm256_castsi256_ps(kept)
}

/// Rounds to half precision what is not NaN, as [`crate::precision::fp16`].
#[target_feature(enable = "avx2")]
fn fp16(raw: __m256) -> __m256 {
    let word = |value: i32| _mm256_set1_epi32(value);
    let sign = _mm256_and_ps(raw, _mm256_castsi256_ps(word(i32::MIN)));
    let bits = _mm256_and_si256(_mm256_castps_si256(raw), word(i32::MAX));
    let odd = _mm256_and_si256(_mm256_srli_epi32::<13>(bits), word(1));
    let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, word(0xFFF)), odd);
    let normal = _mm256_and_si256(rounded, word(!0x1FFF));
    // From 65536 on there is infinity only.
    let beyond = _mm256_cmpgt_epi32(normal, word(0x477F_FFFF));
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let normal =
        _mm256_blendv_ps(_mm256_castsi256_ps(normal), infinity, _mm256_castsi256_ps(beyond));
    // Below 2^-14: the significand cut, ties up, a carry lost.
    let shift = _mm256_sub_epi32(word(113), _mm256_srli_epi32::<23>(bits));
    let fraction = _mm256_and_si256(bits, word(0x007F_FFFF));
    let significand = _mm256_srlv_epi32(_mm256_or_si256(fraction, word(0x0080_0000)), shift);
    let up = _mm256_and_si256(_mm256_srli_epi32::<12>(significand), word(1));
    let units = _mm256_add_epi32(_mm256_srli_epi32::<13>(significand), up);
    let units = _mm256_cvtepi32_ps(_mm256_and_si256(units, word(0x3FF)));
    let subnormal = _mm256_mul_ps(units, _mm256_set1_ps(f32::from_bits(0x3380_0000)));
    let small = _mm256_castsi256_ps(_mm256_cmpgt_epi32(word(0x3880_0000), bits));
    _mm256_or_ps(_mm256_blendv_ps(normal, subnormal, small), sign)
}

#[target_feature(enable = "avx2")]
fn settled<const SNAP: u8>(raw: __m256, floor: __m256) -> __m256 {
    let value = match SNAP {
        BF16 => bf16(raw),
        FP16 => fp16(raw),
        _ => raw,
    };
    _mm256_max_ps(value, floor)
}

#[target_feature(enable = "avx2")]
fn exp(x: __m256) -> __m256 {
    let all = |value: f32| _mm256_set1_ps(value);
    let x = _mm256_max_ps(x, all(LOWEST));
    let t = _mm256_mul_ps(x, all(core::f32::consts::LOG2_E));
    let shifted = _mm256_add_ps(t, all(ROUND));
    let f = _mm256_sub_ps(t, _mm256_sub_ps(shifted, all(ROUND)));
    let [first, rest @ ..] = POWERS;
    let mut p = all(first);
    for c in rest {
        p = _mm256_add_ps(_mm256_mul_ps(p, f), all(c));
    }
    let p = _mm256_add_ps(_mm256_mul_ps(p, f), all(1.0));
    let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power))
}

/// Sixteen sums in f64.
#[derive(Clone, Copy)]
struct Sums([__m256d; 4]);

impl Sums {
    #[target_feature(enable = "avx2")]
    fn zero() -> Self {
        Self([_mm256_setzero_pd(); 4])
    }

    /// Adds a vector given as its halves.
    #[target_feature(enable = "avx2")]
    fn add(&mut self, halves: [__m256; 2]) {
        for (at, half) in halves.into_iter().enumerate() {
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(half));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(half));
            self.0[2 * at] = _mm256_add_pd(self.0[2 * at], low);
            self.0[2 * at + 1] = _mm256_add_pd(self.0[2 * at + 1], high);
        }
    }

    /// Adds four vectors, first among themselves.
    #[target_feature(enable = "avx2")]
    fn add_quad(&mut self, quad: &[[__m256; 2]; DEPTH]) {
        let [a, b, c, d] = quad;
        let tree =
            |at: usize| _mm256_add_ps(_mm256_add_ps(a[at], b[at]), _mm256_add_ps(c[at], d[at]));
        self.add([tree(0), tree(1)]);
    }

    #[target_feature(enable = "avx2")]
    fn lanes(self) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        for (room, sums) in lanes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            // SAFETY: there is room for four values.
            unsafe { _mm256_storeu_pd(room.as_mut_ptr(), sums) };
        }
        lanes
    }
}

#[target_feature(enable = "avx2")]
fn sweep<const SNAP: u8, const SCALED: bool>(
    row: &[f32],
    how: &Sweep,
    ids: &mut [u32; ROOM],
) -> Swept {
    let floor = _mm256_set1_ps(how.floor);
    let temperature = _mm256_set1_ps(how.temperature);
    let reference = _mm256_set1_ps(how.reference);
    let threshold = _mm256_set1_ps(how.threshold);
    let mut sums = Sums::zero();
    let mut exps = Sums::zero();
    let mut above = 0;
    let (quads, _) = row.as_chunks::<QUAD>();
    for (quad_at, quad) in quads.iter().enumerate() {
        let mut values = [[_mm256_setzero_ps(); 2]; DEPTH];
        for (value, raw) in values.iter_mut().zip(quad.as_chunks::<LANES>().0) {
            *value = halves(raw);
            for half in value {
                *half = settled::<SNAP>(*half, floor);
            }
        }
        sums.add_quad(&values);
        let mut larger = 0;
        for (at, half) in values.as_flattened().iter().enumerate() {
            let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(*half, threshold));
            larger |= u64::from(mask.cast_unsigned()) << (HALF * at);
        }
        list(larger, quad_at * QUAD, ids, &mut above);
        for half in values.as_flattened_mut() {
            let scaled = if SCALED { _mm256_div_ps(*half, temperature) } else { *half };
            *half = exp(_mm256_sub_ps(scaled, reference));
        }
        exps.add_quad(&values);
    }
    let mut lanes = Lanes { sums: sums.lanes(), exps: exps.lanes(), above };
    portable::sweep_from(row, quads.len() * QUAD, how, &mut lanes, ids);
    lanes.fold()
}

#[target_feature(enable = "avx2")]
fn count_above(values: &[[f32; LANES]], threshold: f32) -> usize {
    let threshold = _mm256_set1_ps(threshold);
    let mut counts = [_mm256_set1_epi32(0); 2];
    for vector in values {
        for (count, half) in counts.iter_mut().zip(halves(vector)) {
            // A comparison that holds is −1.
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(half, threshold);
            *count = _mm256_sub_epi32(*count, _mm256_castps_si256(above));
        }
    }
    counts.into_iter().flat_map(|count| words(count)).map(|count| count as usize).sum()
}

#[target_feature(enable = "avx2")]
fn sum_above(values: &[[f32; LANES]], threshold: f32) -> f64 {
    let threshold = _mm256_set1_ps(threshold);
    let mut sums = Sums::zero();
    for vector in values {
        let mut kept = halves(vector);
        for half in &mut kept {
            *half = _mm256_and_ps(*half, _mm256_cmp_ps::<_CMP_GT_OQ>(*half, threshold));
        }
        sums.add(kept);
    }
    fold(sums.lanes())
}
