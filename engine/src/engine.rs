//! The engine side of one process: starts the two threads, lets sequences begin, ends in order.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tensorpow_core::door::json::PayloadError;
use tensorpow_core::door::{self, Payload, Refusal, Requested};

use crate::admission::{Admission, AdmissionError};
use crate::closer::Closing;
use crate::counters::Counters;
use crate::egress::{Deadline, Egress, FLUSH};
use crate::job::Job;
use crate::notice::{Level, Log};
use crate::request::{Exclusion, Exclusions};
use crate::sequence::Sequence;
use crate::settings::Settings;
use crate::windows::Windows;

/// Sequences mined at the same time when nobody says otherwise. spec: sampler §7
const MAX_SEQUENCES: usize = 1024;

/// What the inference engine says about itself. The operator's settings go before it.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Name and version, for logs.
    pub engine: String,
    /// `name@commit` of the loaded model, if known.
    pub model_identifier: Option<String>,
    /// Precision label of the logits, if known.
    pub compute_precision: Option<String>,
    /// Sequences mined at the same time; `None` takes the default of 1024.
    pub max_sequences: Option<usize>,
}

/// A request about to begin.
#[derive(Debug, Clone, Copy)]
pub struct BeginRequest<'a> {
    /// The `pow` member's JSON text.
    pub pow_json: &'a [u8],
    /// Id of the completion as the client sees it; empty when unknown.
    pub completion_id: &'a str,
    /// The request's own sampling fields.
    pub sampling: Requested,
    /// What keeps the request unmined although it has a payload.
    pub exclusions: Exclusions,
    /// The engine's slot, for logs.
    pub slot_id: i32,
    /// Logits in every row.
    pub vocab: usize,
    /// The exact ids the model is fed before the first sampled token.
    pub prompt: &'a [u32],
}

/// Why a request is served without mining. Counted under its label.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NotMined {
    /// The inference engine excludes it.
    Excluded(Exclusion),
    /// The payload cannot be read.
    Payload(PayloadError),
    /// Payload, engine and request do not go together.
    Refused(Refusal),
    /// A prompt entry is no token id: a placeholder for input that is not text.
    PromptToken {
        /// Its position.
        at: usize,
        /// Its value, as the engine holds it.
        id: i32,
    },
    /// As many sequences as allowed are being mined; none of them is disturbed.
    RowLimit {
        /// How many.
        max: usize,
    },
}

impl NotMined {
    /// A short name for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Excluded(why) => why.label(),
            Self::Payload(why) => why.label(),
            Self::Refused(why) => why.label(),
            Self::PromptToken { .. } => "prompt_token",
            Self::RowLimit { .. } => "row_limit",
        }
    }

    /// Labels known beforehand.
    fn labels() -> impl Iterator<Item = &'static str> {
        let own = ["prompt_token", "row_limit", "invalid_argument"];
        Exclusion::labels().chain(PayloadError::labels()).chain(own)
    }
}

impl fmt::Display for NotMined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded(why) => why.fmt(f),
            Self::Payload(why) => why.fmt(f),
            Self::Refused(why) => why.fmt(f),
            Self::PromptToken { at, id } => {
                write!(f, "prompt entry {at} is {id}, which is no token id")
            }
            Self::RowLimit { max } => write!(f, "all {max} rows for mined sequences are taken"),
        }
    }
}

impl std::error::Error for NotMined {}

/// The engine side cannot start; the inference engine serves without it.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gives no thread.
    Thread(std::io::Error),
    /// Windows should be admitted and cannot be.
    Admission(AdmissionError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(why) => write!(f, "no thread: {why}"),
            Self::Admission(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<std::io::Error> for StartError {
    fn from(why: std::io::Error) -> Self {
        Self::Thread(why)
    }
}

impl From<AdmissionError> for StartError {
    fn from(why: AdmissionError) -> Self {
        Self::Admission(why)
    }
}

/// What sequences and the engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Log,
    pub(crate) windows: Windows,
    /// None when no window gets a nonce.
    pub(crate) admission: Option<Admission>,
    proof_version: Option<u8>,
    model_identifier: Option<String>,
    compute_precision: Option<String>,
    max_sequences: usize,
}

/// A running engine side. Dropping it closes the finished windows and sends their proofs, for a
/// second at most; sequences may outlive it, their windows are lost then.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    closing: Closing,
    egress: Egress,
    deadline: Arc<Deadline>,
}

