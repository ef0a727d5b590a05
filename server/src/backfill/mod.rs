//! Backfill: synthetic requests that keep the engine mining while there are no users. The [`gate`]
//! says whether and what to mine, the [`pool`] keeps the floor, `request` carries one request to
//! its end over [`engine`], with a [`body`] for each kind of engine and a [`prompt`] of its own.
//! Users come first: [`crate::priority`] decides how much may run. spec: proxy §14

pub mod body;
pub mod engine;
pub mod gate;
pub mod pool;
pub mod prompt;
mod request;
mod turn;

use crate::breaker::BreakerSettings;
use crate::http::usage::Usage;
use crate::priority::slots::Cancel;
use gate::Hold;
use prompt::PromptSettings;
use std::time::Duration;

/// Settings of backfill.
#[derive(Debug, Clone, PartialEq)]
pub struct BackfillSettings {
    /// Requests at the engine to keep up, users' included (`MIN_ACTIVE_REQUESTS`); 0 switches
    /// backfill off.
    pub floor: usize,
    /// Time between two looks when nothing happens (`MONITOR_INTERVAL`).
    pub monitor: Duration,
    /// Tokens of a request: a multiple of the proof window of 256.
    pub tokens: u32,
    /// Limit on one request, and on the whole of a background one (`DUMMY_REQUEST_TIMEOUT`).
    pub request_timeout: Duration,
    /// Tries of one request (`DUMMY_RETRY_ATTEMPTS`).
    pub attempts: u32,
    /// Wait before the second try, doubled for each further one (`DUMMY_RETRY_BACKOFF`).
    pub backoff: Duration,
    /// Time between two looks at a background response.
    pub poll: Duration,
    /// A pool that fills is spread over this time.
    pub jitter: Duration,
    /// Most new requests a second.
    pub spawns_per_second: f64,
    /// The prompts.
    pub prompts: PromptSettings,
    /// When it stops trying.
    pub breaker: BreakerSettings,
}

impl Default for BackfillSettings {
    fn default() -> Self {
        Self {
            floor: 32,
            monitor: Duration::from_secs(1),
            tokens: 256,
            request_timeout: Duration::from_secs(300),
            attempts: 10,
            backoff: Duration::from_secs(1),
            poll: Duration::from_millis(500),
            jitter: Duration::from_millis(250),
            spawns_per_second: 100.0,
            prompts: PromptSettings::default(),
            breaker: BreakerSettings::default(),
        }
    }
}

/// How a backfill request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The engine finished it.
    Completed(Option<Usage>),
    /// Every try failed; the last reason.
    Failed(String),
    /// It may not mine any more.
    Held(Hold),
    /// It was no longer wanted.
    Cancelled(Cancel),
}
