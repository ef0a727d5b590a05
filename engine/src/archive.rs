//! A sequence's archive: the prompt and every token drawn since. A finished window's proof holds
//! all that came before the window, so the archive is handed over with it, from the decode thread
//! and at the price of two counts: finished parts are shared, not copied.

use std::sync::Arc;

use tensorpow_core::units::WINDOW;

/// Prompt and finished windows. Cloning shares both.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    prompt: Arc<[u32]>,
    newest: Option<Arc<Finished>>,
}

/// The tokens of a finished window, linked to those before it.
#[derive(Debug)]
struct Finished {
    tokens: [u32; WINDOW],
    before: Option<Arc<Finished>>,
}

impl Drop for Finished {
    /// Unlinks one by one: a long chain must not take the stack.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.before.take();
        }
    }
}

impl Archive {
    /// An archive that holds the exact ids the model was fed.
    pub(crate) fn of_prompt(prompt: &[u32]) -> Self {
        Self { prompt: prompt.into(), newest: None }
    }

    /// Appends a complete window's tokens.
    pub(crate) fn append(&mut self, tokens: [u32; WINDOW]) {
        self.newest = Some(Arc::new(Finished { tokens, before: self.newest.take() }));
    }

    /// All ids, oldest first: the `prompt_tokens` of the window that comes next.
    /// spec: sampler §7
    pub(crate) fn to_vec(&self) -> Vec<u32> {
        let mut windows = Vec::new();
        let mut link = self.newest.as_ref();
        while let Some(finished) = link {
            windows.push(&finished.tokens);
            link = finished.before.as_ref();
        }
        let mut ids = Vec::with_capacity(self.prompt.len() + windows.len() * WINDOW);
        ids.extend_from_slice(&self.prompt);
        for tokens in windows.into_iter().rev() {
            ids.extend_from_slice(tokens);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_in_order_and_a_clone_keeps_its_own_end() {
        let mut archive = Archive::of_prompt(&[1, 2, 3]);
        let at_first = archive.clone();
        archive.append([4; WINDOW]);
        let at_second = archive.clone();
        archive.append([5; WINDOW]);
        assert_eq!(at_first.to_vec(), [1, 2, 3]);
        assert_eq!(at_second.to_vec(), [&[1, 2, 3][..], &[4; WINDOW]].concat());
        assert_eq!(archive.to_vec(), [&[1, 2, 3][..], &[4; WINDOW], &[5; WINDOW]].concat());
    }

    #[test]
    fn a_very_long_chain_is_freed_without_recursion() {
        let mut archive = Archive::of_prompt(&[1]);
        for _ in 0..100_000 {
            archive.append([7; WINDOW]);
        }
        let small_stack = std::thread::Builder::new().stack_size(64 * 1024);
        small_stack.spawn(move || drop(archive)).unwrap().join().unwrap();
    }
}
