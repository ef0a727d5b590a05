//! The environment as the network's other programs read it: destinations, refusals and warnings,
//! and the published `egress_config` cases where their file is at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test helper does

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use tensorpow_engine::settings::{
    AdmissionMode, AdmissionSettings, EgressMode, Endpoint, Settings, SettingsError,
};

fn read<const N: usize>(variables: [(&str, &str); N]) -> Result<Settings, SettingsError> {
    read_map(&variables.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}

fn read_map(variables: &BTreeMap<String, String>) -> Result<Settings, SettingsError> {
    Settings::from_lookup(&|name| variables.get(name).map(OsString::from))
}

#[test]
fn an_empty_environment_mines_for_the_node_next_door() {
    let settings = read([]).unwrap();
    assert_eq!(settings.egress.mode, EgressMode::LocalMiner);
    assert_eq!(settings.egress.primary.to_string(), "tcp://localhost:7000");
    assert_eq!(settings.egress.proxy, None);
    assert_eq!(settings.egress.high_water_mark, 1000);
    assert_eq!(settings.proof_version, None);
    assert_eq!(settings.save_dir, None);
    assert_eq!(settings.proof_queue, 100);
    assert_eq!((settings.max_sequences, settings.window_queue), (None, None));
    assert!(settings.warnings.is_empty());
}

/// Variables that refuse the start, the one the message must name, words it must hold.
type RefusalCase = (&'static [(&'static str, &'static str)], &'static str, &'static str);

#[test]
fn a_value_that_cannot_be_honoured_refuses_by_name() {
    let cases: &[RefusalCase] = &[
        (&[("POW_EGRESS_MODE", "Broker")], "POW_EGRESS_MODE", "local_miner or broker"),
        (&[("POW_EGRESS_MODE", "")], "POW_EGRESS_MODE", "local_miner or broker"),
        (&[("POW_EGRESS_MODE", " broker")], "POW_EGRESS_MODE", "local_miner or broker"),
        (
            &[("POW_EGRESS_MODE", "broker"), ("POW_PROXY_ENABLE", "True")],
            "POW_PROXY_ENABLE",
            "already the only destination",
        ),
        (
            &[("POW_EGRESS_MODE", "broker"), ("ZMQ_PUSH_HOST", "my-CORE-node.svc")],
            "ZMQ_PUSH_HOST",
            "my-CORE-node.svc",
        ),
        (&[("ZMQ_PUSH_HOST", "")], "ZMQ_PUSH_HOST", "empty"),
        (&[("ZMQ_PUSH_HOST", "  ")], "ZMQ_PUSH_HOST", "empty"),
        (&[("ZMQ_PUSH_HOST", "two words")], "ZMQ_PUSH_HOST", "' '"),
        (&[("ZMQ_PUSH_HOST", "127.0.0.1:7000")], "ZMQ_PUSH_HOST", "':'"),
        (&[("ZMQ_PUSH_HOST", "tcp://node")], "ZMQ_PUSH_HOST", "':'"),
        (&[("ZMQ_PUSH_PORT", "70x")], "ZMQ_PUSH_PORT", "70x"),
        (&[("ZMQ_PUSH_PORT", "")], "ZMQ_PUSH_PORT", "1 to 65535"),
        (&[("ZMQ_PUSH_PORT", "0")], "ZMQ_PUSH_PORT", "1 to 65535"),
        (&[("ZMQ_PUSH_PORT", "65536")], "ZMQ_PUSH_PORT", "65536"),
        (&[("ZMQ_PUSH_PORT", "+7000")], "ZMQ_PUSH_PORT", "+7000"),
        (
            &[("POW_PROXY_ENABLE", "1"), ("POW_PROXY_PUSH_PORT", "x")],
            "POW_PROXY_PUSH_PORT",
            "not a port",
        ),
        (&[("POW_PROOF_VERSION", "4")], "POW_PROOF_VERSION", "1, 2 or 3"),
        (&[("POW_V3_ADMISSION_MODE", "")], "POW_V3_ADMISSION_MODE", "off or always"),
        (&[("POW_V3_ADMISSION_MODE", "on")], "POW_V3_ADMISSION_MODE", "off or always"),
        (&[("TENSORPOW_MAX_SEQUENCES", "0")], "TENSORPOW_MAX_SEQUENCES", "1 to 1048576"),
        (&[("TENSORPOW_WINDOW_QUEUE", "-1")], "TENSORPOW_WINDOW_QUEUE", "-1"),
        (&[("TENSORPOW_PROOF_QUEUE", "many")], "TENSORPOW_PROOF_QUEUE", "many"),
    ];
    for (variables, name, words) in cases {
        let map = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let error = read_map(&map).expect_err(&format!("{variables:?} must be refused"));
        assert_eq!(error.variable, *name, "{variables:?}");
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(words), "{variables:?}: {message}");
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_are_no_text_are_refused_but_make_a_fine_folder() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = OsString::from_vec(vec![b'/', 0xff]);
    let read = |variable| {
        let bytes = bytes.clone();
        Settings::from_lookup(&move |name| (name == variable).then(|| bytes.clone()))
    };
    assert_eq!(read("ZMQ_PUSH_HOST").unwrap_err().variable, "ZMQ_PUSH_HOST");
    assert_eq!(read("PROOF_SAVE_DIR").unwrap().save_dir, Some(PathBuf::from(bytes.clone())));
}

#[test]
fn files_are_written_iff_a_folder_or_the_switch_asks_for_them() {
    let folder = |settings: Settings| settings.save_dir;
    assert_eq!(folder(read([("PROOF_SAVE_DIR", "/p")]).unwrap()), Some("/p".into()));
    assert_eq!(folder(read([("PROOF_SAVE_DIR", "")]).unwrap()), None);
    let on = ("POW_SAVE_TO_DISK", "true");
    assert_eq!(folder(read([on]).unwrap()), Some("/data/pow_proofs".into()));
    assert_eq!(folder(read([on, ("PROOF_SAVE_DIR", "/p")]).unwrap()), Some("/p".into()));
    assert_eq!(folder(read([("POW_SAVE_TO_DISK", "0")]).unwrap()), None);
}

#[test]
fn what_only_looks_true_is_false_with_a_warning() {
    for word in ["TRUE", "yes", "on", " 1"] {
        let settings = read([("POW_PROXY_ENABLE", word)]).unwrap();
        assert_eq!(settings.egress.proxy, None);
        assert_eq!(settings.warnings.len(), 1, "{word}");
        assert!(settings.warnings[0].contains("POW_PROXY_ENABLE"), "{}", settings.warnings[0]);
    }
    for word in ["0", "false", "", "no"] {
        assert!(read([("POW_PROXY_ENABLE", word)]).unwrap().warnings.is_empty(), "{word}");
    }
}

#[test]
fn own_settings_are_trimmed_and_empty_ones_unset() {
    let settings = read([
        ("POW_PROOF_VERSION", " 3 "),
        ("TENSORPOW_MODEL_IDENTIFIER", " name@commit "),
        ("TENSORPOW_COMPUTE_PRECISION", ""),
        ("TENSORPOW_MAX_SEQUENCES", "8"),
        ("POW_V3_ADMISSION_MODE", " OFF "),
    ])
    .unwrap();
    assert_eq!(settings.proof_version, Some(3));
    assert_eq!(settings.model_identifier.as_deref(), Some("name@commit"));
    assert_eq!(settings.compute_precision, None);
    assert_eq!((settings.max_sequences, settings.window_queue), (Some(8), None));
    assert_eq!(read([("POW_PROOF_VERSION", "")]).unwrap().proof_version, None);
}

#[test]
fn admission_is_off_unless_always_and_its_numbers_have_defaults() {
    let admission = |variables: &[(&str, &str)]| {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let settings = read_map(&variables.iter().map(owned).collect()).unwrap();
        (settings.admission, settings.warnings.len())
    };
    let off = AdmissionSettings { mode: AdmissionMode::Off, max_tries_factor: 16, threads: None };
    assert_eq!(admission(&[]), (off, 0));
    let always = AdmissionSettings { mode: AdmissionMode::Always, ..off };
    assert_eq!(admission(&[("POW_V3_ADMISSION_MODE", " Always\n")]), (always, 0));
    let factor = |text| admission(&[("POW_V3_GRIND_MAX_TRIES_FACTOR", text)]);
    assert_eq!(factor("3"), (AdmissionSettings { max_tries_factor: 3, ..off }, 0));
    assert_eq!(factor("-3"), (AdmissionSettings { max_tries_factor: 1, ..off }, 0));
    assert_eq!(factor("many"), (off, 1));
    let threads = |text| admission(&[("POW_V3_GRIND_THREADS", text)]);
    assert_eq!(threads("4"), (AdmissionSettings { threads: Some(4), ..off }, 0));
    assert_eq!(threads("0"), (AdmissionSettings { threads: Some(1), ..off }, 0));
    assert_eq!(threads("1.5"), (off, 1));
    assert_eq!(admission(&[("POW_V3_ADMISSION_DEV_CRASH", "1")]), (off, 1));
    let mode = ("POW_V3_ADMISSION_MODE", "always");
    assert_eq!(admission(&[mode, ("POW_PROOF_VERSION", "2")]), (always, 1));
    assert_eq!(admission(&[mode, ("POW_PROOF_VERSION", "3")]), (always, 0));
}

#[test]
fn an_ipv6_address_gets_its_brackets() {
    let url = |host| read([("ZMQ_PUSH_HOST", host)]).unwrap().egress.primary.to_string();
    assert_eq!(url("::1"), "tcp://[::1]:7000");
    assert_eq!(url("[::1]"), "tcp://[::1]:7000");
    assert_eq!(url("fe80::1%eth0"), "tcp://[fe80::1%eth0]:7000");
    assert_eq!(url(" node.example "), "tcp://node.example:7000");
}

/// Folders with published vectors: those of `TENSORPOW_VECTORS`, else the one beside the checkout.
fn vector_folders() -> Vec<PathBuf> {
    match std::env::var_os("TENSORPOW_VECTORS") {
        Some(folders) => std::env::split_paths(&folders).collect(),
        None => vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors")],
    }
}

#[test]
fn the_published_egress_cases_hold() {
    let files = vector_folders().into_iter().map(|folder| folder.join("frames.json"));
    let present: Vec<_> = files.filter(|file| file.exists()).collect();
    if present.is_empty() {
        println!("skipped: no frames.json; name its folder in TENSORPOW_VECTORS");
    }
    for file in present {
        let text = std::fs::read_to_string(&file).unwrap();
        let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = vectors["egress_config"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let variables = case["env"].as_object().unwrap().iter();
            let value = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
            let variables = variables.map(|(name, v)| (name.clone(), value(v))).collect();
            check_published(&variables, &case["python"]);
        }
        println!("{}: {} cases", file.display(), cases.len());
    }
}

fn check_published(variables: &BTreeMap<String, String>, expected: &serde_json::Value) {
    let empty_host = variables.get("ZMQ_PUSH_HOST").is_some_and(String::is_empty);
    match read_map(variables) {
        Ok(settings) => {
            let endpoint = |e: &Endpoint| serde_json::json!([e.host.clone(), e.port]);
            let found = serde_json::json!({
                "mode": settings.egress.mode.as_str(),
                "primary": endpoint(&settings.egress.primary),
                "proxy": settings.egress.proxy.as_ref().map(endpoint),
            });
            assert_eq!(&found, expected, "{variables:?}");
        }
        // The specification lets an empty host be refused.
        Err(_) if empty_host => {}
        Err(error) => assert!(expected.get("error").is_some(), "{variables:?}: {error}"),
    }
}
