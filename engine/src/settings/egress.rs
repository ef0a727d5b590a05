//! Where finished proofs go: the egress mode, the primary socket and the optional copy to the
//! proxy, read from the environment with the literals the other programs of the network use.
//! Sending is in [`crate::egress`].

use std::fmt;
use std::net::Ipv6Addr;

use super::{Environment, Problem, SettingsError};

/// Messages one socket holds before it refuses more. spec: node §3.2
const HIGH_WATER_MARK: i32 = 1000;

/// Who receives block solutions. spec: sampler §9.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressMode {
    /// Solutions go straight to the operator's node; shares are not sent.
    LocalMiner,
    /// Everything goes to the proxy's collector.
    Broker,
}

impl EgressMode {
    /// The literal of `POW_EGRESS_MODE`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalMiner => "local_miner",
            Self::Broker => "broker",
        }
    }

    const fn default_primary(self) -> (&'static str, u16) {
        match self {
            Self::LocalMiner => ("localhost", 7000),
            Self::Broker => ("127.0.0.1", 7002),
        }
    }
}

/// A TCP destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, never empty.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

impl Endpoint {
    /// True for a literal IPv6 address, which a URL writes in brackets.
    fn is_bare_ipv6(&self) -> bool {
        self.host.contains(':') && !self.host.starts_with('[')
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_bare_ipv6() {
            write!(f, "tcp://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "tcp://{}:{}", self.host, self.port)
        }
    }
}

/// The destinations of proofs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressSettings {
    /// Who receives solutions.
    pub mode: EgressMode,
    /// The node (`local_miner`) or the proxy's collector (`broker`).
    pub primary: Endpoint,
    /// The proxy's collector beside a node; only in `local_miner` mode.
    pub proxy: Option<Endpoint>,
    /// Messages one socket holds before it refuses more.
    pub high_water_mark: i32,
}

impl EgressSettings {
    /// Reads mode and destinations. spec: node §3.2
    pub(super) fn read(env: &mut Environment<'_>) -> Result<Self, SettingsError> {
        let mode = match env.get("POW_EGRESS_MODE")?.as_deref() {
            None | Some("local_miner") => EgressMode::LocalMiner,
            Some("broker") => EgressMode::Broker,
            Some(other) => {
                return Err(env.refuse(
                    "POW_EGRESS_MODE",
                    Problem::UnknownWord { found: other.into(), allowed: "local_miner or broker" },
                ));
            }
        };
        let (host, port) = mode.default_primary();
        let primary = endpoint(env, "ZMQ_PUSH_HOST", host, "ZMQ_PUSH_PORT", port)?;
        let copy_to_proxy = env.switch("POW_PROXY_ENABLE")?;
        if mode == EgressMode::Broker {
            if copy_to_proxy {
                return Err(env.refuse("POW_PROXY_ENABLE", Problem::ProxyInBrokerMode));
            }
            if primary.host.to_ascii_lowercase().contains("core-node") {
                return Err(
                    env.refuse("ZMQ_PUSH_HOST", Problem::NodeInBrokerMode { host: primary.host })
                );
            }
        }
        let proxy = if copy_to_proxy {
            let (host, port) = ("localhost", 7002);
            Some(endpoint(env, "POW_PROXY_PUSH_HOST", host, "POW_PROXY_PUSH_PORT", port)?)
        } else {
            None
        };
        Ok(Self { mode, primary, proxy, high_water_mark: HIGH_WATER_MARK })
    }
}

fn endpoint(
    env: &mut Environment<'_>,
    host_name: &'static str,
    host: &str,
    port_name: &'static str,
    port: u16,
) -> Result<Endpoint, SettingsError> {
    let host = env.get(host_name)?.map_or_else(|| host.to_owned(), |h| h.trim().to_owned());
    if host.is_empty() {
        return Err(env.refuse(host_name, Problem::EmptyHost));
    }
    if let Some(bad) = bad_character(&host) {
        return Err(env.refuse(host_name, Problem::HostCharacter { bad }));
    }
    let port = match env.get(port_name)? {
        None => port,
        Some(text) => {
            parse_port(&text).ok_or_else(|| env.refuse(port_name, Problem::Port { found: text }))?
        }
    };
    Ok(Endpoint { host, port })
}

/// The first character that a host name, an IPv4 address or an IPv6 address (bracketed or not)
/// does not have.
fn bad_character(host: &str) -> Option<char> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_ipv6 = inner.split('%').next().is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    host.chars().find(|c| !is_ipv6 && !belongs(*c))
}

/// Plain decimal digits with optional outer blanks, 1 to 65535. spec: node §3.2
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.trim();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|port| *port != 0)
}
