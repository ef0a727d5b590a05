//! Admission in the runtime: which windows get a nonce, the threads that search for it, and a
//! sequence's hold on its search. A window without one is mined all the same; it counts if its
//! credited entropy reaches the free tier. spec: sampler §10, admission §10

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tensorpow_core::admission::grind::{self, State};
use tensorpow_core::admission::pool::{Pool, Ticket, default_threads, random_nonce};
use tensorpow_core::admission::{
    FirstStep, Memory, Message, MessageError, PromptError, PuzzleParams, SELF_TEST_MESSAGE,
    SelfTestError, TriesError, expected_tries, max_tries, message_length, prompt_commitment,
    self_test, target,
};
use tensorpow_core::context::Context;
use tensorpow_core::proof::Words;
use tensorpow_core::units::{AdmissionNonce, Tick};

use crate::archive::Archive;
use crate::counters::Counters;
use crate::engine::Shared;
use crate::job::Job;
use crate::notice::Level;
use crate::settings::{AdmissionMode, AdmissionSettings};

/// How long a wait without an end lasts before it looks again.
const LONG: Duration = Duration::from_secs(3600);

/// Why no window can be admitted: the engine refuses to start.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdmissionError {
    /// This machine does not grind as it should.
    SelfTest(SelfTestError),
    /// The operating system gives no thread.
    Threads(io::Error),
    /// The operating system gives no random numbers, which every search begins with.
    Randomness(io::Error),
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfTest(why) => why.fmt(f),
            Self::Threads(why) => write!(f, "no thread for the admission grinder: {why}"),
            Self::Randomness(why) => write!(f, "no randomness for the admission grinder: {why}"),
        }
    }
}

impl std::error::Error for AdmissionError {}

/// The grinder of a runtime.
#[derive(Debug)]
pub(crate) struct Admission {
    pool: Pool,
    max_tries_factor: u32,
}

/// Why a window is mined without a nonce although it should have one.
#[derive(Debug)]
enum Unsought {
    Tries(TriesError),
    Prompt(PromptError),
    Message(MessageError),
    Randomness(io::Error),
}

impl Unsought {
    fn label(&self) -> &'static str {
        match self {
            Self::Tries(_) => "no_difficulty",
            Self::Prompt(_) | Self::Message(_) => "no_message",
            Self::Randomness(_) => "no_randomness",
        }
    }
}

impl fmt::Display for Unsought {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tries(why) => why.fmt(f),
            Self::Prompt(why) => why.fmt(f),
            Self::Message(why) => why.fmt(f),
            Self::Randomness(why) => write!(f, "no randomness: {why}"),
        }
    }
}

impl Admission {
    /// Starts the grinder, if one is wanted, after its self-test. A runtime that only mines
    /// version 3 is tested in any case. spec: admission §10.3
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub(crate) fn start(
        settings: AdmissionSettings,
        own_version: Option<u8>,
    ) -> Result<Option<Self>, AdmissionError> {
        let wanted =
            settings.mode == AdmissionMode::Always && own_version.is_none_or(|own| own >= 3);
        if wanted || own_version.is_some_and(|own| own >= 3) {
            let start = random_nonce().map_err(AdmissionError::Randomness)?;
            let mut memory = Memory::new();
            self_test(start, &mut memory.scratch(SELF_TEST_MESSAGE))
                .map_err(AdmissionError::SelfTest)?;
        }
        if !wanted {
            return Ok(None);
        }
        let threads = settings.threads.unwrap_or_else(default_threads);
        let pool = Pool::new(threads).map_err(AdmissionError::Threads)?;
        Ok(Some(Self { pool, max_tries_factor: settings.max_tries_factor }))
    }

    /// Threads that search.
    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Attempts made so far.
    pub(crate) fn tries(&self) -> u64 {
        self.pool.counts().tries
    }

    /// Begins the search for the nonce of the window that comes after `archive`. None for a window
    /// that gets none: another version, an audit, a puzzle that cannot be set.
    /// spec: sampler §10
    pub(crate) fn seek(&self, job: &Job, archive: &Archive, shared: &Shared) -> Option<Search> {
        if job.proof_version < 3 || job.payload.audit_emit {
            return None;
        }
        match self.submit(job, archive) {
            Ok(ticket) => Some(Search::begin(ticket, &shared.counters)),
            Err(why) => {
                // The first of a kind is worth a line.
                if shared.counters.admission.add(why.label()) == 1 {
                    let line = format_args!("a window is mined without a nonce: {why}");
                    shared.log.line(Level::Warning, line);
                }
                None
            }
        }
    }

    fn submit(&self, job: &Job, archive: &Archive) -> Result<Ticket, Unsought> {
        let difficulty = job.payload.difficulty.get();
        let expected =
            expected_tries(difficulty, &PuzzleParams::NETWORK).map_err(Unsought::Tries)?;
        let tokens = archive.to_vec();
        let commitment =
            prompt_commitment(Words::Native(&tokens), None).map_err(Unsought::Prompt)?;
        let first_step = FirstStep {
            header: job.payload.header_prefix.as_bytes(),
            vdf: job.payload.vdf.as_bytes(),
            tick: Tick(job.payload.tick.into()),
            context: &Context::of_prompt(&tokens),
            precision: job.compute_precision.as_bytes(),
        };
        let model = job.model_identifier.as_bytes();
        let mut message = vec![0; message_length(first_step.length(), model.len())];
        Message::build(&mut message, &first_step, &commitment, model).map_err(Unsought::Message)?;
        let search = grind::Search {
            message: message.into(),
            target: target(expected),
            max_tries: max_tries(expected, self.max_tries_factor),
        };
        let start = random_nonce().map_err(Unsought::Randomness)?;
        Ok(self.pool.submit(search, start))
    }
}

/// A window's search under way. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct Search {
    ticket: Ticket,
    counters: Arc<Counters>,
    outcome: &'static str,
}

impl Search {
    fn begin(ticket: Ticket, counters: &Arc<Counters>) -> Self {
        counters.admission_searches.add(1);
        Self { ticket, counters: Arc::clone(counters), outcome: "cancelled" }
    }

    /// The window's nonce, or that it gets none; `None` when the search has not ended within
    /// `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<Option<AdmissionNonce>> {
        let State::Ready(nonce) = self.ticket.wait(patience) else { return None };
        self.outcome = if nonce.is_some() { "found" } else { "not_found" };
        Some(nonce)
    }

    /// Ends the search without a result.
    pub(crate) fn give_up(mut self) {
        self.outcome = "given_up";
    }

    /// The window's nonce, or that it gets none. The attempts are limited, so the wait is too.
    pub(crate) fn wait_to_the_end(&mut self) -> Option<AdmissionNonce> {
        loop {
            if let Some(nonce) = self.wait(LONG) {
                return nonce;
            }
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.counters.admission_searches.sub(1);
        self.counters.admission.add(self.outcome);
    }
}
