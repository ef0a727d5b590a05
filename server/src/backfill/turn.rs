//! Whose prompt the engine reads. While it reads one nobody else gets a token, so prompts of backfill
//! come one after the other, and none begins while a user waits for a first token: whoever comes
//! meanwhile waits for one prompt at most and not for all that fill the engine anew. That needs an
//! engine that shows when it has read a prompt, by beginning its answer; of one that answers all at once
//! nothing is known, and nobody waits for a turn. spec: proxy §14.4

use crate::priority::Priority;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// A request that has not begun after this time holds up nobody any longer.
const LONGEST: Duration = Duration::from_secs(2);
/// For so long users' first tokens go before.
const YIELDS: Duration = Duration::from_secs(1);
/// How often they are looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Gives out turns, one at a time.
#[derive(Debug)]
pub(super) struct Turns {
    one: Arc<Semaphore>,
    priority: Arc<Priority>,
    /// The engine's answers begin long before they end.
    streams: AtomicBool,
}

impl Turns {
    pub(super) fn new(priority: Arc<Priority>) -> Self {
        Self { one: Arc::new(Semaphore::new(1)), priority, streams: AtomicBool::new(false) }
    }

    /// An answer began and ended so long after its request; one that is not whole ended too early to
    /// say that it began late.
    pub(super) fn learn(&self, began: Duration, ended: Duration, whole: bool) {
        let streams = began < ended / 2;
        if streams || whole {
            self.streams.store(streams, Ordering::Relaxed);
        }
    }

    /// The next turn.
    pub(super) async fn next(&self) -> Turn {
        if !self.streams.load(Ordering::Relaxed) {
            return Turn::default();
        }
        // It is never closed; if it were there would be nothing to wait for.
        let permit = self.one.clone().acquire_owned().await.ok();
        let until = Instant::now() + YIELDS;
        while self.priority.pressure().is_awaited() && Instant::now() < until {
            sleep(LOOK_AGAIN).await;
        }
        Turn(Arc::new(Mutex::new(permit)))
    }
}

/// A turn; over when it is given back, dropped, or has lasted too long.
#[derive(Debug, Default)]
pub(super) struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turn {
    /// The request goes to the engine now.
    pub(super) fn begins(&self) {
        let held = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            sleep(LONGEST).await;
            if let Some(held) = held.upgrade() {
                give_back(&held);
            }
        });
    }

    /// The engine has read the prompt.
    pub(super) fn over(&self) {
        give_back(&self.0);
    }
}

fn give_back(held: &Mutex<Option<OwnedSemaphorePermit>>) {
    drop(held.lock().unwrap_or_else(PoisonError::into_inner).take());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::priority::PrioritySettings;
    use crate::priority::queue::ClientClass;
    use tokio::time::timeout;

    const NOW: Duration = Duration::from_millis(1);

    fn turns() -> (Turns, Arc<Priority>) {
        let priority = Priority::new(PrioritySettings::default());
        let turns = Turns::new(priority.clone());
        turns.learn(NOW, NOW * 100, false);
        (turns, priority)
    }

    #[tokio::test]
    async fn one_prompt_after_the_other() {
        let (turns, _) = turns();
        let first = turns.next().await;
        first.begins();
        assert!(timeout(NOW, turns.next()).await.is_err(), "the first prompt is being read");
        first.over();
        let second = timeout(NOW, turns.next()).await.expect("the second's turn");
        drop(second);
        let third = timeout(NOW, turns.next()).await.expect("the third's turn");
        third.begins();
        let began = Instant::now();
        let _fourth = turns.next().await;
        assert!(began.elapsed() >= LONGEST - NOW, "one that does not begin is not waited for");
        assert!(began.elapsed() < LONGEST + NOW * 500);
    }

    #[tokio::test]
    async fn an_engine_that_answers_all_at_once_is_not_waited_for() {
        let (turns, _) = turns();
        turns.learn(NOW * 99, NOW * 100, true);
        let first = turns.next().await;
        first.begins();
        timeout(NOW * 500, turns.next()).await.expect("nothing to wait for");
    }

    #[tokio::test]
    async fn a_users_first_token_goes_before() {
        let (turns, priority) = turns();
        let mut user = priority.admit(ClientClass::Normal, true).await.unwrap();
        user.stream_sent();
        assert!(timeout(NOW * 50, turns.next()).await.is_err(), "a user waits");
        user.stream_began();
        timeout(NOW * 500, turns.next()).await.expect("nobody waits");
        let mut late = priority.admit(ClientClass::Normal, true).await.unwrap();
        late.stream_sent();
        let began = Instant::now();
        turns.next().await;
        assert!(began.elapsed() >= YIELDS, "but not for ever");
    }
}
