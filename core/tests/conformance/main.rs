//! Conformance: runs every group of the vector files `sampler.json`, `proof.json`, `targets.json`,
//! `vdf.json` and `admission.json` against the core and prints how many cases ran per group.
//!
//! Files are read from every folder in `TENSORPOW_VECTORS` (separated like `PATH`), by default from
//! the project's own copies in `core/tests/vectors`. A folder may hold only some of the files,
//! plain or gzipped; a group that is not known fails loudly.

// Without the libtest harness Clippy does not see that these files are tests.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used, unreachable_pub)]

mod admission;
mod credit;
mod proof;
mod report;
mod sampler;
mod source;
mod targets;
mod traces;
mod vdf;
mod verify;

use report::Report;
use std::process::ExitCode;

type Runner = fn(&serde_json::Value, &mut Report);

const FILES: [(&str, Runner); 6] = [
    ("targets.json", targets::run),
    ("proof.json", proof::run),
    ("sampler.json", sampler::run),
    ("vdf.json", vdf::run),
    ("admission.json", admission::run),
    ("verify.json", verify::run),
];

fn main() -> ExitCode {
    let mut report = Report::default();
    for folder in source::folders() {
        let mut found = false;
        for (file, run) in FILES {
            match source::load(&folder, file) {
                Ok(Some(vectors)) => {
                    found = true;
                    report.file(&folder, file);
                    run(&vectors, &mut report);
                }
                Ok(None) => {}
                Err(why) => report.broken(&folder, file, &why),
            }
        }
        if !found {
            report.nothing(&folder);
        }
    }
    report.finish()
}
