//! What the runtime counts, and its rendering as Prometheus text. Counters only grow; a number
//! that matters to an operator is never only a log line.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::sync::lock;

/// A family of counters told apart by one label. Known labels are shown from the start, so that a
/// dashboard sees the zero before the first event.
#[derive(Debug)]
pub(crate) struct Labelled {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: Mutex<BTreeMap<&'static str, u64>>,
}

impl Labelled {
    fn new(
        name: &'static str,
        help: &'static str,
        label: &'static str,
        known: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let values = Mutex::new(known.into_iter().map(|value| (value, 0)).collect());
        Self { name, help, label, values }
    }

    /// Counts one and answers how many there are now.
    pub(crate) fn add(&self, value: &'static str) -> u64 {
        let mut values = lock(&self.values);
        let count = values.entry(value).or_insert(0);
        *count += 1;
        *count
    }

    /// The count under one label value.
    #[cfg(test)]
    pub(crate) fn get(&self, value: &str) -> u64 {
        lock(&self.values).get(value).copied().unwrap_or(0)
    }

    fn render(&self, text: &mut String) {
        head(text, self.name, self.help, "counter");
        for (value, count) in lock(&self.values).iter() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{}{{{}=\"{value}\"}} {count}", self.name, self.label);
        }
    }
}

/// One number: a counter, or a gauge when it can also fall.
#[derive(Debug)]
pub(crate) struct Plain {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    value: AtomicU64,
}

impl Plain {
    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "counter", value: AtomicU64::new(0) }
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "gauge", value: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, n: u64) {
        self.value.fetch_add(n, Relaxed);
    }

    /// Adds one unless `limit` is reached; false when it is.
    pub(crate) fn add_below(&self, limit: u64) -> bool {
        let below = |value| (value < limit).then_some(value + 1);
        self.value.fetch_update(Relaxed, Relaxed, below).is_ok()
    }

    /// Takes over a count that is kept elsewhere.
    pub(crate) fn set(&self, n: u64) {
        self.value.store(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.value.fetch_sub(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }

    fn render(&self, text: &mut String) {
        head(text, self.name, self.help, self.kind);
        let _ = writeln!(text, "{} {}", self.name, self.get());
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// All counters of one runtime.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) started: Plain,
    pub(crate) active: Plain,
    pub(crate) tokens: Plain,
    pub(crate) not_mined: Labelled,
    pub(crate) stopped: Labelled,
    pub(crate) share_tier_off: Plain,
    pub(crate) admission_searches: Plain,
    pub(crate) admission_tries: Plain,
    pub(crate) admission: Labelled,
    pub(crate) ended: Labelled,
    pub(crate) partial: Plain,
    pub(crate) windows_queued: Plain,
    pub(crate) windows: Labelled,
    pub(crate) close_time: Plain,
    pub(crate) self_check: Labelled,
    pub(crate) proofs_queued: Plain,
    pub(crate) sent: Labelled,
    pub(crate) sent_bytes: Plain,
    pub(crate) dropped: Labelled,
    pub(crate) saved: Plain,
    pub(crate) save_errors: Plain,
}

impl Counters {
    /// Counters at zero; `not_mined` names the reasons known beforehand.
    pub(crate) fn new(not_mined: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            started: Plain::counter(
                "tensorpow_sequences_started_total",
                "Sequences that began mining.",
            ),
            active: Plain::gauge("tensorpow_sequences_active", "Sequences mining right now."),
            tokens: Plain::counter("tensorpow_tokens_total", "Tokens chosen by mined steps."),
            not_mined: Labelled::new(
                "tensorpow_not_mined_total",
                "Requests with a payload that were served without mining.",
                "reason",
                not_mined,
            ),
            stopped: Labelled::new(
                "tensorpow_sequences_stopped_total",
                "Sequences that stopped mining before their end.",
                "reason",
                [],
            ),
            share_tier_off: Plain::counter(
                "tensorpow_share_target_invalid_total",
                "Sequences mined without the share tier because their share target is malformed.",
            ),
            admission_searches: Plain::gauge(
                "tensorpow_admission_searches",
                "Searches for an admission nonce under way.",
            ),
            admission_tries: Plain::counter(
                "tensorpow_admission_tries_total",
                "Attempts at admission puzzles.",
            ),
            admission: Labelled::new(
                "tensorpow_admission_windows_total",
                "Windows that should have an admission nonce, by what came of it.",
                "outcome",
                [
                    "found",
                    "not_found",
                    "given_up",
                    "cancelled",
                    "no_difficulty",
                    "no_message",
                    "no_randomness",
                ],
            ),
            ended: Labelled::new(
                "tensorpow_sequences_ended_total",
                "Ended sequences by the engine's reason.",
                "reason",
                ["finished", "cancelled", "error", "continuity_lost"],
            ),
            partial: Plain::counter(
                "tensorpow_windows_partial_total",
                "Windows discarded because their sequence ended inside them.",
            ),
            windows_queued: Plain::gauge(
                "tensorpow_windows_queued",
                "Complete windows waiting to be closed.",
            ),
            windows: Labelled::new(
                "tensorpow_windows_total",
                "Complete windows by outcome.",
                "outcome",
                [
                    "solution",
                    "share",
                    "audit",
                    "nothing",
                    "dead",
                    "self_check_failed",
                    "queue_full",
                    "shutdown",
                    "internal_error",
                ],
            ),
            close_time: Plain::counter(
                "tensorpow_window_close_nanoseconds_total",
                "Time from a window's last token to its proof's place in the queue to the sockets.",
            ),
            self_check: Labelled::new(
                "tensorpow_self_check_failures_total",
                "Windows that failed the self-check, by the check that refused them.",
                "check",
                [],
            ),
            proofs_queued: Plain::gauge(
                "tensorpow_proofs_queued",
                "Proofs waiting for the sockets.",
            ),
            sent: Labelled::new(
                "tensorpow_proofs_sent_total",
                "Proofs handed to a socket.",
                "socket",
                ["primary", "proxy"],
            ),
            sent_bytes: Plain::counter(
                "tensorpow_proofs_sent_bytes_total",
                "Bytes of proofs handed to sockets.",
            ),
            dropped: Labelled::new(
                "tensorpow_proofs_dropped_total",
                "Proofs that did not reach a socket.",
                "reason",
                [
                    "queue_full",
                    "high_water_mark",
                    "socket_error",
                    "shutdown",
                    "share_local_miner",
                    "audit_without_proxy",
                ],
            ),
            saved: Plain::counter("tensorpow_proofs_saved_total", "Proofs written to files."),
            save_errors: Plain::counter(
                "tensorpow_proof_save_errors_total",
                "Proofs whose file could not be written.",
            ),
        }
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub(crate) fn render(&self) -> String {
        let mut text = String::with_capacity(8192);
        self.started.render(&mut text);
        self.active.render(&mut text);
        self.tokens.render(&mut text);
        self.not_mined.render(&mut text);
        self.stopped.render(&mut text);
        self.share_tier_off.render(&mut text);
        self.admission_searches.render(&mut text);
        self.admission_tries.render(&mut text);
        self.admission.render(&mut text);
        self.ended.render(&mut text);
        self.partial.render(&mut text);
        self.windows_queued.render(&mut text);
        self.windows.render(&mut text);
        self.close_time.render(&mut text);
        self.self_check.render(&mut text);
        self.proofs_queued.render(&mut text);
        self.sent.render(&mut text);
        self.sent_bytes.render(&mut text);
        self.dropped.render(&mut text);
        self.saved.render(&mut text);
        self.save_errors.render(&mut text);
        text
    }
}
