//! From a complete window to a message: the closing digest, the decision what it is, the
//! self-check, the encoding, and the choice of sockets. All of it on a thread of its own, so that
//! no decode step ever waits for it.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tensorpow_core::admission::{MergeError, merge_to_vec};
use tensorpow_core::classify::{Tier, judge, tier};
use tensorpow_core::proof::{
    Encode, MiningResponseRef, PadMask, ProofRef, Rows, TooLong, Words, WriteError, commit,
};
use tensorpow_core::selfcheck::{self, Expected, Unsent, selfcheck};
use tensorpow_core::units::{AdmissionNonce, Digest, EVIDENCE_SLOTS, STATS};
use tensorpow_core::verify::{Chain, Registry, Vdf, Workspace};

use crate::egress::{Buffer, Buffers, Deadline, Outgoing, Purpose, Route, Sender};
use crate::engine::Shared;
use crate::notice::Level;
use crate::settings::{EgressMode, EgressSettings};
use crate::sync::Ended;
use crate::windows::Full;

/// `extra_flags` of solutions and shares: an object without members, published with the block.
/// spec: proof-encoding §4
const NO_FLAGS: &[u8] = b"{}";
/// `extra_flags` of audits. spec: proof-encoding §4
const AUDIT_FLAGS: &[u8] = br#"{"proof_purpose":"audit"}"#;

/// The thread's handle, held by the engine.
#[derive(Debug)]
pub(crate) struct Closing {
    ended: Ended,
}

impl Closing {
    /// Starts the thread. It ends when no more windows can come and those that wait are closed.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn start(
        settings: &EgressSettings,
        windows: Receiver<Full>,
        sender: Sender,
        shared: &Arc<Shared>,
        deadline: &Arc<Deadline>,
    ) -> io::Result<Self> {
        let ended = Ended::default();
        let signal = ended.signal();
        let closer = Closer {
            mode: settings.mode,
            has_proxy: settings.proxy.is_some(),
            sender,
            shared: Arc::clone(shared),
            deadline: Arc::clone(deadline),
        };
        thread::Builder::new().name("tensorpow-closer".into()).spawn(move || {
            closer.run(&windows);
            // The sender goes first: the next thread's end depends on it.
            drop(closer);
            drop(signal);
        })?;
        Ok(Self { ended })
    }

    /// Waits for the thread, `left` at most; one that is late is left to itself.
    pub(crate) fn join(&self, left: Duration) {
        self.ended.wait(left);
    }
}

/// What is done with a window of some tier in some egress mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Judge, encode and send it as this.
    Send(Purpose, Route),
    /// Its tier has no destination here; counted under this reason.
    NoDestination(&'static str),
    /// It is nothing.
    Drop,
}

/// The destinations of a window. spec: sampler §9.1, §9.2
fn plan(tier: Tier, mode: EgressMode, has_proxy: bool) -> Plan {
    let primary = Route { primary: true, proxy: false };
    let proxy = Route { primary: false, proxy: true };
    match (mode, tier) {
        (EgressMode::Broker, Tier::Solution) => Plan::Send(Purpose::Solution, primary),
        (EgressMode::Broker, Tier::Share) => Plan::Send(Purpose::Share, primary),
        (EgressMode::Broker, Tier::Audit) => Plan::Send(Purpose::Audit, primary),
        (EgressMode::Broker, Tier::Nothing) => Plan::Drop,
        (EgressMode::LocalMiner, Tier::Solution) => {
            Plan::Send(Purpose::Solution, Route { primary: true, proxy: has_proxy })
        }
        (EgressMode::LocalMiner, _) if has_proxy => Plan::Send(Purpose::Audit, proxy),
        (EgressMode::LocalMiner, Tier::Share) => Plan::NoDestination("share_local_miner"),
        (EgressMode::LocalMiner, Tier::Audit) => Plan::NoDestination("audit_without_proxy"),
        (EgressMode::LocalMiner, Tier::Nothing) => Plan::Drop,
    }
}

