//! The flags of every command that runs the proxy, made of the settings that have one. `--set`
//! reaches the others.

use super::layers::{FileText, Layers};
use super::sections::Settings;
use super::{Config, ConfigError};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;

/// Flags as they were given.
#[derive(Debug, Clone, Default)]
pub struct ProxyArgs {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Values by the key of their setting.
    pub given: Vec<(String, String)>,
}

impl ProxyArgs {
    /// The configuration of these flags, the environment and the file. `command` holds the command's
    /// own defaults.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn into_config(self, command: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        Config::load(&self.into_layers(command, environment())?)
    }

    /// The layers of these flags with an environment.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read.
    pub fn into_layers(
        self,
        command: &[(&'static str, &str)],
        environment: Vec<(String, String)>,
    ) -> Result<Layers, ConfigError> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(known, text)| known == name && !text.is_empty());
            found.map(|(_, text)| text.clone())
        };
        let named = self.config.or_else(|| variable("TENSORPOW_CONFIG").map(PathBuf::from));
        let file_path = named.clone().or_else(|| default_file(&variable));
        let file = match named {
            Some(path) => Some(FileText::read(&path).map_err(|error| {
                ConfigError::one(format!("cannot read {}: {error}", path.display()))
            })?),
            // The file at the usual place need not exist.
            None => default_file(&variable).and_then(|path| FileText::read(&path).ok()),
        };
        let command = command.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
        Ok(Layers { command, file, file_path, environment, flags: self.given })
    }
}

/// The process's environment. A variable that is not UTF-8 cannot be a value of ours.
pub(super) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// `$XDG_CONFIG_HOME/tensorpow/config.toml`
fn default_file(variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))?;
    Some(folder.join("tensorpow/config.toml"))
}

impl Args for ProxyArgs {
    fn augment_args(mut command: Command) -> Command {
        command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Configuration file [env: TENSORPOW_CONFIG] [default: $XDG_CONFIG_HOME/tensorpow/config.toml]"),
        );
        for setting in Settings::all() {
            let Some(flag) = setting.flag else { continue };
            // A command's own flag of that name is the command's business.
            if command.get_arguments().any(|arg| arg.get_long() == Some(flag)) {
                continue;
            }
            let mut help = setting.about.trim().to_owned();
            for name in setting.env {
                help.push_str(&format!(" [env: {name}]"));
            }
            if !setting.default.is_empty() {
                help.push_str(&format!(" [default: {}]", setting.default));
            }
            let mut arg =
                Arg::new(setting.key).long(flag).value_name(setting.value_name()).help(help);
            if setting.form == <bool as super::value::SettingValue>::FORM {
                arg = arg.num_args(0..=1).default_missing_value("true").require_equals(true);
            }
            command = command.arg(arg);
        }
        command.arg(
            Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append).help(
                "Any setting by its key in the file, for example --set backfill.min_active=8",
            ),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ProxyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            self.config = Some(path.clone());
        }
        for setting in Settings::all().filter(|setting| setting.flag.is_some()) {
            if let Ok(Some(text)) = matches.try_get_one::<String>(setting.key) {
                self.given.push((setting.key.to_owned(), text.clone()));
            }
        }
        for pair in matches.get_many::<String>("set").into_iter().flatten() {
            let (key, text) = pair.split_once('=').ok_or_else(|| {
                let message = format!("--set {pair:?} must be KEY=VALUE\n");
                clap::Error::raw(clap::error::ErrorKind::ValueValidation, message)
            })?;
            self.given.push((key.trim().to_owned(), text.to_owned()));
        }
        Ok(())
    }
}
