//! A wanted change of the model, and what becomes of it.

use crate::mining::model::ModelId;
use crate::mining::registry::AmbiguousName;

/// A wanted change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `name@commit`; `None` clears the pin.
    pub model: Option<ModelId>,
    /// Now, not at the next block.
    pub force: bool,
}

/// A change that is not made. The texts are the network's. spec: proxy §7
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Exactly one of name and commit was given.
    #[error("model_name and model_commit must be provided together, or both empty")]
    HalfPin,
    /// There is no registry to look models up in.
    #[error("Model client not initialized")]
    NoRegistry,
    /// The name is registered with another commit.
    #[error("registry commit mismatch for '{name}': expected '{expected}', got '{found}'")]
    CommitMismatch {
        /// The name.
        name: String,
        /// The wanted commit.
        expected: String,
        /// The registered one.
        found: String,
    },
    /// The name is registered with several other commits.
    #[error(transparent)]
    Ambiguous(#[from] AmbiguousName),
    /// The name is not registered.
    #[error("model '{0}' not found in registry")]
    Unknown(ModelId),
    /// Another change is being made.
    #[error("a model switch is in progress; try again when it is done")]
    Busy,
}

/// What became of a wanted change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepted {
    /// It is done.
    Done,
    /// It is made at the next block.
    Scheduled,
    /// It is being made; this is its number.
    Running(u64),
    /// It was tried and failed.
    Failed(String),
}
