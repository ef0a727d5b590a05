//! Settings of what the host hears from a worker and tells it: when no new work is wanted, and a
//! file that says how the worker is.

use super::section::sections;
use std::path::PathBuf;
use std::time::Duration;

sections! {
    /// When no new work is wanted.
    DrainSection "drain" {
        /// A preemption notice: while this file is there the worker is drained, and one whose first word is `exit` ends the proxy within `http.drain`
        file: Option<PathBuf> = "" [TENSORPOW_DRAIN_FILE];
        /// false begins drained, until `POST /v1/drain` takes it back
        ready: bool = "true" [READY];
    }

    /// The heartbeat file.
    HeartbeatSection "heartbeat" {
        /// A file that says how the worker is, written whole again and again and removed on an orderly end
        file: Option<PathBuf> = "" [TENSORPOW_HEARTBEAT_FILE];
        /// How often, at least 0.1
        every: Duration = "5" [TENSORPOW_HEARTBEAT_EVERY];
    }
}
