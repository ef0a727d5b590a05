//! What came to a development node, one line a result, in a file that outlives it: when, the
//! proof's digest, and what the chain made of it. Fault runs read there what arrived, and how often.

use super::chain::DevChain;
use super::check::Rejection;
use crate::mining::sink::Verdict;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tensorpow_core::proof::MiningResponseRef;

/// An open ledger.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Continues the ledger at a path, or begins it.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        // A node that was killed while it wrote leaves half a line.
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
        Ok(Self(file))
    }

    /// Submits a result to the chain and writes down `<microseconds since 1970> <digest> <verdict>`.
    /// The digest of what is no proof is `-`.
    ///
    /// # Errors
    /// As [`DevChain::submit`].
    pub fn submit(&self, chain: &DevChain, message: &[u8]) -> Result<Verdict, Rejection> {
        let came = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let judged = chain.submit(message);
        let label = match &judged {
            Ok(verdict) => verdict.label(),
            Err(rejection) => rejection.label(),
        };
        let digest = MiningResponseRef::read(message).ok().and_then(|response| response.pow_blob);
        let digest = digest.map_or_else(|| "-".to_owned(), |proof| hex::encode(proof.hash));
        // One write, so that a line is there as a whole whenever the node is killed.
        if let Err(error) = (&self.0).write_all(format!("{came} {digest} {label}\n").as_bytes()) {
            tracing::error!(%error, "a result is missing in the ledger");
        }
        judged
    }
}
