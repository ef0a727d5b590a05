//! Counts cases per group, prints failures as they come and one line per group at its end.

use std::path::Path;
use std::process::ExitCode;

/// Failures printed in full per group; the rest is only counted.
const SHOWN: usize = 5;

/// Totals over all files.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failed: usize,
}

/// The cases of one group.
pub struct Group {
    name: String,
    passed: usize,
    failed: usize,
}

impl Report {
    /// Announces a file.
    pub fn file(&mut self, folder: &Path, file: &str) {
        println!("{} ({file})", folder.display());
    }

    /// A file that cannot be read counts as a failure.
    pub fn broken(&mut self, folder: &Path, file: &str, why: &str) {
        println!("{} ({file}): {why}", folder.display());
        self.failed += 1;
    }

    /// A folder without any file this runner knows counts as a failure: a typing error in
    /// `TENSORPOW_VECTORS` must not look like success.
    pub fn nothing(&mut self, folder: &Path) {
        println!("{}: none of the vector files is here", folder.display());
        self.failed += 1;
    }

    /// Runs a group: `cases` gets the counter and adds each case to it.
    pub fn group(&mut self, name: &str, cases: impl FnOnce(&mut Group)) {
        let mut group = Group { name: name.to_owned(), passed: 0, failed: 0 };
        cases(&mut group);
        let Group { passed, failed, .. } = group;
        println!(
            "  {name:<34} {passed:>6} passed{}",
            match failed {
                0 => String::new(),
                n => format!(", {n} FAILED"),
            }
        );
        if passed + failed == 0 {
            println!("  {name}: the group holds no case");
        }
        self.passed += passed;
        self.failed += failed;
    }

    /// A group left out by name, with the reason.
    pub fn skipped(&mut self, name: &str, why: &str) {
        println!("  {name:<34}   skipped: {why}");
    }

    /// A group nobody knows is a failure.
    pub fn unknown(&mut self, name: &str) {
        println!("  {name:<34}   FAILED: unknown group");
        self.failed += 1;
    }

    /// Prints the closing line.
    pub fn finish(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Group {
    /// Counts one case; a failure is printed with the case's id.
    pub fn case(&mut self, id: impl std::fmt::Display, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                if self.failed <= SHOWN {
                    println!("    {} {id}: {why}", self.name);
                }
            }
        }
    }
}

/// `Ok` when both are equal, else a text that shows both.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    if ours == theirs { Ok(()) } else { Err(format!("{what}: ours {ours:?}, expected {theirs:?}")) }
}
