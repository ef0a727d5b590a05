//! Does any `extra_flags` make reading or merging panic, and is a merged nonce ever lost?
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::admission::{MAX_CARRIER, MergeError, extract, merge};
use tensorpow_core::units::AdmissionNonce;

fuzz_target!(|text: &[u8]| {
    let before = extract(text);
    let nonce = AdmissionNonce::from_bytes([0x5a; 32]);
    let mut out = [0; MAX_CARRIER];
    match merge(text, &nonce, &mut out) {
        Ok(length) => {
            let merged = &out[..length];
            assert_eq!(extract(merged), Some(nonce));
            let mut again = [0; MAX_CARRIER];
            assert_eq!(merge(merged, &nonce, &mut again), Ok(length));
            assert_eq!(&again[..length], merged);
        }
        Err(MergeError::TooLong { length }) => assert!(length > MAX_CARRIER),
        Err(MergeError::Buffer { needed, .. }) => assert!(needed > MAX_CARRIER),
        Err(MergeError::NotUtf8) => assert!(before.is_none()),
        Err(other) => panic!("{other}"),
    }
});