impl Engine {
    /// Starts the threads. No socket is opened before the first proof.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(settings: Settings, identity: Identity, log: Log) -> Result<Self, StartError> {
        let admission = Admission::start(settings.admission, settings.proof_version)?;
        let max_sequences =
            settings.max_sequences.or(identity.max_sequences).unwrap_or(MAX_SEQUENCES);
        let window_queue = settings.window_queue.unwrap_or(max_sequences);
        let counters = Arc::new(Counters::new(NotMined::labels()));
        let deadline = Arc::new(Deadline::default());
        let (egress, sender) = Egress::start(&settings, &counters, &log, &deadline)?;
        let (windows, full) = Windows::new(window_queue, Arc::clone(&counters));
        let shared = Arc::new(Shared {
            counters,
            log,
            windows,
            admission,
            proof_version: settings.proof_version,
            model_identifier: settings.model_identifier.or(identity.model_identifier),
            compute_precision: settings.compute_precision.or(identity.compute_precision),
            max_sequences,
        });
        let closing = Closing::start(&settings.egress, full, sender, &shared, &deadline)?;
        for warning in &settings.warnings {
            shared.log.line(Level::Warning, format_args!("{warning}"));
        }
        let egress_settings = &settings.egress;
        shared.log.line(
            Level::Info,
            format_args!(
                "mining in {}: proofs go to {} ({})",
                if identity.engine.is_empty() { "an unnamed engine" } else { &identity.engine },
                egress_settings.primary,
                egress_settings.mode.as_str(),
            ),
        );
        if let Some(admission) = &shared.admission {
            let threads = admission.threads();
            shared.log.line(
                Level::Info,
                format_args!("every version-3 window seeks admission, threads: {threads}"),
            );
        }
        Ok(Self { shared, closing, egress, deadline })
    }

    /// Begins a sequence, or says why the request is served without mining; that is counted here.
    ///
    /// # Errors
    /// [`NotMined`]: serve the request with the inference engine's own sampler.
    pub fn begin(&self, request: &BeginRequest<'_>) -> Result<Sequence, NotMined> {
        self.try_begin(request).inspect_err(|why| {
            // The first of a kind is worth a line; a busy server would drown in the rest.
            if self.shared.counters.not_mined.add(why.label()) == 1 {
                let slot = request.slot_id;
                let label = why.label();
                self.shared.log.line(
                    Level::Info,
                    format_args!(
                        "slot {slot} is not mined: {why} (further ones count as {label:?})"
                    ),
                );
            }
        })
    }

    fn try_begin(&self, request: &BeginRequest<'_>) -> Result<Sequence, NotMined> {
        if let Some(why) = request.exclusions.first() {
            return Err(NotMined::Excluded(why));
        }
        let payload = Payload::from_json(request.pow_json).map_err(NotMined::Payload)?;
        no_placeholders(request.prompt)?;
        let own = door::Engine {
            proof_version: self.shared.proof_version,
            model_identifier: self.shared.model_identifier.as_deref(),
            compute_precision: self.shared.compute_precision.as_deref(),
        };
        let terms = payload
            .admit(&own, &request.sampling, request.vocab, request.prompt.len())
            .map_err(NotMined::Refused)?;
        let row = self.shared.take_row()?;
        let mined = payload.begin(&terms, request.vocab, request.prompt);
        let job = Job::new(&payload, &terms, mined.closer(), request.completion_id);
        if payload.share_target_unreadable {
            self.shared.counters.share_tier_off.add(1);
        }
        self.shared.counters.started.add(1);
        Ok(Sequence::new(row, mined, job, request))
    }

    /// Counts a request that a binding could not even hand over, under a label of its own.
    pub fn count_not_mined(&self, label: &'static str) {
        self.shared.counters.not_mined.add(label);
    }

    /// Everything that is counted, in the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        if let Some(admission) = &self.shared.admission {
            self.shared.counters.admission_tries.set(admission.tries());
        }
        self.shared.counters.render()
    }
}

/// Engines mark input that is not text by negative ids, which arrive here above 2^31.
fn no_placeholders(prompt: &[u32]) -> Result<(), NotMined> {
    let placeholder = prompt.iter().enumerate().find(|(_, id)| i32::try_from(**id).is_err());
    match placeholder {
        None => Ok(()),
        Some((at, id)) => {
            Err(NotMined::PromptToken { at, id: i32::from_ne_bytes(id.to_ne_bytes()) })
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A binding may drop the engine in places where a panic would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.deadline.set(Instant::now() + FLUSH);
            self.shared.windows.stop_taking();
            self.closing.join(self.deadline.left().unwrap_or(FLUSH));
            self.egress.join(self.deadline.left().unwrap_or(FLUSH));
        }));
    }
}

/// One of the rows for mined sequences, given back when dropped. spec: sampler §7
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) shared: Arc<Shared>,
}

impl Shared {
    /// Takes a row; a living sequence never loses its own. spec: sampler §7
    fn take_row(self: &Arc<Self>) -> Result<Row, NotMined> {
        let max = self.max_sequences;
        if self.counters.active.add_below(max as u64) {
            Ok(Row { shared: Arc::clone(self) })
        } else {
            Err(NotMined::RowLimit { max })
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.shared.counters.active.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_have_the_threads_their_bindings_promise() {
        fn many_threads<T: Send + Sync>() {}
        fn one_thread_at_a_time<T: Send>() {}
        many_threads::<Engine>();
        one_thread_at_a_time::<Sequence>();
    }
}
