//! Where the spool's file is and how it is opened: a folder of its own with narrow permissions, one
//! process at a time, a damaged file set aside so that new proofs find a place.

use super::SpoolError;
use super::retention::Ledger;
use super::tables::Rows;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Memory for pages of the file.
const PAGE_CACHE: usize = 16 * 1024 * 1024;
/// A file that is larger than twice its content by this much is compacted when it is opened.
const SLACK: u64 = 256 * 1024 * 1024;

/// Name of the file in its folder.
pub const FILE: &str = "proofs.redb";

/// Where the spool is.
#[derive(Clone)]
pub enum Location {
    /// Nowhere: it ends with the process.
    Memory,
    /// In this folder.
    Folder(PathBuf),
    /// On whatever storage this makes, each time it is opened.
    Custom(Arc<dyn Fn() -> std::io::Result<Box<dyn StorageBackend>> + Send + Sync>),
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("Memory"),
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl Location {
    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(FILE)),
            Self::Memory | Self::Custom(_) => None,
        }
    }

    /// Opens the database, makes what it lacks, and counts what it holds. A damaged file is set
    /// aside and a new one begun.
    pub(super) fn open(&self) -> Result<(Database, Ledger), SpoolError> {
        match (guarded(|| self.open_once()), self.file()) {
            (Err(SpoolError::Damaged(why)), Some(path)) => {
                set_aside(&path, &why)?;
                guarded(|| self.open_once())
            }
            (opened, _) => opened,
        }
    }

    fn open_once(&self) -> Result<(Database, Ledger), SpoolError> {
        let mut database = self.database()?;
        let mut ledger = Ledger::default();
        let txn = database.begin_write()?;
        {
            let mut rows = Rows::open(&txn)?;
            rows.check_format()?;
            rows.each(|seq, entry, standing| ledger.add(seq, entry, standing))?;
        }
        txn.commit()?;
        self.compact(&mut database, ledger.bytes());
        Ok((database, ledger))
    }

    fn database(&self) -> Result<Database, SpoolError> {
        match self {
            Self::Memory => named(
                Path::new("memory"),
                builder().create_with_backend(redb::backends::InMemoryBackend::new()),
            ),
            Self::Custom(make) => {
                let backend = make().map_err(|error| SpoolError::Storage(error.to_string()))?;
                named(Path::new("custom"), builder().create_with_backend(Boxed(backend)))
            }
            Self::Folder(folder) => {
                make_folder(folder)?;
                let path = folder.join(FILE);
                let database = named(&path, builder().create(&path))?;
                narrow(&path, 0o600);
                Ok(database)
            }
        }
    }

    /// Gives back the room of a file whose content has shrunk.
    fn compact(&self, database: &mut Database, content: u64) {
        let Some(path) = self.file() else { return };
        let length = std::fs::metadata(path).map_or(0, |about| about.len());
        if length > 2 * content + SLACK
            && let Err(error) = database.compact()
        {
            tracing::warn!(%error, "the spool could not be compacted");
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    // The format that later lines of the store read as well.
    builder.create_with_file_format_v3(true).set_cache_size(PAGE_CACHE);
    builder
}

/// The store promises errors for damaged files, but reads them with asserts in a few places: a panic
/// there is damage too.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, SpoolError>) -> Result<T, SpoolError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(SpoolError::Damaged("the store stopped on what it read".to_owned()))
    })
}

fn named(path: &Path, opened: Result<Database, DatabaseError>) -> Result<Database, SpoolError> {
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => SpoolError::InUse { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(error))
            if error.kind() == std::io::ErrorKind::InvalidData =>
        {
            SpoolError::Damaged(error.to_string())
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) => unusable(path, &error),
        DatabaseError::Storage(error) => error.into(),
        other => SpoolError::Damaged(other.to_string()),
    })
}

fn unusable(path: &Path, error: &std::io::Error) -> SpoolError {
    SpoolError::Unusable { path: path.to_owned(), why: error.to_string() }
}

fn make_folder(folder: &Path) -> Result<(), SpoolError> {
    std::fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))?;
    narrow(folder, 0o700);
    Ok(())
}

/// Nobody else needs to read proofs, which hold prompts. Where permissions cannot be set, those of
/// the folder above count.
#[cfg(unix)]
fn narrow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        tracing::warn!(%error, path = %path.display(), "cannot narrow the spool's permissions");
    }
}

#[cfg(not(unix))]
fn narrow(_: &Path, _: u32) {}

/// Renames a damaged file, so that an operator can look at it and the proxy has a new one.
fn set_aside(path: &Path, why: &str) -> Result<(), SpoolError> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = path.with_extension(format!("damaged-{seconds}"));
    std::fs::rename(path, &aside).map_err(|error| unusable(path, &error))?;
    tracing::error!(
        "the spool is damaged ({why}); it is set aside as {} and a new one is begun",
        aside.display()
    );
    Ok(())
}

/// A backend behind a pointer.
#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        self.0.read(offset, len)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self, eventual: bool) -> std::io::Result<()> {
        self.0.sync_data(eventual)
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}
