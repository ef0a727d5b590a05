//! Label values that are not known when the program is built (models, engines, breakers), kept for
//! ever and few: a label can be copied like any other, and no client can make new ones without end.

use std::borrow::Cow;
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
    keep(&mut NAMES.lock().unwrap_or_else(PoisonError::into_inner), &escape(name))
}

/// A value as it stands between quotes in the text of metrics. The encoder writes values as they are,
/// and a name from a registry or a driver may have anything in it.
#[must_use]
pub fn escape(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n"))
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
    fn a_value_cannot_leave_its_quotes() {
        assert_eq!(escape("org/model"), "org/model");
        assert_eq!(escape("a\"} 1\n# b\\"), r#"a\"} 1\n# b\\"#);
        assert_eq!(label("x\"y"), r#"x\"y"#);
    }

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
