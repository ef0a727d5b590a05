//! The precision label of a sequence, kept in place: it enters every preimage.

/// Longest precision label a sequence takes, in bytes.
pub const MAX_LABEL: usize = 16;
/// A precision label, kept in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    len: u8,
    bytes: [u8; MAX_LABEL],
}

/// A precision label is longer than [`MAX_LABEL`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelTooLong {
    /// Bytes found.
    pub found: usize,
}

impl core::fmt::Display for LabelTooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a precision label has at most {MAX_LABEL} bytes, not {}", self.found)
    }
}

impl core::error::Error for LabelTooLong {}

impl Label {
    /// Copies the label's bytes.
    ///
    /// # Errors
    /// [`LabelTooLong`] above [`MAX_LABEL`] bytes.
    pub fn new(label: &str) -> Result<Self, LabelTooLong> {
        let found = label.len();
        let mut bytes = [0; MAX_LABEL];
        match (bytes.get_mut(..found), u8::try_from(found)) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(label.as_bytes());
                Ok(Self { len, bytes })
            }
            _ => Err(LabelTooLong { found }),
        }
    }

    /// The label's bytes, as they enter every preimage.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}
