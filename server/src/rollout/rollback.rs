//! One call that brings back what ran before: the engine beside the one on trial, the model that was
//! mined, or the image of the deployment. spec: proxy §25

use super::record::Records;
use super::trial::Trial;
use crate::active_model::{Accepted, ActiveModel, Change, Refused};
use crate::mining::model::ModelId;
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::Command;

/// What is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The trial of an engine.
    Canary,
    /// The change of the model.
    Model,
    /// The image.
    Image,
}

impl Of {
    /// Its word in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Model => "model",
            Self::Image => "image",
        }
    }

    /// The word read back.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        [Self::Canary, Self::Model, Self::Image].into_iter().find(|of| of.as_str() == text)
    }
}

/// Why nothing is taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRolledBack {
    /// There is nothing before it.
    #[error("{0}")]
    Nothing(&'static str),
    /// The model cannot be changed back.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The operator's command failed.
    #[error("{0}")]
    Command(String),
}

/// What was taken back, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// What.
    pub of: Of,
    /// What runs now, or is on its way.
    pub to: String,
    /// How far a change of the model is.
    pub accepted: Option<Accepted>,
}

/// All that can be taken back.
#[derive(Debug)]
pub struct Rollout {
    /// The trial.
    pub trial: Option<Arc<Trial>>,
    /// The mined model.
    pub active_model: Arc<ActiveModel>,
    /// What is remembered.
    pub records: Arc<Records>,
    /// What brings an image back.
    pub command: Option<String>,
}

impl Rollout {
    /// How everything stands.
    #[must_use]
    pub fn view(&self) -> Value {
        let (image, previous, since) = self.records.images();
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let before = self.active_model.previous().map(|(model, until)| {
            json!({
                "model": model.map(|model| model.to_string()),
                "until": until,
            })
        });
        json!({
            "canary": self.trial.as_ref().map(|trial| trial.view()),
            "model": { "active": self.active_model.view(), "previous": before },
            "image": {
                "active": named(image),
                "previous": named(previous),
                "since": Some(since).filter(|since| *since > 0),
                "can_roll_back": self.command.is_some(),
            },
            "newest": self.newest().map(Of::as_str),
        })
    }

    /// What ran before, in short; `None` when nothing is known of it.
    #[must_use]
    pub fn before(&self) -> Option<Value> {
        let model = self.active_model.previous().map(|(model, _)| name_of(model.as_ref()));
        let (_, image, _) = self.records.images();
        let image = Some(image).filter(|image| !image.is_empty());
        (model.is_some() || image.is_some())
            .then(|| json!({ "previous_model": model, "previous_image": image }))
    }

    /// What came last and can be taken back.
    fn newest(&self) -> Option<Of> {
        let trial = self.trial.as_ref().filter(|trial| trial.runs());
        let trial = trial.map(|trial| (trial.since(), Of::Canary));
        let model = self.active_model.previous().map(|(_, at)| (at, Of::Model));
        let (_, previous, since) = self.records.images();
        let image = (!previous.is_empty() && self.command.is_some()).then_some((since, Of::Image));
        let newest = [image, model, trial].into_iter().flatten().max_by_key(|(at, _)| *at);
        newest.map(|(_, of)| of)
    }

    /// Takes one thing back; without a word what came last.
    ///
    /// # Errors
    /// [`NotRolledBack`]; then everything is as it was.
    pub async fn back(&self, of: Option<Of>) -> Result<RolledBack, NotRolledBack> {
        let nothing = NotRolledBack::Nothing("nothing was brought in that could be taken back");
        match of.or_else(|| self.newest()).ok_or(nothing)? {
            Of::Canary => self.end_trial().await,
            Of::Model => self.model_back().await,
            Of::Image => self.image_back().await,
        }
    }

    async fn end_trial(&self) -> Result<RolledBack, NotRolledBack> {
        let trial = self.trial.clone().filter(|trial| trial.runs());
        let trial = trial.ok_or(NotRolledBack::Nothing("no engine is on trial"))?;
        let to = trial.beside().to_owned();
        let ended = tokio::task::spawn_blocking(move || trial.end("taken back by hand")).await;
        ended.map_err(|error| NotRolledBack::Command(error.to_string()))?;
        Ok(RolledBack { of: Of::Canary, to, accepted: None })
    }

    async fn model_back(&self) -> Result<RolledBack, NotRolledBack> {
        let nothing = NotRolledBack::Nothing("no other model was mined before");
        let (model, _) = self.active_model.previous().ok_or(nothing)?;
        let to = name_of(model.as_ref());
        let accepted = self.active_model.change(Change { model, force: true }).await?;
        Ok(RolledBack { of: Of::Model, to, accepted: Some(accepted) })
    }

    /// Runs the operator's command. It may end this process: what it prints is not waited for.
    async fn image_back(&self) -> Result<RolledBack, NotRolledBack> {
        let (_, previous, _) = self.records.images();
        if previous.is_empty() {
            return Err(NotRolledBack::Nothing("no image is known that ran before"));
        }
        let nothing = "TENSORPOW_ROLLBACK_COMMAND (rollout.rollback_command) is not set";
        let command = self.command.as_ref().ok_or(NotRolledBack::Nothing(nothing))?;
        tracing::warn!("image {previous} is brought back: {command}");
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).env("TENSORPOW_PREVIOUS_IMAGE", &previous);
        let status = shell.stdin(Stdio::null()).status().await;
        match status {
            Ok(status) if status.success() => {
                Ok(RolledBack { of: Of::Image, to: previous, accepted: None })
            }
            Ok(status) => Err(NotRolledBack::Command(format!("{command}: {status}"))),
            Err(error) => Err(NotRolledBack::Command(format!("{command}: {error}"))),
        }
    }
}

/// A choice of what is mined, in words.
fn name_of(model: Option<&ModelId>) -> String {
    model.map_or_else(|| "every registered model".to_owned(), ToString::to_string)
}
