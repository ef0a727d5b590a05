//! Finds the example files and reads the JSON values in them. The accessors panic with the key's
//! name when an example has another shape than the specification says: that is a broken file, and
//! the run must stop loudly.

use crate::report::Report;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files every place is searched for, plain or gzipped.
pub const FILES: [&str; 2] = ["proxy-examples.json", "frames.json"];

/// Every example file of `TENSORPOW_VECTORS`, by default the project's own, with its place and name.
pub fn all(report: &mut Report) -> Vec<(PathBuf, &'static str, Value)> {
    let mut found = Vec::new();
    for place in places() {
        for file in FILES {
            match load(&place, file) {
                Ok(Some(examples)) => found.push((place.clone(), file, examples)),
                Ok(None) => {}
                Err(why) => report.broken(&place, file, &why),
            }
        }
    }
    if found.is_empty() {
        report.nothing(Path::new("TENSORPOW_VECTORS"));
    }
    found
}

fn places() -> Vec<PathBuf> {
    match std::env::var_os("TENSORPOW_VECTORS") {
        Some(list) if !list.is_empty() => {
            std::env::split_paths(&list).filter(|place| !place.as_os_str().is_empty()).collect()
        }
        _ => vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/examples"))],
    }
}

/// The examples of one place; `None` when it has none (other runners' folders may be listed too).
fn load(place: &Path, file: &str) -> Result<Option<Value>, String> {
    let beside = place.parent().unwrap_or(place).join("spec");
    let folders = [place.to_path_buf(), place.join("spec"), beside];
    let packed = format!("{file}.gz");
    let named = place.file_name().is_some_and(|name| name == file || *name == *packed);
    let mut candidates: Vec<_> = named.then(|| place.to_path_buf()).into_iter().collect();
    for folder in folders {
        candidates.push(folder.join(file));
        candidates.push(folder.join(&packed));
    }
    let Some(path) = candidates.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let raw = std::fs::read(&path).map_err(|error| error.to_string())?;
    let text = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&*raw)
            .read_to_end(&mut text)
            .map_err(|error| error.to_string())?;
        text
    } else {
        raw
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string())
}

/// Member `key`, which must exist.
pub fn get<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or_else(|| panic!("no member {key:?} in {:.200}", value.to_string()))
}

/// A value as a list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {:.200}", value.to_string()))
}

/// Member `key` as a string.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    get(value, key).as_str().unwrap_or_else(|| panic!("{key} is no string"))
}

/// Member `key` as an unsigned integer.
pub fn uint(value: &Value, key: &str) -> u64 {
    get(value, key).as_u64().unwrap_or_else(|| panic!("{key} is no unsigned integer"))
}

/// A hex string as bytes.
pub fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_else(|error| panic!("{text:.40}: {error}"))
}

/// A hex string of exactly `N` bytes.
pub fn array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text).try_into().unwrap_or_else(|_| panic!("{text:.40} has not {N} bytes"))
}

/// An object of strings, as the environment of a case is written.
pub fn environment(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("no environment: {:.200}", value.to_string()))
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// A JSON text as a value.
pub fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text:.200}: {error}"))
}
