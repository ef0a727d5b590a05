//! A disk in memory that outlives its database, and that fails or hangs when told.

use redb::StorageBackend;
use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tensorpow_server::spool::{Location, SpoolSettings};

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Writes fail, as on a full disk.
    pub(crate) full: Arc<AtomicBool>,
    /// Syncs wait until this is over.
    pub(crate) hanging: Arc<AtomicBool>,
    /// What every sync takes, in milliseconds.
    pub(crate) sync_ms: Arc<AtomicU64>,
    pub(crate) syncs: Arc<AtomicU64>,
}

impl Disk {
    pub(crate) fn settings(&self) -> SpoolSettings {
        let disk = self.clone();
        SpoolSettings {
            location: Location::Custom(Arc::new(move || {
                Ok(Box::new(disk.clone()) as Box<dyn StorageBackend>)
            })),
            retry_every: Duration::from_millis(20),
            ..SpoolSettings::default()
        }
    }

    fn check(&self) -> Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(Error::from(ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let bytes = self.bytes.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        bytes
            .get(start..start + len)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.check()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self, _: bool) -> Result<()> {
        self.check()?;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(self.sync_ms.load(Ordering::SeqCst)));
        while self.hanging.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check()?;
        let start = usize::try_from(offset).unwrap();
        let mut bytes = self.bytes.lock().unwrap();
        let room = bytes
            .get_mut(start..start + data.len())
            .ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        room.copy_from_slice(data);
        Ok(())
    }
}
