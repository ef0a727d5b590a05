//! The core links into a program without std and without an allocator, and works there.

use std::path::Path;
use std::process::Command;

#[test]
fn the_core_links_and_mines_without_std_and_without_an_allocator() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Inside the build's own folder, so that `cargo clean` takes it along.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare");
    let built = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--manifest-path"])
        .arg(here.join("tests/bare/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(built.success(), "exit status {:?}: see bare/src/main.rs", built.code());
}
