//! What the stand-in for a node pushes: jobs as a node writes them, and what no node should write.

use crate::mining::job::Job;
use tensorpow_core::proof::{BlockHeaderMessage, Encode};
use tensorpow_core::units::BlockHash;

/// The message a node sends for a job. spec: node §2.2
#[must_use]
pub fn job_message(job: &Job) -> Vec<u8> {
    let fields = job.prefix.fields();
    let message = BlockHeaderMessage {
        req_id: job.request_id,
        version: fields.version,
        prev_block_hash: fields.parent.as_bytes(),
        merkle_root: fields.merkle_root.as_bytes(),
        timestamp: fields.time,
        bits: fields.bits.to_bits(),
    };
    // A message of a hundred bytes is never too long.
    message.encode_to_vec().unwrap_or_default()
}

/// Messages that are no jobs, one kind after the other: empty, cut, random, with short hashes,
/// without a request id. spec: node §2.3
#[must_use]
pub fn garbage(kind: u32) -> Vec<u8> {
    let parent = BlockHash::from_bytes([0xee; 32]);
    let message = |req_id, hash: &[u8]| {
        let message = BlockHeaderMessage {
            req_id,
            version: 3,
            prev_block_hash: hash,
            merkle_root: hash,
            timestamp: 1,
            bits: 0x207f_ffff,
        };
        message.encode_to_vec().unwrap_or_default()
    };
    match kind % 6 {
        0 => Vec::new(),
        1 => message(1, parent.as_bytes()).into_iter().take(40).collect(),
        2 => (0..97).map(|byte: u8| byte.wrapping_mul(151).wrapping_add(13)).collect(),
        3 => message(1, &parent.as_bytes()[..31]),
        4 => message(0, parent.as_bytes()),
        _ => vec![0; 120],
    }
}
