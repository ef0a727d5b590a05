//! What ran before, on disk: the image of this deployment and the one before it, the model that was mined
//! before, and how the trial of an engine has ended. A small JSON file; without it, and when it cannot be written, everything works
//! but is forgotten with the process. spec: proxy §25

use crate::mining::model::ModelId;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How the trial of one engine has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CanaryEnd {
    engine: String,
    reason: String,
    at: u64,
}

/// A model that was mined, as `name@commit`; empty when every registered one was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PreviousModel {
    model: String,
    until: u64,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    /// The deployment's image, where the environment names it.
    image: String,
    /// When it was first seen, as seconds since 1970.
    image_since: u64,
    /// The one before.
    previous_image: String,
    canary: Option<CanaryEnd>,
    /// What was mined before.
    previous_model: Option<PreviousModel>,
}

/// The file and what stands in it.
#[derive(Debug, Default)]
pub struct Records {
    file: Option<PathBuf>,
    contents: Mutex<Contents>,
}

impl Records {
    /// Reads the file and notes the image that runs now; empty where nobody names it.
    #[must_use]
    pub fn open(file: Option<PathBuf>, image: &str) -> Self {
        let mut contents = file.as_deref().map(read).unwrap_or_default();
        let is_new = !image.is_empty() && contents.image != image;
        if is_new {
            contents.previous_image = std::mem::replace(&mut contents.image, image.to_owned());
            contents.image_since = now();
        }
        let records = Self { file, contents: Mutex::new(contents) };
        if is_new {
            records.save();
        }
        records
    }

    /// The image that runs, the one before it, and since when, in seconds since 1970.
    #[must_use]
    pub fn images(&self) -> (String, String, u64) {
        let contents = self.lock();
        (contents.image.clone(), contents.previous_image.clone(), contents.image_since)
    }

    /// Why the trial of this engine has ended, if it has.
    #[must_use]
    pub fn canary_end(&self, engine: &str) -> Option<String> {
        let contents = self.lock();
        contents.canary.as_ref().filter(|end| end.engine == engine).map(|end| end.reason.clone())
    }

    /// Notes the end of a trial, or that it runs.
    pub fn set_canary_end(&self, engine: &str, reason: Option<&str>) {
        let end = reason.map(|reason| CanaryEnd {
            engine: engine.to_owned(),
            reason: reason.to_owned(),
            at: now(),
        });
        self.lock().canary = end;
        self.save();
    }

    /// What was mined before (every registered model without one), and until when.
    #[must_use]
    pub fn previous_model(&self) -> Option<(Option<ModelId>, u64)> {
        let contents = self.lock();
        let PreviousModel { model, until } = contents.previous_model.as_ref()?;
        match model.is_empty() {
            true => Some((None, *until)),
            false => Some((Some(model.parse().ok()?), *until)),
        }
    }

    /// Notes what was mined until now.
    pub fn set_previous_model(&self, model: Option<ModelId>) {
        let model = model.map_or_else(String::new, |model| model.to_string());
        self.lock().previous_model = Some(PreviousModel { model, until: now() });
        self.save();
    }

    /// Beside it first, then in its place.
    fn save(&self) {
        let Some(file) = &self.file else { return };
        let contents = self.lock().clone();
        let write = || {
            let mut beside = file.as_os_str().to_owned();
            beside.push(".tmp");
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut written = std::fs::File::create(&beside)?;
            written.write_all(&serde_json::to_vec_pretty(&contents)?)?;
            written.sync_all()?;
            std::fs::rename(&beside, file)
        };
        if let Err(error) = write() {
            tracing::error!(%error, "{} was not written", file.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &std::path::Path) -> Contents {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, "{} is not understood; begun anew", file.display());
            Contents::default()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Contents::default(),
        Err(error) => {
            tracing::warn!(%error, "{} cannot be read", file.display());
            Contents::default()
        }
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_before_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data").join("rollout.json");
        let open = |image: &str| Records::open(Some(file.clone()), image);
        let images = |records: &Records| {
            let (image, previous, _) = records.images();
            (image, previous)
        };
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(images(&open("")), text("", ""));
        assert!(!file.exists(), "nothing to remember");
        assert_eq!(images(&open("r/worker@sha256:1")), text("r/worker@sha256:1", ""));
        let second = open("r/worker@sha256:2");
        second.set_canary_end("http://new", Some("slow"));
        assert_eq!(images(&second), text("r/worker@sha256:2", "r/worker@sha256:1"));
        let same = open("r/worker@sha256:2");
        assert_eq!(images(&same), images(&second), "a restart changes nothing");
        assert_eq!(same.canary_end("http://new").as_deref(), Some("slow"));
        assert_eq!(same.canary_end("http://other"), None);
        same.set_canary_end("http://new", None);
        assert_eq!(open("").canary_end("http://new"), None);
        assert_eq!(same.previous_model(), None);
        for model in [None, Some("org/m@c".parse().unwrap())] {
            same.set_previous_model(model.clone());
            assert_eq!(open("").previous_model().map(|(model, _)| model), Some(model));
        }
    }

    #[test]
    fn what_makes_no_sense_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rollout.json");
        for text in ["", "[]", "{", r#"{"image":1}"#] {
            std::fs::write(&file, text).unwrap();
            let records = Records::open(Some(file.clone()), "");
            assert_eq!(records.images().0, "", "{text}");
        }
        // A folder that is no folder: said in the log, and nothing else.
        let nowhere = Records::open(Some(file.join("below")), "image");
        assert_eq!(nowhere.images().0, "image");
    }
}
