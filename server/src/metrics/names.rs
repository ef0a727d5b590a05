//! Label values that are not known when the program is built (models, engines, breakers), kept for
//! ever and few: a label can be copied like any other, and no client can make new ones without end.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Names beyond these are all `other`.
const MOST: usize = 256;
/// Longer names are `other`.
const LONGEST: usize = 256;
/// The label of a name that has no place.
pub const OTHER: &str = "other";

static NAMES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

/// The label for a name. Only names of the configuration and of the registry may come here.
#[must_use]
pub fn label(name: &str) -> &'static str {
    keep(&mut NAMES.lock().unwrap_or_else(PoisonError::into_inner), name)
}

fn keep(names: &mut HashSet<&'static str>, name: &str) -> &'static str {
    if let Some(known) = names.get(name) {
        return known;
    }
    if names.len() >= MOST || name.len() > LONGEST {
        return OTHER;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_names_are_bounded() {
        let mut names = HashSet::new();
        let first = keep(&mut names, "org/model");
        assert!(std::ptr::eq(first, keep(&mut names, "org/model")));
        assert_eq!(keep(&mut names, &"x".repeat(300)), OTHER);
        for n in 0..1000 {
            let _ = keep(&mut names, &format!("model {n}"));
        }
        assert_eq!(names.len(), MOST);
        assert_eq!(keep(&mut names, "one more"), OTHER);
        assert_eq!(keep(&mut names, "org/model"), "org/model", "what is known stays known");
    }
}
