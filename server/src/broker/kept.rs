//! Open leases on disk, so that what an earlier run found and could not deliver still has the lease
//! it was mined for. Written whole beside the old file and put in its place. spec: broker §1.1

use super::leases::{Lease, LeasedModel};
use super::outgoing::WorkUnit;
use crate::mining::job::Job;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tensorpow_core::target::parse_base_share_target;
use tensorpow_core::units::HeaderPrefix;

/// A lease as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    unit: WorkUnit,
    model: LeasedModel,
    header_prefix: String,
    base_share_target: Option<String>,
    /// Seconds since 1970.
    opened: u64,
}

impl Kept {
    fn of(lease: &Lease, age: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            unit: lease.unit.clone(),
            model: lease.model.clone(),
            header_prefix: format!("{:x}", lease.job.prefix),
            base_share_target: lease.job.base_share_target.map(|target| format!("{target:x}")),
            opened: now.saturating_sub(age).as_secs(),
        }
    }

    /// `None` for what no lease ever was.
    fn read(self) -> Option<(Lease, Duration)> {
        let prefix = hex::decode(&self.header_prefix).ok()?;
        let prefix: [u8; HeaderPrefix::LEN] = prefix.try_into().ok()?;
        let job = Job {
            request_id: u32::try_from(self.unit.request_id).ok()?,
            prefix: HeaderPrefix::from_bytes(prefix),
            base_share_target: self
                .base_share_target
                .and_then(|digits| parse_base_share_target(&digits).ok()),
            height: None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let age = now.saturating_sub(Duration::from_secs(self.opened));
        Some((Lease { unit: self.unit, model: self.model, job }, age))
    }
}

/// Writes leases with their ages, the newest last.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, leases: &[(Lease, Duration)]) -> io::Result<()> {
    let kept: Vec<Kept> = leases.iter().map(|(lease, age)| Kept::of(lease, *age)).collect();
    let text = serde_json::to_vec_pretty(&kept).map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

/// Reads what was written; nothing where there is no file, or none of ours.
#[must_use]
pub fn read(path: &Path) -> Vec<(Lease, Duration)> {
    let text = std::fs::read(path).unwrap_or_default();
    let kept: Vec<Kept> = serde_json::from_slice(&text).unwrap_or_default();
    kept.into_iter().filter_map(Kept::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/leases.json");
        assert_eq!(read(&path), []);
        let lease = Lease {
            unit: WorkUnit {
                job_id: "job".to_owned(),
                work_unit_id: 7,
                wallet_id: "wallet".to_owned(),
                network: "tensor".to_owned(),
                template_id: "template".to_owned(),
                request_id: 7,
            },
            model: LeasedModel { name: "org/m".to_owned(), commit: "c".to_owned() },
            job: Job {
                request_id: 7,
                prefix: HeaderPrefix::from_bytes([3; 76]),
                base_share_target: parse_base_share_target("ff").ok(),
                height: None,
            },
        };
        write(&path, &[(lease.clone(), Duration::from_secs(100))]).unwrap();
        let (read_back, age) = read(&path).pop().unwrap();
        assert_eq!(read_back, lease);
        assert!((100..200).contains(&age.as_secs()), "{age:?}");
        std::fs::write(&path, "[{}]").unwrap();
        assert_eq!(read(&path), [], "no file of ours");
    }
}
