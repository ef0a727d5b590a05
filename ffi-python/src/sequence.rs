//! A mined request as Python holds it. One thread at a time may use it; a second one is told so
//! and waits for nothing.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tensorpow_engine::EndReason;

use crate::arrays;
use crate::fault::{detached, stopped};
use crate::step::Evidence;

/// A mined request.
#[pyclass(frozen, module = "tensorpow")]
#[derive(Debug)]
pub(crate) struct Sequence {
    state: Mutex<State>,
    vocab: usize,
}

/// What a call works on.
#[derive(Debug)]
pub(crate) struct State {
    /// None after the end.
    sequence: Option<tensorpow_engine::Sequence>,
    /// A call panicked; what it left behind is not used again.
    dead: bool,
}

impl State {
    /// The sequence, which is dead from here on unless the call comes back from `body`.
    pub(crate) fn call<T>(
        &mut self,
        body: impl FnOnce(&mut tensorpow_engine::Sequence) -> T,
    ) -> Option<T> {
        let sequence = self.sequence.as_mut()?;
        self.dead = true;
        let outcome = body(sequence);
        self.dead = false;
        Some(outcome)
    }

    pub(crate) fn check(&self) -> PyResult<()> {
        match (&self.sequence, self.dead) {
            (None, _) => Err(PyRuntimeError::new_err("the sequence has ended")),
            (Some(_), true) => {
                Err(PyRuntimeError::new_err("an internal error ended this sequence; end it"))
            }
            (Some(_), false) => Ok(()),
        }
    }
}

impl Sequence {
    pub(crate) fn new(sequence: tensorpow_engine::Sequence, vocab: usize) -> Self {
        Self { state: Mutex::new(State { sequence: Some(sequence), dead: false }), vocab }
    }

    /// The state, for this call alone. Never waits: whoever holds it may wait for the interpreter.
    pub(crate) fn lock(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            // The panic is remembered in `dead`.
            Err(TryLockError::Poisoned(state)) => Ok(state.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(PyRuntimeError::new_err("the sequence is in use by another call"))
            }
        }
    }

    /// Asks a living sequence what it knows at once.
    fn about<T>(&self, ask: impl FnOnce(&tensorpow_engine::Sequence) -> T) -> PyResult<T> {
        let state = self.lock()?;
        state.check()?;
        let ended = || PyRuntimeError::new_err("the sequence has ended");
        state.sequence.as_ref().map(ask).ok_or_else(ended)
    }

    /// Runs a call on a living sequence while other Python threads run.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&mut tensorpow_engine::Sequence) -> T + Send,
    ) -> PyResult<T> {
        let mut guard = self.lock()?;
        guard.check()?;
        let state = &mut *guard;
        let outcome = detached(py, || state.call(body))?;
        outcome.ok_or_else(|| PyRuntimeError::new_err("the sequence has ended"))
    }
}

#[pymethods]
impl Sequence {
    /// Chooses the next token from the raw logits of the last position.
    fn sample(&self, py: Python<'_>, logits: &Bound<'_, PyAny>) -> PyResult<u32> {
        let row = arrays::Row::of(logits)?;
        let logits = row.logits()?;
        self.run(py, |sequence| sequence.sample(logits))?.map_err(|why| stopped(py, &why))
    }

    /// Chooses the next token from evidence that was taken elsewhere.
    fn record(&self, py: Python<'_>, evidence: &Evidence) -> PyResult<u32> {
        let evidence = &evidence.0;
        self.run(py, |sequence| sequence.record(evidence))?.map_err(|why| stopped(py, &why))
    }

    /// True when the next token can be chosen at once.
    #[pyo3(signature = (wait_s = 0.0))]
    fn ready(&self, py: Python<'_>, wait_s: f64) -> PyResult<bool> {
        let patience = Duration::try_from_secs_f64(wait_s)
            .map_err(|_| PyValueError::new_err(format!("wait_s is {wait_s}, no time to wait")))?;
        self.run(py, |sequence| sequence.ready(patience))
    }

    /// Mines the coming window without a nonce if its search has not ended.
    fn forgo_admission(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, tensorpow_engine::Sequence::forgo_admission)
    }

    /// The draw of the next token, which is known before its logits are.
    fn next_u(&self, py: Python<'_>) -> PyResult<Option<f32>> {
        self.run(py, |sequence| sequence.next_draw().map(|draw| draw.get()))
    }

    /// Tokens drawn so far.
    #[getter]
    fn drawn(&self) -> PyResult<u64> {
        self.about(tensorpow_engine::Sequence::drawn)
    }

    /// The precision label of the proofs.
    #[getter]
    fn precision(&self) -> PyResult<String> {
        self.about(|sequence| sequence.precision().to_owned())
    }

    /// The temperature of the evidence.
    #[getter]
    fn temperature(&self) -> PyResult<f32> {
        self.about(tensorpow_engine::Sequence::temperature)
    }

    /// Logits in every row.
    #[getter]
    fn vocab(&self) -> usize {
        self.vocab
    }

    /// Ends the request; a window it leaves incomplete is discarded. Later ends do nothing.
    #[pyo3(signature = (reason = "finished"))]
    fn end(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let reason = match reason {
            "finished" => EndReason::Finished,
            "cancelled" => EndReason::Cancelled,
            "error" => EndReason::Error,
            "continuity_lost" => EndReason::ContinuityLost,
            other => {
                let message = format!(
                    "a request ends as finished, cancelled, error or continuity_lost, not {other:?}"
                );
                return Err(PyValueError::new_err(message));
            }
        };
        let Some(sequence) = self.lock()?.sequence.take() else { return Ok(()) };
        detached(py, || sequence.end(reason))
    }
}
