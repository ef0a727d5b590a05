//! The table proved with integers only: generated anew, each entry certified, digests pinned.

use super::*;
use crypto_bigint::U256;
use sha2::{Digest as _, Sha256};
use std::vec;
use std::vec::Vec;

/// Fraction bits of the generation; 80 would do. spec: admission §6.3
const FRACTION: usize = 96;

/// The recipe of the specification in 256-bit integers.
fn generated() -> Vec<u64> {
    let one = U256::ONE << FRACTION;
    // roots[k] = 2^FRACTION · 2^(−2^−k), cut.
    let mut roots = vec![one, (U256::ONE << (2 * FRACTION - 1)).sqrt_vartime()];
    for k in 2..=10 {
        roots.push((roots[k - 1] << FRACTION).sqrt_vartime());
    }
    let entry = |b: u32| {
        let mut product = one;
        for (k, root) in roots.iter().enumerate().skip(1) {
            if b >> (10 - k) & 1 == 1 {
                product = product.wrapping_mul(root) >> FRACTION;
            }
        }
        let scaled: U256 = (product << 63) >> FRACTION;
        scaled.as_words()[0]
    };
    (0..UNITS_PER_BIT).map(entry).collect()
}

/// `n²` of little-endian limbs.
fn square(n: &[u64]) -> Vec<u64> {
    let mut product = vec![0_u64; 2 * n.len()];
    for (i, a) in n.iter().enumerate() {
        let mut carry = 0_u128;
        for (room, b) in product[i..].iter_mut().zip(n) {
            let sum = u128::from(*a) * u128::from(*b) + u128::from(*room) + carry;
            *room = sum as u64;
            carry = sum >> 64;
        }
        product[i + n.len()] = carry as u64;
    }
    product
}

/// `t^1024 ≤ 2^exponent`.
fn power_is_at_most(t: u64, exponent: usize) -> bool {
    let mut power = vec![t];
    for _ in 0..10 {
        power = square(&power);
    }
    let bits = power
        .iter()
        .rposition(|limb| *limb != 0)
        .map_or(0, |top| 64 * top + 64 - power[top].leading_zeros() as usize);
    let is_power_of_two = power.iter().map(|limb| limb.count_ones()).sum::<u32>() == 1;
    bits <= exponent || (bits == exponent + 1 && is_power_of_two)
}

fn digest(entries: impl Iterator<Item = u64>) -> [u8; 32] {
    let mut hash = Sha256::new();
    entries.for_each(|entry| hash.update(entry.to_le_bytes()));
    hash.finalize().into()
}

#[test]
fn the_entries_are_those_the_integer_recipe_makes() {
    assert_eq!(generated(), BASE);
}

#[test]
fn every_entry_is_the_largest_integer_its_definition_allows() {
    for (b, t) in BASE.into_iter().enumerate() {
        assert!(power_is_at_most(t, 64_512 - b), "T[{b}] is too large");
        assert!(!power_is_at_most(t + 1, 64_512 - b), "T[{b}] is too small");
    }
}

#[test]
fn the_digests_are_those_of_the_specification() {
    assert_eq!(
        hex::encode(digest(BASE.into_iter())),
        "e23947d0b8739d7d0d9e699cb3486772d122a431a47766b9d9e9a0f1105d4d52"
    );
    assert_eq!(
        hex::encode(digest((0..=MAX_STEP_UNITS).map(threshold))),
        "05929aee8475b4c2a4ceafd054e34f11521101028f93a2d5583e15f0285ff8ea"
    );
}

#[test]
fn the_anchors_of_the_specification_hold() {
    let anchors = [
        (0, 1 << 63),
        (1, 0x7fe9_d3a8_e07b_f085),
        (2, 0x7fd3_ab29_0e46_d768),
        (3, 0x7fbd_867f_df0a_cb3a),
        (1024, 1 << 62),
        (32_768, 1 << 31),
        (32_769, 0),
    ];
    for (n, value) in anchors {
        assert_eq!(threshold(n), value, "T[{n}]");
    }
    assert!((0..MAX_STEP_UNITS).all(|n| threshold(n) > threshold(n + 1)), "strictly descending");
}
