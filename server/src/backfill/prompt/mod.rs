//! Prompts of backfill requests. A verifier scores reuse, so they must practically never repeat:
//! the generator makes each one of at least [`Prompts::least_entropy_bits`] random bits, and a
//! passage of the operator's own corpus always comes with a generated request. spec: proxy §14.3

pub mod corpus;
pub mod dice;
mod grammar;
mod words;

use corpus::{Corpus, CorpusError};
use dice::Dice;
use std::path::PathBuf;

/// Sentences of the shortest prompt: a request, this many circumstances, and an ending.
const LEAST_CIRCUMSTANCES: usize = 4;
/// Longest prompt in words.
const MOST_WORDS: usize = 100_000;

/// How prompt lengths are spread between their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LengthShape {
    /// Every length as often as any other.
    Uniform,
    /// Every doubling as often as any other: many short prompts, few long ones, as users write.
    #[default]
    LogUniform,
}

/// Lengths of prompts in words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PromptLength {
    /// Shortest; a prompt has at least six sentences all the same.
    pub least: usize,
    /// Longest.
    pub most: usize,
    /// How lengths are spread.
    pub shape: LengthShape,
}

impl Default for PromptLength {
    fn default() -> Self {
        Self { least: 40, most: 240, shape: LengthShape::default() }
    }
}

impl PromptLength {
    /// A length.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn draw(&self, dice: &mut Dice) -> usize {
        let least = self.least.clamp(1, MOST_WORDS);
        let most = self.most.clamp(least, MOST_WORDS);
        match self.shape {
            LengthShape::Uniform => least + dice.below(most - least + 1),
            LengthShape::LogUniform => {
                let (low, high) = ((least as f64).ln(), (most as f64 + 1.0).ln());
                // Both bounds are at most 100 001, so the cast is exact enough for a length.
                ((low + (high - low) * dice.unit()).exp() as usize).clamp(least, most)
            }
        }
    }
}

/// Settings of the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptSettings {
    /// How long they are.
    pub length: PromptLength,
    /// A file or folder of the operator's own texts.
    pub corpus: Option<PathBuf>,
    /// Appended to every prompt behind a space (`MINING_DISABLE_THINKING`,
    /// `MINING_NO_THINK_DIRECTIVE`); a reasoning phase leaves the regime of the entropy gate.
    pub directive: Option<String>,
}

impl Default for PromptSettings {
    fn default() -> Self {
        Self {
            length: PromptLength::default(),
            corpus: None,
            directive: Some("/no_think".to_owned()),
        }
    }
}

/// Makes prompts.
#[derive(Debug)]
pub struct Prompts {
    settings: PromptSettings,
    corpus: Option<Corpus>,
}

impl Prompts {
    /// Opens the corpus, if there is one.
    ///
    /// # Errors
    /// [`CorpusError`] when it cannot be used.
    pub fn new(settings: PromptSettings) -> Result<Self, CorpusError> {
        let corpus = settings.corpus.as_deref().map(Corpus::open).transpose()?;
        Ok(Self { settings, corpus })
    }

    /// Bits of entropy of the least random prompt: after 2^(bits/2) prompts two of them are equal
    /// with about one chance in two.
    #[must_use]
    pub fn least_entropy_bits() -> f64 {
        #[allow(clippy::cast_precision_loss)] // four
        let circumstances = LEAST_CIRCUMSTANCES as f64;
        grammar::request_bits() + circumstances * grammar::circumstance_bits()
    }

    /// The next prompt, of at most so many words as far as it can be so short. A corpus that cannot be
    /// read any more costs its passage, not the prompt.
    pub fn next(&self, dice: &mut Dice, most: usize) -> String {
        let words = self.settings.length.draw(dice).min(most);
        let mut text = String::new();
        grammar::request(dice, &mut text);
        for _ in 0..LEAST_CIRCUMSTANCES {
            text.push(' ');
            grammar::circumstance(dice, &mut text);
        }
        match &self.corpus {
            Some(corpus) => self.add_passage(corpus, dice, words, &mut text),
            None => {
                while count_words(&text) < words {
                    text.push(' ');
                    grammar::circumstance(dice, &mut text);
                }
                text.push(' ');
                grammar::ending(dice, &mut text);
            }
        }
        if let Some(directive) = &self.settings.directive {
            text.push(' ');
            text.push_str(directive);
        }
        text
    }

