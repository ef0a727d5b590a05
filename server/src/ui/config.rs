//! The configuration wizard's file. It writes a handful of keys of the TOML configuration and
//! leaves everything else in the file, comments included, as it is:
//!
//! | key | variable | value |
//! | --- | --- | --- |
//! | `mining.worker_mode` | `WORKER_MODE` | `"broker"` or `"standalone"` |
//! | `broker.url` | `BROKER_WS_URL` | `ws://` or `wss://` URL, for `broker` |
//! | `broker.jwt` | `PROVIDER_JWT_TOKEN` | the provider's token, for `broker`; a secret |
//! | `engine.url` | `TARGET_URL` | the engine, `http://host[:port]` |
//! | `mining.model_name`, `mining.model_commit` | `MODEL_NAME`, `MODEL_COMMIT` | the model to mine; both absent: the registry decides |

use crate::http::engine::EngineUrl;
use crate::mining::model::ModelId;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, value};

/// A key of the file: its table and its name.
type Key = (&'static str, &'static str);

const WORKER_MODE: Key = ("mining", "worker_mode");
const MODEL_NAME: Key = ("mining", "model_name");
const MODEL_COMMIT: Key = ("mining", "model_commit");
const BROKER_URL: Key = ("broker", "url");
const TOKEN: Key = ("broker", "jwt");
const ENGINE_URL: Key = ("engine", "url");

/// Longest value taken.
const MAX_VALUE: usize = 8192;

/// How the worker gets its jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerMode {
    /// From a node on this machine.
    #[default]
    Standalone,
    /// From a broker.
    Broker,
}

impl WorkerMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Broker => "broker",
        }
    }
}

/// What the wizard asks for. Empty texts mean: not set.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wizard {
    /// Where jobs come from.
    pub worker_mode: WorkerMode,
    /// The broker's URL.
    pub broker_url: String,
    /// The provider's token; empty keeps the one in the file.
    pub token: String,
    /// `name@commit`, or empty for the registry's choice.
    pub model: String,
    /// The engine's URL.
    pub engine_url: String,
}

impl std::fmt::Debug for Wizard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wizard").field("worker_mode", &self.worker_mode).finish_non_exhaustive()
    }
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Known {
    /// The file is there.
    pub exists: bool,
    /// Where jobs come from.
    pub worker_mode: Option<String>,
    /// The broker's URL.
    pub broker_url: Option<String>,
    /// A token is set; it is never shown.
    pub has_token: bool,
    /// `name@commit`.
    pub model: Option<String>,
    /// The engine's URL.
    pub engine_url: Option<String>,
}

/// The wizard's values cannot be used, or the file not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WizardError {
    /// A value is not usable.
    #[error("{field}: {problem}")]
    Value {
        /// The wizard's field.
        field: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is no place for the file.
    #[error(
        "there is no home folder to keep the configuration in; start the proxy with --config FILE"
    )]
    NoFile,
    /// The file holds something else.
    #[error("{path} is not valid TOML and is left as it is: {problem}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        problem: String,
    },
    /// The file cannot be read or written.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// Read or write.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

fn wrong(field: &'static str, problem: impl std::fmt::Display) -> WizardError {
    WizardError::Value { field, problem: problem.to_string() }
}

/// What the file says; all defaults when it is not there.
///
/// # Errors
/// [`WizardError`] when it cannot be read.
pub fn read(path: &Path) -> Result<Known, WizardError> {
    let Some(document) = load(path)? else { return Ok(Known::default()) };
    let text = |key| get(&document, key).map(str::to_owned);
    let model = match (text(MODEL_NAME), text(MODEL_COMMIT)) {
        (Some(name), Some(commit)) => Some(format!("{name}@{commit}")),
        (name, _) => name,
    };
    Ok(Known {
        exists: true,
        worker_mode: text(WORKER_MODE),
        broker_url: text(BROKER_URL),
        has_token: has_token(&document),
        model,
        engine_url: text(ENGINE_URL),
    })
}

fn has_token(document: &DocumentMut) -> bool {
    get(document, TOKEN).is_some_and(|token| !token.trim().is_empty())
}

fn get(document: &DocumentMut, (table, name): Key) -> Option<&str> {
    document.get(table)?.as_table_like()?.get(name)?.as_str()
}

