//! The models a chain has registered, as an index that is built aside and swapped as a whole, and
//! the lookups that decide which record a name means. Where the records come from is the business
//! of [`crate::registry`]. spec: proxy §12.2, §13.3

use super::model::ModelRecord;
use std::collections::HashMap;
use std::fmt;

/// Digits of a commit that error messages show. spec: proxy §13.3
const SHOWN_COMMIT: usize = 12;

/// A name stands for several registered commits and none was named. spec: proxy §13.3
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmbiguousName {
    name: String,
    commits: Vec<String>,
}

impl fmt::Display for AmbiguousName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, commits } = self;
        write!(f, "model name '{name}' is ambiguous on chain ({} commits: [", commits.len())?;
        for (index, commit) in commits.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}'{commit}'")?;
        }
        f.write_str("]); pin MODEL_COMMIT or call get_model_by_name_and_commit")
    }
}

impl std::error::Error for AmbiguousName {}

/// Registered models in the order they were listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    records: Vec<ModelRecord>,
    by_name: HashMap<String, Vec<usize>>,
}

impl FromIterator<ModelRecord> for Registry {
    /// Of two records with one name and commit the first counts.
    fn from_iter<I: IntoIterator<Item = ModelRecord>>(records: I) -> Self {
        let mut registry = Self::default();
        for record in records {
            if registry.position(record.id.name(), record.id.commit()).is_none() {
                let name = record.id.name().to_owned();
                registry.by_name.entry(name).or_default().push(registry.records.len());
                registry.records.push(record);
            }
        }
        registry
    }
}

impl Registry {
    /// All records.
    #[must_use]
    pub fn records(&self) -> &[ModelRecord] {
        &self.records
    }

    /// True when some commit of the name is registered.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The record with this name and commit, both compared exactly after trimming.
    /// spec: proxy §13.3
    #[must_use]
    pub fn by_name_and_commit(&self, name: &str, commit: &str) -> Option<&ModelRecord> {
        self.records.get(self.position(name.trim(), commit.trim())?)
    }

    /// The only record of a name. spec: proxy §13.3
    ///
    /// # Errors
    /// [`AmbiguousName`] when several commits are registered.
    pub fn by_name(&self, name: &str) -> Result<Option<&ModelRecord>, AmbiguousName> {
        let records: Vec<_> = self.of_name(name).collect();
        if records.len() < 2 {
            return Ok(records.first().copied());
        }
        let mut commits: Vec<String> = records
            .iter()
            .map(|record| record.id.commit().chars().take(SHOWN_COMMIT).collect())
            .collect();
        commits.sort();
        Err(AmbiguousName { name: name.to_owned(), commits })
    }

    /// The record a name means where nothing is pinned: of several commits the one registered last,
    /// then the greatest commit. spec: proxy §12.2
    #[must_use]
    pub fn auto_select(&self, name: &str) -> Option<&ModelRecord> {
        self.records.get(self.auto_select_position(name)?)
    }

    /// Where [`Self::auto_select`]'s record is.
    pub(super) fn auto_select_position(&self, name: &str) -> Option<usize> {
        let key = |at: usize| {
            let record = self.records.get(at);
            record.map(|record| (record.commit_block_height, record.id.commit()))
        };
        self.by_name.get(name)?.iter().copied().max_by_key(|&at| key(at))
    }

    fn of_name(&self, name: &str) -> impl Iterator<Item = &ModelRecord> {
        let positions = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        positions.iter().filter_map(|&at| self.records.get(at))
    }

    /// Where the record with this name and commit is.
    pub(super) fn position(&self, name: &str, commit: &str) -> Option<usize> {
        let positions = self.by_name.get(name)?;
        let has_commit =
            |at| self.records.get(at).is_some_and(|r: &ModelRecord| r.id.commit() == commit);
        positions.iter().copied().find(|&at| has_commit(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensorpow_core::target::Difficulty;

    fn registry(models: &[(&str, u64)]) -> Registry {
        let record = |&(id, height): &(&str, u64)| ModelRecord {
            id: id.parse().unwrap(),
            difficulty: Difficulty::new(1_000_000).unwrap(),
            cid: String::new(),
            commit_block_height: height,
        };
        models.iter().map(record).collect()
    }

    #[test]
    fn a_name_with_several_commits_is_ambiguous() {
        let registry = registry(&[("a/b@zzzzzzzzzzzzzz", 3), ("a/b@aa", 9), ("c/d@x", 1)]);
        assert_eq!(registry.by_name("no/such"), Ok(None));
        assert_eq!(registry.by_name("c/d").unwrap().unwrap().id.commit(), "x");
        assert_eq!(
            registry.by_name("a/b").unwrap_err().to_string(),
            "model name 'a/b' is ambiguous on chain (2 commits: ['aa', 'zzzzzzzzzzzz']); \
             pin MODEL_COMMIT or call get_model_by_name_and_commit"
        );
        assert!(registry.by_name_and_commit(" a/b", "aa ").is_some(), "trimmed");
        assert!(registry.by_name_and_commit("a/b", "a").is_none(), "no prefixes");
    }

    #[test]
    fn the_commit_registered_last_is_selected() {
        let registry = registry(&[("a/b@zz", 3), ("a/b@aa", 9), ("a/b@ab", 9)]);
        assert_eq!(registry.auto_select("a/b").unwrap().id.commit(), "ab");
        assert_eq!(registry.auto_select("A/b"), None);
    }

    #[test]
    fn the_first_of_two_equal_records_counts() {
        let registry = registry(&[("a/b@c", 1), ("a/b@c", 2)]);
        assert_eq!(registry.records().len(), 1);
        assert_eq!(registry.auto_select("a/b").unwrap().commit_block_height, 1);
    }
}
