//! The padding mask of a proof: one byte per prompt token. Producers can only make zeros and ones;
//! what was received keeps its bytes, because they are hashed as they were.

/// Padding mask. spec: proof-encoding §3 field 22, §9
#[derive(Debug, Clone, Copy)]
pub enum PadMask<'a> {
    /// This many zero bytes: no token is padding, which is what every live proof says.
    Zeros(usize),
    /// One flag per token, encoded as 0 or 1.
    Flags(&'a [bool]),
    /// The bytes of a received proof, kept as they are (a 2 stays 2).
    Bytes(&'a [u8]),
}

impl Default for PadMask<'_> {
    fn default() -> Self {
        Self::Zeros(0)
    }
}

impl PadMask<'_> {
    /// Number of tokens the mask speaks about.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Zeros(count) => *count,
            Self::Flags(flags) => flags.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// True for a mask without bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Byte `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<u8> {
        match self {
            Self::Zeros(count) => (i < *count).then_some(0),
            Self::Flags(flags) => flags.get(i).map(|&flag| u8::from(flag)),
            Self::Bytes(bytes) => bytes.get(i).copied(),
        }
    }

    /// All bytes in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

/// Equal when the bytes are.
impl PartialEq for PadMask<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for PadMask<'_> {}