/// Why a window leaves no message although its tier has a destination.
enum Lost {
    SelfCheck(Unsent),
    Encoding(String),
}

impl From<Unsent> for Lost {
    fn from(why: Unsent) -> Self {
        Self::SelfCheck(why)
    }
}

impl From<TooLong> for Lost {
    fn from(why: TooLong) -> Self {
        Self::Encoding(why.to_string())
    }
}

impl From<MergeError> for Lost {
    fn from(why: MergeError) -> Self {
        Self::Encoding(why.to_string())
    }
}

impl From<WriteError> for Lost {
    fn from(why: WriteError) -> Self {
        Self::Encoding(why.to_string())
    }
}

/// Memory that serves window after window. After the first few none of it grows: a proof is made
/// of the window as it lies, and its encoding is the only copy.
#[derive(Default)]
struct Memory {
    workspace: Workspace,
    /// The ids before the window.
    prompt: Vec<u32>,
    messages: Arc<Buffers>,
}

/// What the thread owns.
struct Closer {
    mode: EgressMode,
    has_proxy: bool,
    sender: Sender,
    shared: Arc<Shared>,
    deadline: Arc<Deadline>,
}

impl Closer {
    fn run(&self, windows: &Receiver<Full>) {
        let mut memory = Memory::default();
        for full in windows {
            self.shared.counters.windows_queued.sub(1);
            let late = self.deadline.left().is_some_and(|left| left.is_zero());
            let outcome = if late {
                "shutdown"
            } else {
                let closed = catch_unwind(AssertUnwindSafe(|| self.close(&full, &mut memory)));
                closed.unwrap_or("internal_error")
            };
            self.shared.counters.windows.add(outcome);
            self.shared.windows.give_back(full.window);
        }
    }

    /// Closes one window and names its outcome.
    fn close(&self, full: &Full, memory: &mut Memory) -> &'static str {
        let payload = &full.job.payload;
        let Some(digest) = full.job.closer.digest(&full.window) else { return "internal_error" };
        let share = payload.share_target.as_ref();
        let verdict = judge(&payload.header_prefix, &digest, &payload.target, share);
        let tier = tier(&verdict, payload.audit_emit);
        let outcome = match tier {
            Tier::Nothing => "nothing",
            known => known.as_str(),
        };
        let (purpose, route) = match plan(tier, self.mode, self.has_proxy) {
            Plan::Send(purpose, route) => (purpose, route),
            Plan::NoDestination(reason) => {
                self.shared.counters.dropped.add(reason);
                return outcome;
            }
            Plan::Drop => return outcome,
        };
        let job = payload.request_id;
        match message(full, &digest, purpose, memory) {
            Ok(bytes) => {
                if purpose == Purpose::Solution {
                    let hash = verdict.header_hash;
                    self.shared.log.line(
                        Level::Info,
                        format_args!("block solution for job {job}: header {}", hash.display()),
                    );
                }
                let digest = *digest.as_bytes();
                self.sender.offer(Outgoing { bytes, purpose, route, req_id: job, digest });
                let took = u64::try_from(full.ended.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.shared.counters.close_time.add(took);
                purpose.as_str()
            }
            Err(Lost::SelfCheck(why)) => {
                self.shared.counters.self_check.add(why.label());
                let what = purpose.as_str();
                self.shared.log.line(
                    Level::Error,
                    format_args!("a {what} of job {job} is not sent: self-check {why}"),
                );
                "self_check_failed"
            }
            Err(Lost::Encoding(why)) => {
                self.shared
                    .log
                    .line(Level::Error, format_args!("a proof of job {job} is not sent: {why}"));
                "internal_error"
            }
        }
    }
}

