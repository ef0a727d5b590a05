//! The compression function: two blocks become one. Written so that a compiler turns it into vector
//! instructions where it can: all arithmetic is on four neighbouring words at once.

use super::{Block, WORDS};
use core::array::from_fn;

/// Four words that are treated alike.
type Lanes = [u64; 4];

/// Sixteen words under the permutation: a matrix of four by four.
type Matrix = [Lanes; 4];

/// `out = P(x ⊕ y) ⊕ x ⊕ y`. spec: RFC 9106 §3.5
pub(super) fn compress(x: &Block, y: &Block, out: &mut Block) {
    let sum: [u64; WORDS] = from_fn(|i| x.0[i] ^ y.0[i]);
    let mut state = sum;
    // The block is a matrix of eight by eight cells of two words; first its rows, then its columns.
    for row in 0..8 {
        let cell = |word: usize| 16 * row + word;
        permute_at(&mut state, cell);
    }
    for column in 0..8 {
        let cell = |word: usize| 16 * (word / 2) + 2 * column + word % 2;
        permute_at(&mut state, cell);
    }
    out.0 = from_fn(|i| state[i] ^ sum[i]);
}

/// The permutation on the sixteen words at these places.
#[inline(always)]
fn permute_at(state: &mut [u64; WORDS], place: impl Fn(usize) -> usize) {
    let mut matrix: Matrix = from_fn(|row| from_fn(|lane| state[place(4 * row + lane)]));
    permute(&mut matrix);
    for (row, lanes) in matrix.iter().enumerate() {
        for (lane, word) in lanes.iter().enumerate() {
            state[place(4 * row + lane)] = *word;
        }
    }
}

/// One round of BLAKE2b with multiplications: columns, then diagonals. spec: RFC 9106 §3.6
#[inline(always)]
fn permute(matrix: &mut Matrix) {
    mix(matrix);
    let [a, b, c, d] = *matrix;
    *matrix = [a, turned(b, 1), turned(c, 2), turned(d, 3)];
    mix(matrix);
    let [a, b, c, d] = *matrix;
    *matrix = [a, turned(b, 3), turned(c, 2), turned(d, 1)];
}

/// The lanes turned left by so many places.
#[inline(always)]
fn turned(lanes: Lanes, by: usize) -> Lanes {
    from_fn(|lane| lanes[(lane + by) % 4])
}

/// The mixing function on four columns at once. spec: RFC 9106 §3.6
#[inline(always)]
fn mix(matrix: &mut Matrix) {
    let [mut a, mut b, mut c, mut d] = *matrix;
    a = multiply_add(a, b);
    d = xor_rotate(d, a, 32);
    c = multiply_add(c, d);
    b = xor_rotate(b, c, 24);
    a = multiply_add(a, b);
    d = xor_rotate(d, a, 16);
    c = multiply_add(c, d);
    b = xor_rotate(b, c, 63);
    *matrix = [a, b, c, d];
}

/// `x + y + 2 · low(x) · low(y)`, where `low` are the lower 32 bits.
#[inline(always)]
fn multiply_add(x: Lanes, y: Lanes) -> Lanes {
    const LOW: u64 = 0xffff_ffff;
    from_fn(|lane| {
        let product = (x[lane] & LOW).wrapping_mul(y[lane] & LOW);
        x[lane].wrapping_add(y[lane]).wrapping_add(product.wrapping_mul(2))
    })
}

#[inline(always)]
fn xor_rotate(x: Lanes, y: Lanes, by: u32) -> Lanes {
    from_fn(|lane| (x[lane] ^ y[lane]).rotate_right(by))
}
