//! Proof files: one `.bin` with the encoded message per proof. A reader never sees half a file,
//! because it appears under its name by a rename. The name holds numbers only, nothing that came
//! with the request.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// `<job>_<nonce>_<next eight digest bytes>.bin`; the same proof always has the same name.
fn name(req_id: u32, digest: &[u8; 32]) -> String {
    use std::fmt::Write;
    let nonce = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut name = format!("{req_id}_{nonce}_");
    for byte in &digest[4..12] {
        // Writing into a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Writes one proof into `folder`, which is made when it is missing.
pub(super) fn save(
    folder: &Path,
    req_id: u32,
    digest: &[u8; 32],
    bytes: &[u8],
) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let name = name(req_id, digest);
    let path = folder.join(format!("{name}.bin"));
    // Two processes may save into one folder; the half-written file is this process's own.
    let partial = folder.join(format!(".{name}.{}.partial", std::process::id()));
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written.map(|()| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_made_of_numbers() {
        let digest = core::array::from_fn(|i| u8::try_from(i + 1).unwrap());
        assert_eq!(name(7, &digest), "7_67305985_05060708090a0b0c");
    }

    #[test]
    fn a_saved_proof_is_complete_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made/when/missing");
        let path = save(&inner, 1, &[9; 32], b"proof").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"proof");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(save(&file.path().join("below-a-file"), 1, &[9; 32], b"proof").is_err());
    }
}
