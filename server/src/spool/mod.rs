//! The spool: every proof that arrives is on disk before anything else is done with it. One file
//! ([`backend`]) holds the proofs in compact form ([`form`]), what is known of each ([`entry`]), and
//! for every sink how far its delivery has come. One thread (`writer`) writes, many changes to a
//! commit, so that a burst costs few fsyncs; what is too old or too much goes in a fixed order
//! ([`retention`]); anybody reads, from a snapshot ([`view`]). The rows stand in `tables`.
//!
//! When the disk fails the spool says so ([`SpoolHealth`]) and everything goes on without it: proofs
//! are forwarded from memory, users notice nothing. It comes back by itself.

pub mod backend;
pub mod entry;
pub mod form;
mod handle;
pub mod retention;
mod tables;
pub mod view;
mod writer;

pub use backend::Location;
pub use entry::{Delivery, DeliveryState, Entry, INTAKE, Mark};
pub use form::{Form, FormError};
pub use handle::{Put, Spool, SpoolHealth, SpoolStats};
pub use retention::Retention;
pub use view::{Found, Listed, Selection, View};
pub use writer::Prepared;

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the spool.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// Where it is.
    pub location: Location,
    /// What is kept.
    pub retention: Retention,
    /// How long a proof waits for the disk before it goes on without it.
    pub patience: Duration,
    /// How often a failed disk is tried again.
    pub retry_every: Duration,
}

impl Default for SpoolSettings {
    /// In memory only: a place on disk is a decision of whoever runs the proxy.
    fn default() -> Self {
        Self {
            location: Location::Memory,
            retention: Retention::default(),
            patience: Duration::from_secs(5),
            retry_every: Duration::from_secs(5),
        }
    }
}

impl SpoolSettings {
    /// The settings with a folder on disk.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { location: Location::Folder(folder.into()), ..Self::default() }
    }
}

/// What can go wrong with the spool.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Two proxies would hand over the same proofs.
    #[error(
        "the spool {} is in use by another process; stop it, or give this one its own --data-dir", path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("the spool cannot use {}: {why}", path.display())]
    Unusable {
        /// Folder or file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A later version wrote it.
    #[error("the spool has format {found}, this version knows format {known}; update the proxy")]
    Format {
        /// Of the file.
        found: u32,
        /// Of this program.
        known: u32,
    },
    /// The file holds something else than was written.
    #[error("the spool is damaged: {0}")]
    Damaged(String),
    /// Reading or writing failed.
    #[error("the spool's storage failed: {0}")]
    Storage(String),
    /// It failed before and has not come back yet.
    #[error("the spool is out of service: {0}")]
    Degraded(String),
    /// The disk does not keep up.
    #[error("the spool's disk does not keep up")]
    Busy,
    /// It was closed.
    #[error("the spool is closed")]
    Closed,
}

impl SpoolError {
    /// Whether a proxy must not start with it, because the operator has to decide.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Format { .. })
    }
}
