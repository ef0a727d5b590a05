//! The change itself: the engine gets the model, shows that it works, and the pin follows; else the old
//! model stays, or comes back. An engine of its own is asked while the old one goes on mining; where a
//! supervisor puts another model into the same engine, the old one is put back when the new one fails.
//! spec: proxy §7, §19, §25

use super::supervisor::{Supervisor, SwitchError};
use super::{ActiveModel, Source, TRY_AGAIN};
use crate::mining::model::ModelId;
use crate::rollout::probe::ProbeFailed;

/// Why a model is not mined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotBroughtIn {
    /// The engine did not get it.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The engine has it, and does not work with it; the old model stays.
    #[error("{0}; the model that was mined stays")]
    Probe(#[from] ProbeFailed),
    /// Neither the new model works nor did the old one come back.
    #[error("{probe}, and {back}; nothing is mined until the engine holds the pinned model")]
    Stranded {
        /// What the new one failed at.
        probe: ProbeFailed,
        /// Why the old one is not back.
        back: SwitchError,
    },
}

impl ActiveModel {
    /// Makes one change. spec: proxy §7
    pub(super) async fn make(
        &self,
        model: ModelId,
        number: u64,
        force: bool,
    ) -> Result<(), NotBroughtIn> {
        let _changing = self.changing.lock().await;
        // What waits for the next block is older than a forced change, which takes its place.
        let superseded = self.lock().pending.clone().filter(|_| force);
        let outcome = match &self.supervisor {
            Some(supervisor) => self.exchange(supervisor, &model, force).await,
            None => self.move_over(&model, force).await,
        };
        match &outcome {
            Ok(()) => {
                self.pin(Some(model.clone())).await;
                tracing::info!("{model} is mined from now on");
            }
            Err(error) => tracing::error!("the switch to {model} failed: {error}"),
        }
        let mut state = self.lock();
        match &outcome {
            Ok(()) => {
                (state.source, state.unaligned) = (Source::Runtime, false);
                if superseded.is_some() && state.pending == superseded {
                    state.pending = None;
                }
            }
            Err(NotBroughtIn::Stranded { .. }) => state.unaligned = true,
            Err(_) => {}
        }
        state.switches.end(number, outcome.as_ref().err().map(ToString::to_string));
        let unaligned = state.unaligned;
        drop(state);
        self.context.set_switching(unaligned);
        if unaligned {
            self.misaligned.notify_one();
        }
        outcome
    }

    /// Nothing is mined from here to the end of the change.
    fn stop_mining(&self, force: bool) {
        self.context.set_switching(true);
        if force {
            self.context.pause().extend(self.settings.force_suppress);
        }
    }

    /// To an engine that has the model already. The old one is left only when it works.
    async fn move_over(&self, model: &ModelId, force: bool) -> Result<(), NotBroughtIn> {
        let old = self.context.load().models().pin.clone();
        if let Some(probe) = &self.probe
            && probe.is_elsewhere(old.as_ref(), model)
        {
            probe.probe(model).await?;
        }
        self.stop_mining(force);
        Ok(())
    }

    /// Into the same engine, by its supervisor.
    async fn exchange(
        &self,
        supervisor: &Supervisor,
        model: &ModelId,
        force: bool,
    ) -> Result<(), NotBroughtIn> {
        let old = self.context.load().models().pin.clone();
        self.stop_mining(force);
        supervisor.switch(model).await?;
        let Some(probe) = &self.probe else { return Ok(()) };
        if old.as_ref() == Some(model) {
            return Ok(());
        }
        let Err(failed) = probe.probe(model).await else { return Ok(()) };
        // Without a pin nobody knows what the engine held.
        let Some(old) = old else { return Err(failed.into()) };
        tracing::warn!("{failed}; {old} is put back");
        match supervisor.switch(&old).await {
            Ok(()) => Err(failed.into()),
            Err(back) => Err(NotBroughtIn::Stranded { probe: failed, back }),
        }
    }

    /// Until the engine is known to hold the pinned model, nothing is mined. spec: proxy §3
    pub(super) async fn align(&self) {
        let Some(supervisor) = &self.supervisor else { return };
        let mut wait = TRY_AGAIN.0;
        loop {
            let changing = self.changing.lock().await;
            let pin = self.context.load().models().pin.clone();
            let unaligned = self.lock().unaligned;
            let (Some(pin), true) = (pin, unaligned) else {
                drop(changing);
                self.misaligned.notified().await;
                wait = TRY_AGAIN.0;
                continue;
            };
            match supervisor.switch(&pin).await {
                Ok(()) => {
                    self.lock().unaligned = false;
                    self.context.set_switching(false);
                    tracing::info!("the engine holds {pin}");
                    continue;
                }
                Err(error) => tracing::error!("{pin} is pinned, but {error}; nothing is mined"),
            }
            drop(changing);
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(TRY_AGAIN.1);
        }
    }
}
