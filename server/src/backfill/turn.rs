//! Whose prompt the engine reads. While it reads one nobody else gets a token, so prompts of backfill
//! come one after the other, and none begins while a user waits for a first token: whoever comes
//! meanwhile waits for one prompt at most and not for all that fill the engine anew. That needs an
//! engine that shows when it has read a prompt, by the first piece of its answer; once one is seen to
//! answer all at once nobody waits for a turn any more. How long an engine reads is measured, and prompts
//! are made so short that it is done in a part of what users are promised; the first ones, before
//! anything is known, are as short as they can be. spec: proxy §14.4

use crate::priority::Priority;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
/// A prompt takes at most this part of the time in which a user's stream should begin.
const PART: u32 = 3;
/// What a newer measurement counts.
const NEWER: f64 = 0.2;

/// Gives out turns, one at a time.
#[derive(Debug)]
pub(super) struct Turns {
    one: Arc<Semaphore>,
    priority: Arc<Priority>,
    /// The engine's answers begin long before they end.
    streams: AtomicBool,
    /// Seconds in which it reads a word, as the bits of an f64; 0 before it is known.
    a_word: AtomicU64,
}

impl Turns {
    pub(super) fn new(priority: Arc<Priority>) -> Self {
        Self {
            one: Arc::new(Semaphore::new(1)),
            priority,
            streams: AtomicBool::new(true),
            a_word: AtomicU64::new(0),
        }
    }

    /// An answer began and ended so long after its request; one that is not whole ended too early to
    /// say that it began late.
    pub(super) fn learn(&self, began: Duration, ended: Duration, whole: bool) {
        let streams = began < ended / 2;
        if streams || whole {
            self.streams.store(streams, Ordering::Relaxed);
        }
    }

    /// A prompt of so many words was read alone, in this time.
    pub(super) fn learn_reading(&self, words: usize, took: Duration) {
        let words = u32::try_from(words.max(1)).map_or(f64::MAX, f64::from);
        let found = took.as_secs_f64() / words;
        let known = f64::from_bits(self.a_word.load(Ordering::Relaxed));
        let next = if known > 0.0 { (found - known).mul_add(NEWER, known) } else { found };
        self.a_word.store(next.to_bits(), Ordering::Relaxed);
    }

    /// Words of a prompt that is read in good time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it saturates
    pub(super) fn most_words(&self) -> usize {
        if !self.streams.load(Ordering::Relaxed) {
            return usize::MAX;
        }
        let a_word = f64::from_bits(self.a_word.load(Ordering::Relaxed));
        let time = self.priority.pressure().first_token() / PART;
        if a_word > 0.0 { (time.as_secs_f64() / a_word) as usize } else { 0 }
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
                // It is nobody's any more, whoever had it.
                let _ = give_back(&held);
            }
        });
    }

    /// The engine has read the prompt; true when it read no other of backfill beside it.
    pub(super) fn over(&self) -> bool {
        give_back(&self.0)
    }
}

/// True unless it was given back before.
fn give_back(held: &Mutex<Option<OwnedSemaphorePermit>>) -> bool {
    held.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
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
        (Turns::new(priority.clone()), priority)
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

    #[test]
    fn prompts_are_as_short_as_the_engine_is_slow() {
        let priority = Priority::new(PrioritySettings::default());
        let turns = Turns::new(priority);
        assert_eq!(turns.most_words(), 0, "nothing is known");
        turns.learn_reading(100, Duration::from_secs(1));
        assert_eq!(turns.most_words(), 25, "a third of 0.75 s");
        for _ in 0..60 {
            turns.learn_reading(100, Duration::from_millis(100));
        }
        assert!((248..=250).contains(&turns.most_words()), "{}", turns.most_words());
        turns.learn_reading(0, Duration::ZERO);
        assert!(turns.most_words() > 250);
        turns.learn(NOW * 99, NOW * 100, true);
        assert_eq!(turns.most_words(), usize::MAX, "nobody waits for it");
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
