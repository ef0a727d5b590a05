//! The counts of the objectives on disk, so that thirty days are thirty days over restarts too. The
//! file is written beside and renamed; one that cannot be read is left behind with a warning.

use super::{Slo, Windows};
use std::path::Path;

impl Slo {
    /// Takes the counts of an earlier run.
    pub fn restore(&mut self, path: &Path) {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "error budgets begin anew");
                return;
            }
        };
        match serde_json::from_slice::<Windows>(&text) {
            Ok(windows) if fits(&windows, &self.windows) => {
                self.windows = windows;
                self.windows.0.iter_mut().for_each(super::ring::Ring::recount);
            }
            Ok(_) => {
                tracing::warn!(path = %path.display(), "error budgets begin anew: other windows");
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "error budgets begin anew");
            }
        }
    }

    /// The counts as they are written to a file.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        serde_json::to_vec(&self.windows).unwrap_or_default()
    }
}

fn fits(read: &Windows, ours: &Windows) -> bool {
    read.0.iter().zip(&ours.0).all(|(read, ours)| read.is_like(ours))
}

/// Writes a file as a whole or not at all.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::super::{Kept, Slo, SloSettings};
    use super::*;

    #[test]
    fn counts_survive_a_restart_and_a_bad_file_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/slo.json");
        let now = 1_700_000_000;
        let mut slo = Slo::new(SloSettings::default());
        slo.restore(&path);
        (0..60).for_each(|_| slo.ended(now, Kept::Error));
        write_whole(&path, &slo.to_file()).unwrap();
        let mut next = Slo::new(SloSettings::default());
        next.restore(&path);
        assert_eq!(next.budgets(now), slo.budgets(now));
        std::fs::write(&path, b"{").unwrap();
        let mut fresh = Slo::new(SloSettings::default());
        fresh.restore(&path);
        assert_eq!(fresh.budgets(now)[0].requests, 0);
    }
}
