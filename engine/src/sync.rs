//! What the threads of the runtime wait on and share.
//!
//! Locks ignore poisoning: what these mutexes guard is consistent at every point where a holder
//! could panic, and a caught panic must not take the engine down with it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a thread has ended, to one who does not want to wait for ever.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ended(Arc<(Mutex<bool>, Condvar)>);

impl Ended {
    /// The thread's end: when it drops this, however it ends, waiting is over.
    pub(crate) fn signal(&self) -> Signal {
        Signal(self.clone())
    }

    /// Waits for the signal, `left` at most.
    pub(crate) fn wait(&self, left: Duration) {
        let (ended, changed) = &*self.0;
        let waited = changed.wait_timeout_while(lock(ended), left, |ended| !*ended);
        drop(waited);
    }
}

/// See [`Ended::signal`].
#[derive(Debug)]
pub(crate) struct Signal(Ended);

impl Drop for Signal {
    fn drop(&mut self) {
        let (ended, changed) = &*self.0.0;
        *lock(ended) = true;
        changed.notify_all();
    }
}
