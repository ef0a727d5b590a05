//! Which models the chain has registered: lists arrive from a [`source::RegistrySource`] (the
//! node's registry service over HTTP, [`rest`]; a broker's pushes), each record is checked
//! ([`record`]), and the index that results replaces the old one as a whole ([`registrar`]). Every
//! list takes that one path, wherever it came from. spec: proxy §13, node §5

pub mod record;
pub mod registrar;
pub mod rest;
mod schedule;
pub mod source;

use crate::mining::model::{ModelId, ModelRecord, Models};
use tensorpow_core::target::{Difficulty, Normalizer};

/// Commit of the local record where none is named.
const LOCAL_COMMIT: &str = "local";

/// What `STANDALONE_MODE` knows without a registry: one record of the operator's own, with the
/// difficulty that leaves targets as they are. For tests without a network; no chain knows it.
/// spec: proxy §13.4
#[must_use]
pub fn local_models(name: &str, commit: &str) -> Models {
    let commit = if commit.trim().is_empty() { LOCAL_COMMIT } else { commit };
    let neutral = i64::try_from(Normalizer::DEFAULT.0).ok();
    let difficulty = neutral.and_then(|neutral| Difficulty::new(neutral).ok());
    let record = ModelId::new(name, commit).zip(difficulty).map(|(id, difficulty)| ModelRecord {
        id,
        difficulty,
        cid: String::new(),
        commit_block_height: 0,
    });
    let pin = record.as_ref().map(|record| record.id.clone());
    Models::new(pin, record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_record_is_pinned_and_neutral() {
        let models = local_models("org/m", "");
        let record = models.mined_record("org/m").unwrap();
        assert_eq!(
            (record.id.to_string().as_str(), record.difficulty.get()),
            ("org/m@local", 1_000_000)
        );
        assert_eq!(local_models(" org/m ", "abc").pin.unwrap().to_string(), "org/m@abc");
        assert!(local_models("", "abc").registry.records().is_empty());
    }
}
