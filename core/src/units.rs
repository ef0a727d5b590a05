//! The nouns of the protocol: every value that has a byte order or a unit gets its own type here,
//! so that a wrong endianness does not compile. Arithmetic on targets lives in [`crate::target`],
//! header assembly in [`crate::header`].

use core::fmt;

/// Tokens in one window. spec: sampler §3, verification §1.2
pub const WINDOW: usize = 256;
/// Evidence slots holding the largest logits. spec: sampler §6
pub const TOP_SLOTS: usize = 50;
/// Evidence slots holding probes at equal id spacing. spec: sampler §6
pub const PROBE_SLOTS: usize = 20;
/// All evidence slots of a step. spec: sampler §6
pub const EVIDENCE_SLOTS: usize = TOP_SLOTS + PROBE_SLOTS;
/// Statistics of a step. spec: sampler §6
pub const STATS: usize = 6;
/// Largest VDF blob the payload door takes. spec: sampler §1
pub const MAX_VDF_BYTES: usize = 1024;

/// Why a text is not the hexadecimal form of a fixed number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HexError {
    /// The text has another number of digits than the value needs.
    Length {
        /// Digits the value needs.
        expected: usize,
        /// Digits found.
        found: usize,
    },
    /// The byte at this position is not a hexadecimal digit.
    Digit {
        /// Position in the text.
        at: usize,
    },
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, found } => {
                write!(f, "needs exactly {expected} hex digits, has {found}")
            }
            Self::Digit { at } => write!(f, "character {at} is not a hex digit"),
        }
    }
}

impl core::error::Error for HexError {}

/// Decodes exactly `out.len()` bytes of plain hex, first digit pair first.
///
/// # Errors
/// [`HexError`] when the length differs or a character is no hex digit.
pub fn decode_hex(text: &str, out: &mut [u8]) -> Result<(), HexError> {
    if text.len() != out.len() * 2 {
        return Err(HexError::Length { expected: out.len() * 2, found: text.len() });
    }
    hex::decode_to_slice(text, out).map_err(|_| HexError::Digit {
        at: text.bytes().position(|b| !b.is_ascii_hexdigit()).unwrap_or(0),
    })
}

fn write_hex<'a>(f: &mut fmt::Formatter<'_>, bytes: impl Iterator<Item = &'a u8>) -> fmt::Result {
    bytes.into_iter().try_for_each(|b| write!(f, "{b:02x}"))
}

macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Takes the bytes as they stand, in the order the type's documentation gives.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes, in the order the type's documentation gives.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads the bytes from hex digits, left to right, without reversal.
            ///
            /// # Errors
            /// [`HexError`] unless the text is exactly twice as many plain hex digits as bytes.
            pub fn from_hex(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0; $len];
                decode_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, self.0.iter())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    };
}

bytes_newtype! {
    /// A block's long hash (its id), in internal order: as hashed, the reverse of what explorers
    /// display. spec: targets §7
    BlockHash, 32
}

bytes_newtype! {
    /// A transaction merkle root in internal order. spec: targets §3.1
    MerkleRoot, 32
}

bytes_newtype! {
    /// A sampling digest: one SHA-256 of a step message, in the order SHA-256 outputs it.
    /// spec: sampler §2
    Digest, 32
}

bytes_newtype! {
    /// The proof-of-work hash of an 80-byte header (the short hash), in internal order; as a number
    /// byte 31 is the most significant. spec: targets §5.1
    HeaderHash, 32
}

bytes_newtype! {
    /// The Merkle commitment of a proof (`hashPoW`), in internal order. spec: proof-encoding §6
    HashPow, 32
}

bytes_newtype! {
    /// The answer to a window's Argon2id puzzle. spec: sampler §10, admission
    AdmissionNonce, 32
}

bytes_newtype! {
    /// SHA-256 over the prompt tokens and their mask, in the order SHA-256 outputs it: what binds an
    /// admission puzzle to everything the model saw before the window. spec: admission §8
    PromptCommitment, 32
}

