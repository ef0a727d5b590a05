//! What became of the last switches, so that whoever asked for one can come back and see.

use crate::mining::model::ModelId;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Switches remembered.
const REMEMBERED: usize = 16;

/// How far a switch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchState {
    /// It is being made.
    Running,
    /// The model is pinned, and in the engine.
    Applied,
    /// The old model stays.
    Failed(String),
}

#[derive(Debug)]
struct Switch {
    number: u64,
    model: ModelId,
    force: bool,
    started_at: u64,
    started: Instant,
    seconds: Option<f64>,
    state: SwitchState,
}

#[derive(Debug, Default)]
pub(super) struct Switches {
    last: VecDeque<Switch>,
    begun: u64,
}

impl Switches {
    /// Notes a switch and gives its number.
    pub(super) fn begin(&mut self, model: &ModelId, force: bool) -> u64 {
        self.begun += 1;
        if self.last.len() >= REMEMBERED {
            self.last.pop_front();
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.push_back(Switch {
            number: self.begun,
            model: model.clone(),
            force,
            started_at: since_epoch.as_secs(),
            started: Instant::now(),
            seconds: None,
            state: SwitchState::Running,
        });
        self.begun
    }

    /// Notes how a switch ended.
    pub(super) fn end(&mut self, number: u64, error: Option<String>) {
        if let Some(switch) = self.last.iter_mut().find(|switch| switch.number == number) {
            switch.seconds = Some(switch.started.elapsed().as_secs_f64());
            switch.state = error.map_or(SwitchState::Applied, SwitchState::Failed);
        }
    }

    pub(super) fn report(&self, number: u64) -> Option<Value> {
        let switch = self.last.iter().find(|switch| switch.number == number)?;
        let (state, error) = match &switch.state {
            SwitchState::Running => ("running", None),
            SwitchState::Applied => ("applied", None),
            SwitchState::Failed(error) => ("failed", Some(error)),
        };
        Some(json!({
            "id": switch.number,
            "model_name": switch.model.name(),
            "model_commit": switch.model.commit(),
            "mode": if switch.force { "forced" } else { "graceful" },
            "state": state,
            "error": error,
            "started_at": switch.started_at,
            "seconds": switch.seconds.unwrap_or_else(|| switch.started.elapsed().as_secs_f64()),
        }))
    }
}
