//! Names the shared library, and with the feature `cxx` generates the C++ side of `src/bridge.rs`
//! into the build folder, where `ffi-c/install` finds it. The C header is not made here; it is
//! committed and a test keeps it up to date, so that building the library needs no generator.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=src/bridge.rs");
    println!("cargo::rerun-if-changed=build.rs");
    // Programs remember the major version they were linked with.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let major = env!("CARGO_PKG_VERSION_MAJOR");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtensorpow.so.{major}");
    }
    #[cfg(feature = "cxx")]
    cplusplus::generate()?;
    Ok(())
}

#[cfg(feature = "cxx")]
mod cplusplus {
    use std::error::Error;
    use std::path::PathBuf;
    use std::{env, fs};

    /// Writes `cxx/tensorpow.hpp`, `cxx/tensorpow.cc` and `cxx/rust/cxx.h` below the build
    /// script's folder.
    pub(super) fn generate() -> Result<(), Box<dyn Error>> {
        let bridge = fs::read_to_string("src/bridge.rs")?.parse()?;
        let mut options = cxx_gen::Opt::default();
        options.include.push(cxx_gen::Include {
            path: "rust/cxx.h".into(),
            kind: cxx_gen::IncludeKind::Quoted,
        });
        let code = cxx_gen::generate_header_and_cc(bridge, &options)?;
        let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("cxx");
        fs::create_dir_all(folder.join("rust"))?;
        fs::write(folder.join("tensorpow.hpp"), code.header)?;
        fs::write(folder.join("tensorpow.cc"), code.implementation)?;
        fs::write(folder.join("rust/cxx.h"), cxx_gen::HEADER)?;
        Ok(())
    }
}
