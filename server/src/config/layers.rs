//! Where values come from: defaults < the file < the environment < flags. Every value remembers its
//! origin, so that a bad one is named together with the place where it has to be mended.

use super::names;
use super::section::Setting;
use super::sections::Settings;
use super::value::SettingValue;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Everything a configuration is made of. The defaults of the settings come before all of it.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// Defaults of the command that runs, by key.
    pub command: Vec<(&'static str, String)>,
    /// The file, if there is one.
    pub file: Option<FileText>,
    /// Where the file is, or would be.
    pub file_path: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Flags, by key.
    pub flags: Vec<(String, String)>,
}

/// A configuration file.
#[derive(Debug, Clone)]
pub struct FileText {
    /// Its path, for messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

impl FileText {
    /// Reads a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), text: std::fs::read_to_string(path)? })
    }
}

/// Where a value was set; later ones go before earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// The command's own default.
    Command,
    /// The file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    /// The layer alone: what is compared between two settings.
    #[must_use]
    pub const fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Command => 1,
            Self::File(_) => 2,
            Self::Variable(_) => 3,
            Self::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Command => f.write_str("default of the command"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value as text, with its origin.
#[derive(Debug, Clone)]
pub struct Given {
    /// The text.
    pub text: String,
    /// Where it was set.
    pub origin: Origin,
}

/// One API key of the file's `[[key]]` tables.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Name in logs and limits.
    pub name: String,
    /// The key.
    pub key: String,
    /// `inference`, `proof`, `admin`.
    pub scopes: Vec<String>,
}

/// One engine of the file's `[[route]]` tables.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    /// The request's `model`.
    pub model: String,
    /// URL of the engine.
    pub url: String,
    /// The model's commit; it decides nothing.
    pub commit: Option<String>,
    /// Which engine it is, if another than `engine.kind`.
    pub kind: Option<String>,
    /// Which member carries `pow`, if another than for the others.
    pub use_vllm_xargs: Option<bool>,
    /// Form of `pow`, if another than `engine.pow_form`.
    pub pow_form: Option<String>,
}

/// The merged values of all layers, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Values {
    by_key: BTreeMap<&'static str, Given>,
    /// What makes the configuration unusable.
    pub problems: Vec<String>,
    /// What is probably a mistake.
    pub warnings: Vec<String>,
    /// The file's API keys.
    pub keys: Vec<KeyEntry>,
    /// The file's engines of single models.
    pub routes: Vec<RouteEntry>,
}

impl Values {
    /// Merges the layers.
    #[must_use]
    pub fn merge(layers: &Layers) -> Self {
        let mut values = Self::default();
        for setting in Settings::all() {
            values.set(setting, setting.default, Origin::Default);
        }
        for (key, text) in &layers.command {
            values.set_by_name(key, text, Origin::Command, &Origin::Command.to_string());
        }
        if let Some(file) = &layers.file {
            values.merge_file(file);
        }
        values.merge_environment(&layers.environment);
        for (key, text) in &layers.flags {
            let flag = Settings::all().find(|setting| setting.key == key).and_then(|it| it.flag);
            let name = flag.map_or_else(|| format!("set {key}"), ToOwned::to_owned);
            values.set_by_name(key, text, Origin::Flag(name), "--set");
        }
        values
    }

    fn set(&mut self, setting: &Setting, text: &str, origin: Origin) {
        self.by_key.insert(setting.key, Given { text: text.to_owned(), origin });
    }

    fn set_by_name(&mut self, key: &str, text: &str, origin: Origin, place: &str) {
        match Settings::all().find(|setting| setting.key == key) {
            Some(setting) => self.set(setting, text, origin),
            None => {
                let known = Settings::all().map(|setting| setting.key);
                let hint = names::did_you_mean(key, known);
                self.problems.push(format!("{place}: there is no setting {key:?}{hint}"));
            }
        }
    }

    fn merge_file(&mut self, file: &FileText) {
        let place = file.path.display().to_string();
        let table = match file.text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                self.problems.push(format!("{place}: {}", error.to_string().trim_end()));
                return;
            }
        };
        for (name, value) in table {
            match value {
                toml::Value::Array(entries) if name == "key" => {
                    for entry in entries {
                        match entry.try_into() {
                            Ok(entry) => self.keys.push(entry),
                            // The entry holds a secret, which the error might show.
                            Err(_) => self.problems.push(format!(
                                "{place}: a [[key]] table has name, key and scopes = [\"inference\", \"proof\", \"admin\"], nothing else"
                            )),
                        }
                    }
                }
                toml::Value::Array(entries) if name == "route" => {
                    for entry in entries {
                        match entry.try_into() {
                            Ok(entry) => self.routes.push(entry),
                            Err(error) => {
                                self.problems.push(format!("{place}: [[route]]: {error}"));
                            }
                        }
                    }
                }
                toml::Value::Table(section) => {
                    for (field, value) in section {
                        let key = format!("{name}.{field}");
                        match scalar(&value) {
                            Some(text) => {
                                let origin = Origin::File(file.path.clone());
                                self.set_by_name(&key, &text, origin, &place);
                            }
                            None => self.problems.push(format!(
                                "{place}: {key} must be text, a number, a boolean or a list of texts"
                            )),
                        }
                    }
                }
                _ => {
                    let known = Settings::all().map(|setting| setting.key);
                    let hint = names::did_you_mean(&name, known);
                    self.problems.push(format!(
                        "{place}: {name:?} stands outside a section such as [http]{hint}"
                    ));
                }
            }
        }
    }

    /// A variable that is set to nothing counts as not set.
    fn merge_environment(&mut self, environment: &[(String, String)]) {
        let find =
            |name: &str| environment.iter().find(|(known, text)| known == name && !text.is_empty());
        for setting in Settings::all() {
            let found = setting.env.iter().find_map(|name| find(name));
            if let Some((name, text)) = found {
                self.set(setting, text, Origin::Variable(name.clone()));
            }
        }
        self.warnings.extend(names::warnings(environment));
    }

    /// The value of a setting; `None` when it is not usable, which is reported.
    pub(super) fn take<T: SettingValue>(&mut self, key: &'static str) -> Option<T> {
        let Some(given) = self.by_key.get(key) else {
            self.problems.push(format!("there is no setting {key:?}"));
            return None;
        };
        let value = T::read(&given.text);
        if value.is_none() {
            let shown =
                if T::SECRET { "the value".to_owned() } else { format!("{:?}", given.text) };
            self.problems.push(format!("{} ({key}): {shown} is not {}", given.origin, T::FORM));
        }
        value
    }

    /// A setting's text and origin.
    #[must_use]
    pub fn given(&self, key: &str) -> Option<&Given> {
        self.by_key.get(key)
    }

    /// The layer that sets a setting.
    #[must_use]
    pub fn layer(&self, key: &str) -> u8 {
        self.given(key).map_or(0, |given| given.origin.layer())
    }
}

/// A TOML value as the text of a setting; lists become commas.
fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect();
            items.map(|items| items.join(","))
        }
        _ => None,
    }
}
