//! The VDF as a C caller meets it: a proof that is made is judged valid, every change of it is not,
//! and wrong calls are answered.
#![allow(unsafe_code)] // the functions under test are called as C calls them
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::ptr::{null, null_mut};

use tensorpow::*;

const CHALLENGE: [u8; 32] = [0x5a; 32];

fn judge(challenge: &[u8; 32], tick: u64, blob: &[u8]) -> i32 {
    let mut valid = -1;
    // SAFETY: correct arguments.
    let status = unsafe {
        tensorpow_vdf_verify(challenge.as_ptr(), tick, blob.as_ptr(), blob.len(), &mut valid)
    };
    assert_eq!(status, Status::Ok);
    valid
}

#[test]
fn what_is_proved_is_valid_and_nothing_else() {
    let mut blob = [0; TENSORPOW_VDF_PROOF_BYTES];
    // SAFETY: correct arguments.
    let status = unsafe { tensorpow_vdf_prove(CHALLENGE.as_ptr(), 300, blob.as_mut_ptr()) };
    assert_eq!(status, Status::Ok);
    assert_eq!(judge(&CHALLENGE, 300, &blob), 1);
    assert_eq!(judge(&CHALLENGE, 301, &blob), 0);
    assert_eq!(judge(&[0x5b; 32], 300, &blob), 0);
    assert_eq!(judge(&CHALLENGE, 300, &blob[..199]), 0);
    assert_eq!(judge(&CHALLENGE, 300, &[]), 0);
    assert_eq!(judge(&CHALLENGE, u64::MAX, &[0xff; 341]), 0);
    blob[150] ^= 1;
    assert_eq!(judge(&CHALLENGE, 300, &blob), 0);
}

#[test]
fn wrong_calls_are_answered() {
    let invalid = Status::InvalidArgument;
    let (mut valid, mut out) = (-1, [7; TENSORPOW_VDF_PROOF_BYTES]);
    let challenge = CHALLENGE.as_ptr();
    // SAFETY: null is what these calls are about; everything else is correct.
    unsafe {
        assert_eq!(tensorpow_vdf_verify(null(), 1, out.as_ptr(), 200, &mut valid), invalid);
        assert_eq!(tensorpow_vdf_verify(challenge, 1, null(), 200, &mut valid), invalid);
        assert_eq!(tensorpow_vdf_verify(challenge, 1, out.as_ptr(), 200, null_mut()), invalid);
        assert_eq!(tensorpow_vdf_prove(null(), 1, out.as_mut_ptr()), invalid);
        assert_eq!(tensorpow_vdf_prove(challenge, 1, null_mut()), invalid);
        let too_many = TENSORPOW_VDF_MOST_TICKS + 1;
        assert_eq!(tensorpow_vdf_prove(challenge, too_many, out.as_mut_ptr()), invalid);
    }
    assert_eq!((valid, out), (-1, [7; TENSORPOW_VDF_PROOF_BYTES]), "nothing is written");
}