/// The self-checked, encoded `MiningResponse` of a window. spec: proof-encoding §3, §5.1
fn message(
    full: &Full,
    digest: &Digest,
    purpose: Purpose,
    memory: &mut Memory,
) -> Result<Buffer, Lost> {
    let Full { window, prompt: before, job, .. } = full;
    let Memory { workspace, prompt, messages } = memory;
    let payload = &job.payload;
    before.copy_over(prompt);
    let target = payload.target.to_be_bytes();
    let audit = purpose == Purpose::Audit;
    let flags = extra_flags(audit, window.nonce())?;
    let proof = ProofRef {
        version: job.proof_version,
        tick: u64::from(payload.tick),
        timestamp: unix_seconds(),
        target: &target,
        vdf: payload.vdf.as_bytes(),
        hash: digest.as_bytes(),
        block_hash: payload.block_hash.as_bytes(),
        header_prefix: payload.header_prefix.as_bytes(),
        is_solution: purpose == Purpose::Solution,
        model_identifier: job.model_identifier.as_bytes(),
        compute_precision: job.compute_precision.as_bytes(),
        ipfs_cid: payload.ipfs_cid.as_bytes(),
        extra_flags: &flags,
        temperature: job.params.temperature,
        top_p: job.params.top_p,
        top_k: job.params.top_k,
        repetition_penalty: 1.0,
        chosen_tokens: Words::Native(window.tokens()),
        chosen_probs: Words::Floats(window.upper_edges()),
        sampling_u: Words::Floats(window.draws()),
        softmax_normalizers: Words::Floats(window.normalizers()),
        prompt_tokens: Words::Native(prompt),
        pad_mask: PadMask::Zeros(prompt.len()),
        topk_logits: rows(Words::Floats(window.evidence_logits()), EVIDENCE_SLOTS),
        topk_indices: rows(Words::Native(window.evidence_ids()), EVIDENCE_SLOTS),
        logsumexp_stats: rows(Words::Floats(window.stats()), STATS),
    };
    let expected = Expected {
        header_prefix: Some(&payload.header_prefix),
        chain: Chain::assumed(job.proof_version >= 3, payload.difficulty.get()),
        registry: Registry::Absent,
        // One answer serves all windows of a job: whoever receives them keeps it.
        vdf: Vdf::Skip,
    };
    let check = match (purpose, &payload.share_target) {
        (Purpose::Share, Some(share)) => selfcheck::Purpose::Share(share),
        (Purpose::Audit, _) => selfcheck::Purpose::Audit,
        _ => selfcheck::Purpose::Solution,
    };
    let mut scratch = workspace.scratch(&proof, Some(&expected.chain));
    selfcheck(&proof, &expected, check, &mut scratch)?;
    let common = MiningResponseRef {
        req_id: payload.request_id,
        pow_blob: Some(proof),
        completion_id: job.completion_id.as_bytes(),
        ..MiningResponseRef::default()
    };
    let mut message = messages.take();
    if audit {
        common.encode_over(message.bytes_mut())?;
        return Ok(message);
    }
    let commitment = commit(&proof)?;
    let response = MiningResponseRef {
        nonce: digest.nonce(),
        adjusted_bits: payload.header_prefix.bits().to_bits(),
        pow_blob_hash: commitment.root.as_bytes(),
        difficulty: payload.difficulty.saturated_u32(),
        ..common
    };
    response.encode_over(message.bytes_mut())?;
    Ok(message)
}

/// What the proof says beside its evidence: its purpose, and the nonce its draws were made with.
/// spec: proof-encoding §4, admission §3.2
fn extra_flags(
    audit: bool,
    nonce: Option<&AdmissionNonce>,
) -> Result<Cow<'static, [u8]>, MergeError> {
    let flags = if audit { AUDIT_FLAGS } else { NO_FLAGS };
    match nonce {
        None => Ok(Cow::Borrowed(flags)),
        Some(nonce) => merge_to_vec(flags, nonce).map(Cow::Owned),
    }
}

fn rows(words: Words<'_>, width: usize) -> Rows<'_> {
    Rows::Flat { words, width }
}

/// A clock before 1970 reads as 1970: the field is checked by nobody.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
