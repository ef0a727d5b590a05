//! The way in: where the proxy listens, with which certificate, who may come and how much each may ask
//! for. Whatever would let strangers in is refused here. spec: proxy §24

use super::layers::Values;
use super::sections::Settings;
use super::{keys, workload};
use crate::http::auth::{Access, ApiKey, NamedKey, Scope};
use crate::http::limits::ClientLimits;
use crate::http::listen::TlsFiles;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// `http.listen`, or host and port where a higher layer sets one of them.
pub(super) fn listen_address(
    settings: &Settings,
    values: &Values,
    problems: &mut Vec<String>,
) -> Option<SocketAddr> {
    let parts = values.layer("http.host").max(values.layer("http.port"));
    if let Some(listen) = settings.http.listen.filter(|_| values.layer("http.listen") >= parts) {
        return Some(listen);
    }
    let host = settings.http.host.trim_matches(['[', ']']);
    let address: Option<IpAddr> = match host {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => host.parse().ok(),
    };
    if address.is_none() {
        problems.push(format!(
            "HTTP_HOST (http.host): {host:?} is not an IP address; write 127.0.0.1 or 0.0.0.0"
        ));
    }
    Some(SocketAddr::new(address?, settings.http.port))
}

/// Configured keys, else those in the file. A public bind needs some; on loopback the OpenAI and
/// proof routes are open to this machine as long as no key is configured. spec: proxy §24
pub(super) fn access(
    settings: &Settings,
    values: &Values,
    listen: SocketAddr,
    keys_file: Option<&Path>,
    engine_key: Option<&ApiKey>,
    problems: &mut Vec<String>,
) -> Access {
    let mut keys = keys::configured(settings, &values.keys, problems);
    let local = listen.ip().is_loopback();
    let open = local && !keys.iter().any(|key| key.opens(Scope::Inference));
    match keys_file.map_or(Ok(Vec::new()), keys::read) {
        Ok(mut generated) => keys.append(&mut generated),
        Err(problem) => problems.push(problem),
    }
    if !local && !keys.iter().any(|key| key.opens(Scope::Inference)) {
        problems.push(format!(
            "refusing to listen on {listen} without an API key: set TENSORPOW_API_KEY, run `tensorpow config keys` to generate keys, or listen on 127.0.0.1"
        ));
    }
    if let (true, Some(key)) = (local, engine_key) {
        // The guide's own command switches the model with the engine's key.
        keys.push(NamedKey::new("engine", key.clone(), Scope::Admin));
    }
    Access::new(keys, open)
}

pub(super) fn tls(settings: &Settings, problems: &mut Vec<String>) -> Option<TlsFiles> {
    match (&settings.http.tls_cert, &settings.http.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.clone(), key: key.clone() }),
        (None, None) => None,
        _ => {
            problems.push("http.tls_cert and http.tls_key must be set together".into());
            None
        }
    }
}

pub(super) fn client_limits(settings: &Settings) -> ClientLimits {
    let limits = &settings.limits;
    ClientLimits {
        per_key: limits.per_key,
        per_address: limits.per_address,
        burst: limits.burst,
        // What is over it waits at the door, which is bounded as well.
        concurrency: workload::at_the_door(settings),
        concurrency_per_client: limits.concurrency_per_client,
        tokens_per_minute: limits.tokens_per_minute,
    }
}

pub(super) fn mcp(settings: &Settings, problems: &mut Vec<String>) -> Option<SocketAddr> {
    let address = settings.mcp.listen;
    if settings.mcp.enabled && !address.ip().is_loopback() {
        problems.push(format!(
            "mcp.listen: {address} is not a loopback address; tunnel MCP clients of other machines"
        ));
    }
    settings.mcp.enabled.then_some(address)
}
