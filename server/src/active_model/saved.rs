//! The runtime choice of a model as it survives a restart: a small JSON file that an engine's
//! supervisor reads and writes too. spec: proxy §7

use crate::mining::model::ModelId;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// Nothing that could be used: no file, or one that makes no sense.
    Nothing,
    /// Every registered model is mined, whatever the environment pins.
    AutoSelect,
    /// This model is pinned.
    Pin(ModelId),
}

/// Reads the file. What it says beats the environment. spec: proxy §7
#[must_use]
pub fn read(path: &Path) -> Saved {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Saved::Nothing,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the saved model cannot be read");
            return Saved::Nothing;
        }
    };
    let Ok(Value::Object(fields)) = serde_json::from_str(&text) else {
        tracing::warn!(path = %path.display(), "the saved model is no JSON object; ignored");
        return Saved::Nothing;
    };
    let part = |key| super::text_of(fields.get(key));
    let (name, commit) = (part("model_name"), part("model_commit"));
    match (name.is_empty(), commit.is_empty(), ModelId::new(&name, &commit)) {
        (true, true, _) => Saved::AutoSelect,
        (_, _, Some(id)) => Saved::Pin(id),
        _ => {
            tracing::warn!(path = %path.display(), "the saved model is half a pin; ignored");
            Saved::Nothing
        }
    }
}

/// Writes the file: beside it first, then in its place, and to the disk before that counts.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, pin: Option<&ModelId>, source: &str) -> std::io::Result<()> {
    let updated_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = json!({
        "model_name": pin.map_or("", ModelId::name),
        "model_commit": pin.map_or("", ModelId::commit),
        "source": source,
        "updated_at": updated_at,
    })
    .to_string();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert_eq!(read(&path), Saved::Nothing, "no file");
        let id: ModelId = "org/m@c".parse().unwrap();
        write(&path, Some(&id), "runtime").unwrap();
        assert_eq!(read(&path), Saved::Pin(id));
        let fields: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!((&fields["source"], fields["updated_at"].is_u64()), (&json!("runtime"), true));
        write(&path, None, "runtime").unwrap();
        assert_eq!(read(&path), Saved::AutoSelect);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(write(&dir.path().join("no/such/folder"), None, "runtime").is_err());
    }

    #[test]
    fn what_makes_no_sense_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let pin = |text: &str| Saved::Pin(text.parse().unwrap());
        for (text, expected) in [
            ("", Saved::Nothing),
            ("[]", Saved::Nothing),
            ("{", Saved::Nothing),
            (r#"{"model_name":"a"}"#, Saved::Nothing),
            (r#"{"model_name":"","model_commit":"c"}"#, Saved::Nothing),
            (r#"{"model_name":" ","model_commit":null}"#, Saved::AutoSelect),
            (r#"{"model_name":" a ","model_commit":"c","source":"env"}"#, pin("a@c")),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), expected, "{text}");
        }
    }
}
