//! The link's own task: asks the engine what it serves, dials, serves the connection, waits, and
//! begins again, for as long as the worker runs. spec: broker §1.1

use super::backoff::Backoff;
use super::connection::{End, Outcome, serve};
use super::hello::{discover, hello};
use super::inside::Inside;
use super::shared::{Shared, count};
use super::socket::dial;
use super::{kept, missing, settings::BrokerSettings};
use crate::gpu::card::{self, Card};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Between two writings of the open leases.
const KEEP_EVERY: Duration = Duration::from_millis(200);

/// A link that is not dialling yet.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What outlives a connection.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Keeps a connection until `stop` says so.
    pub async fn run(self, inside: Arc<dyn Inside>, mut stop: watch::Receiver<bool>) {
        introduce(&self.shared.settings);
        let card = own_card(&self.shared.settings).await;
        let watcher = tokio::spawn(missing::watch(self.shared.clone(), inside.clone()));
        let keeper = self.shared.settings.leases.clone().map(|path| {
            self.shared.leases.restore(kept::read(&path));
            tokio::spawn(keep_leases(self.shared.clone(), path))
        });
        let mut backoff = Backoff::new(self.shared.settings.timings);
        loop {
            let mut stopping = stop.clone();
            let stopped = async move {
                // A stop that nobody can order any more is one.
                let _ = stopping.wait_for(|stop| *stop).await;
            };
            let connection = tokio::select! {
                connection = self.once(&inside, card.as_ref(), stop.clone()) => connection,
                () = stopped => break,
            };
            match connection.as_ref().map(|connection| &connection.end) {
                Some(End::Silent) => count(&self.shared.counters.silences),
                Some(End::Redialled) => count(&self.shared.counters.reconnects),
                _ => {}
            }
            let wait = backoff.after(connection.as_ref(), chance());
            match &connection {
                Some(Outcome { end: End::Stopped, .. }) => break,
                Some(Outcome { end, .. }) => tracing::warn!("{end}; dialling again in {wait:.1?}"),
                None => tracing::info!("dialling again in {wait:.1?}"),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        watcher.abort();
        if let Some(keeper) = keeper {
            keeper.abort();
        }
    }

    /// One connection; `None` when there was none.
    async fn once(
        &self,
        inside: &Arc<dyn Inside>,
        card: Option<&Card>,
        mut stop: watch::Receiver<bool>,
    ) -> Option<Outcome> {
        let settings = &self.shared.settings;
        let served = discover(&**inside, settings).await;
        self.shared.set_served(served.iter().map(|(name, _)| name.clone()).collect());
        let hello = match hello(settings, &served, card) {
            Ok(hello) => hello,
            Err(error) => {
                tracing::error!("{error}");
                return None;
            }
        };
        count(&self.shared.counters.attempts);
        let socket = match dial(settings).await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!("{}: {error}", settings.url);
                self.shared.set_unreachable(Some(error.to_string()));
                return None;
            }
        };
        self.shared.set_unreachable(None);
        tracing::info!("connected to the broker at {}", settings.url);
        let stopped = async {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Some(serve(socket, hello, &self.shared, inside, stopped).await)
    }
}

/// Writes the open leases whenever they are others, not more often than is of use.
async fn keep_leases(shared: Arc<Shared>, path: PathBuf) {
    loop {
        shared.leases.changed().await;
        let (leases, place) = (shared.leases.open_leases(), path.clone());
        let written = tokio::task::spawn_blocking(move || kept::write(&place, &leases)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!("the open leases are not on disk ({}): {error}", path.display());
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

/// What can be said about the settings before anything is sent.
fn introduce(settings: &BrokerSettings) {
    if let Some(problem) = settings.credential.problem(SystemTime::now()) {
        tracing::error!("{problem}");
    }
    tracing::info!(
        "broker worker {} for {}, token {:?}, confidential jobs are refused",
        settings.worker_id,
        settings.networks.join(", "),
        settings.credential,
    );
}

/// The card of this machine, where the settings leave open what is advertised. spec: §3.1
async fn own_card(settings: &BrokerSettings) -> Option<Card> {
    if !settings.hardware.is_open() {
        return None;
    }
    match card::detect().await {
        Ok(cards) => {
            let (count, found) = (cards.len(), card::largest(cards)?);
            tracing::info!("the broker is told of a {} ({count} in this machine)", found.name);
            Some(found)
        }
        Err(error) => {
            tracing::info!("which card this machine has is not known, set GPU_MODEL: {error}");
            None
        }
    }
}

/// From 0 to 1; without random numbers the middle.
fn chance() -> f64 {
    let mut bits = [0; 4];
    match getrandom::fill(&mut bits) {
        Ok(()) => f64::from(u32::from_le_bytes(bits)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
