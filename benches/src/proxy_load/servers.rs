//! The servers under load: the engine in this process, the proxy and nginx as processes, and what
//! the system says about them.

use mock_engine::{MockEngine, Settings};
use std::fs;
use std::io::Result;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpListener;

/// The model that is mined.
pub const MODEL: &str = "org/load";

/// An engine on a runtime of its own, so that it does not share threads with the client.
pub struct Engine {
    /// The engine.
    pub mock: MockEngine,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Engine {
    /// Starts an engine.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(settings: Settings) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mock = {
            let _inside = runtime.enter();
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            MockEngine::start(TcpListener::from_std(listener)?, settings)?
        };
        Ok(Self { mock, runtime: Some(runtime) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A server that is a process.
pub struct Server {
    /// Its name in the table.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

impl Server {
    /// The proxy's column.
    pub const PROXY: &str = "tensorpow";
    /// Its rival's.
    pub const NGINX: &str = "nginx";

    /// The proxy before an engine, on a development chain whose one block lasts the whole run.
    ///
    /// # Errors
    /// What the system says.
    pub fn proxy(program: &Path, engine: SocketAddr) -> Result<Self> {
        let (address, collector) = (free_address()?, free_address()?);
        let folder = tempfile::tempdir()?;
        let child = Command::new(program)
            .args([
                "devnet",
                "--model",
                &format!("{MODEL}@0123456789abcdef0123456789abcdef01234567"),
            ])
            .args(["--engine", &format!("http://{engine}"), "--engine-kind", "vllm"])
            .args(["--listen", &address.to_string(), "--collector", &collector.to_string()])
            .args(["--set", "http.max_connections=16384", "--set", "limits.concurrency=16384"])
            .args(["--set", "backfill.min_active=0"])
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("XDG_CONFIG_HOME", folder.path())
            .stderr(fs::File::create(folder.path().join("log"))?)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { name: Self::PROXY, address, child, _folder: folder })
    }

    /// nginx before an engine; `None` when there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn nginx(program: &Path, engine: SocketAddr) -> Result<Option<Self>> {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        let place = folder.path().display();
        let conf = format!(
            "worker_processes auto; daemon off; pid {place}/pid; error_log {place}/error.log;\n\
             worker_rlimit_nofile 65536; events {{ worker_connections 20000; }}\n\
             http {{ access_log {place}/access.log; client_body_temp_path {place}/body;\n\
             proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u;\n\
             scgi_temp_path {place}/s; keepalive_requests 100000000;\n\
             upstream engine {{ server {engine}; keepalive 256; keepalive_requests 100000000; }}\n\
             server {{ listen {address} backlog=8192; location / {{ proxy_pass http://engine;\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, conf)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path());
        match command.stderr(Stdio::null()).spawn() {
            Ok(child) => Ok(Some(Self { name: Self::NGINX, address, child, _folder: folder })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// CPU time used so far by the process and its children.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.processes().iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.processes().iter().map(|pid| memory_of(*pid)).sum()
    }

    fn processes(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        std::iter::once(id)
            .chain(children.split_whitespace().filter_map(|it| it.parse().ok()))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx takes its workers along only when it is asked.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        std::thread::sleep(Duration::from_millis(300));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time, in ticks of 10 ms.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |index: usize| -> u64 {
        after_name.split_whitespace().nth(index).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    Duration::from_millis((field(11) + field(12)) * 10)
}

fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