    fn add_passage(&self, corpus: &Corpus, dice: &mut Dice, words: usize, text: &mut String) {
        match corpus.passage(dice, words) {
            Ok(passage) if passage.is_empty() => {}
            Ok(passage) => {
                text.push_str(" Draw on this text:\n\n");
                text.push_str(&passage);
                text.push_str("\n\n");
                grammar::ending(dice, text);
            }
            Err(error) => tracing::warn!(%error, "backfill goes on without its corpus"),
        }
    }
}

fn count_words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn prompts(least: usize, most: usize, shape: LengthShape) -> Prompts {
        let length = PromptLength { least, most, shape };
        Prompts::new(PromptSettings { length, ..PromptSettings::default() }).unwrap()
    }

    #[test]
    fn the_least_random_prompt_has_over_ninety_bits() {
        let bits = Prompts::least_entropy_bits();
        assert!(bits > 90.0, "{bits}");
    }

    #[test]
    fn prompts_do_not_repeat_and_end_with_the_directive() {
        let prompts = prompts(1, 1, LengthShape::Uniform);
        let mut dice = Dice::from_seed([9; 32]);
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            let prompt = prompts.next(&mut dice, usize::MAX);
            assert!(prompt.ends_with(". /no_think") || prompt.ends_with("? /no_think"), "{prompt}");
            assert!(seen.insert(prompt));
        }
    }

    #[test]
    fn lengths_follow_their_settings() {
        let mut dice = Dice::from_seed([5; 32]);
        for (shape, middle) in [(LengthShape::Uniform, 260.0), (LengthShape::LogUniform, 160.0)] {
            let prompts = prompts(60, 440, shape);
            let mut lengths: Vec<usize> =
                (0..600).map(|_| count_words(&prompts.next(&mut dice, usize::MAX))).collect();
            lengths.sort_unstable();
            assert!(
                lengths[0] >= 60 && lengths[599] <= 440 + 25,
                "{:?}",
                (lengths[0], lengths[599])
            );
            #[allow(clippy::cast_precision_loss)]
            let median = lengths[300] as f64;
            assert!((median / middle - 1.0).abs() < 0.2, "{shape:?}: {median}");
        }
        let short = prompts(200, 440, LengthShape::Uniform).next(&mut dice, 80);
        assert!((40..=110).contains(&count_words(&short)), "{short}");
        let odd = PromptLength { least: 9, most: 3, shape: LengthShape::Uniform };
        assert_eq!(odd.draw(&mut dice), 9, "bounds in the wrong order are one length");
    }

    #[test]
    fn a_corpus_passage_comes_with_a_generated_request() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "lorem ".repeat(1000)).unwrap();
        let settings =
            PromptSettings { corpus: Some(file.path().to_owned()), ..PromptSettings::default() };
        let prompts = Prompts::new(settings).unwrap();
        let mut dice = Dice::from_seed([6; 32]);
        let seen: HashSet<String> =
            (0..1000).map(|_| prompts.next(&mut dice, usize::MAX)).collect();
        assert_eq!(seen.len(), 1000, "a corpus of one word still gives different prompts");
        // A passage that begins near the end of a file is short.
        let with_text = seen.iter().filter(|prompt| prompt.contains("lorem lorem")).count();
        assert!(with_text > 980, "{with_text}");
        std::fs::remove_file(file.path()).unwrap();
        assert!(
            prompts.next(&mut dice, usize::MAX).len() > 100,
            "the corpus has gone, prompts go on"
        );
    }
}
