//! A sequence's archive: the prompt and every token drawn since. A finished window's proof holds
//! all that came before the window, so the archive is handed over with it, from the decode thread
//! and at the price of two counts: finished parts are shared, not copied, and the room for the next
//! one was made elsewhere.

use std::sync::Arc;

use tensorpow_core::units::WINDOW;

/// Prompt and finished windows. Cloning shares both.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    prompt: Arc<[u32]>,
    newest: Option<Arc<Finished>>,
    /// Finished windows.
    windows: usize,
}

/// The tokens of a finished window, linked to those before it.
#[derive(Debug, Clone)]
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
        Self { prompt: prompt.into(), newest: None, windows: 0 }
    }

    /// Appends a complete window's tokens.
    pub(crate) fn append(&mut self, room: Room, tokens: &[u32; WINDOW]) {
        let mut newest = room.0;
        // The room has no other owner: nothing is cloned.
        let finished = Arc::make_mut(&mut newest);
        finished.tokens = *tokens;
        finished.before = self.newest.take();
        self.newest = Some(newest);
        self.windows += 1;
    }

    /// All ids, oldest first: the `prompt_tokens` of the window that comes next.
    /// spec: sampler §7
    pub(crate) fn to_vec(&self) -> Vec<u32> {
        let mut ids = Vec::new();
        self.copy_over(&mut ids);
        ids
    }

    /// [`Archive::to_vec`] in memory that is there already; what it held before is gone.
    pub(crate) fn copy_over(&self, ids: &mut Vec<u32>) {
        ids.resize(self.prompt.len() + self.windows * WINDOW, 0);
        let (prompt, windows) = ids.split_at_mut(self.prompt.len());
        prompt.copy_from_slice(&self.prompt);
        let mut link = self.newest.as_ref();
        for place in windows.rchunks_exact_mut(WINDOW) {
            let Some(finished) = link else { break };
            place.copy_from_slice(&finished.tokens);
            link = finished.before.as_ref();
        }
    }
}

/// Room for the tokens of one window, made before they are known.
#[derive(Debug)]
pub(crate) struct Room(Arc<Finished>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Finished { tokens: [0; WINDOW], before: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_in_order_and_a_clone_keeps_its_own_end() {
        let mut archive = Archive::of_prompt(&[1, 2, 3]);
        let at_first = archive.clone();
        archive.append(Room::new(), &[4; WINDOW]);
        let at_second = archive.clone();
        archive.append(Room::new(), &[5; WINDOW]);
        assert_eq!(at_first.to_vec(), [1, 2, 3]);
        assert_eq!(at_second.to_vec(), [&[1, 2, 3][..], &[4; WINDOW]].concat());
        let all = [&[1, 2, 3][..], &[4; WINDOW], &[5; WINDOW]].concat();
        assert_eq!(archive.to_vec(), all);
        for old in [vec![9; 10], vec![9; 10_000]] {
            let mut ids = old;
            archive.copy_over(&mut ids);
            assert_eq!(ids, all);
        }
    }

    #[test]
    fn a_very_long_chain_is_freed_without_recursion() {
        let mut archive = Archive::of_prompt(&[1]);
        for _ in 0..100_000 {
            archive.append(Room::new(), &[7; WINDOW]);
        }
        let small_stack = std::thread::Builder::new().stack_size(64 * 1024);
        small_stack.spawn(move || drop(archive)).unwrap().join().unwrap();
    }
}
