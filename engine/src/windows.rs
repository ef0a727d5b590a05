//! Windows on their way: a pool of empty ones, and the bounded queue that takes full ones from the
//! decode threads to the one that closes them. A decode thread only exchanges a pointer here; when
//! the queue is full, the window is lost and counted.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tensorpow_core::window::Window;

use crate::archive::{Archive, Room};
use crate::counters::Counters;
use crate::job::Job;
use crate::sync::lock;

/// Empty windows kept for later; each is about 155 kB.
const SPARE: usize = 32;

/// A complete window with all that its proof needs.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) window: Box<Window>,
    /// Everything before the window.
    pub(crate) prompt: Archive,
    pub(crate) job: Arc<Job>,
    /// When its last token was chosen.
    pub(crate) ended: Instant,
}

/// An empty window, and where its tokens go when it is full.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) window: Box<Window>,
    pub(crate) room: Room,
}

impl Blank {
    fn of(window: Box<Window>) -> Self {
        Self { window, room: Room::new() }
    }
}

/// Pool and queue.
#[derive(Debug)]
pub(crate) struct Windows {
    spare: Mutex<Vec<Blank>>,
    /// Gone when the engine ends.
    queue: Mutex<Option<SyncSender<Full>>>,
    counters: Arc<Counters>,
}

impl Windows {
    pub(crate) fn new(queue: usize, counters: Arc<Counters>) -> (Self, Receiver<Full>) {
        let (sender, full) = sync_channel(queue);
        let queue = Mutex::new(Some(sender));
        (Self { spare: Mutex::default(), queue, counters }, full)
    }

    /// The empty window of a sequence that begins. Puts another by for the moment when this one is
    /// full, which is no time to ask for memory.
    pub(crate) fn first(&self) -> Blank {
        let first = self.take();
        let sequences = usize::try_from(self.counters.active.get()).unwrap_or(SPARE);
        while lock(&self.spare).len() < sequences.min(SPARE) {
            self.give_back(Box::new(Window::new()));
        }
        first
    }

    /// An empty window.
    pub(crate) fn take(&self) -> Blank {
        let spare = lock(&self.spare).pop();
        spare.unwrap_or_else(|| Blank::of(Box::new(Window::new())))
    }

    /// Gives a window back.
    pub(crate) fn give_back(&self, mut window: Box<Window>) {
        window.clear();
        let blank = Blank::of(window);
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE {
            spare.push(blank);
        }
    }

    /// Hands a complete window over. Never blocks.
    pub(crate) fn offer(&self, full: Full) {
        self.counters.windows_queued.add(1);
        let sent = match lock(&self.queue).as_ref() {
            Some(queue) => queue.try_send(full),
            None => Err(TrySendError::Disconnected(full)),
        };
        let (full, outcome) = match sent {
            Ok(()) => return,
            Err(TrySendError::Full(full)) => (full, "queue_full"),
            Err(TrySendError::Disconnected(full)) => (full, "shutdown"),
        };
        self.counters.windows_queued.sub(1);
        self.counters.windows.add(outcome);
        self.give_back(full.window);
    }

    /// Takes no more windows: the closing thread ends when it has closed those that wait.
    pub(crate) fn stop_taking(&self) {
        *lock(&self.queue) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tensorpow_core::door::{Engine, Payload, Requested};

    fn job() -> Arc<Job> {
        let pow = json!({
            "block_hash": "11".repeat(32), "vdf": "22", "tick": 1, "target": "ff".repeat(32),
            "header_prefix": "11".repeat(76), "request_id": 1, "difficulty": 1,
            "model_identifier": "m@1", "compute_precision": "bf16",
        });
        let payload = Payload::from_json(pow.to_string().as_bytes()).unwrap();
        let terms = payload.admit(&Engine::default(), &Requested::default(), 128, 1).unwrap();
        let closer = payload.begin(&terms, 128, &[1]).closer();
        Arc::new(Job::new(&payload, &terms, closer, ""))
    }

    #[test]
    fn a_window_without_room_is_lost_and_counted_and_its_memory_kept() {
        let counters = Arc::new(Counters::new([]));
        let (windows, full) = Windows::new(1, Arc::clone(&counters));
        let job = job();
        let offer = || {
            let prompt = Archive::of_prompt(&[1]);
            let window = windows.take().window;
            let ended = Instant::now();
            windows.offer(Full { window, prompt, job: Arc::clone(&job), ended });
        };
        offer();
        offer();
        assert_eq!(counters.windows.get("queue_full"), 1);
        assert_eq!(counters.windows_queued.get(), 1);
        assert_eq!(lock(&windows.spare).len(), 1);
        assert!(full.try_recv().is_ok());
        windows.stop_taking();
        offer();
        assert_eq!(counters.windows.get("shutdown"), 1);
        assert!(full.recv().is_err(), "the closing thread sees the end");
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_share() {
        let (windows, _full) = Windows::new(1, Arc::new(Counters::new([])));
        let many: Vec<_> = (0..SPARE + 5).map(|_| windows.take()).collect();
        many.into_iter().for_each(|blank| windows.give_back(blank.window));
        assert_eq!(lock(&windows.spare).len(), SPARE);
    }

    #[test]
    fn every_sequence_that_begins_finds_its_next_window_made() {
        let counters = Arc::new(Counters::new([]));
        let (windows, _full) = Windows::new(1, Arc::clone(&counters));
        let mut held = Vec::new();
        for living in 1..=SPARE + 5 {
            counters.active.add(1);
            held.push(windows.first());
            assert_eq!(lock(&windows.spare).len(), living.min(SPARE));
        }
    }
}
