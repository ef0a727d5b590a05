//! Random choices for prompts: a stream of SHA-256 blocks behind a 256-bit seed, so that a prompt
//! keeps all the entropy its choices have, and a test can repeat one.

use sha2::{Digest, Sha256};

/// A source of choices.
#[derive(Debug, Clone)]
pub struct Dice {
    seed: [u8; 32],
    block: u64,
    words: [u64; 4],
    left: usize,
}

impl Dice {
    /// The choices of this seed, always the same.
    #[must_use]
    pub const fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, block: 0, words: [0; 4], left: 0 }
    }

    /// Choices nobody can repeat.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn from_system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(seed))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        if self.left == 0 {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.block.to_le_bytes());
            let digest: [u8; 32] = hash.finalize().into();
            for (word, bytes) in self.words.iter_mut().zip(digest.chunks_exact(8)) {
                *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
            self.block += 1;
            self.left = self.words.len();
        }
        self.left -= 1;
        self.words[self.left]
    }

    /// A number in `0..below`; 0 when there is no such number. The bias of the product method is
    /// below 2⁻³² for every list a prompt is made of.
    pub fn below(&mut self, below: usize) -> usize {
        let product = u128::from(self.bits()) * below as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// A number in `[0, 1)`.
    #[allow(clippy::cast_precision_loss)] // 53 bits are exact
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let draw = |seed| {
            let mut dice = Dice::from_seed([seed; 32]);
            (0..9).map(|_| dice.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn choices_are_even() {
        let mut dice = Dice::from_seed([3; 32]);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[dice.below(10)] += 1;
        }
        // Ten standard deviations are 300.
        assert!(seen.iter().all(|count| (700..1300).contains(count)), "{seen:?}");
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), None);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&dice.unit())));
    }
}
