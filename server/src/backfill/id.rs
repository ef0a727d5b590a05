//! Ids of backfill requests. The engine takes them as response ids, which must begin with `resp_`;
//! the job's number in them tells which ones a cancelled job takes along. spec: proxy §14.2

use std::fmt;
use tensorpow_core::units::BlockHash;

/// `resp_dummy_{first 8 digits of the parent}_{job}_{8 random digits}`
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackfillId {
    parent: BlockHash,
    request_id: u32,
    random: u32,
}

impl BackfillId {
    /// The id of a request for a job. `random` tells requests for one job apart.
    #[must_use]
    pub const fn new(parent: BlockHash, request_id: u32, random: u32) -> Self {
        Self { parent, request_id, random }
    }
}

impl fmt::Display for BackfillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = format!("{:x}", self.parent);
        write!(f, "resp_dummy_{}_{}_{:08x}", &parent[..8], self.request_id, self.random)
    }
}

/// The job that a backfill id is for; `None` for any other id.
#[must_use]
pub fn request_id_of(id: &str) -> Option<u32> {
    id.strip_prefix("resp_dummy_")?.split('_').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_job() {
        let id = BackfillId::new(BlockHash::from_bytes([0xab; 32]), 42, 0xbeef).to_string();
        assert_eq!(id, "resp_dummy_abababab_42_0000beef");
        assert_eq!(request_id_of(&id), Some(42));
        for other in ["cmpl-1", "resp_dummy_a_b_c", "resp_dummy_a", "resp_1"] {
            assert_eq!(request_id_of(other), None, "{other}");
        }
    }
}
