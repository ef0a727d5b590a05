//! The way out: one thread that owns the sockets, fed by a bounded queue. It connects at the first
//! proof, never blocks a sender, counts what it cannot deliver and, when the engine goes, flushes
//! for at most a second. Which proof goes where is decided in [`crate::closer`].

mod buffers;
mod files;
mod sockets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io, thread};

use crate::counters::Counters;
use crate::notice::{Level, Log};
use crate::settings::{EgressSettings, Settings};
use crate::sync::{Ended, lock};

pub(crate) use buffers::{Buffer, Buffers};
use sockets::{Refused, Sockets};

/// Longest time the end of an engine waits for proofs to leave. spec: node §3.2
pub(crate) const FLUSH: Duration = Duration::from_secs(1);

/// What a proof is to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A block.
    Solution,
    /// Work below the block target that a pool credits.
    Share,
    /// A record for the audit channel.
    Audit,
}

impl Purpose {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Solution => "solution",
            Self::Share => "share",
            Self::Audit => "audit",
        }
    }
}

/// The sockets a message is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) primary: bool,
    pub(crate) proxy: bool,
}

/// A finished `MiningResponse` with its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The encoded message.
    pub(crate) bytes: Buffer,
    pub(crate) purpose: Purpose,
    pub(crate) route: Route,
    /// Job the proof answers, for logs and the file's name.
    pub(crate) req_id: u32,
    /// The proof's final digest, for logs and the file's name.
    pub(crate) digest: [u8; 32],
}

impl fmt::Display for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.digest;
        let nonce = u32::from_le_bytes([a, b, c, d]);
        write!(f, "{} of job {} with nonce {nonce}", self.purpose.as_str(), self.req_id)
    }
}

/// When the engine goes: until when waiting proofs may still leave.
#[derive(Debug, Default)]
pub(crate) struct Deadline(Mutex<Option<Instant>>);

impl Deadline {
    pub(crate) fn set(&self, until: Instant) {
        *lock(&self.0) = Some(until);
    }

    /// Time left; `None` while no end is in sight.
    pub(crate) fn left(&self) -> Option<Duration> {
        lock(&self.0).map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// The sending half, held by the closer.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: SyncSender<Outgoing>,
    counters: Arc<Counters>,
    log: Log,
}

impl Sender {
    /// Queues a proof, or drops and counts it when the queue is full. Never blocks.
    pub(crate) fn offer(&self, proof: Outgoing) {
        self.counters.proofs_queued.add(1);
        let (proof, reason) = match self.queue.try_send(proof) {
            Ok(()) => return,
            Err(TrySendError::Full(proof)) => (proof, "queue_full"),
            Err(TrySendError::Disconnected(proof)) => (proof, "shutdown"),
        };
        self.counters.proofs_queued.sub(1);
        drop_proof(&proof, &reason, reason, &self.counters, &self.log);
    }
}

/// Counts a proof that does not leave and tells the operator why.
fn drop_proof(
    proof: &Outgoing,
    why: &dyn fmt::Display,
    reason: &'static str,
    counters: &Counters,
    log: &Log,
) {
    counters.dropped.add(reason);
    let level = if proof.purpose == Purpose::Solution { Level::Error } else { Level::Warning };
    log.line(level, format_args!("dropped {proof}: {why}"));
}

/// The thread's handle, held by the engine.
#[derive(Debug)]
pub(crate) struct Egress {
    ended: Ended,
}

impl Egress {
    /// Starts the thread. It ends when the [`Sender`] is gone and the queue is empty.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub(crate) fn start(
        settings: &Settings,
        counters: &Arc<Counters>,
        log: &Log,
        deadline: &Arc<Deadline>,
    ) -> io::Result<(Self, Sender)> {
        let (queue, proofs) = sync_channel(settings.proof_queue);
        let ended = Ended::default();
        let signal = ended.signal();
        let outlet = Outlet {
            settings: settings.egress.clone(),
            save_dir: settings.save_dir.clone(),
            sockets: None,
            counters: Arc::clone(counters),
            log: log.clone(),
            deadline: Arc::clone(deadline),
        };
        thread::Builder::new().name("tensorpow-egress".into()).spawn(move || {
            outlet.run(&proofs);
            drop(signal);
        })?;
        Ok((Self { ended }, Sender { queue, counters: Arc::clone(counters), log: log.clone() }))
    }

    /// Waits for the thread, `left` at most; one that is late is left to itself. Its [`Sender`]
    /// must be gone.
    pub(crate) fn join(&self, left: Duration) {
        self.ended.wait(left);
    }
}

/// What the thread owns.
struct Outlet {
    settings: EgressSettings,
    save_dir: Option<PathBuf>,
    sockets: Option<Sockets>,
    counters: Arc<Counters>,
    log: Log,
    deadline: Arc<Deadline>,
}

impl Outlet {
    fn run(mut self, proofs: &Receiver<Outgoing>) {
        for proof in proofs {
            self.counters.proofs_queued.sub(1);
            if self.deadline.left().is_some_and(|left| left.is_zero()) {
                drop_proof(&proof, &"the engine ends", "shutdown", &self.counters, &self.log);
                continue;
            }
            // The binding of libzmq panics on error numbers it does not know.
            let delivered = catch_unwind(AssertUnwindSafe(|| self.deliver(&proof)));
            if delivered.is_err() {
                self.sockets = None;
                let why = "the socket library failed in an unknown way";
                drop_proof(&proof, &why, "socket_error", &self.counters, &self.log);
            }
        }
        if let Some(sockets) = self.sockets {
            sockets.close(self.deadline.left().unwrap_or(FLUSH));
        }
    }

    /// Sends one proof to its sockets, then writes its file.
    fn deliver(&mut self, proof: &Outgoing) {
        let sockets = self.sockets.get_or_insert_with(|| Sockets::new(&self.settings));
        if proof.route.primary {
            let sent = sockets.send_primary(&proof.bytes);
            account("primary", sent, proof, &self.counters, &self.log);
        }
        if proof.route.proxy {
            let sent = sockets.send_proxy(&proof.bytes);
            account("proxy", sent, proof, &self.counters, &self.log);
        }
        let Some(folder) = &self.save_dir else { return };
        match files::save(folder, proof.req_id, &proof.digest, &proof.bytes) {
            Ok(_) => self.counters.saved.add(1),
            Err(why) => {
                self.counters.save_errors.add(1);
                let folder = folder.display();
                self.log.line(
                    Level::Warning,
                    format_args!("could not save {proof} in {folder}: {why}"),
                );
            }
        }
    }
}

/// Counts one attempt to send.
fn account(
    socket: &'static str,
    sent: Result<(), Refused>,
    proof: &Outgoing,
    counters: &Counters,
    log: &Log,
) {
    match sent {
        Ok(()) => {
            counters.sent.add(socket);
            counters.sent_bytes.add(proof.bytes.len() as u64);
        }
        Err(why) => drop_proof(proof, &why, why.label(), counters, log),
    }
}

#[cfg(test)]
mod tests;
