//! Do any 100 bytes decode to a reduced form, which encodes and decodes to itself, or fail; and
//! does any blob get a verdict?
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tensorpow_core::vdf::{Discriminant, Form, verify_proof};

fn discriminants() -> &'static [Discriminant] {
    static KNOWN: OnceLock<Vec<Discriminant>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        [256, 264, 512, 1024]
            .into_iter()
            .filter_map(|bits| Discriminant::from_challenge(&[7; 32], bits).ok())
            .collect()
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let known = discriminants();
    let Some(d) = known.get(usize::from(*choice) % known.len()) else { return };
    if let Ok(form) = Form::decode(rest, d) {
        let again = form.encode(d).expect("a reduced form encodes");
        assert_eq!(Form::decode(&again, d), Ok(form));
        assert!(form.b().abs() <= *form.a() && form.a() <= form.c());
    }
    let _ = verify_proof(d, u64::from(*choice), rest);
});
