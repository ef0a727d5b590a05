//! The configuration as a whole: which layer wins, what is refused and how it is said.

use super::command::{reference, shown};
use super::layers::{FileText, Layers};
use super::*;
use crate::http::auth::Scope;
use crate::mining::payload::EngineKind;

fn layers(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Layers {
    let owned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    Layers {
        command: Vec::new(),
        file: Some(FileText { path: "c.toml".into(), text: file.to_owned() }),
        file_path: None,
        environment: owned(environment),
        flags: owned(flags),
    }
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::load(&layers(text, &[], &[]))
}

fn from_environment(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&layers("", environment, &[]))
}

#[test]
fn later_layers_win() {
    let file = "[backfill]\nmin_active = 1\nmonitor_interval = 2.5\n[engine]\nurl = \"http://f:1\"";
    let env = [("MIN_ACTIVE_REQUESTS", "2"), ("TARGET_URL", "http://e:2")];
    let config = Config::load(&layers(file, &env, &[("engine.url", "http://g:3")])).unwrap();
    assert_eq!(config.engine.url.to_string(), "http://g:3");
    assert_eq!(config.settings.backfill.min_active, 2);
    assert_eq!(config.settings.backfill.monitor_interval.as_secs_f64(), 2.5);
    assert_eq!(config.settings.backfill.retry_attempts, 10, "the default");
}

#[test]
fn host_and_port_of_the_guide_and_an_address_of_ours() {
    let listen = |env: &[(&str, &str)], flags: &[(&str, &str)]| {
        let mut layers = layers("[keys]\nall = \"k\"", env, flags);
        layers.command.push(("http.listen", "127.0.0.1:1".to_owned()));
        Config::load(&layers).map(|config| config.listen.to_string())
    };
    assert_eq!(listen(&[], &[]).unwrap(), "127.0.0.1:1");
    assert_eq!(listen(&[("HTTP_PORT", "8030")], &[]).unwrap(), "127.0.0.1:8030");
    assert_eq!(listen(&[("HTTP_HOST", "0.0.0.0")], &[]).unwrap(), "0.0.0.0:8080");
    let both = [("HTTP_PORT", "1"), ("TENSORPOW_LISTEN", "[::1]:2")];
    assert_eq!(listen(&both, &[]).unwrap(), "[::1]:2");
    assert_eq!(listen(&both, &[("http.listen", "localhost:3")]).unwrap(), "127.0.0.1:3");
    assert!(listen(&[("HTTP_HOST", "example.com")], &[]).is_err());
}

#[test]
fn every_problem_is_named_with_its_place_and_the_fix() {
    let mut layers = layers(
        "nonsense = 1\n[http]\nlisten = \"x\"\nprot = 1\n[[key]]\nname = \"a\"\nkey = \"sesame\"",
        &[("VDF_CHECKPOINT_SIZE", "many"), ("API_KEY", "two words"), ("PRIORITY_MODE", "maybe")],
        &[("backfill.min_actve", "1")],
    );
    let error = Config::load(&layers).unwrap_err().to_string();
    for part in [
        "c.toml: \"nonsense\" stands outside a section",
        "c.toml (http.listen): \"x\" is not address:port",
        "there is no setting \"http.prot\"; did you mean http.port?",
        "there is no setting \"backfill.min_actve\"; did you mean backfill.min_active?",
        "$VDF_CHECKPOINT_SIZE (vdf.checkpoint_size): \"many\" is not a whole number",
        "$PRIORITY_MODE (backfill.priority): \"maybe\" is not true or false",
        "a [[key]] table has name, key and scopes",
    ] {
        assert!(error.contains(part), "{part}\n--\n{error}");
    }
    assert!(!error.contains("sesame"), "{error}");
    layers.file = None;
    layers.flags.clear();
    layers.environment.retain(|(name, _)| name == "API_KEY");
    let error = Config::load(&layers).unwrap_err().to_string();
    assert!(error.contains("API_KEY") && !error.contains("two words"), "{error}");
}

