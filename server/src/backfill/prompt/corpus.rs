//! Prompts out of an operator's own texts: a file or a folder of files. A passage begins at a random
//! offset of the whole corpus, so that a long text gives as many prompts as it has words. Files are
//! read where a passage is taken, never as a whole.

use super::dice::Dice;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A corpus of this many files is a mistake in the path.
const MAX_FILES: usize = 100_000;
/// Bytes read per word that is wanted, and at least.
const BYTES_A_WORD: usize = 12;

/// A corpus cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The system refuses to read it.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no text in it.
    #[error("{0} holds no text: give a file, or a folder of files, with prompts or prose")]
    Empty(PathBuf),
    /// It has too many files.
    #[error("{0} holds more than {MAX_FILES} files")]
    TooManyFiles(PathBuf),
}

/// The files of a corpus and where each begins in the whole.
#[derive(Debug, Clone)]
pub struct Corpus {
    files: Vec<(PathBuf, u64)>,
    bytes: u64,
}

impl Corpus {
    /// Looks through a file or a folder (with its folders; hidden files and links are left out).
    ///
    /// # Errors
    /// [`CorpusError`] when it cannot be read or holds nothing.
    pub fn open(path: &Path) -> Result<Self, CorpusError> {
        let failed = |path: &Path, error| CorpusError::Read { path: path.to_owned(), error };
        let mut corpus = Self { files: Vec::new(), bytes: 0 };
        let mut waiting = vec![path.to_owned()];
        while let Some(next) = waiting.pop() {
            let about = std::fs::metadata(&next).map_err(|error| failed(&next, error))?;
            if !about.is_dir() {
                corpus.add(next, about.len(), path)?;
                continue;
            }
            let entries = std::fs::read_dir(&next).map_err(|error| failed(&next, error))?;
            for entry in entries {
                let entry = entry.map_err(|error| failed(&next, error))?;
                let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if !hidden && !link {
                    waiting.push(entry.path());
                }
            }
        }
        if corpus.bytes == 0 {
            return Err(CorpusError::Empty(path.to_owned()));
        }
        // The order of a folder is the file system's; offsets should not depend on it.
        corpus.files.sort();
        corpus.bytes = 0;
        for (_, begin) in &mut corpus.files {
            let length = std::mem::replace(begin, corpus.bytes);
            corpus.bytes += length;
        }
        Ok(corpus)
    }

    fn add(&mut self, file: PathBuf, length: u64, root: &Path) -> Result<(), CorpusError> {
        if self.files.len() >= MAX_FILES {
            return Err(CorpusError::TooManyFiles(root.to_owned()));
        }
        if length > 0 {
            self.files.push((file, length));
            self.bytes += length;
        }
        Ok(())
    }

    /// Bytes of text.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// About `words` words from a random place, beginning with a whole word. Shorter where a file
    /// ends, empty where it holds no words there.
    ///
    /// # Errors
    /// [`CorpusError::Read`] when a file has gone since.
    pub fn passage(&self, dice: &mut Dice, words: usize) -> Result<String, CorpusError> {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let offset = dice.below(bytes) as u64;
        let index = self.files.partition_point(|(_, begin)| *begin <= offset).saturating_sub(1);
        let Some((path, begin)) = self.files.get(index) else { return Ok(String::new()) };
        let wanted = words.saturating_mul(BYTES_A_WORD).clamp(256, 1 << 20);
        let text = read_at(path, offset - begin, wanted)
            .map_err(|error| CorpusError::Read { path: path.clone(), error })?;
        Ok(whole_words(&String::from_utf8_lossy(&text), offset > *begin, words))
    }
}

fn read_at(path: &Path, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(length);
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The first `words` words of a piece of text; `cut` says that it may begin inside one.
fn whole_words(text: &str, cut: bool, words: usize) -> String {
    let mut passage = String::new();
    for word in text.split_whitespace().skip(usize::from(cut)).take(words) {
        if !passage.is_empty() {
            passage.push(' ');
        }
        passage.push_str(word);
    }
    passage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_come_from_every_file_at_many_offsets() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let text = |mark: &str| (0..500).map(|n| format!("{mark}{n} ")).collect::<String>();
        std::fs::write(folder.path().join("a.txt"), text("a")).unwrap();
        std::fs::write(inner.join("b.txt"), text("bé")).unwrap();
        std::fs::write(folder.path().join(".hidden"), text("h")).unwrap();
        let corpus = Corpus::open(folder.path()).unwrap();
        let mut dice = Dice::from_seed([4; 32]);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..400 {
            let passage = corpus.passage(&mut dice, 20).unwrap();
            assert!(passage.split(' ').count() <= 20);
            assert!(!passage.contains(['h', '\u{fffd}']), "{passage:?}");
            seen.insert(passage);
        }
        assert!(seen.len() > 300, "{} different passages", seen.len());
        assert!(seen.iter().any(|text| text.starts_with('a')));
        assert!(seen.iter().any(|text| text.starts_with('b')));
    }

    #[test]
    fn an_unusable_corpus_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = Corpus::open(folder.path()).unwrap_err();
        assert!(matches!(error, CorpusError::Empty(_)), "{error}");
        let missing = folder.path().join("no-such-file");
        let error = Corpus::open(&missing).unwrap_err();
        assert!(error.to_string().contains("no-such-file"), "{error}");
    }
}
