//! What is logged and how: text or JSON lines on standard error. Every line that belongs to a request
//! carries its ids; secrets are never logged. Rotation is the host's business. spec: proxy §21.3

use crate::config::sections::LogSection;
use crate::config::value::LogFormat;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Logs from here on as the settings say.
pub fn start(settings: &LogSection) {
    let filter = match settings.filter.is_empty() {
        true => settings.level.directive(),
        false => settings.filter.as_str(),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).init(),
    }
}

/// Logs errors only, or what `TENSORPOW_LOG` says: for commands that talk to people.
pub fn quiet() {
    let filter = std::env::var("TENSORPOW_LOG").unwrap_or_else(|_| "error".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