bytes_newtype! {
    /// What Argon2id makes of a puzzle's message, as it outputs it; as a number byte 31 is the most
    /// significant. spec: admission §8
    PuzzleDigest, 32
}

bytes_newtype! {
    /// A block header without its nonce: version, parent, merkle root, time, compact target.
    /// spec: targets §3.1
    HeaderPrefix, 76
}

impl BlockHash {
    /// Writes the hash the way explorers and RPCs show it: bytes reversed.
    #[must_use]
    pub fn display(&self) -> Reversed<'_> {
        Reversed(&self.0)
    }
}

impl HeaderHash {
    /// Writes the hash the way explorers and RPCs show it: bytes reversed.
    #[must_use]
    pub fn display(&self) -> Reversed<'_> {
        Reversed(&self.0)
    }
}

/// A 32-byte hash shown in display order (reversed).
#[derive(Debug, Clone, Copy)]
pub struct Reversed<'a>(&'a [u8; 32]);

impl fmt::Display for Reversed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.0.iter().rev())
    }
}

impl Digest {
    /// The four bytes that become the header's nonce, as they are appended. spec: sampler §8
    #[must_use]
    pub fn nonce_bytes(&self) -> [u8; 4] {
        [self.0[0], self.0[1], self.0[2], self.0[3]]
    }

    /// The header's nonce as a number. spec: sampler §8
    #[must_use]
    pub fn nonce(&self) -> u32 {
        u32::from_le_bytes(self.nonce_bytes())
    }
}

/// VDF squarings behind a proof. The protocol's field has 64 bits, the preimage takes the low 32,
/// and miners stay below 2^32. spec: proof-encoding §3
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The four bytes that enter a preimage: the value mod 2^32, little-endian. spec: sampler §2
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the rule is "mod 2^32"
    pub const fn preimage_bytes(self) -> [u8; 4] {
        (self.0 as u32).to_le_bytes()
    }
}

/// A VDF proof blob of 1 to 1024 bytes, kept in place (no allocator). spec: sampler §1
#[derive(Clone, PartialEq, Eq)]
pub struct VdfBlob {
    len: u16,
    bytes: [u8; MAX_VDF_BYTES],
}

/// A VDF blob is empty or longer than [`MAX_VDF_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VdfLengthError {
    /// Bytes found.
    pub found: usize,
}

impl fmt::Display for VdfLengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a VDF blob has 1 to {MAX_VDF_BYTES} bytes, not {}", self.found)
    }
}

impl core::error::Error for VdfLengthError {}

impl VdfBlob {
    /// Copies the blob.
    ///
    /// # Errors
    /// [`VdfLengthError`] when it is empty or too long.
    pub fn from_slice(blob: &[u8]) -> Result<Self, VdfLengthError> {
        let too_long = VdfLengthError { found: blob.len() };
        let mut bytes = [0; MAX_VDF_BYTES];
        let len = u16::try_from(blob.len()).map_err(|_| too_long)?;
        match bytes.get_mut(..blob.len()) {
            Some(room) if !blob.is_empty() => room.copy_from_slice(blob),
            _ => return Err(too_long),
        }
        Ok(Self { len, bytes })
    }

    /// The blob's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl fmt::Debug for VdfBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VdfBlob(")?;
        write_hex(f, self.as_bytes().iter().take(8))?;
        write!(f, "…, {} bytes)", self.len)
    }
}

/// The draw of a step: a number in `[0, 1]` made from a digest. spec: sampler §4
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw(f32);

impl Draw {
    /// The first four digest bytes as a little-endian integer, rounded to f32 (nearest, ties to
    /// even), divided by 2^32. spec: sampler §4
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // the rule is the rounding conversion
    pub fn from_digest(digest: &Digest) -> Self {
        Self(digest.nonce() as f32 / 4_294_967_296.0)
    }

    /// A draw as a proof records it, which need not be one.
    #[cfg(feature = "archive")]
    pub(crate) const fn recorded(value: f32) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }

    /// True for `u = 1`, which the node refuses: the window is dead from this step on.
    /// spec: sampler §4
    #[must_use]
    pub fn kills_window(self) -> bool {
        self.0 >= 1.0
    }
}
