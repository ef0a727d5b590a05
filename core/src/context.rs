//! The last 256 token ids of a sequence, as every step message hashes them.

use crate::units::WINDOW;

/// A ring of the last `W` token ids of `prompt ‖ generated`, left-padded with token 0.
/// `W` is 256 on the networks; the vectors also use smaller windows.
#[derive(Debug, Clone)]
pub struct Context<const W: usize = WINDOW> {
    ids: [u32; W],
    /// Slot of the oldest id, which the next one replaces.
    oldest: usize,
}

impl<const W: usize> Default for Context<W> {
    fn default() -> Self {
        Self { ids: [0; W], oldest: 0 }
    }
}

impl<const W: usize> Context<W> {
    /// The context before the first draw: the prompt's tail. spec: sampler §3
    #[must_use]
    pub fn of_prompt(prompt: &[u32]) -> Self {
        let mut context = Self::default();
        let tail = &prompt[prompt.len().saturating_sub(W)..];
        context.ids[W - tail.len()..].copy_from_slice(tail);
        context
    }

    /// Appends a token; the oldest leaves.
    pub fn push(&mut self, id: u32) {
        if let Some(slot) = self.ids.get_mut(self.oldest) {
            *slot = id;
        }
        self.oldest = (self.oldest + 1) % W.max(1);
    }

    /// The two runs of ids, oldest first.
    #[must_use]
    pub fn runs(&self) -> (&[u32], &[u32]) {
        let (newest, oldest) = self.ids.split_at(self.oldest.min(W));
        (oldest, newest)
    }

    /// All ids, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (oldest, newest) = self.runs();
        oldest.iter().chain(newest).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_short_prompt_is_padded_on_the_left_and_the_oldest_leaves() {
        let mut context = Context::<4>::of_prompt(&[7, 8]);
        assert_eq!(context.iter().collect::<Vec<_>>(), [0, 0, 7, 8]);
        for id in [9, 10, 11] {
            context.push(id);
        }
        assert_eq!(context.iter().collect::<Vec<_>>(), [8, 9, 10, 11]);
    }

    #[test]
    fn a_long_prompt_keeps_its_tail() {
        let context = Context::<4>::of_prompt(&[1, 2, 3, 4, 5]);
        assert_eq!(context.iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    }
}
