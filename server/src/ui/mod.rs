//! The dashboard at `/ui`: embedded files ([`assets`]), what they show (`state`, made of the
//! metrics by `readings`, of the last minutes by `history` and of the last proofs by
//! `recent`), the routes that hand it out ([`api`]), and the configuration wizard ([`config`]).
//! Nothing here decides anything: the numbers are those of `/metrics` and `/status`, so that
//! the dashboard and the monitoring never disagree, and what only exists in some builds is shown
//! where it exists.

pub mod api;
pub mod assets;
pub mod config;
mod history;
mod readings;
mod recent;
mod state;

use crate::http::App;
use crate::http::status;
use crate::outbox::Judged;
use config::WizardError;
use history::History;
use readings::Readings;
use recent::Recent;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::MissedTickBehavior;

/// A sample is taken, and told to whoever looks on, this often.
const EVERY: Duration = Duration::from_secs(1);
/// Dashboards that may look on at a time.
const WATCHERS: usize = 32;
/// Proofs that are replayed at a time: replays are work, and the engine needs the machine.
const REPLAYS: usize = 2;

/// What the dashboard remembers between two requests.
#[derive(Debug)]
pub struct Ui {
    /// The file the wizard writes; none without a home folder.
    config_file: Option<PathBuf>,
    history: Mutex<History>,
    recent: Mutex<Recent>,
    /// The state of this second as JSON; `None` before the first and after the last one.
    now: watch::Sender<Option<Arc<str>>>,
    watchers: Arc<Semaphore>,
    replays: Semaphore,
    writing: Mutex<()>,
}

impl Ui {
    /// A dashboard that has seen nothing yet.
    #[must_use]
    pub fn new(config_file: Option<PathBuf>) -> Self {
        Self {
            config_file,
            history: Mutex::default(),
            recent: Mutex::default(),
            now: watch::Sender::new(None),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            replays: Semaphore::new(REPLAYS),
            writing: Mutex::new(()),
        }
    }

    /// The file the wizard writes.
    fn config_file(&self) -> Result<&Path, WizardError> {
        self.config_file.as_deref().ok_or(WizardError::NoFile)
    }

    /// Number of the newest proof that is listed; 0 before there is one.
    #[must_use]
    pub fn newest_proof(&self) -> u64 {
        self.recent().last()
    }

    /// Neither the history nor the list of proofs is ever left half-changed, so a poisoned lock
    /// guards a usable one.
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a sample every second and, while somebody looks on, publishes the state. Ends when the
/// proxy drains, and with it the streams of events: they would hold the shutdown up.
pub async fn observe(app: Arc<App>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !app.drain.is_stopping() {
        tick.tick().await;
        let Ok(text) = status::metrics_text(&app) else { continue };
        let readings = Readings::parse(&text);
        app.ui.history().add(&readings);
        if app.ui.now.receiver_count() > 0 {
            let state: Arc<str> = state::document(&app, &readings).to_string().into();
            app.ui.now.send_replace(Some(state));
        }
    }
    app.ui.now.send_replace(None);
}

/// Remembers the last proofs with what became of them, until the judgements end.
pub async fn follow_judgements(app: Arc<App>, mut judgements: broadcast::Receiver<Judged>) {
    loop {
        match judgements.recv().await {
            Ok(judged) => app.ui.recent().add(judged),
            // The list is short: what was missed would have left it by now.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
