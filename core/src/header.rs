//! Block headers: the 76-byte prefix a job hands out, the hash that decides whether a window hits,
//! and the full 117-byte header with its block id.

use crate::target::{CompactTarget, Target};
use crate::units::{BlockHash, HashPow, HeaderHash, HeaderPrefix, MerkleRoot};
use sha2::{Digest as _, Sha256};

const VERSION_AT: usize = 0;
const PARENT_AT: usize = 4;
const MERKLE_ROOT_AT: usize = 36;
const TIME_AT: usize = 68;
const BITS_AT: usize = 72;

/// The five fields of a header prefix. spec: targets §3.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFields {
    /// Block version. The node's own field is an i32 of the same 32 bits.
    pub version: u32,
    /// Long hash of the previous block.
    pub parent: BlockHash,
    /// Merkle root of the transactions.
    pub merkle_root: MerkleRoot,
    /// Seconds since 1970.
    pub time: u32,
    /// Compact target: nBits in a job, the adjusted bits in what is mined.
    pub bits: CompactTarget,
}

impl HeaderPrefix {
    /// Lays the fields out as the header does, integers little-endian. spec: targets §3.1
    #[must_use]
    pub fn from_fields(fields: &HeaderFields) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[VERSION_AT..PARENT_AT].copy_from_slice(&fields.version.to_le_bytes());
        bytes[PARENT_AT..MERKLE_ROOT_AT].copy_from_slice(fields.parent.as_bytes());
        bytes[MERKLE_ROOT_AT..TIME_AT].copy_from_slice(fields.merkle_root.as_bytes());
        bytes[TIME_AT..BITS_AT].copy_from_slice(&fields.time.to_le_bytes());
        bytes[BITS_AT..].copy_from_slice(&fields.bits.to_bits().to_le_bytes());
        Self::from_bytes(bytes)
    }

    /// All fields at once.
    #[must_use]
    pub fn fields(&self) -> HeaderFields {
        HeaderFields {
            version: self.version(),
            parent: self.parent(),
            merkle_root: self.merkle_root(),
            time: self.time(),
            bits: self.bits(),
        }
    }

    /// Block version, from bytes 0 to 3.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::from_le_bytes(self.part(VERSION_AT))
    }

    /// Long hash of the previous block, bytes 4 to 35: the `block_hash` of a mining payload.
    /// spec: targets §3.3
    #[must_use]
    pub fn parent(&self) -> BlockHash {
        BlockHash::from_bytes(self.part(PARENT_AT))
    }

    /// Merkle root of the transactions, bytes 36 to 67.
    #[must_use]
    pub fn merkle_root(&self) -> MerkleRoot {
        MerkleRoot::from_bytes(self.part(MERKLE_ROOT_AT))
    }

    /// Seconds since 1970, from bytes 68 to 71.
    #[must_use]
    pub fn time(&self) -> u32 {
        u32::from_le_bytes(self.part(TIME_AT))
    }

    /// Compact target, from bytes 72 to 75.
    #[must_use]
    pub fn bits(&self) -> CompactTarget {
        CompactTarget::from_bits(u32::from_le_bytes(self.part(BITS_AT)))
    }

    /// The same prefix with another compact target: how a job's prefix becomes the mined one.
    /// spec: targets §3.3
    #[must_use]
    pub fn with_bits(&self, bits: CompactTarget) -> Self {
        let mut bytes = *self.as_bytes();
        bytes[BITS_AT..].copy_from_slice(&bits.to_bits().to_le_bytes());
        Self::from_bytes(bytes)
    }

    /// `N` bytes from one of the offsets above, all of which leave room for their field.
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        core::array::from_fn(|i| self.as_bytes()[at + i])
    }
}

/// The proof-of-work hash of the header that a digest's four nonce bytes complete, taken as they
/// stand. spec: targets §5.1, sampler §8
#[must_use]
pub fn header_hash(prefix: &HeaderPrefix, nonce_bytes: [u8; 4]) -> HeaderHash {
    HeaderHash::from_bytes(double_sha256(&[prefix.as_ref(), &nonce_bytes]))
}

/// A complete block header. spec: targets §7
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// Prefix with the adjusted bits.
    pub prefix: HeaderPrefix,
    /// The nonce, as a number.
    pub nonce: u32,
    /// nBits: the compact target before the model adjustment.
    pub bits: CompactTarget,
    /// Commitment of the proof.
    pub hash_pow: HashPow,
    /// Flags; they enter neither hash.
    pub flags: u8,
}

impl BlockHeader {
    /// Length of the serialized header in bytes.
    pub const LEN: usize = 117;

