//! `tensorpow config`: checks a configuration, shows what is in effect and where it comes from,
//! prints the reference of all settings, generates API keys.

use super::layers::{Layers, Origin, Values};
use super::section::Setting;
use super::sections::Settings;
use super::{Config, ConfigError, ProxyArgs, keys};
use clap::Subcommand;
use std::fmt::Write as _;
use std::process::ExitCode;

/// What to do with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check it: every problem by name with the fix; exits with 1 when there is one
    Check(ProxyArgs),
    /// Show every setting in effect with its origin, secrets masked
    Show {
        /// Flags, as `serve` takes them
        #[command(flatten)]
        proxy: ProxyArgs,
        /// Only what is not a default
        #[arg(long)]
        changed: bool,
    },
    /// Print the table of all settings (Markdown)
    Reference,
    /// Generate an API key for each scope into a file only you can read
    Keys(ProxyArgs),
}

/// Runs `tensorpow config`.
#[must_use]
pub fn run(command: ConfigCommand) -> ExitCode {
    let done = match command {
        ConfigCommand::Check(args) => check(args),
        ConfigCommand::Show { proxy, changed } => show(proxy, changed),
        ConfigCommand::Reference => {
            print!("{}", reference());
            Ok(())
        }
        ConfigCommand::Keys(args) => generate_keys(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for problem in error.problems {
                eprintln!("error: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn layers(args: ProxyArgs) -> Result<Layers, ConfigError> {
    args.into_layers(&[], super::flags::environment())
}

fn check(args: ProxyArgs) -> Result<(), ConfigError> {
    let config = Config::load(&layers(args)?)?;
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    println!("the configuration is usable; listening on {}", config.listen);
    Ok(())
}

fn show(args: ProxyArgs, changed: bool) -> Result<(), ConfigError> {
    print!("{}", shown(&layers(args)?, changed)?);
    Ok(())
}

/// Every setting as a line of the file, with its origin; secrets masked.
///
/// # Errors
/// [`ConfigError`] when the configuration is not usable.
pub fn shown(layers: &Layers, changed: bool) -> Result<String, ConfigError> {
    let config = Config::load(layers)?;
    let values = Values::merge(layers);
    let mut text = String::new();
    let mut section = "";
    for setting in Settings::all() {
        let Some(given) = values.given(setting.key) else { continue };
        if changed && given.origin == Origin::Default {
            continue;
        }
        let (table, field) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if table != section {
            section = table;
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}[{table}]");
        }
        let value = masked(setting, &given.text);
        let _ = writeln!(text, "{field} = {value:?}  # {}", given.origin);
    }
    for key in &values.keys {
        let _ = writeln!(
            text,
            "\n[[key]]\nname = {:?}\nscopes = {:?}\nkey = \"(hidden)\"",
            key.name, key.scopes
        );
    }
    for warning in &config.warnings {
        let _ = writeln!(text, "# warning: {warning}");
    }
    Ok(text)
}

fn masked<'a>(setting: &Setting, text: &'a str) -> &'a str {
    if setting.secret && !text.is_empty() { "(hidden)" } else { text }
}

fn generate_keys(args: ProxyArgs) -> Result<(), ConfigError> {
    // A public bind without keys is what the keys are for; it must not stand in their way.
    let mut layers = layers(args)?;
    layers.flags.push(("http.listen".to_owned(), "127.0.0.1:0".to_owned()));
    let config = Config::load(&layers)?;
    keys::generate(&config.keys_file).map_err(ConfigError::one)?;
    println!("wrote {}", config.keys_file.display());
    Ok(())
}

/// The table of all settings, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for section in Settings::SECTIONS {
        let table = section.first().and_then(|first| first.key.split_once('.'));
        let Some((table, _)) = table else { continue };
        let _ = writeln!(text, "### [{table}]\n");
        let _ = writeln!(text, "| key | environment, flag | default | form | what it does |");
        let _ = writeln!(text, "| --- | --- | --- | --- | --- |");
        for setting in *section {
            let field = setting.key.split_once('.').map_or(setting.key, |(_, field)| field);
            let mut names: Vec<String> =
                setting.env.iter().map(|name| format!("`{name}`")).collect();
            names.extend(setting.flag.map(|flag| format!("`--{flag}`")));
            let default = match setting.default {
                "" => String::new(),
                text => format!("`{text}`"),
            };
            let _ = writeln!(
                text,
                "| `{field}` | {} | {default} | {} | {} |",
                names.join(", "),
                setting.form,
                setting.about.trim(),
            );
        }
        text.push('\n');
    }
    text
}
