//! How one setting is written: every type a setting can have, read from text. A value that cannot
//! be read is answered with what would be right, never with the value of a secret.

use crate::backfill::prompt::LengthShape;
use crate::broker::settings::BrokerUrl;
use crate::http::engine::EngineUrl;
use crate::mining::model::ModelId;
use crate::mining::network::Network;
use crate::mining::payload::{Dialect, EngineKind, PowForm};
use crate::node::results::Endpoint;
use crate::service_client::ServiceUrl;
use crate::watchdog::Action;
use crate::zap::IpNetwork;
use clap::ValueEnum;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that settings are written in.
pub trait SettingValue: Sized {
    /// What a value looks like, for messages and the documentation.
    const FORM: &'static str;

    /// True when the value must never be shown.
    const SECRET: bool = false;

    /// Reads a value; `None` when the text is not of the form.
    fn read(text: &str) -> Option<Self>;
}

impl SettingValue for bool {
    const FORM: &'static str = "true or false (also 1/0, yes/no, on/off)";

    fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
}

/// Types whose own reader says what is right.
macro_rules! parsed {
    ($($type:ty: $form:literal),+ $(,)?) => {
        $(impl SettingValue for $type {
            const FORM: &'static str = $form;

            fn read(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
        })+
    };
}

parsed! {
    u16: "a whole number from 0 to 65535",
    u32: "a whole number from 0 to 4294967295",
    u64: "a whole number",
    usize: "a whole number",
}

impl SettingValue for f64 {
    const FORM: &'static str = "a number from 0 on";

    fn read(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|value| (0.0..=1e15).contains(value))
    }
}

impl SettingValue for Action {
    const FORM: &'static str = "log, restart_engine, reconnect or exit";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl SettingValue for LengthShape {
    const FORM: &'static str = "uniform or log-uniform";

    fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "uniform" => Some(Self::Uniform),
            "log-uniform" => Some(Self::LogUniform),
            _ => None,
        }
    }
}

impl SettingValue for String {
    const FORM: &'static str = "text";

    fn read(text: &str) -> Option<Self> {
        Some(text.trim().to_owned())
    }
}

impl SettingValue for Duration {
    const FORM: &'static str = "seconds";

    fn read(text: &str) -> Option<Self> {
        let seconds: f64 = text.trim().parse().ok()?;
        (0.0..=1e9).contains(&seconds).then(|| Self::from_secs_f64(seconds))
    }
}

impl SettingValue for PathBuf {
    const FORM: &'static str = "a path";

    fn read(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| Self::from(text.trim()))
    }
}

impl SettingValue for SocketAddr {
    const FORM: &'static str = "address:port, for example 127.0.0.1:8080";

    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_prefix("localhost:") {
            Some(port) => Some(Self::from(([127, 0, 0, 1], port.parse().ok()?))),
            None => text.parse().ok(),
        }
    }
}

impl SettingValue for EngineUrl {
    const FORM: &'static str = "http://host[:port]";

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl SettingValue for EngineKind {
    const FORM: &'static str = "vllm or llama.cpp";

    fn read(text: &str) -> Option<Self> {
        Self::from_str(text.trim(), true).ok()
    }
}

impl SettingValue for PowForm {
    const FORM: &'static str = "object or string";

    fn read(text: &str) -> Option<Self> {
        Self::from_str(text.trim(), true).ok()
    }
}

impl SettingValue for Network {
    const FORM: &'static str = "tensor, tensor-test or devnet";

    fn read(text: &str) -> Option<Self> {
        Self::from_str(text.trim(), true).ok()
    }
}

parsed! {
    IpNetwork: "an address or a range such as 10.0.0.0/8",
    Endpoint: "tcp://host:port",
    ModelId: "name@commit",
    BrokerUrl: "ws://host[:port]/path or wss://host[:port]/path",
    ServiceUrl: "http://host[:port][/path]",
}

impl<T: SettingValue> SettingValue for Option<T> {
    const FORM: &'static str = T::FORM;
    const SECRET: bool = T::SECRET;

    /// Empty means not set.
    fn read(text: &str) -> Option<Self> {
        if text.trim().is_empty() { Some(None) } else { T::read(text).map(Some) }
    }
}

/// Items separated by commas; empty ones do not count.
impl<T: SettingValue> SettingValue for Vec<T> {
    const FORM: &'static str = T::FORM;

