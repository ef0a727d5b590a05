//! Bytes that are no archive: refused with a reason, without panic and without much work, and never
//! taken for another proof than the one whose key stands in front.

use crate::window;
use proptest::prelude::*;
use std::time::{Duration, Instant};
use tensorpow_core::archive::{DecodeError, MAGIC, decode, encode, key, key_of};
use tensorpow_core::proof::{MAX_CANONICAL_LEN, Proof};

/// Whatever an altered archive decodes to has the key in front.
fn assert_never_misread(bytes: &[u8]) {
    if let Ok(proof) = decode(bytes) {
        assert_eq!(key_of(bytes), Ok(key(&proof.as_ref()).unwrap()));
    }
}

#[test]
fn what_does_not_begin_like_an_archive_is_named() {
    assert_eq!(decode(b"").err(), Some(DecodeError::NoArchive));
    assert_eq!(decode(b"TPW").err(), Some(DecodeError::NoArchive));
    assert_eq!(decode(&[0; 100]).err(), Some(DecodeError::NoArchive));
    let mut archive = encode(&Proof::default().as_ref()).unwrap();
    archive[MAGIC.len() - 1] = 2;
    assert_eq!(decode(&archive).err(), Some(DecodeError::Version { found: 2 }));
    assert_eq!(key_of(&archive), Err(DecodeError::Version { found: 2 }));
    assert_eq!(decode(&MAGIC).err(), Some(DecodeError::Record));
}

#[test]
fn a_cut_or_longer_archive_is_refused() {
    let archive = encode(&window::by_the_rules(7, 8).as_ref()).unwrap();
    for len in 0..archive.len() {
        assert!(decode(&archive[..len]).is_err(), "{len} of {} bytes", archive.len());
    }
    let longer = [archive.as_slice(), &[0]].concat();
    assert_eq!(decode(&longer).err(), Some(DecodeError::Code));
}

#[test]
fn every_changed_byte_is_noticed() {
    let proof = window::by_the_rules(3, 4);
    let archive = encode(&proof.as_ref()).unwrap();
    for at in 0..archive.len() {
        for mask in [1, 0x80, 0xff] {
            let mut altered = archive.clone();
            altered[at] ^= mask;
            assert_never_misread(&altered);
        }
    }
}

#[test]
fn a_record_cannot_make_the_decoder_allocate_or_work_much() {
    let archive = encode(&Proof::default().as_ref()).unwrap();
    let record = MAGIC.len() + 32;
    // The first field of the record is the canonical length.
    let mut longer = archive[..record].to_vec();
    longer.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    longer.extend(&archive[record + 1..]);
    assert_eq!(decode(&longer).err(), Some(DecodeError::TooLong { len: u32::MAX.into() }));
    // At its end stand the counts of rows and words; the largest that a varint holds are refused at once.
    let started = Instant::now();
    for field in 1..=8 {
        let mut counts = archive.clone();
        let at = counts.len() - field;
        counts.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(decode(&counts).is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_proof_that_no_block_may_carry_is_not_archived() {
    let limit = usize::try_from(MAX_CANONICAL_LEN).unwrap();
    let proof = Proof { vdf: vec![0; limit], ..Proof::default() };
    assert!(encode(&proof.as_ref()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        assert_never_misread(&bytes);
        let headed = [MAGIC.as_slice(), &[0; 32], &bytes].concat();
        assert_never_misread(&headed);
    }

    #[test]
    fn no_mutation_panics(
        seed in 0_u64..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut archive = encode(&window::by_the_rules(seed, 3).as_ref()).unwrap();
        for (at, byte) in edits {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        assert_never_misread(&archive);
    }
}
