//! One message of a node's job feed and what makes it a job: bytes from a socket that anybody may
//! have written to, checked before anything is believed. spec: node §2.2, §2.3

use crate::mining::job::Job;
use tensorpow_core::header::HeaderFields;
use tensorpow_core::proof::{BlockHeaderMessage, FlatError};
use tensorpow_core::target::CompactTarget;
use tensorpow_core::units::{BlockHash, HeaderPrefix, MerkleRoot};

/// A message is no job; the mining context stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadJob {
    /// The bytes are no `BlockHeader`.
    #[error("no BlockHeader: {0}")]
    Unreadable(FlatError),
    /// A hash has not 32 bytes.
    #[error("{field} has {found} bytes, not 32")]
    HashLength {
        /// Which one.
        field: &'static str,
        /// Its length.
        found: usize,
    },
    /// Nodes count from 1.
    #[error("request id 0")]
    NoRequestId,
}

impl BadJob {
    /// The reason's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::HashLength { .. } => "hash_length",
            Self::NoRequestId => "no_request_id",
        }
    }

    /// All labels.
    pub const LABELS: [&str; 3] = ["unreadable", "hash_length", "no_request_id"];
}

/// Reads a job. A node's jobs carry no share target and no height. spec: node §2.2, targets §3.1
///
/// # Errors
/// [`BadJob`].
pub fn read_job(message: &[u8]) -> Result<Job, BadJob> {
    let header = BlockHeaderMessage::read(message).map_err(BadJob::Unreadable)?;
    let hash = |field, bytes: &[u8]| {
        <[u8; 32]>::try_from(bytes).map_err(|_| BadJob::HashLength { field, found: bytes.len() })
    };
    let parent = hash("prev_block_hash", header.prev_block_hash)?;
    let merkle_root = hash("merkle_root", header.merkle_root)?;
    if header.req_id == 0 {
        return Err(BadJob::NoRequestId);
    }
    let prefix = HeaderPrefix::from_fields(&HeaderFields {
        version: header.version,
        parent: BlockHash::from_bytes(parent),
        merkle_root: MerkleRoot::from_bytes(merkle_root),
        time: header.timestamp,
        bits: CompactTarget::from_bits(header.bits),
    });
    Ok(Job { request_id: header.req_id, prefix, base_share_target: None, height: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::proof::Encode;

    fn message(req_id: u32, parent: &[u8], merkle_root: &[u8]) -> Vec<u8> {
        BlockHeaderMessage {
            req_id,
            version: 3,
            prev_block_hash: parent,
            merkle_root,
            timestamp: 1_768_000_000,
            bits: 0x1f00_ffff,
        }
        .encode_to_vec()
        .unwrap()
    }

    #[test]
    fn a_job_is_the_header_it_carries() {
        let job = read_job(&message(7, &[1; 32], &[2; 32])).unwrap();
        assert_eq!((job.request_id, job.parent()), (7, BlockHash::from_bytes([1; 32])));
        assert_eq!(job.prefix.merkle_root(), MerkleRoot::from_bytes([2; 32]));
        assert_eq!(job.bits().to_bits(), 0x1f00_ffff);
        assert_eq!((job.base_share_target, job.height), (None, None));
        let mut trailing = message(7, &[1; 32], &[2; 32]);
        trailing.extend([0xee; 9]);
        assert_eq!(read_job(&trailing), Ok(job), "what follows the message is nobody's business");
    }

    /// Bytes of the node's own builder, whose layout is not ours. spec: node §2.2
    #[test]
    fn the_nodes_own_bytes_are_read() {
        let message = "1400000010001800040008000c001000000014001000000080969800ffffffff0c0000002c\
            000000ffff001d20000000ea3c3cf7efc8ad3de77e80bfa558b1798d8942897db5ce33df2df027ce34d735\
            20000000fd8335be61717c693cf0496bde005cae35586d2864c3ddcfb335da147188c1d1";
        let job = read_job(&hex::decode(message).unwrap()).unwrap();
        assert_eq!(job.request_id, 10_000_000);
        assert_eq!(
            format!("{:x}", job.prefix),
            "ffffffffea3c3cf7efc8ad3de77e80bfa558b1798d8942897db5ce33df2df027ce34d735fd8335be6171\
             7c693cf0496bde005cae35586d2864c3ddcfb335da147188c1d100000000ffff001d"
        );
    }

    #[test]
    fn what_is_no_job_has_a_name() {
        let label = |message: &[u8]| read_job(message).unwrap_err().label();
        for garbage in [&[][..], &[0], &[0xff; 64]] {
            assert_eq!(label(garbage), "unreadable");
        }
        assert_eq!(label(&message(1, &[1; 31], &[2; 32])), "hash_length");
        assert_eq!(label(&message(1, &[1; 32], &[])), "hash_length");
        assert_eq!(label(&message(0, &[1; 32], &[2; 32])), "no_request_id");
        // An all-zero buffer is an empty table to a lenient reader.
        assert!(BadJob::LABELS.contains(&label(&[0; 200])));
    }
}
