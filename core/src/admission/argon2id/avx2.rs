//! The compression function with AVX2: four words an instruction, two permutations side by side, so
//! that one computes while the other waits for its multiplications. `compress.rs` is the text to
//! read; a test holds both equal.

#![allow(unsafe_code)] // vector instructions
#![allow(unused_unsafe)] // newer compilers take most of these instructions for safe

use super::Block;
use core::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mul_epu32, _mm256_permute2x128_si256,
    _mm256_permute4x64_epi64, _mm256_set_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_shuffle_epi32, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};

/// Vectors of a block.
const VECTORS: usize = 32;

/// The sixteen words of a permutation: a matrix of four by four.
type Matrix = [__m256i; 4];

/// `out = P(x ⊕ y) ⊕ x ⊕ y`. spec: RFC 9106 §3.5
///
/// # Safety
/// The processor must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn compress(x: &Block, y: &Block, out: &mut Block) {
    let (x, y) = (x.0.as_ptr().cast::<__m256i>(), y.0.as_ptr().cast::<__m256i>());
    let out = out.0.as_mut_ptr().cast::<__m256i>();
    // SAFETY: a block has 32 vectors, and all indices are below that; the caller vouches for AVX2.
    unsafe {
        let mut state = [_mm256_setzero_si256(); VECTORS];
        for (at, vector) in state.iter_mut().enumerate() {
            *vector = sum(x, y, at);
        }
        // Two rows of sixteen words at a time.
        for rows in state.chunks_exact_mut(8) {
            let mut pair = [[_mm256_setzero_si256(); 4]; 2];
            pair.as_flattened_mut().copy_from_slice(rows);
            permute(&mut pair);
            rows.copy_from_slice(pair.as_flattened());
        }
        // Two columns of eight times two words: a vector of a row holds two words of each.
        for columns in 0..4 {
            let at = |row: usize| 4 * row + columns;
            let mut pair = [[_mm256_setzero_si256(); 4]; 2];
            let [left, right] = &mut pair;
            for (i, (left, right)) in left.iter_mut().zip(right).enumerate() {
                let (upper, lower) = (state[at(2 * i)], state[at(2 * i + 1)]);
                *left = _mm256_permute2x128_si256::<0x20>(upper, lower);
                *right = _mm256_permute2x128_si256::<0x31>(upper, lower);
            }
            permute(&mut pair);
            let [left, right] = pair;
            for (i, (left, right)) in left.into_iter().zip(right).enumerate() {
                let upper = _mm256_permute2x128_si256::<0x20>(left, right);
                let lower = _mm256_permute2x128_si256::<0x31>(left, right);
                for (at, vector) in [(at(2 * i), upper), (at(2 * i + 1), lower)] {
                    _mm256_storeu_si256(out.add(at), _mm256_xor_si256(vector, sum(x, y, at)));
                }
            }
        }
    }
}

/// Vector `at` of `x ⊕ y`.
///
/// # Safety
/// Both blocks must reach that far, and the processor must have AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sum(x: *const __m256i, y: *const __m256i, at: usize) -> __m256i {
    // SAFETY: as the caller's.
    unsafe { _mm256_xor_si256(_mm256_loadu_si256(x.add(at)), _mm256_loadu_si256(y.add(at))) }
}

/// The permutation on two matrices: columns, then diagonals. spec: RFC 9106 §3.6
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn permute(pair: &mut [Matrix; 2]) {
    // SAFETY: as the caller's.
    unsafe {
        mix(pair);
        for [_, b, c, d] in pair.iter_mut() {
            *b = _mm256_permute4x64_epi64::<0b00_11_10_01>(*b);
            *c = _mm256_permute4x64_epi64::<0b01_00_11_10>(*c);
            *d = _mm256_permute4x64_epi64::<0b10_01_00_11>(*d);
        }
        mix(pair);
        for [_, b, c, d] in pair.iter_mut() {
            *b = _mm256_permute4x64_epi64::<0b10_01_00_11>(*b);
            *c = _mm256_permute4x64_epi64::<0b01_00_11_10>(*c);
            *d = _mm256_permute4x64_epi64::<0b00_11_10_01>(*d);
        }
    }
}

/// The mixing function on four columns of each matrix, in step. spec: RFC 9106 §3.6
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn mix(pair: &mut [Matrix; 2]) {
    // SAFETY: as the caller's.
    unsafe {
        // Bytes of a word turned right by 24 and by 16 bits.
        let by_24 = _mm256_set_epi64x(
            0x0a09_080f_0e0d_0c0b,
            0x0201_0007_0605_0403,
            0x0a09_080f_0e0d_0c0b,
            0x0201_0007_0605_0403,
        );
        let by_16 = _mm256_set_epi64x(
            0x0908_0f0e_0d0c_0b0a,
            0x0100_0706_0504_0302,
            0x0908_0f0e_0d0c_0b0a,
            0x0100_0706_0504_0302,
        );
        for [a, b, _, d] in pair.iter_mut() {
            *a = multiply_add(*a, *b);
            *d = _mm256_shuffle_epi32::<0b10_11_00_01>(_mm256_xor_si256(*d, *a));
        }
        for [_, b, c, d] in pair.iter_mut() {
            *c = multiply_add(*c, *d);
            *b = _mm256_shuffle_epi8(_mm256_xor_si256(*b, *c), by_24);
        }
        for [a, b, _, d] in pair.iter_mut() {
            *a = multiply_add(*a, *b);
            *d = _mm256_shuffle_epi8(_mm256_xor_si256(*d, *a), by_16);
        }
        for [_, b, c, d] in pair.iter_mut() {
            *c = multiply_add(*c, *d);
            let word = _mm256_xor_si256(*b, *c);
            *b = _mm256_xor_si256(_mm256_add_epi64(word, word), _mm256_srli_epi64::<63>(word));
        }
    }
}

/// `x + y + 2 · low(x) · low(y)`, where `low` are the lower 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn multiply_add(x: __m256i, y: __m256i) -> __m256i {
    // SAFETY: as the caller's.
    unsafe {
        let product = _mm256_mul_epu32(x, y);
        _mm256_add_epi64(_mm256_add_epi64(x, y), _mm256_add_epi64(product, product))
    }
}
