//! The committed header is the one cbindgen makes of the sources. `TENSORPOW_BLESS=1` writes it.

use std::fs;
use std::path::Path;

#[test]
fn the_committed_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let sources = ["status.rs", "engine.rs", "sequence.rs", "batch.rs", "proof.rs", "vdf.rs"];
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(root.join("src").join(source));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();

    let path = root.join("include/tensorpow.h");
    if std::env::var_os("TENSORPOW_BLESS").is_some() {
        fs::create_dir_all(root.join("include")).unwrap();
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "include/tensorpow.h is not what the sources say; TENSORPOW_BLESS=1 cargo test -p \
         tensorpow-ffi-c --test header writes it"
    );
}