#[test]
fn a_public_bind_needs_a_key() {
    let error = from_environment(&[("HTTP_HOST", "0.0.0.0")]).unwrap_err().to_string();
    assert!(error.contains("TENSORPOW_API_KEY") && error.contains("config keys"), "{error}");
    let empty = from_environment(&[("HTTP_HOST", "0.0.0.0"), ("TENSORPOW_API_KEY", "")]);
    assert!(empty.is_err(), "empty is no key");
    let admin = from_environment(&[("HTTP_HOST", "0.0.0.0"), ("TENSORPOW_ADMIN_KEY", "k")]);
    assert!(admin.is_err(), "a key that opens nothing to users is not enough");
    let key = from_environment(&[("HTTP_HOST", "::"), ("TENSORPOW_API_KEY", "k")]).unwrap();
    assert!(!key.access.is_open() && key.access.has_key_for(Scope::Admin));
    assert!(from_environment(&[]).unwrap().access.is_open());
}

#[test]
fn keys_with_scopes_stand_in_the_file() {
    let config =
        from_file("[[key]]\nname = \"ci\"\nkey = \"s3cret\"\nscopes = [\"inference\", \"proof\"]")
            .unwrap();
    assert!(!config.access.is_open(), "a key for the OpenAI routes closes them");
    assert!(config.access.has_key_for(Scope::Proof) && !config.access.has_key_for(Scope::Admin));
    let bad = "[[key]]\nname = \"ci\"\nkey = \"s3cret\"\nscopes = [\"root\"]";
    let error = from_file(bad).unwrap_err().to_string();
    assert!(error.contains("\"root\" is no scope") && !error.contains("s3cret"), "{error}");
}

#[test]
fn keys_are_generated_once_and_open_what_changes_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let load = || Config::load(&layers("", &[], &[("data.dir", dir)])).unwrap();
    let mut config = load();
    assert!(!config.access.has_key_for(Scope::Admin));
    config.generate_missing_keys().unwrap();
    assert!(config.access.has_key_for(Scope::Admin) && config.access.is_open());
    let again = load();
    assert!(again.access.has_key_for(Scope::Admin) && again.access.is_open());
    let public = layers("", &[], &[("data.dir", dir), ("http.listen", "0.0.0.0:1")]);
    assert!(!Config::load(&public).unwrap().access.is_open());
}

#[test]
fn the_guides_environments_work() {
    // The broker worker's .env, the sovereign stack, a second engine, the image's own values.
    let worker = [
        ("WORKER_MODE", "broker"),
        ("BROKER_WS_URL", "wss://broker.example/v1/ws"),
        ("PROVIDER_JWT_TOKEN", "eyJhbGciOi"),
        ("HTTP_HOST", "127.0.0.1"),
        ("HTTP_PORT", "8080"),
        ("MODEL_NAME", "Qwen/Qwen3-8B"),
        ("MODEL_COMMIT", "9c925d64d72725edaf899c6cb9c377fd0709d9c5"),
        ("MAX_MODEL_LEN", "8192"),
        ("GPU_MEM_UTIL", "0.9"),
        ("COMPUTE_TYPE", "nvidia-8.9"),
        ("GPU_MODEL", "RTX-4090"),
        ("GPU_MEMORY_GB", "24"),
        ("WORKER_CAPACITY", "4"),
        ("CUDA_VERSION", "12.8.0"),
        ("VLLM_VERSION", "0.10.0"),
        ("API_KEY", "internal-secret"),
        ("STANDALONE_MODE", "true"),
        ("BATCH_SIZE", "32"),
        ("VLLM_ENABLE_RESPONSES_API_STORE", "1"),
        ("POW_PROOF_VERSION", "3"),
        ("TARGET_URL", "http://127.0.0.1:8000"),
        ("MINING_STALE_THRESHOLD_SECONDS", "60"),
        ("POW_EGRESS_MODE", "broker"),
        ("ZMQ_PUSH_PORT", "7002"),
        ("HF_TOKEN", ""),
    ];
    let config = from_environment(&worker).unwrap();
    assert_eq!(config.mode, WorkerMode::Broker { mining: true, registry_pushed: true });
    assert_eq!(config.engine.dialect.key.as_str(), "vllm_xargs");
    assert_eq!(config.proof_version, 3);
    let pin = config.pin.unwrap();
    assert_eq!(pin.name(), "Qwen/Qwen3-8B");
    assert_eq!(config.warnings, Vec::<String>::new());
    assert!(config.access.is_open() && config.access.has_key_for(Scope::Admin));

    let stack = [
        ("API_KEY", "change-me"),
        ("MODEL_API_KEY", "change-me"),
        ("RPC_USER", "user1"),
        ("RPC_PASS", "pass1"),
        ("WORKER_MODE", "standalone"),
        ("CHAIN_NAME", "tensor-test"),
        ("NODE_START_FLAGS", "--desktop"),
        ("TEST_MODE", "false"),
        ("GENESIS_GENERATOR", "0"),
        ("LLAMA_CPP", "False"),
    ];
    let config = from_environment(&stack).unwrap();
    assert_eq!((config.mode, config.proof_version), (WorkerMode::Standalone, 2));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);

    let dual = [
        ("MINING_VLLM_ENABLED", "true"),
        ("MINING_MODEL_COMMIT", "9c92"),
        ("MINING_VLLM_PORT", "8001"),
        ("MINING_MAX_MODEL_LEN", "8192"),
    ];
    let config = from_environment(&dual).unwrap();
    assert_eq!(config.engine.routes.len(), 1);
    assert_eq!(config.engine.routes[0].url.to_string(), "http://127.0.0.1:8001");
    assert_eq!(config.pin.unwrap().to_string(), "Qwen/Qwen3-8B@9c92");
    assert!(from_environment(&dual[..1]).is_err(), "the commit is required");
}

