//! Does any payload text make the door panic?
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::door::{Engine, Payload, Requested};

fuzz_target!(|text: &[u8]| {
    match Payload::from_json(text) {
        Ok(payload) => {
            if let Ok(terms) = payload.admit(&Engine::default(), &Requested::default(), 128, 1) {
                let sequence = payload.begin(&terms, 128, &[1]);
                let _ = sequence.digest(None);
            }
        }
        Err(error) => assert!(error.label().starts_with("payload_")),
    }
});
