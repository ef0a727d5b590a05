//! API keys: those of the configuration, and those this machine has generated for itself into a
//! file that only its owner can read.

use super::layers::KeyEntry;
use super::sections::Settings;
use super::value::Secret;
use crate::http::auth::{ApiKey, NamedKey, Scope, Scopes};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a file of generated keys holds.
#[derive(serde::Deserialize)]
struct KeysFile {
    key: Vec<KeyEntry>,
}

/// The file of generated keys: `keys.file`, or `keys.toml` in the data folder.
#[must_use]
pub fn path(settings: &Settings, data_dir: &Path) -> PathBuf {
    settings.keys.file.clone().unwrap_or_else(|| data_dir.join("keys.toml"))
}

/// The keys that the configuration names; what is wrong goes to `problems`.
pub(super) fn configured(
    settings: &Settings,
    entries: &[KeyEntry],
    problems: &mut Vec<String>,
) -> Vec<NamedKey> {
    let section = &settings.keys;
    let single: [(&str, &str, &Option<Secret>, Scopes); 4] = [
        ("all", "TENSORPOW_API_KEY, --api-key", &section.all, Scopes::ALL),
        ("inference", "TENSORPOW_INFERENCE_KEY", &section.inference, Scope::Inference.into()),
        ("proof", "TENSORPOW_PROOF_KEY", &section.proof, Scope::Proof.into()),
        ("admin", "TENSORPOW_ADMIN_KEY", &section.admin, Scope::Admin.into()),
    ];
    let mut keys = Vec::new();
    for (name, place, secret, scopes) in single {
        let Some(secret) = secret else { continue };
        match secret.reveal().parse() {
            Ok(key) => keys.push(NamedKey::new(name, key, scopes)),
            Err(error) => problems.push(format!("{place} (keys.{name}): {error}")),
        }
    }
    for entry in entries {
        match read_entry(entry) {
            Ok(key) => keys.push(key),
            Err(problem) => problems.push(problem),
        }
    }
    keys
}

fn read_entry(entry: &KeyEntry) -> Result<NamedKey, String> {
    let place = format!("[[key]] {:?}", entry.name);
    let key: ApiKey = entry.key.parse().map_err(|error| format!("{place}: {error}"))?;
    let mut scopes = Scopes::NONE;
    for scope in &entry.scopes {
        scopes = scopes.and(scope.parse().map_err(|error| format!("{place}: {error}"))?);
    }
    if scopes == Scopes::NONE {
        return Err(format!("{place}: scopes is empty; write inference, proof or admin"));
    }
    Ok(NamedKey::new(&entry.name, key, scopes))
}

/// The keys of a file of generated keys; none when there is no such file.
///
/// # Errors
/// A sentence that names the file.
pub fn read(path: &Path) -> Result<Vec<NamedKey>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    // The parser's own message would show the line, and with it the key.
    let file: KeysFile = toml::from_str(&text)
        .map_err(|_| format!("{} is not a file of [[key]] tables", path.display()))?;
    file.key.iter().map(read_entry).collect()
}

/// Makes one key for each scope and writes them to a new file that only its owner can read.
///
/// # Errors
/// A sentence that names the file.
pub fn generate(path: &Path) -> Result<Vec<NamedKey>, String> {
    let problem = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let mut text = String::from("# API keys of this proxy, one for each scope.\n");
    for scope in Scope::ALL {
        let mut bits = [0; 24];
        getrandom::fill(&mut bits).map_err(|error| format!("no random numbers: {error}"))?;
        let key = format!("tp-{}", hex::encode(bits));
        let name = scope.as_str();
        text.push_str(&format!(
            "\n[[key]]\nname = \"{name}\"\nscopes = [\"{name}\"]\nkey = \"{key}\"\n"
        ));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(problem)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(problem)?;
    read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/keys.toml");
        assert_eq!(read(&path).unwrap().len(), 0);
        let keys = generate(&path).unwrap();
        assert_eq!(keys.len(), 3);
        assert!(generate(&path).is_err(), "never overwritten");
        assert_eq!(read(&path).unwrap().len(), 3);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(&path, "key = \"tp-secret\"").unwrap();
        let error = read(&path).unwrap_err();
        assert!(!error.contains("tp-secret"), "{error}");
    }
}
