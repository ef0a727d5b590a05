//! A mined sequence as a binding holds it: one call per token, a window exchanged every 256.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tensorpow_core::evidence::Evidence;
use tensorpow_core::select::RowScratch;
use tensorpow_core::units::{AdmissionNonce, Draw};
use tensorpow_core::window::{self, StepError, Window};

use crate::admission::{Admission, Search};
use crate::archive::{Archive, Room};
use crate::engine::{BeginRequest, Row, Shared};
use crate::job::Job;
use crate::notice::Level;
use crate::request::EndReason;
use crate::windows::{Blank, Full};

thread_local! {
    /// Working memory of the sequences that this thread samples, one after another.
    static SCRATCH: RefCell<Option<Box<RowScratch>>> = const { RefCell::new(None) };
}

/// The sequence stopped mining. Its text is unharmed: the inference engine chooses this and all
/// further tokens with its own sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped(StepError);

impl Stopped {
    /// A short name for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.0.label()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sequence stopped mining: {}", self.0)
    }
}

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// A mined sequence. Dropping it without [`Sequence::end`] counts as an error of the engine.
#[derive(Debug)]
pub struct Sequence {
    row: Row,
    mined: window::Sequence,
    window: Box<Window>,
    /// Where the window's tokens go when it is full.
    room: Room,
    archive: Archive,
    job: Arc<Job>,
    /// The search for the nonce of the window that comes next; none when it needs none, or has it.
    search: Option<Search>,
    slot_id: i32,
    stopped: Option<Stopped>,
    ended: EndReason,
}

impl Sequence {
    pub(crate) fn new(
        row: Row,
        mined: window::Sequence,
        job: Job,
        request: &BeginRequest<'_>,
    ) -> Self {
        let Blank { window, room } = row.shared.windows.first();
        let mut sequence = Self {
            window,
            room,
            row,
            mined,
            archive: Archive::of_prompt(request.prompt),
            job: Arc::new(job),
            search: None,
            slot_id: request.slot_id,
            stopped: None,
            ended: EndReason::Error,
        };
        sequence.seek_admission();
        sequence
    }

    /// Starts the search for the nonce of the window that comes next. Everything before the window
    /// is known at this moment and not earlier. spec: sampler §10
    fn seek_admission(&mut self) {
        let shared = &self.row.shared;
        let seek = |a: &Admission| a.seek(&self.job, &self.archive, shared);
        self.search = shared.admission.as_ref().and_then(seek);
    }

    /// True when the next [`Sequence::sample`] need not wait for the admission of its window.
    /// Waits for it, `patience` at most. Takes the step's digest, so that an engine which asks before
    /// its forward pass has nothing left to hash when the logits are there. spec: sampler §10
    pub fn ready(&mut self, patience: Duration) -> bool {
        if self.stopped.is_some() {
            return true;
        }
        if let Some(search) = &mut self.search {
            let Some(nonce) = search.wait(patience) else { return false };
            self.admit(nonce);
        }
        self.mined.look_ahead(self.window.nonce());
        true
    }

    /// Waits no longer: a window whose search is still under way is mined without a nonce, and
    /// counts only in the free tier. spec: admission §10.1
    pub fn forgo_admission(&mut self) {
        if !self.ready(Duration::ZERO)
            && let Some(search) = self.search.take()
        {
            search.give_up();
        }
    }

    /// Gives the window its nonce, or none: then it counts only in the free tier.
    fn admit(&mut self, nonce: Option<AdmissionNonce>) {
        self.search = None;
        // Never too late: a search lives only while the window is empty.
        let _ = self.window.set_nonce(nonce);
    }