    fn read(text: &str) -> Option<Self> {
        text.split(',').filter(|item| !item.trim().is_empty()).map(T::read).collect()
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl SettingValue for Secret {
    const FORM: &'static str = "a secret";
    const SECRET: bool = true;

    fn read(text: &str) -> Option<Self> {
        Some(Self(text.trim().to_owned()))
    }
}

/// A compact target, decimal or `0x` hex. spec: proxy §20.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits(pub u32);

impl SettingValue for Bits {
    const FORM: &'static str = "a compact target, decimal or 0x hex";

    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u32::from_str_radix(hex, 16).ok().map(Self),
            None => text.parse().ok().map(Self),
        }
    }
}

/// A request model and the engine that serves it. spec: proxy §12.3
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRoute {
    /// The request's `model`.
    pub model: String,
    /// The commit, where the entry names one; it decides nothing.
    pub commit: Option<String>,
    /// The engine.
    pub url: EngineUrl,
    /// How it wants to be told what to mine, if not like the others.
    pub dialect: Option<Dialect>,
}

/// `MODEL_ROUTES`: of several entries for one model the last counts; an entry without `=` or
/// without a model is passed over. spec: proxy §12.3
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRoutes(pub Vec<ModelRoute>);

impl SettingValue for ModelRoutes {
    const FORM: &'static str = "model[@commit]=http://host:port, separated by commas";

    fn read(text: &str) -> Option<Self> {
        let mut routes: Vec<ModelRoute> = Vec::new();
        for entry in text.split(',') {
            let Some((model, url)) = entry.trim().split_once('=') else { continue };
            let (model, commit) = match model.split_once('@') {
                Some((model, commit)) => (model.trim(), Some(commit.trim().to_owned())),
                None => (model.trim(), None),
            };
            if model.is_empty() {
                continue;
            }
            let route = ModelRoute {
                model: model.to_owned(),
                commit,
                url: url.parse().ok()?,
                dialect: None,
            };
            match routes.iter_mut().find(|known| known.model == model) {
                Some(known) => *known = route,
                None => routes.push(route),
            }
        }
        Some(Self(routes))
    }
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident: $form:literal { $($(#[$variant_meta:meta])* $variant:ident = $($word:literal)|+),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),+
        }

        impl SettingValue for $name {
            const FORM: &'static str = $form;

            fn read(text: &str) -> Option<Self> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($($word)|+ => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// What log lines look like.
    LogFormat: "text or json" {
        /// `time level target: message`.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// Lines below this level are not logged.
    LogLevel: "ERROR, WARNING, INFO, DEBUG or TRACE" {
        /// What stops work.
        Error = "error" | "critical" | "fatal",
        /// What somebody should look at.
        Warn = "warning" | "warn",
        /// What happens.
        Info = "info" | "notset",
        /// Why it happens.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl LogLevel {
    /// The directive of the log filter.
    #[must_use]
    pub const fn directive(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grammar_for_booleans() {
        for text in ["true", " True ", "1", "YES", "on"] {
            assert_eq!(bool::read(text), Some(true), "{text}");
        }
        for text in ["false", "0", "No", "off "] {
            assert_eq!(bool::read(text), Some(false), "{text}");
        }
        for text in ["", "2", "t", "enabled"] {
            assert_eq!(bool::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn routes_split_at_the_first_signs_and_the_last_duplicate_wins() {
        let read = |text| ModelRoutes::read(text).map(|routes| routes.0);
        let routes = read(" a/b@c1=http://h:1 , x ,=http://h:2, a/b=http://h:3/v1?x=y ").unwrap();
        assert_eq!(routes.len(), 1);
        assert_eq!(routes[0].url.to_string(), "http://h:3");
        assert_eq!(routes[0].commit, None);
        assert_eq!(read("a=ftp://h"), None);
        assert_eq!(read(""), Some(Vec::new()));
    }

    #[test]
    fn numbers_and_addresses() {
        assert_eq!(Bits::read("0x2001d208"), Some(Bits(536_990_216)));
        assert_eq!(Bits::read("zero"), None);
        assert_eq!(Duration::read("0.5"), Some(Duration::from_millis(500)));
        for bad in ["-1", "NaN", "inf", "1e10", ""] {
            assert_eq!(Duration::read(bad), None, "{bad:?}");
        }
        assert_eq!(SocketAddr::read("localhost:80"), "127.0.0.1:80".parse().ok());
        assert_eq!(<Option<SocketAddr>>::read(" "), Some(None));
        assert_eq!(format!("{:?}", Secret::read("s").unwrap()), "Secret(…)");
    }
}
