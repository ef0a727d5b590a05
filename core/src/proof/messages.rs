//! The two messages of the mining link: a job from the node and a result for it.
//! spec: proof-encoding §5.1, §5.2

use super::flat::{Encode, Field, Fields, FlatError, Out, WriteTable, read_root};
use super::record::ProofRef;

/// A mining result (`MiningResponse`). spec: proof-encoding §5.1
#[derive(Debug, Clone, Copy, Default)]
pub struct MiningResponseRef<'a> {
    /// Request id of the job, unchanged.
    pub req_id: u32,
    /// The header's nonce; 0 in an audit.
    pub nonce: u32,
    /// Compact form of the proof's target; 0 in an audit.
    pub adjusted_bits: u32,
    /// The commitment of the proof by our rule, 32 bytes of anything by others', empty in an audit.
    pub pow_blob_hash: &'a [u8],
    /// Registered difficulty, saturated; informational; 0 in an audit.
    pub difficulty: u32,
    /// The proof.
    pub pow_blob: Option<ProofRef<'a>>,
    /// Id of the answer the client saw; empty when unknown; a producer writes UTF-8.
    pub completion_id: &'a [u8],
}

impl<'a> MiningResponseRef<'a> {
    /// Reads the message in place, with or without file identifier. spec: proof-encoding §7
    ///
    /// # Errors
    /// [`FlatError`] for bytes the node's verifier would refuse.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlatError> {
        read_root(bytes, Self::read_fields)
    }

    fn read_fields(fields: &mut Fields<'a, '_>) -> Result<Self, FlatError> {
        Ok(Self {
            req_id: fields.u32()?,
            nonce: fields.u32()?,
            adjusted_bits: fields.u32()?,
            pow_blob_hash: fields.bytes()?,
            difficulty: fields.u32()?,
            pow_blob: fields.table(ProofRef::read_fields)?,
            completion_id: fields.text()?,
        })
    }
}

impl Encode for MiningResponseRef<'_> {}

impl WriteTable for MiningResponseRef<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        out.table(&[
            Field::Word(self.req_id),
            Field::Word(self.nonce),
            Field::Word(self.adjusted_bits),
            Field::Bytes(self.pow_blob_hash),
            Field::Word(self.difficulty),
            Field::Table(self.pow_blob.as_ref().map(|proof| proof as &dyn WriteTable)),
            Field::Text(self.completion_id),
        ])
    }
}

/// A mining job as the node sends it (`BlockHeader`). spec: proof-encoding §5.2
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockHeaderMessage<'a> {
    /// Request id, to be echoed in the result.
    pub req_id: u32,
    /// The header's version, two's complement.
    pub version: u32,
    /// The parent's long hash, internal order, 32 bytes in a valid job.
    pub prev_block_hash: &'a [u8],
    /// Transaction merkle root, internal order, 32 bytes in a valid job.
    pub merkle_root: &'a [u8],
    /// Header time, UNIX seconds.
    pub timestamp: u32,
    /// Compact target before adjustment.
    pub bits: u32,
}

impl<'a> BlockHeaderMessage<'a> {
    /// Reads the message in place. Hashes of other lengths than 32 are taken as they are: judging
    /// the job is the caller's. spec: proof-encoding §7
    ///
    /// # Errors
    /// [`FlatError`] for bytes the node's verifier would refuse.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FlatError> {
        read_root(bytes, |fields| {
            Ok(Self {
                req_id: fields.u32()?,
                version: fields.u32()?,
                prev_block_hash: fields.bytes()?,
                merkle_root: fields.bytes()?,
                timestamp: fields.u32()?,
                bits: fields.u32()?,
            })
        })
    }
}

impl Encode for BlockHeaderMessage<'_> {}

impl WriteTable for BlockHeaderMessage<'_> {
    fn write_table(&self, out: &mut Out<'_>) -> u64 {
        out.table(&[
            Field::Word(self.req_id),
            Field::Word(self.version),
            Field::Bytes(self.prev_block_hash),
            Field::Bytes(self.merkle_root),
            Field::Word(self.timestamp),
            Field::Word(self.bits),
        ])
    }
}
