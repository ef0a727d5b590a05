//! The real `openai` Python client through the proxy: what it does with an engine it must do
//! unchanged with the proxy in front, mined or not, with a key or without. The client is installed
//! once into a virtual environment in the cache folder; without Python or the package index the test
//! is skipped, with the reason printed.

// Without the libtest harness Clippy does not see that this is a test.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

use mock_engine::{MockEngine, Settings};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use tensorpow_core::target::{CompactTarget, Target};
use tensorpow_server::config::layers::Layers;
use tensorpow_server::config::{Config, DevnetArgs, ShareTarget};
use tensorpow_server::link::Link;
use tensorpow_server::service::Service;
use tokio::net::TcpListener;

/// The version that is tested.
const CLIENT: &str = "openai==3.54.0";
const MODEL: &str = "org/tiny@0123456789abcdef0123456789abcdef01234567";

fn main() -> ExitCode {
    let python = match client() {
        Ok(python) => python,
        Err(why) => {
            println!("SKIPPED: the openai client: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let passed = runtime.block_on(async {
        let open = proxy(&[]).await;
        let guarded = proxy(&[("keys.all", "sk-ours"), ("engine.api_key", "sk-engine")]).await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openai_client/client.py");
        let mut command = tokio::process::Command::new(python);
        command.arg("-B").arg(script).arg(&open).arg(&guarded).arg("sk-ours");
        // Whatever proxy the machine uses, this machine is reached directly.
        command.env("NO_PROXY", "*").env_remove("OPENAI_API_KEY");
        let status = command.status();
        tokio::time::timeout(Duration::from_secs(120), status).await.expect("in time").unwrap()
    });
    println!("openai client: {}", if passed.success() { "passed" } else { "FAILED" });
    if passed.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A proxy on a development chain before an engine of its own; its URL.
async fn proxy(flags: &[(&str, &str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = MockEngine::start(listener, Settings::default()).unwrap();
    let url = format!("http://{}", engine.address);
    let fixed = [
        ("http.listen", "127.0.0.1:0"),
        ("proofs.collector", "127.0.0.1:0"),
        ("engine.url", &url),
        ("engine.kind", "vllm"),
        ("data.dir", "none"),
    ];
    let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
    let flags = fixed.iter().chain(flags).map(owned).collect();
    let config = Config::load(&Layers { flags, ..Layers::default() }).unwrap();
    let chain = DevnetArgs {
        model: Some(MODEL.parse().unwrap()),
        difficulty: 1_000_000,
        block_bits: CompactTarget::from_bits(0x203f_ffff),
        share_target: ShareTarget(Some(Target::MAX)),
        proof_version: 3,
        interval: 10.0,
        vdf_ticks: 64,
        seed: Some(7),
    };
    let (link, _) = Link::to_devnet(chain.into_settings().unwrap());
    let service = Service::start(config, Some(link)).await.unwrap();
    let (address, app) = (service.address(), service.app().clone());
    service.spawn(std::future::pending());
    for _ in 0..1000 {
        if app.context.load().vdf().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    format!("http://{address}/v1")
}

/// The Python that has the client, installed on the first run.
fn client() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let cache = cache
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = folder.join("tensorpow").join(CLIENT.replace("==", "-"));
    let python = folder.join("bin/python");
    if ready(&python) {
        return Ok(python);
    }
    let make = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).output();
    let made = make.map_err(|error| format!("python3 cannot be run: {error}"))?;
    if !made.status.success() {
        return Err("python3 has no venv module".to_owned());
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLIENT];
    let installed = Command::new(&python).args(install).output();
    let installed = installed.map_err(|error| format!("pip cannot be run: {error}"))?;
    if !installed.status.success() {
        return Err(format!("{CLIENT} cannot be installed, is the package index reachable?"));
    }
    Ok(python)
}

fn ready(python: &Path) -> bool {
    let import = Command::new(python).args(["-c", "import openai"]).output();
    import.is_ok_and(|output| output.status.success())
}
