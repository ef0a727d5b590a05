//! What the service manager is told (`sd_notify`): that the proxy is ready, that it is alive, that it
//! is stopping. Without a manager nothing is said. spec: proxy §25

use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The proxy serves.
pub fn ready() {
    notify("READY=1\nSTATUS=serving");
}

/// The proxy lets its last requests finish.
pub fn stopping() {
    notify("STOPPING=1\nSTATUS=draining");
}

/// Says that the event loop turns, twice in the time after which the manager would start the proxy
/// again (`WatchdogSec=`); at once without such a time.
pub async fn keep_alive_forever() {
    let limit = limit(
        std::env::var_os("WATCHDOG_USEC").as_deref(),
        std::env::var_os("WATCHDOG_PID").as_deref(),
        std::process::id(),
    );
    let Some(limit) = limit else { return };
    let mut tick = tokio::time::interval(limit / 2);
    loop {
        tick.tick().await;
        notify("WATCHDOG=1");
    }
}

/// The manager's limit for this process.
fn limit(micros: Option<&OsStr>, whose: Option<&OsStr>, own: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    if whose.is_some_and(|pid| number(pid) != Some(own.into())) {
        return None;
    }
    micros.and_then(number).filter(|micros| *micros > 0).map(Duration::from_micros)
}

fn notify(state: &str) {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
        && let Err(error) = send(&name, state)
    {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// One datagram to a socket, a path or an abstract name.
#[cfg(unix)]
fn send(name: &OsString, state: &str) -> std::io::Result<()> {
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match name.to_str().and_then(|name| name.strip_prefix('@')) {
        #[cfg(target_os = "linux")]
        Some(abstract_name) => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(abstract_name)
        }
        _ => SocketAddr::from_pathname(name),
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address?).map(|_| ())
}

#[cfg(not(unix))]
fn send(_: &OsString, _: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managers_limit_is_this_processes_own() {
        let of = |micros: Option<&str>, whose: Option<&str>| {
            limit(micros.map(OsStr::new), whose.map(OsStr::new), 7)
        };
        let half_a_minute = Some(Duration::from_secs(30));
        assert_eq!(of(Some("30000000"), None), half_a_minute);
        assert_eq!(of(Some("30000000"), Some("7")), half_a_minute);
        for (micros, whose) in [
            (Some("30000000"), Some("8")),
            (Some("30000000"), Some("x")),
            (Some("0"), None),
            (Some("soon"), None),
            (None, Some("7")),
        ] {
            assert_eq!(of(micros, whose), None, "{micros:?} {whose:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_manager_hears_every_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        send(&path.into_os_string(), "WATCHDOG=1").unwrap();
        let mut heard = [0; 64];
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"WATCHDOG=1");
        let nobody = folder.path().join("nobody").into_os_string();
        assert!(send(&nobody, "READY=1").is_err());
    }
}
