//! Which model is mined: the pin, where it came from, and how it changes. A graceful change waits
//! for the next block, a forced one happens at once; either puts the model into the engine first,
//! where a supervisor can do that, and away from any request. What was mined before is
//! remembered and can be had back. spec: proxy §7, §19, §25

mod bring_in;
mod change;
pub mod saved;
pub mod supervisor;
mod switches;

use crate::mining::context::ContextCell;
use crate::mining::model::ModelId;
use crate::rollout::probe::ModelProbe;
use crate::rollout::record::Records;
use saved::Saved;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervisor::{Supervisor, SupervisorSettings};
use switches::Switches;
use tensorpow_core::units::BlockHash;
use tokio::sync::Notify;
use tokio::sync::watch;

pub use bring_in::NotBroughtIn;
pub use change::{Accepted, Change, Refused};

/// The shortest and the longest wait before a change that failed is tried again.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How models change.
#[derive(Debug, Clone)]
pub struct ActiveModelSettings {
    /// `MINER_RUNTIME_MODEL_STATE_PATH`; without one nothing is kept over a restart.
    pub state_path: Option<PathBuf>,
    /// `BACKEND_MODEL_SWITCH_ENABLED` and what belongs to it; without one the engine is left alone.
    pub supervisor: Option<SupervisorSettings>,
    /// `MODEL_SWITCH_FORCE_SUPPRESS_SEC`: the pause of a forced switch.
    pub force_suppress: Duration,
    /// A forced switch that takes longer than this is answered before it is done.
    pub answer_within: Duration,
    /// False where there is no registry, as for inference only: nothing can be pinned then.
    pub has_registry: bool,
}

impl Default for ActiveModelSettings {
    fn default() -> Self {
        Self {
            state_path: None,
            supervisor: None,
            force_suppress: Duration::from_secs(3),
            answer_within: Duration::from_secs(5),
            has_registry: true,
        }
    }
}

/// Where the pin came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Env,
    Persisted,
    Runtime,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Persisted => "persisted",
            Self::Runtime => "runtime",
        }
    }
}

/// A change that waits for the next block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    model: ModelId,
    start_request_id: u32,
    start_block: Option<BlockHash>,
}

#[derive(Debug)]
struct State {
    source: Source,
    pending: Option<Pending>,
    switches: Switches,
    /// The engine may hold another model than the pinned one.
    unaligned: bool,
}

/// The keeper of the pin.
#[derive(Debug)]
pub struct ActiveModel {
    settings: ActiveModelSettings,
    context: Arc<ContextCell>,
    supervisor: Option<Supervisor>,
    probe: Option<Arc<dyn ModelProbe>>,
    records: Arc<Records>,
    state: Mutex<State>,
    /// Held while a change is made.
    changing: tokio::sync::Mutex<()>,
    /// Told when something new is pending.
    scheduled: Notify,
    /// Told when the engine may hold another model than the pinned one.
    misaligned: Notify,
}

impl ActiveModel {
    /// Takes the pin that `context` has as the environment's, and the saved one over it.
    #[must_use]
    pub fn new(settings: ActiveModelSettings, context: Arc<ContextCell>) -> Self {
        let saved = settings.state_path.as_deref().map_or(Saved::Nothing, saved::read);
        let source = match saved {
            Saved::Nothing => Source::Env,
            Saved::AutoSelect => {
                tracing::info!("every registered model is mined, as chosen before the restart");
                context.set_pin(None);
                Source::Persisted
            }
            Saved::Pin(model) => {
                tracing::info!("{model} is mined, as chosen before the restart");
                context.set_pin(Some(model));
                Source::Persisted
            }
        };
        let supervisor = settings.supervisor.clone().map(Supervisor::new);
        let unaligned = supervisor.is_some() && context.load().models().pin.is_some();
        context.set_switching(unaligned);
        let state = State { source, pending: None, switches: Switches::default(), unaligned };
        Self {
            settings,
            context,
            supervisor,
            probe: None,
            records: Arc::default(),
            state: Mutex::new(state),
            changing: tokio::sync::Mutex::new(()),
            scheduled: Notify::new(),
            misaligned: Notify::new(),
        }
    }