/// Sets a key, or removes it. What stands in the place of a table is replaced by one.
fn set(document: &mut DocumentMut, (table, name): Key, text: Option<String>) {
    let section = document.entry(table).or_insert_with(|| Item::Table(Table::new()));
    if !section.is_table_like() {
        *section = Item::Table(Table::new());
    }
    let Some(section) = section.as_table_like_mut() else { return };
    match (text, section.get_mut(name).and_then(Item::as_value_mut)) {
        // A comment behind the value stays.
        (Some(text), Some(old)) => {
            let around = old.decor().clone();
            *old = text.into();
            *old.decor_mut() = around;
        }
        (Some(text), None) => {
            section.insert(name, value(text));
        }
        (None, _) => {
            section.remove(name);
        }
    }
}

/// Checks the values and writes them into the file, which only its owner may read then. The file is
/// replaced as a whole or not at all. Returns what is odd about the values, in words.
///
/// # Errors
/// [`WizardError`]; the file is as it was.
pub fn write_wizard(path: &Path, values: &Wizard) -> Result<Vec<String>, WizardError> {
    let mut document = load(path)?.unwrap_or_default();
    let checked = check(values, has_token(&document))?;
    for (key, text) in checked.keys {
        set(&mut document, key, text);
    }
    replace(path, document.to_string().as_bytes()).map_err(|error| WizardError::Io {
        what: "write",
        path: path.to_owned(),
        error,
    })?;
    Ok(checked.warnings)
}

struct Checked {
    /// Keys of the file; `None` removes one.
    keys: Vec<(Key, Option<String>)>,
    warnings: Vec<String>,
}

fn check(values: &Wizard, token_known: bool) -> Result<Checked, WizardError> {
    let mut warnings = Vec::new();
    let mut keys = vec![(WORKER_MODE, Some(values.worker_mode.as_str().to_owned()))];
    let text = |field, text: &str| {
        let text = text.trim();
        if text.len() > MAX_VALUE || text.chars().any(char::is_control) {
            return Err(wrong(field, "too long, or holds control characters"));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    };
    let broker = text("broker_url", &values.broker_url)?;
    if let Some(url) = &broker {
        check_broker(url)?;
    }
    let token = text("token", &values.token)?;
    if let Some(token) = &token {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("token", "holds blanks or characters that no token has"));
        }
        if !token.starts_with("eyJ") {
            warnings.push("the token does not begin with eyJ as provider tokens do".to_owned());
        }
    }
    if values.worker_mode == WorkerMode::Broker {
        if broker.is_none() {
            return Err(wrong("broker_url", "needed to work for a broker"));
        }
        if token.is_none() && !token_known {
            return Err(wrong("token", "needed to work for a broker"));
        }
    }
    keys.push((BROKER_URL, broker));
    if token.is_some() {
        keys.push((TOKEN, token));
    }
    let engine = text("engine_url", &values.engine_url)?
        .ok_or_else(|| wrong("engine_url", "needed, for example http://127.0.0.1:8000"))?;
    if engine.contains('@') {
        return Err(wrong("engine_url", "a key for the engine belongs in API_KEY"));
    }
    let engine: EngineUrl = engine.parse().map_err(|error| wrong("engine_url", error))?;
    keys.push((ENGINE_URL, Some(engine.to_string())));
    let model = text("model", &values.model)?
        .map(|model| model.parse::<ModelId>().map_err(|error| wrong("model", error)))
        .transpose()?;
    keys.push((MODEL_NAME, model.as_ref().map(|id| id.name().to_owned())));
    keys.push((MODEL_COMMIT, model.as_ref().map(|id| id.commit().to_owned())));
    Ok(Checked { keys, warnings })
}

fn check_broker(url: &str) -> Result<(), WizardError> {
    let problem = "must be wss://host/path (or ws:// on a trusted network)";
    let uri: Uri = url.parse().map_err(|_| wrong("broker_url", problem))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "ws" | "wss") || uri.authority().is_none() {
        return Err(wrong("broker_url", problem));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("broker_url", "the token has a field of its own"));
    }
    Ok(())
}

