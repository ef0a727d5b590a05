//! Ports for what is bound by its number: a process of its own, or one that comes back after a crash.
//! They lie below those the system gives to connections, which would take one that is free for a moment.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// The system's own begin at 32 768, or higher.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port that was free a moment ago, and that this process gives out no second time for long.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests of other processes begin elsewhere.
    let start = std::process::id().wrapping_mul(97);
    let tried = (0..COUNT).map(|_| {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + number % COUNT).expect("below 32 768")
    });
    let mut free = tried.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}

/// Addresses on loopback with such ports.
pub(crate) fn free_addresses<const N: usize>() -> [String; N] {
    [(); N].map(|()| format!("127.0.0.1:{}", free_port()))
}