    /// An engine is asked by `probe` before its model is mined.
    #[must_use]
    pub fn probing(mut self, probe: Arc<dyn ModelProbe>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// What was mined before is written down in `records`.
    #[must_use]
    pub fn remembering(mut self, records: Arc<Records>) -> Self {
        self.records = records;
        self
    }

    /// What was mined before (every registered model without one), and when that ended, in seconds since
    /// 1970.
    #[must_use]
    pub fn previous(&self) -> Option<(Option<ModelId>, u64)> {
        self.records.previous_model()
    }

    /// The answer to GET. spec: proxy §7
    #[must_use]
    pub fn view(&self) -> Value {
        let snapshot = self.context.load();
        let pin = snapshot.models().pin.as_ref();
        let state = self.lock();
        json!({
            "model_name": pin.map_or("", ModelId::name),
            "model_commit": pin.map_or("", ModelId::commit),
            "pinned": pin.is_some(),
            "auto_select": pin.is_none(),
            "source": state.source.as_str(),
            "switch_in_progress": snapshot.is_switching(),
            "pending_switch": state.pending.as_ref().map(|pending| json!({
                "model_name": pending.model.name(),
                "model_commit": pending.model.commit(),
                "mode": "graceful",
                "start_request_id": pending.start_request_id,
            })),
        })
    }

    /// A switch by its number, of the last few. spec: proxy §19
    #[must_use]
    pub fn switch(&self, number: u64) -> Option<Value> {
        self.lock().switches.report(number)
    }

    /// Makes a change, or arranges for it. spec: proxy §7
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub async fn change(self: &Arc<Self>, change: Change) -> Result<Accepted, Refused> {
        let Some(model) = change.model else { return self.clear().await };
        self.look_up(&model)?;
        if !change.force {
            let snapshot = self.context.load();
            self.lock().pending = Some(Pending {
                model,
                start_request_id: snapshot.job().map_or(0, |job| job.request_id),
                start_block: snapshot.parent(),
            });
            self.scheduled.notify_one();
            return Ok(Accepted::Scheduled);
        }
        if self.changing.try_lock().is_err() {
            return Err(Refused::Busy);
        }
        let number = self.lock().switches.begin(&model, true);
        let this = self.clone();
        // On its own: it is finished even when whoever asked for it does not wait.
        let mut switching = tokio::spawn(async move { this.make(model, number, true).await });
        match tokio::time::timeout(self.settings.answer_within, &mut switching).await {
            Ok(Ok(Ok(()))) => Ok(Accepted::Done),
            Ok(Ok(Err(error))) => Ok(Accepted::Failed(error.to_string())),
            Ok(Err(error)) => Ok(Accepted::Failed(error.to_string())),
            Err(_) => Ok(Accepted::Running(number)),
        }
    }

    /// Takes the pin away at once, and any change that waits.
    async fn clear(&self) -> Result<Accepted, Refused> {
        let Ok(_changing) = self.changing.try_lock() else { return Err(Refused::Busy) };
        {
            let mut state = self.lock();
            (state.pending, state.source, state.unaligned) = (None, Source::Runtime, false);
        }
        self.pin(None).await;
        self.context.set_switching(false);
        tracing::info!("no model is pinned any more; every registered model is mined");
        Ok(Accepted::Done)
    }

    /// The registry must have exactly this model. spec: proxy §7
    fn look_up(&self, model: &ModelId) -> Result<(), Refused> {
        if !self.settings.has_registry {
            return Err(Refused::NoRegistry);
        }
        let snapshot = self.context.load();
        let registry = &snapshot.models().registry;
        if registry.by_name_and_commit(model.name(), model.commit()).is_some() {
            return Ok(());
        }
        Err(match registry.by_name(model.name())? {
            Some(other) => Refused::CommitMismatch {
                name: model.name().to_owned(),
                expected: model.commit().to_owned(),
                found: other.id.commit().to_owned(),
            },
            None => Refused::Unknown(model.clone()),
        })
    }

    /// What is mined from now on.
    async fn pin(&self, model: Option<ModelId>) {
        let old = self.context.load().models().pin.clone();
        self.context.set_pin(model.clone());
        if old != model {
            let records = self.records.clone();
            let written = tokio::task::spawn_blocking(move || records.set_previous_model(old));
            // It does not panic; if it did the model before would be forgotten.
            let _ = written.await;
        }
        self.save(model).await;
    }

    /// On a thread that may wait for the disk.
    async fn save(&self, pin: Option<ModelId>) {
        let Some(path) = self.settings.state_path.clone() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let written = saved::write(&path, pin.as_ref(), Source::Runtime.as_str());
            written.map_err(|error| format!("{}: {error}", path.display()))
        });
        let outcome = written.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = outcome {
            tracing::error!("the choice of model will not survive a restart: {error}");
        }
    }

    /// Puts the pinned model into the engine at the start, and makes pending changes at block
    /// boundaries, for as long as the proxy runs. A change that fails is tried again.
    pub async fn run(self: Arc<Self>) {
        let mut parent = self.context.watch_parent();
        tokio::join!(self.align(), self.follow_blocks(&mut parent));
    }

    async fn follow_blocks(&self, parent: &mut watch::Receiver<Option<BlockHash>>) {
        let mut wait = TRY_AGAIN.0;
        loop {
            let block = *parent.borrow_and_update();
            let due = self.lock().pending.clone().filter(|pending| pending.start_block != block);
            let Some(pending) = due else {
                wait = TRY_AGAIN.0;
                tokio::select! {
                    changed = parent.changed() => if changed.is_err() { return },
                    () = self.scheduled.notified() => {}
                }
                continue;
            };
            let number = self.lock().switches.begin(&pending.model, false);
            let made = self.make(pending.model.clone(), number, false).await;
            if made.is_ok() {
                self.settle(&pending);
            }
            if made.is_err() {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(TRY_AGAIN.1);
            }
        }
    }

    /// A change that was made waits no longer. A newer one may have taken its place meanwhile.
    fn settle(&self, made: &Pending) {
        let mut state = self.lock();
        if state.pending.as_ref() == Some(made) {
            state.pending = None;
        }
    }

    /// No change leaves the state half-made, so a poisoned lock guards a usable one.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A JSON value as the text a form would have: strings as they are, other values in JSON, nothing
/// for null and absence; trimmed. spec: proxy §7
#[must_use]
pub fn text_of(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(other) => other.to_string(),
    }
}
