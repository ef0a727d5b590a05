//! Finds vector files and reads the JSON values in them. The accessors panic with the key's name
//! when a vector has another shape than its documentation says: that is a broken vector file, and
//! the run must stop loudly.

use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folders of `TENSORPOW_VECTORS`, by default the project's own.
pub fn folders() -> Vec<PathBuf> {
    match std::env::var_os("TENSORPOW_VECTORS") {
        Some(list) if !list.is_empty() => {
            std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()).collect()
        }
        _ => vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))],
    }
}

/// Reads `folder/file` or `folder/file.gz`; `None` when neither exists.
pub fn load(folder: &Path, file: &str) -> Result<Option<Value>, String> {
    let plain = folder.join(file);
    let packed = folder.join(format!("{file}.gz"));
    let text = if plain.exists() {
        std::fs::read(&plain).map_err(|e| e.to_string())?
    } else if packed.exists() {
        let mut text = Vec::new();
        let raw = std::fs::File::open(&packed).map_err(|e| e.to_string())?;
        flate2::read::GzDecoder::new(raw).read_to_end(&mut text).map_err(|e| e.to_string())?;
        text
    } else {
        return Ok(None);
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| e.to_string())
}

/// Member `key`, which must exist.
pub fn get<'a>(v: &'a Value, key: &str) -> &'a Value {
    v.get(key).unwrap_or_else(|| panic!("no member {key:?} in {:.200}", v.to_string()))
}

/// Member `key` as a list.
pub fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    get(v, key).as_array().unwrap_or_else(|| panic!("{key} is no list"))
}

/// Member `key` as a string.
pub fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    get(v, key).as_str().unwrap_or_else(|| panic!("{key} is no string"))
}

/// Member `key` as a boolean.
pub fn flag(v: &Value, key: &str) -> bool {
    get(v, key).as_bool().unwrap_or_else(|| panic!("{key} is no boolean"))
}

/// Member `key` as an unsigned integer.
pub fn uint(v: &Value, key: &str) -> u64 {
    get(v, key).as_u64().unwrap_or_else(|| panic!("{key} is no unsigned integer"))
}

/// A hex string of any length.
pub fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_else(|e| panic!("{text:.40}: {e}"))
}

/// Member `key` as bytes.
pub fn bytes(v: &Value, key: &str) -> Vec<u8> {
    unhex(text(v, key))
}

/// A hex string of exactly `N` bytes.
pub fn array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text).try_into().unwrap_or_else(|_| panic!("{text:.40} has not {N} bytes"))
}

/// An 8-digit hex pattern as f32 bits.
pub fn bits32(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap_or_else(|e| panic!("{text}: {e}"))
}
