//! What the service manager is told (`sd_notify`): that the proxy is ready, that it is stopping.
//! Without a manager nothing is said.

/// The proxy serves.
pub fn ready() {
    notify("READY=1\nSTATUS=serving");
}

/// The proxy lets its last requests finish.
pub fn stopping() {
    notify("STOPPING=1\nSTATUS=draining");
}

/// One datagram to the socket in `NOTIFY_SOCKET`, a path or an abstract name.
#[cfg(unix)]
fn notify(state: &str) {
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    let address = match name.to_str().and_then(|name| name.strip_prefix('@')) {
        #[cfg(target_os = "linux")]
        Some(abstract_name) => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(abstract_name)
        }
        _ => SocketAddr::from_pathname(&name),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}

#[cfg(not(unix))]
fn notify(_: &str) {}
