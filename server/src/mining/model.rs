//! Models: the pin, the records a chain has registered, and the rules that decide with which
//! record, if any, a request is mined.

use super::registry::Registry;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tensorpow_core::proof::commitment::model_hash;
use tensorpow_core::target::Difficulty;

/// CID of a record that has none. spec: proxy §8.1
pub const DEFAULT_CID: &str = "QmDefault";

/// A model as the chain names it: `name@commit`, both parts non-empty. spec: proxy §12.1
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId {
    name: String,
    commit: String,
}

/// A text is not of the form `name@commit`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model {text:?} must be written name@commit")]
pub struct ModelIdError {
    /// The text.
    pub text: String,
}

impl ModelId {
    /// A name and a commit, both trimmed; `None` when one of them is empty.
    #[must_use]
    pub fn new(name: &str, commit: &str) -> Option<Self> {
        let (name, commit) = (name.trim().to_owned(), commit.trim().to_owned());
        (!name.is_empty() && !commit.is_empty()).then_some(Self { name, commit })
    }

    /// The name requests give in `model`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registered commit.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The registry's hash of this model as it is displayed: SHA-256 of `name@commit`, bytes
    /// reversed. spec: proxy §13.1, node §5
    #[must_use]
    pub fn display_hash(&self) -> String {
        let mut hash = model_hash(self.to_string().as_bytes());
        hash.reverse();
        hex::encode(hash)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.commit)
    }
}

impl FromStr for ModelId {
    type Err = ModelIdError;

    /// Splits at the last `@`, trimming both parts.
    fn from_str(text: &str) -> Result<Self, ModelIdError> {
        let error = || ModelIdError { text: text.to_owned() };
        let (name, commit) = text.rsplit_once('@').ok_or_else(error)?;
        Self::new(name, commit).ok_or_else(error)
    }
}

/// A registered model. spec: proxy §13.1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRecord {
    /// Name and commit.
    pub id: ModelId,
    /// Registered difficulty.
    pub difficulty: Difficulty,
    /// Content id; empty when the chain has none.
    pub cid: String,
    /// Height at which the commit was registered; orders several commits of one name.
    pub commit_block_height: u64,
}

impl ModelRecord {
    /// The CID a payload carries. spec: proxy §8.1
    #[must_use]
    pub fn payload_cid(&self) -> &str {
        if self.cid.is_empty() { DEFAULT_CID } else { &self.cid }
    }
}

/// The pin and the registry.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// The model this worker mines; without one every registered model is mined.
    pub pin: Option<ModelId>,
    /// What the chain has registered.
    pub registry: Arc<Registry>,
    /// False until the registry has been heard of for the first time.
    pub loaded: bool,
}

impl Models {
    /// A pin and its registry.
    #[must_use]
    pub fn new(pin: Option<ModelId>, registered: impl IntoIterator<Item = ModelRecord>) -> Self {
        Self { pin, registry: Arc::new(registered.into_iter().collect()), loaded: true }
    }

    /// True when a request for `model` takes the mining path: exact equality with the pinned name,
    /// or, without a pin, any registered name. spec: proxy §12.1
    #[must_use]
    pub fn is_mining_model(&self, model: &str) -> bool {
        match &self.pin {
            Some(pin) => pin.name() == model,
            None => self.registry.has_name(model),
        }
    }

    /// The record a request for the mining model `model` is mined with: exactly the pinned one, or
    /// without a pin the one its name means. spec: proxy §8.2
    #[must_use]
    pub fn mined_record(&self, model: &str) -> Option<&ModelRecord> {
        self.registry.records().get(self.mined_position(model)?)
    }

    /// Where [`Self::mined_record`]'s record is in the registry.
    pub(super) fn mined_position(&self, model: &str) -> Option<usize> {
        match &self.pin {
            Some(pin) => self.registry.position(pin.name(), pin.commit()),
            None => self.registry.auto_select_position(model),
        }
    }
}

/// A model identifier without the marks of a local snapshot folder, for comparing two spellings of
/// one model: `…/models--Org--Name/snapshots/<c>@<c>` equals `Org/Name@<c>`. spec: proxy §16.3
#[must_use]
pub fn normalize_model_identifier(identifier: &str) -> String {
    let identifier = identifier.trim();
    let (name, commit) = identifier.rsplit_once('@').unwrap_or((identifier, ""));
    let name = match name.split_once("models--") {
        Some((_, rest)) => {
            let end = rest.find(['/', '@']).unwrap_or(rest.len());
            rest[..end].replace("--", "/")
        }
        None => name.to_owned(),
    };
    if commit.is_empty() { name } else { format!("{name}@{commit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, height: u64) -> ModelRecord {
        ModelRecord {
            id: id.parse().unwrap(),
            difficulty: Difficulty::new(1_000_000).unwrap(),
            cid: String::new(),
            commit_block_height: height,
        }
    }

    #[test]
    fn a_model_id_needs_name_and_commit() {
        let id: ModelId = " org/name @ abc ".parse().unwrap();
        assert_eq!((id.name(), id.commit()), ("org/name", "abc"));
        for bad in ["org/name", "@abc", "org/name@", " @ ", ""] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_models_hash_is_the_registrys() {
        let id: ModelId = "Qwen/Qwen3-8B@9c925d64d72725edaf899c6cb9c377fd0709d9c5".parse().unwrap();
        assert_eq!(
            id.display_hash(),
            "4b1cf3ede56918e7bbd4a440dedd143aeff1c6a6b5cc51ec60d17d508e048f4b"
        );
    }

    #[test]
    fn the_pin_decides_by_exact_name() {
        let models = Models::new(Some("a/b@c1".parse().unwrap()), [record("a/b@c2", 1)]);
        assert!(models.is_mining_model("a/b"));
        for other in ["a/B", "a/b ", "a/b@c1", "x", ""] {
            assert!(!models.is_mining_model(other), "{other:?}");
        }
        assert!(models.mined_record("a/b").is_none(), "another commit is another model");
    }

    #[test]
    fn without_a_pin_registered_names_are_mined() {
        let models = Models::new(None, [record("a/b@zz", 3), record("a/b@aa", 9)]);
        assert_eq!(models.mined_record("a/b").unwrap().id.commit(), "aa");
        assert!(models.is_mining_model("a/b"));
        assert!(!models.is_mining_model("no/such"));
    }

    #[test]
    fn identifiers_normalize_snapshot_folders() {
        let cases = [
            ("/models/hub/models--Qwen--Qwen3-8B/snapshots/c@c", "Qwen/Qwen3-8B@c"),
            ("Qwen/Qwen3-8B@c", "Qwen/Qwen3-8B@c"),
            (" Qwen/Qwen3-8B ", "Qwen/Qwen3-8B"),
            ("models--a--b@c@d", "a/b@d"),
            ("", ""),
        ];
        for (given, expected) in cases {
            assert_eq!(normalize_model_identifier(given), expected, "{given:?}");
        }
    }
}
