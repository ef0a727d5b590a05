//! What the runtime has to tell the operator, one line at a time. The binding decides where lines
//! go; standard error is the default, because an engine's own log usually ends there.

use std::fmt;
use std::sync::Arc;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something happened as it should.
    Info,
    /// Something was given up: a dropped proof, a value that looks mistaken.
    Warning,
    /// A defect: a window that fails its own check, a panic.
    Error,
}

impl Level {
    /// The level in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

type Sink = dyn Fn(Level, &str) + Send + Sync;

/// Receives the lines, from any thread.
#[derive(Clone)]
pub struct Log(Arc<Sink>);

impl Log {
    /// Hands every line to `sink`, which must not block for long: the decode thread may call it.
    #[must_use]
    pub fn new(sink: impl Fn(Level, &str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Writes lines to standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self::new(|level, line| {
            use std::io::Write;
            // A closed standard error is no reason to disturb the engine.
            let _ = writeln!(std::io::stderr(), "tensorpow {}: {line}", level.as_str());
        })
    }

    pub(crate) fn line(&self, level: Level, line: fmt::Arguments<'_>) {
        (self.0)(level, &line.to_string());
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::stderr()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}
