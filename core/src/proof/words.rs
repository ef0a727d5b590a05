//! A list of 32-bit words, token ids or floats, wherever its bytes happen to lie. Floats are
//! carried as bit patterns: NaN payloads and signs of zero survive. Lists of lists live in
//! [`super::rows`].

/// A borrowed list of 32-bit words.
///
/// Which kind of number the words are is known by the field that holds them; every accessor works
/// on every variant.
#[derive(Debug, Clone, Copy)]
pub enum Words<'a> {
    /// Integers in memory.
    Native(&'a [u32]),
    /// Floats in memory.
    Floats(&'a [f32]),
    /// Little-endian words in a received buffer; bytes after the last whole word do not count.
    LittleEndian(&'a [u8]),
}

impl Default for Words<'_> {
    fn default() -> Self {
        Self::Native(&[])
    }
}

impl<'a> Words<'a> {
    /// Number of words.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Native(words) => words.len(),
            Self::Floats(words) => words.len(),
            Self::LittleEndian(bytes) => bytes.len() / 4,
        }
    }

    /// True for a list without words.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Word `i`, or the bit pattern of float `i`.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<u32> {
        match self {
            Self::Native(words) => words.get(i).copied(),
            Self::Floats(words) => words.get(i).map(|f| f.to_bits()),
            Self::LittleEndian(bytes) => {
                let tail = bytes.get(i.checked_mul(4)?..)?;
                tail.first_chunk().map(|word| u32::from_le_bytes(*word))
            }
        }
    }

    /// Float `i`.
    #[must_use]
    pub fn f32_at(&self, i: usize) -> Option<f32> {
        self.get(i).map(f32::from_bits)
    }

    /// All words in order.
    #[must_use]
    pub const fn iter(&self) -> WordsIter<'a> {
        WordsIter { words: *self, next: 0 }
    }

    /// All words in order, as floats.
    pub fn iter_f32(&self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.iter().map(f32::from_bits)
    }

    /// The words `start .. start + len`, or none when the list ends before.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        Some(match self {
            Self::Native(words) => Self::Native(words.get(start..end)?),
            Self::Floats(words) => Self::Floats(words.get(start..end)?),
            Self::LittleEndian(bytes) => {
                Self::LittleEndian(bytes.get(start.checked_mul(4)?..end.checked_mul(4)?)?)
            }
        })
    }

    /// Copies the words to the front of `out`, as many as fit.
    pub(crate) fn copy_to(&self, out: &mut [u32]) {
        match self {
            Self::Native(words) => out.iter_mut().zip(*words).for_each(|(room, w)| *room = *w),
            Self::Floats(words) => {
                out.iter_mut().zip(*words).for_each(|(room, word)| *room = word.to_bits());
            }
            Self::LittleEndian(bytes) => {
                for (room, word) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *room = word.try_into().map_or(0, u32::from_le_bytes);
                }
            }
        }
    }

    /// Copies the floats to the front of `out`, as many as fit.
    pub(crate) fn copy_f32_to(&self, out: &mut [f32]) {
        match self {
            Self::Floats(words) => out.iter_mut().zip(*words).for_each(|(room, w)| *room = *w),
            Self::Native(words) => {
                out.iter_mut().zip(*words).for_each(|(room, word)| *room = f32::from_bits(*word));
            }
            Self::LittleEndian(bytes) => {
                for (room, word) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *room = word.try_into().map_or(0.0, f32::from_le_bytes);
                }
            }
        }
    }

    /// The first float that is not finite.
    pub(crate) fn first_not_finite(&self) -> Option<f32> {
        // Without an early exit the loop over a row is a vector operation or two.
        let finite = |all: bool, x: f32| all & x.is_finite();
        let all = match self {
            Self::Native(words) => {
                words.iter().map(|word| f32::from_bits(*word)).fold(true, finite)
            }
            Self::Floats(words) => words.iter().copied().fold(true, finite),
            Self::LittleEndian(bytes) => bytes
                .chunks_exact(4)
                .map(|word| word.try_into().map_or(0.0, f32::from_le_bytes))
                .fold(true, finite),
        };
        if all { None } else { self.iter_f32().find(|x| !x.is_finite()) }
    }

    /// Copies the words little-endian to the front of `out`, as many as fit whole.
    pub(crate) fn copy_le(&self, out: &mut [u8]) {
        let rooms = out.chunks_exact_mut(4);
        match self {
            Self::Native(words) => {
                rooms
                    .zip(*words)
                    .for_each(|(room, word)| room.copy_from_slice(&word.to_le_bytes()));
            }
            Self::Floats(words) => {
                rooms
                    .zip(*words)
                    .for_each(|(room, word)| room.copy_from_slice(&word.to_le_bytes()));
            }
            Self::LittleEndian(bytes) => {
                let whole = bytes.len().min(out.len()) / 4 * 4;
                if let (Some(room), Some(words)) = (out.get_mut(..whole), bytes.get(..whole)) {
                    room.copy_from_slice(words);
                }
            }
        }
    }
}

/// Equal when the bit patterns are, wherever they lie.
impl PartialEq for Words<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Words<'_> {}

impl<'a> IntoIterator for Words<'a> {
    type Item = u32;
    type IntoIter = WordsIter<'a>;

    fn into_iter(self) -> WordsIter<'a> {
        self.iter()
    }
}

/// Iterator over [`Words`].
#[derive(Debug, Clone)]
pub struct WordsIter<'a> {
    words: Words<'a>,
    next: usize,
}

impl Iterator for WordsIter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.words.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for WordsIter<'_> {}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn the_same_words_are_equal_wherever_they_lie() {
        let native = [0x7f80_0001_u32, 0x8000_0000, 1];
        let floats = native.map(f32::from_bits);
        let bytes = [1, 0, 0x80, 0x7f, 0, 0, 0, 0x80, 1, 0, 0, 0, 99];
        let all = [Words::Native(&native), Words::Floats(&floats), Words::LittleEndian(&bytes)];
        for words in all {
            assert_eq!(words, all[0]);
            assert_eq!(words.len(), 3);
            assert_eq!(words.get(3), None);
            assert_eq!(words.slice(1, 2), Words::Native(&native[1..]).slice(0, 2));
            assert_eq!(words.slice(2, 2), None);
            let mut out = [0xaa; 14];
            words.copy_le(&mut out);
            let (mut copied, mut floats) = ([7; 4], [7.0_f32; 4]);
            words.copy_to(&mut copied);
            words.copy_f32_to(&mut floats);
            assert_eq!((copied[..3] == native, copied[3]), (true, 7));
            assert_eq!((floats.map(f32::to_bits)[..3] == native, floats[3]), (true, 7.0));
            assert!(words.first_not_finite().unwrap().is_nan());
            assert_eq!(words.slice(1, 2).unwrap().first_not_finite(), None);
            assert_eq!(out[..12], bytes[..12]);
            assert_eq!(out[12..], [0xaa; 2]);
        }
    }
}
