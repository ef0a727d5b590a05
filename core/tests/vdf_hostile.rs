//! Bytes from anyone: decoding and verifying end in bounded time without a panic, whatever they
//! are; and the fast arithmetic agrees with the textbook on random forms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use proptest::prelude::*;
use std::sync::OnceLock;
use tensorpow_core::vdf::prover::prove;
use tensorpow_core::vdf::{
    Discriminant, FORM_BYTES, Form, FormError, Integer, SEGMENT_BYTES, VdfError, partial_gcd,
    verify_from, verify_proof, verify_with,
};

const TICK: u64 = 300;

fn known() -> &'static [(Discriminant, Form, [u8; 200])] {
    static KNOWN: OnceLock<Vec<(Discriminant, Form, [u8; 200])>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        [256, 264, 512, 520, 1016, 1024]
            .map(|bits| {
                let d = Discriminant::from_challenge(&[0x5a; 32], bits).unwrap();
                let y = Form::generator(&d).square_repeatedly(TICK, &d);
                (d, y, prove(&d, TICK).unwrap())
            })
            .to_vec()
    })
}

/// A form's bytes with a few of them changed, or any bytes at all, biased towards the shapes that
/// come far: small flags, small lengths, runs of equal bytes.
fn bytes() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let any_bytes = prop::collection::vec(any::<u8>(), FORM_BYTES);
    let shaped =
        (0..4_u8, 0..34_u8, any::<u8>(), prop::collection::vec((2..100_usize, any::<u8>()), 0..20))
            .prop_map(|(flags, length, fill, changes)| {
                let mut bytes = vec![fill; FORM_BYTES];
                (bytes[0], bytes[1]) = (flags, length);
                changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
                bytes
            });
    let damaged = (0..6_usize, prop::collection::vec((0..100_usize, any::<u8>()), 0..3)).prop_map(
        |(which, changes)| {
            let (d, y, _) = &known()[which];
            let mut bytes = y.encode(d).unwrap().to_vec();
            changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            bytes
        },
    );
    (0..6_usize, prop_oneof![any_bytes, shaped, damaged])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_100_bytes_decode_to_a_reduced_form_or_fail((which, bytes) in bytes()) {
        let (d, ..) = &known()[which];
        if let Ok(form) = Form::decode(&bytes, d) {
            let (a, b, c) = (*form.a(), *form.b(), *form.c());
            prop_assert_eq!(b * b - (a * c).shifted_left(2), d.value());
            prop_assert!(b.abs() <= a && a <= c);
            let again = form.encode(d).unwrap();
            prop_assert_eq!(Form::decode(&again, d), Ok(form));
        }
    }

    #[test]
    fn the_partial_gcd_keeps_its_invariants_on_any_numbers(
        r2 in prop::collection::vec(any::<u8>(), 0..70),
        r1 in prop::collection::vec(any::<u8>(), 0..70),
        limit in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let number = |bytes: &[u8]| Integer::from_le_bytes(bytes).unwrap();
        let (r2, r1, limit) = (number(&r2), number(&r1), number(&limit));
        let end = partial_gcd(&r2, &r1, &limit);
        prop_assert!(end.r1 <= limit && !end.r1.is_negative() && !end.r2.is_negative());
        // r = −C·r₁ modulo r₂ for both rows.
        for (r, c) in [(end.r1, end.c1), (end.r2, end.c2)] {
            let difference = r + c * r1;
            let holds = r2.is_zero() || difference.modulo(&r2).is_zero();
            prop_assert!(holds);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_proofs_fail_or_hold_the_same_classes(
        which in 0..6_usize,
        changes in prop::collection::vec((0..200_usize, any::<u8>()), 1..3),
    ) {
        let (d, y, blob) = &known()[which];
        let mut damaged = *blob;
        changes.iter().for_each(|(at, byte)| damaged[*at] = *byte);
        if verify_proof(d, TICK, &damaged).is_ok() {
            prop_assert_eq!(Form::decode(&damaged[..100], d), Ok(*y));
            prop_assert_eq!(Form::decode(&damaged[100..], d), Form::decode(&blob[100..], d));
        }
    }

    #[test]
    fn any_segments_end_in_a_verdict(
        which in 0..6_usize,
        mut blob in prop::collection::vec(any::<u8>(), 200 + 2 * SEGMENT_BYTES),
        forms in any::<[bool; 4]>(),
    ) {
        let (d, y, _) = &known()[which];
        // Some of the forms are whole, so that the walk goes on to what follows them.
        for (whole, at) in forms.iter().zip([0, 100, 241, 382]) {
            if *whole {
                blob[at..at + 100].copy_from_slice(&y.encode(d).unwrap());
            }
        }
        let start = y.encode(d).unwrap();
        prop_assert!(verify_from(d, &start, 2, u64::MAX, &blob).is_err());
    }

    #[test]
    fn fast_and_textbook_arithmetic_agree_on_powers_of_two_forms(
        which in 0..6_usize,
        e in 1..2_000_u64,
        f in 1..2_000_u64,
    ) {
        let (d, y, _) = &known()[which];
        let x = Form::generator(d).square_repeatedly(e, d);
        let z = y.square_repeatedly(f, d).inverse();
        prop_assert_eq!(x.compose(&z, d), x.compose_plain(&z, d));
        prop_assert_eq!(x.square(d), x.compose_plain(&x, d));
        prop_assert_eq!(x.compose(&x.inverse(), d), Form::identity(d));
        // Common factors of the first coefficients.
        let near = x.square(d).compose(&x.inverse(), d);
        prop_assert_eq!(near, x);
        prop_assert_eq!(z.compose(&Form::generator(d), d), z.compose_plain(&Form::generator(d), d));
    }
}

#[test]
fn small_powers_of_the_generator_share_factors_and_still_compose() {
    for (d, ..) in known() {
        let x = Form::generator(d);
        let mut powers = vec![Form::identity(d)];
        for i in 1..40 {
            powers.push(powers[i - 1].compose_plain(&x, d));
        }
        for i in 0..20 {
            for j in 0..20 {
                assert_eq!(powers[i].compose(&powers[j], d), powers[i + j], "{i} + {j}");
                let difference = powers[i].compose(&powers[j].inverse(), d);
                let expected = if i >= j { powers[i - j] } else { powers[j - i].inverse() };
                assert_eq!(difference, expected, "{i} - {j}");
            }
        }
    }
}

#[test]
fn sizes_and_lengths_are_refused_by_name() {
    let (d, _, blob) = &known()[5];
    assert_eq!(
        verify_with(&[1; 32], 1024, 0, 5, &blob[..199]),
        Err(VdfError::Length { expected: 200, found: 199 })
    );
    assert_eq!(verify_with(&[1; 32], 2048, 0, 5, blob), Err(VdfError::TooLarge { bits: 2048 }));
    assert_eq!(
        verify_with(&[1; 32], 1024, 1 << 31, 5, blob),
        Err(VdfError::Depth { depth: 1 << 31 })
    );
    assert!(matches!(verify_with(&[], 1024, 0, 5, blob), Err(VdfError::Discriminant(_))));
    assert!(matches!(verify_with(&[1; 32], 1020, 0, 5, blob), Err(VdfError::Discriminant(_))));
    assert!(matches!(verify_with(&[1; 32], 0, 0, 5, blob), Err(VdfError::Discriminant(_))));
    assert_eq!(Form::decode(&blob[..99], d), Err(FormError::Length { found: 99 }));
    // A seed of one byte has 256 states and, here, no prime of 1024 bits among them or one.
    let _ = Discriminant::from_challenge(&[0], 1024);
}

/// Factors of very different length stop the partial gcd at once: this found a wrong sign there.
#[test]
fn composing_with_short_forms_agrees_with_the_textbook() {
    let (d, y, _) = &known()[5];
    let x = Form::generator(d);
    let short: Vec<Form> = (0..12).map(|i| x.square_repeatedly(i, d)).collect();
    let mut long = *y;
    for _ in 0..200 {
        long = long.square(d);
        for short in &short {
            assert_eq!(long.compose(short, d), long.compose_plain(short, d));
            let inverse = short.inverse();
            assert_eq!(long.compose(&inverse, d), long.compose_plain(&inverse, d));
        }
    }
}

/// A million squarings take a few seconds with optimisation and minutes without.
#[test]
fn a_long_run_of_fast_squarings_stays_on_the_textbooks_path() {
    let total: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let (d, ..) = &known()[5];
    let mut fast = Form::generator(d);
    for _ in 0..100 {
        let last = fast.square_repeatedly(total / 100 - 1, d);
        fast = last.square(d);
        assert_eq!(fast, last.compose_plain(&last, d));
    }
    // One wrong step anywhere would leave the class that the proof speaks of.
    let mut checkpoints = tensorpow_core::vdf::prover::Checkpoints::new(Form::generator(d));
    checkpoints.square_to(total, d);
    assert_eq!(*checkpoints.current(), fast);
    let blob = tensorpow_core::vdf::prover::construct(d, &checkpoints, &|| false).unwrap();
    assert_eq!(verify_proof(d, total, &blob), Ok(()));
}