    /// Chooses the next token from the engine's raw logits and records the step. Called once for
    /// each token the engine keeps. Waits where [`Sequence::ready`] is false. spec: sampler §7
    ///
    /// # Errors
    /// [`Stopped`], from the first row that cannot be mined on.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, Stopped> {
        self.choose(|sequence| sequence.step(logits))
    }

    /// [`Sequence::sample`] on evidence that was taken where the logits are, for example on a GPU.
    ///
    /// # Errors
    /// [`Stopped`], also for evidence that no row of this sequence can have.
    pub fn record(&mut self, evidence: &Evidence) -> Result<u32, Stopped> {
        self.choose(|Self { mined, window, .. }| mined.step_evidence(evidence, window))
    }

    fn choose(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<window::Step, StepError>,
    ) -> Result<u32, Stopped> {
        if let Some(stopped) = self.stopped {
            return Err(stopped);
        }
        if let Some(search) = &mut self.search {
            let nonce = search.wait_to_the_end();
            self.admit(nonce);
        }
        match step(self) {
            Ok(step) => {
                self.shared().counters.tokens.add(1);
                if step.completes_window {
                    self.hand_over();
                }
                Ok(step.token)
            }
            Err(why) => Err(self.stop(Stopped(why))),
        }
    }

    /// The draw of the next token, which is known before its logits are; none while the window
    /// waits for its nonce and after the sequence stopped. spec: sampler §2, §4
    #[must_use]
    pub fn next_draw(&mut self) -> Option<Draw> {
        let known = self.stopped.is_none() && self.search.is_none();
        known.then(|| Draw::from_digest(&self.mined.look_ahead(self.window.nonce())))
    }

    fn step(&mut self, logits: &[f32]) -> Result<window::Step, StepError> {
        let Self { mined, window, .. } = self;
        let mut with = |scratch: &mut Option<Box<RowScratch>>| {
            mined.step(logits, scratch.get_or_insert_default(), window)
        };
        let shared =
            SCRATCH.try_with(|shared| shared.try_borrow_mut().ok().map(|mut own| with(&mut own)));
        // A thread that is ending, or that samples from within sampling, gets memory of its own.
        shared.ok().flatten().unwrap_or_else(|| with(&mut None))
    }

    fn stop(&mut self, stopped: Stopped) -> Stopped {
        self.stopped = Some(stopped);
        self.search = None;
        let shared = self.shared();
        shared.counters.stopped.add(stopped.label());
        let (slot, drawn) = (self.slot_id, self.mined.drawn());
        shared
            .log
            .line(Level::Warning, format_args!("slot {slot}, after {drawn} tokens: {stopped}"));
        stopped
    }

    /// Exchanges the full window for an empty one; everything else happens on another thread. Of
    /// the window only its 256 token ids are copied, for the proofs of the windows to come.
    fn hand_over(&mut self) {
        let ended = Instant::now();
        let shared = Arc::clone(&self.row.shared);
        let Blank { window, room } = shared.windows.take();
        let window = std::mem::replace(&mut self.window, window);
        let room = std::mem::replace(&mut self.room, room);
        let prompt = self.archive.clone();
        if let Ok(tokens) = window.tokens().try_into() {
            self.archive.append(room, tokens);
        }
        if window.dead_at().is_some() {
            // A draw of 1: no verifier takes this window. spec: sampler §4
            shared.counters.windows.add("dead");
            shared.windows.give_back(window);
        } else {
            shared.windows.offer(Full { window, prompt, job: Arc::clone(&self.job), ended });
        }
        self.seek_admission();
    }

    /// Ends the sequence; an incomplete window is discarded. spec: sampler §7
    pub fn end(mut self, reason: EndReason) {
        self.ended = reason;
    }

    /// The precision label its proofs carry, which names the grid of its evidence.
    #[must_use]
    pub fn precision(&self) -> &str {
        &self.job.compute_precision
    }

    /// The temperature that its evidence is taken at.
    #[must_use]
    pub fn temperature(&self) -> f32 {
        self.job.params.temperature
    }

    /// Tokens drawn so far.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.mined.drawn()
    }

    fn shared(&self) -> &Shared {
        &self.row.shared
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        let window = std::mem::take(&mut self.window);
        let shared = self.shared();
        shared.counters.ended.add(self.ended.label());
        if window.filled() > 0 {
            shared.counters.partial.add(1);
        }
        shared.windows.give_back(window);
    }
}