fn load(path: &Path) -> Result<Option<DocumentMut>, WizardError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(WizardError::Io { what: "read", path: path.to_owned(), error });
        }
    };
    // The parser's message shows lines of the file: a secret may stand in one.
    text.parse().map(Some).map_err(|error: toml_edit::TomlError| WizardError::NotToml {
        path: path.to_owned(),
        problem: error.message().to_owned(),
    })
}

/// Writes beside the file and moves over it, so that nobody reads half a file.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    // A link stays a link: what it names is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // A rest of an earlier try has its own permissions.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    written.and_then(|()| std::fs::rename(&beside, &path)).inspect_err(|_| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker() -> Wizard {
        Wizard {
            worker_mode: WorkerMode::Broker,
            broker_url: " wss://broker.example/v1/ws ".to_owned(),
            token: "eyJabc".to_owned(),
            model: "org/tiny@c0ffee".to_owned(),
            engine_url: "http://127.0.0.1:8000/v1".to_owned(),
        }
    }

    #[test]
    fn the_file_keeps_what_the_wizard_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensorpow.toml");
        let before = "# mine\n[http]\nport = 9 # keep\n[engine]\nurl = \"http://old\" # GPU box\n";
        std::fs::write(&path, before).unwrap();
        assert_eq!(write_wizard(&path, &broker()).unwrap(), Vec::<String>::new());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\n[http]\nport = 9 # keep\n[engine]\n"), "{text}");
        for line in [
            "[mining]",
            "worker_mode = \"broker\"",
            "[broker]",
            "url = \"wss://broker.example/v1/ws\"",
            "jwt = \"eyJabc\"",
            "url = \"http://127.0.0.1:8000\" # GPU box",
            "model_name = \"org/tiny\"",
            "model_commit = \"c0ffee\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let known = read(&path).unwrap();
        assert_eq!(known.model.as_deref(), Some("org/tiny@c0ffee"));
        assert!(known.has_token && !serde_json::to_string(&known).unwrap().contains("eyJ"));
        // Without a token the known one stays; without a model the registry decides.
        let again = Wizard { token: String::new(), model: String::new(), ..broker() };
        write_wizard(&path, &again).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("eyJabc") && !text.contains("model_commit"), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_the_token() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensorpow.toml");
        std::fs::write(&path, "").unwrap();
        write_wizard(&path, &broker()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn bad_values_are_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensorpow.toml");
        type Spoil = fn(&mut Wizard);
        let cases: [(&str, Spoil); 8] = [
            ("broker_url", |w| w.broker_url = String::new()),
            ("broker_url", |w| w.broker_url = "https://broker".to_owned()),
            ("broker_url", |w| w.broker_url = "wss://user:secret@broker/".to_owned()),
            ("token", |w| w.token = String::new()),
            ("token", |w| w.token = "two words".to_owned()),
            ("model", |w| w.model = "no-commit".to_owned()),
            ("engine_url", |w| w.engine_url = "127.0.0.1:8000".to_owned()),
            ("engine_url", |w| w.engine_url = "http://a\nb".to_owned()),
        ];
        for (field, spoil) in cases {
            let mut values = broker();
            spoil(&mut values);
            let error = write_wizard(&path, &values).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
        assert!(!path.exists());
        let odd = Wizard { token: "abc".to_owned(), ..broker() };
        assert_eq!(write_wizard(&path, &odd).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_not_toml_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensorpow.toml");
        std::fs::write(&path, "jwt = eyJsecret oops").unwrap();
        let error = write_wizard(&path, &broker()).unwrap_err();
        assert!(matches!(error, WizardError::NotToml { .. }), "{error}");
        assert!(!error.to_string().contains("eyJsecret"), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("oops"));
        let standalone = Wizard { engine_url: "http://e:1".to_owned(), ..Wizard::default() };
        let path = folder.path().join("new/folder/config.toml");
        write_wizard(&path, &standalone).unwrap();
        let known = read(&path).unwrap();
        assert_eq!(known.engine_url.as_deref(), Some("http://e:1"));
        // A value where a table belongs gives way.
        std::fs::write(&path, "engine = 5\nbroker.url = \"wss://a/b\"\n").unwrap();
        assert_eq!(read(&path).unwrap().broker_url.as_deref(), Some("wss://a/b"));
        write_wizard(&path, &standalone).unwrap();
        assert_eq!(read(&path).unwrap(), Known { exists: true, ..known });
    }
}