    /// The serialized header. spec: targets §7
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..76].copy_from_slice(self.prefix.as_ref());
        bytes[76..80].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.bits.to_bits().to_le_bytes());
        bytes[84..116].copy_from_slice(self.hash_pow.as_ref());
        bytes[116] = self.flags;
        bytes
    }

    /// The proof-of-work hash: over the first 80 bytes. spec: targets §7
    #[must_use]
    pub fn short_hash(&self) -> HeaderHash {
        header_hash(&self.prefix, self.nonce.to_le_bytes())
    }

    /// The block id: over the first 116 bytes, so it depends on the whole proof. spec: targets §7
    #[must_use]
    pub fn long_hash(&self) -> BlockHash {
        BlockHash::from_bytes(double_sha256(&[&self.to_bytes()[..116]]))
    }

    /// The node's context-free check (`high-hash` when it fails): the adjusted bits are a valid
    /// target and the short hash meets it. spec: targets §8 stage C
    #[must_use]
    pub fn has_proof_of_work(&self, pow_limit: &Target) -> bool {
        let target = self.prefix.bits().derive(pow_limit);
        target.is_ok_and(|target| target.is_met_by(&self.short_hash()))
    }
}

/// SHA-256 of the SHA-256 of the parts in a row. spec: targets §1
fn double_sha256(parts: &[&[u8]]) -> [u8; 32] {
    let first = parts.iter().fold(Sha256::new(), |hasher, part| hasher.chain_update(part));
    Sha256::digest(first.finalize()).into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::string::ToString;

    /// Header of the tensor mainnet's first block. spec: targets §7
    pub(crate) fn genesis() -> BlockHeader {
        let bits = CompactTarget::from_bits(0x1f5b_05b0);
        let merkle_root = "d670bbd65a805f756e2936a01beec9201c8fada32a525a3a7077478e82224f99";
        let hash_pow = "87c9af60a903ffcd9081d3df3f91b1532b46018e710fd7edbfc47385759d9fab";
        BlockHeader {
            prefix: HeaderPrefix::from_fields(&HeaderFields {
                version: 3,
                parent: BlockHash::from_bytes([0; 32]),
                merkle_root: MerkleRoot::from_hex(merkle_root).unwrap(),
                time: 1_780_329_205,
                bits,
            }),
            nonce: 3_079_144_202,
            bits,
            hash_pow: HashPow::from_hex(hash_pow).unwrap(),
            flags: 0,
        }
    }

    #[test]
    fn the_genesis_header_has_its_known_hashes() {
        let genesis = genesis();
        assert_eq!(genesis.nonce.to_le_bytes(), [0x0a, 0x03, 0x88, 0xb7]);
        assert_eq!(
            genesis.short_hash().display().to_string(),
            "003cc9fa1f68393b99e0687057b841ebd6998680aa1a21a47db441374551f39b"
        );
        assert_eq!(
            genesis.long_hash().display().to_string(),
            "8fe43be4634dc48def074fa840e25a71bbdc32576eb29abf3ce2458605343720"
        );
        assert!(genesis.bits.expand().target.is_met_by(&genesis.short_hash()));
    }

    #[test]
    fn flags_enter_neither_hash() {
        let flagged = BlockHeader { flags: 0xff, ..genesis() };
        assert_eq!(flagged.short_hash(), genesis().short_hash());
        assert_eq!(flagged.long_hash(), genesis().long_hash());
        assert_eq!(flagged.to_bytes()[116], 0xff);
    }

    #[test]
    fn a_prefix_splits_into_the_fields_it_was_made_of() {
        let bytes = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let prefix = HeaderPrefix::from_bytes(bytes);
        let fields = prefix.fields();
        assert_eq!(fields.version, 0x0302_0100);
        assert_eq!(fields.parent.as_bytes()[..], bytes[4..36]);
        assert_eq!(fields.merkle_root.as_bytes()[..], bytes[36..68]);
        assert_eq!(fields.time, 0x4746_4544);
        assert_eq!(fields.bits.to_bits(), 0x4b4a_4948);
        assert_eq!(HeaderPrefix::from_fields(&fields), prefix);
    }

    #[test]
    fn new_bits_change_the_last_four_bytes_only() {
        let prefix = HeaderPrefix::from_bytes([7; 76]);
        let changed = prefix.with_bits(CompactTarget::from_bits(0x0403_0201));
        assert_eq!(changed.as_bytes()[..72], [7; 72]);
        assert_eq!(changed.as_bytes()[72..], [1, 2, 3, 4]);
    }
}
