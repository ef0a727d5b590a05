//! Does any archive make the decoder panic, or come out as another proof than its key says? Does
//! any proof come back changed? The first byte chooses the question.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tensorpow_core::archive::{MAGIC, decode, encode, key, key_of};
use tensorpow_core::proof::ProofRef;
use tensorpow_core::proof::canonical::canonical_to_vec;

fuzz_target!(|bytes: &[u8]| {
    let Some((question, bytes)) = bytes.split_first() else { return };
    match question {
        // Any proof.
        0 => {
            let Ok(proof) = ProofRef::read(bytes) else { return };
            let Ok(canonical) = canonical_to_vec(&proof) else { return };
            let archive = encode(&proof).expect("a proof within the limit has an archive");
            let back = decode(&archive).expect("what we write we read");
            assert_eq!(canonical_to_vec(&back.as_ref()), Ok(canonical));
        }
        // Any archive; behind any key, so that mutations reach the record and the code.
        _ => {
            let headed = [MAGIC.as_slice(), &[0; 32], bytes].concat();
            for archive in [bytes, &headed] {
                if let Ok(proof) = decode(archive) {
                    assert_eq!(key(&proof.as_ref()).ok(), key_of(archive).ok());
                }
            }
        }
    }
});
