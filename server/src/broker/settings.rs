//! What a broker link is made of.

use super::token::Credential;
use super::tools::ToolDefinition;
use crate::mining::network::Network;
use crate::mining::prover::VdfSettings;
use crate::service_client::ServiceUrl;
use std::path::PathBuf;
use std::time::Duration;
use tensorpow_core::target::Normalizer;

/// A text is no WebSocket URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broker URL {url:?} must be ws://host[:port]/path or wss://host[:port]/path")]
pub struct BrokerUrlError {
    url: String,
}

/// Where the broker is; used verbatim, path and query with it. spec: broker §1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    text: String,
    /// TLS first.
    pub(super) tls: bool,
    /// Name or address to connect to, without brackets.
    pub(super) host: String,
    /// Port to connect to.
    pub(super) port: u16,
}

impl std::str::FromStr for BrokerUrl {
    type Err = BrokerUrlError;

    fn from_str(text: &str) -> Result<Self, BrokerUrlError> {
        let error = || BrokerUrlError { url: text.to_owned() };
        let uri: axum::http::Uri = text.trim().parse().map_err(|_| error())?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(error()),
        };
        // User and password in a URL end up in logs.
        let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(error)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(error());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { text: text.trim().to_owned(), tls, host, port })
    }
}

impl std::fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// How long things may take. spec: broker §1.1, §1.3
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// Connection, TLS and upgrade together.
    pub open: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// For a pong, and for a frame to leave.
    pub pong: Duration,
    /// For the closing handshake.
    pub close: Duration,
    /// First wait after a failure, and the wait after an ordinary end.
    pub retry: Duration,
    /// Longest wait after failures.
    pub retry_at_most: Duration,
    /// A connection that ends sooner without a registration is a failure.
    pub settled: Duration,
    /// For one heartbeat to leave.
    pub heartbeat: Duration,
    /// For one inference job.
    pub job: Duration,
    /// First wait for an engine that does not know its context; doubles with each of five.
    pub discovery: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(10),
            ping: Duration::from_secs(20),
            pong: Duration::from_secs(30),
            close: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            retry_at_most: Duration::from_secs(60),
            settled: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            job: Duration::from_secs(300),
            discovery: Duration::from_secs(1),
        }
    }
}

/// What is advertised of the machine; what is left open here the machine itself says.
/// spec: broker §3.1
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// Architecture.
    pub compute_type: Option<String>,
    /// Card.
    pub gpu_model: Option<String>,
    /// Memory in GB.
    pub memory_gb: Option<u32>,
    /// Region.
    pub region: String,
}

impl Hardware {
    /// True when the machine has to be asked.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.compute_type.is_none() || self.gpu_model.is_none() || self.memory_gb.is_none()
    }
}

/// Everything about a broker link that can be set.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Where the broker is.
    pub url: BrokerUrl,
    /// How the worker says who it is.
    pub credential: Credential,
    /// The worker's name; the same over all connections of a run.
    pub worker_id: String,
    /// Jobs at a time, as advertised.
    pub capacity: u32,
    /// What is advertised of the machine.
    pub hardware: Hardware,
    /// Context window where the operator fixes it.
    pub max_context_window: Option<u64>,
    /// Tokens an answer, as advertised.
    pub max_output_tokens: u32,
    /// Secret of challenges.
    pub challenge_secret: Option<String>,
    /// Mining is on.
    pub mining: bool,
    /// The chain this worker's proofs are for.
    pub network: Network,
    /// The chains it advertises.
    pub networks: Vec<String>,
    /// Leases at a time, as advertised.
    pub max_parallel: u32,
    /// The mining model's name, where it is known; not advertised beside others. spec: §3.1
    pub local_model: String,
    /// The registry comes from the broker alone. spec: §7.1
    pub registry_pushed: bool,
    /// Proof version to mine.
    pub proof_version: u8,
    /// Scales share targets.
    pub share_normalizer: Normalizer,
    /// Tools that run here.
    pub tools: Vec<ToolDefinition>,
    /// An MCP server that has more.
    pub mcp_tools: Option<ServiceUrl>,
    /// Certificates of authorities that are trusted beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The VDF prover.
    pub vdf: VdfSettings,
    /// File of the open leases; none keeps them in memory.
    pub leases: Option<PathBuf>,
    /// How long things may take.
    pub timings: Timings,
}

/// Longest worker id a broker takes. spec: broker §1
pub const LONGEST_WORKER_ID: usize = 64;

/// A fresh UUIDv4 in lower case. Without random numbers it names the process.
#[must_use]
pub fn fresh_worker_id() -> String {
    let mut bits = [0; 16];
    if getrandom::fill(&mut bits).is_err() {
        return format!("worker-{}", std::process::id());
    }
    bits[6] = (bits[6] & 0x0f) | 0x40;
    bits[8] = (bits[8] & 0x3f) | 0x80;
    let digits = hex::encode(bits);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect() {
        let read = |text: &str| text.parse::<BrokerUrl>().map(|url| (url.tls, url.host, url.port));
        assert_eq!(read("ws://localhost:8003/v1/ws"), Ok((false, "localhost".into(), 8003)));
        assert_eq!(read(" wss://b.example/v1/ws?a=1 "), Ok((true, "b.example".into(), 443)));
        assert_eq!(read("ws://[::1]/v1/ws"), Ok((false, "::1".into(), 80)));
        for bad in ["", "http://a/v1/ws", "b.example", "ws://", "ws:///v1", "wss://u:p@h/v1/ws"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_fresh_id_is_a_uuid() {
        let (one, other) = (fresh_worker_id(), fresh_worker_id());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15], one.to_ascii_lowercase()), (36, "4", one.clone()));
    }
}