#[test]
fn an_engine_of_its_own_kind_serves_one_model() {
    let text = "[engine]\nkind = \"vllm\"\nroutes = [\"a/b=http://h:1\"]\n\
        [[route]]\nmodel = \"a/b\"\nurl = \"http://h:2\"\nkind = \"llama.cpp\"";
    let config = from_file(text).unwrap();
    assert_eq!(config.engine.routes.len(), 1, "the table goes before the list");
    let route = &config.engine.routes[0];
    assert_eq!(route.url.to_string(), "http://h:2");
    assert_eq!(route.dialect, Some(EngineKind::LlamaCpp.into()));
    for bad in [
        "[[route]]\nmodel = \"a\"",
        "[[route]]\nmodel = \"a\"\nurl = \"h:2\"",
        "[[route]]\nmodel = \"a\"\nurl = \"http://h\"\nkind = \"x\"",
    ] {
        assert!(from_file(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_shown_holds_no_secret() {
    let secret = "sesame-1";
    let layers = layers(
        "[[key]]\nname = \"ci\"\nkey = \"sesame-2\"\nscopes = [\"proof\"]\n[registry]\napi_key = \"sesame-3\"",
        &[("API_KEY", secret), ("TENSORPOW_API_KEY", "sesame-4"), ("HTTP_PORT", "81")],
        &[],
    );
    let text = shown(&layers, false).unwrap();
    assert!(!text.contains("sesame"), "{text}");
    assert!(text.contains("port = \"81\"  # $HTTP_PORT"), "{text}");
    assert!(text.contains("api_key = \"(hidden)\"  # $API_KEY"), "{text}");
    assert!(!format!("{:?}", Config::load(&layers).unwrap()).contains("sesame"));
}

#[test]
fn the_documentation_is_the_code() {
    let docs = include_str!("../../../docs/configuration.md");
    for section in reference().split("\n\n### ") {
        assert!(
            docs.contains(section.trim()),
            "docs/configuration.md is not what `tensorpow config reference` prints, from here on:\n{section}"
        );
    }
}

#[test]
fn a_worker_is_started_drained_by_any_word_for_no() {
    for (text, unready) in [("0", true), ("false", true), ("No", true), ("1", false), ("", false)] {
        let config = from_environment(&[("READY", text)]).unwrap();
        assert_eq!((config.drain.unready, config.heartbeat), (unready, None), "{text:?}");
        assert_eq!(config.warnings, Vec::<String>::new());
    }
    let error = from_environment(&[("READY", "soon")]).unwrap_err().to_string();
    assert!(error.contains("$READY (drain.ready): \"soon\" is not true or false"), "{error}");
    let files = [("TENSORPOW_DRAIN_FILE", "/run/n"), ("TENSORPOW_HEARTBEAT_FILE", "/run/h")];
    let config = from_environment(&files).unwrap();
    assert_eq!(config.drain.file, Some("/run/n".into()));
    let heartbeat = config.heartbeat.unwrap();
    assert_eq!((heartbeat.file, heartbeat.every.as_secs()), ("/run/h".into(), 5));
}

#[test]
fn no_two_settings_share_a_key_or_a_flag() {
    let mut seen = std::collections::HashSet::new();
    for setting in Settings::all() {
        assert!(seen.insert(setting.key), "{}", setting.key);
        if let Some(flag) = setting.flag {
            assert!(seen.insert(flag), "--{flag}");
        }
    }
}
