//! One step of many sequences: every row of a batch on its own thread of a pool, the interpreter
//! released, the logits read where they lie.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::MutexGuard;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tensorpow_core::evidence::Evidence;
use tensorpow_engine::Stopped;

use crate::arrays::Rows;
use crate::fault::{self, detached, labelled, stopped};
use crate::sequence::{Sequence, State};

/// How a row went.
enum Outcome {
    Token(u32),
    Stopped(Stopped),
    /// A defect of ours; only this row's sequence is lost.
    Dead,
}

impl Outcome {
    fn of(
        state: &mut State,
        step: impl FnOnce(&mut tensorpow_engine::Sequence) -> Result<u32, Stopped>,
    ) -> Self {
        match catch_unwind(AssertUnwindSafe(|| state.call(step))) {
            Ok(Some(Ok(token))) => Self::Token(token),
            Ok(Some(Err(why))) => Self::Stopped(why),
            // Living sequences only come here, so the first is a panic's leftover too.
            Ok(None) | Err(_) => Self::Dead,
        }
    }

    /// The token, or the exception as a value.
    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let error = match self {
            Self::Token(token) => return Ok(token.into_pyobject(py)?.into_any().unbind()),
            Self::Stopped(why) => stopped(py, &why),
            Self::Dead => {
                let error = fault::Stopped::new_err("an internal error ended this sequence");
                labelled(py, error, "internal_error")
            }
        };
        Ok(error.into_value(py).into_any())
    }
}

/// Samples `sequences[i]` from row `rows[i]`, or row `i`.
pub(crate) fn sample(
    py: Python<'_>,
    pool: &ThreadPool,
    sequences: &[PyRef<'_, Sequence>],
    logits: &Bound<'_, PyAny>,
    rows: Option<Vec<usize>>,
) -> PyResult<Vec<Py<PyAny>>> {
    let array = Rows::of(logits)?;
    let all = array.rows()?;
    let wanted = rows.unwrap_or_else(|| (0..sequences.len()).collect());
    if wanted.len() != sequences.len() {
        let message = format!("{} rows for {} sequences", wanted.len(), sequences.len());
        return Err(PyValueError::new_err(message));
    }
    let row = |at: usize| {
        let none = || format!("row {at} is wanted, the logits have {}", all.len());
        all.get(at).copied().ok_or_else(|| PyValueError::new_err(none()))
    };
    let rows = wanted.into_iter().map(row).collect::<PyResult<Vec<_>>>()?;
    step(py, pool, sequences, rows, |sequence, row| sequence.sample(row))
}

/// Records `evidence[i]`, taken where the logits are, as the step of `sequences[i]`.
pub(crate) fn record(
    py: Python<'_>,
    pool: &ThreadPool,
    sequences: &[PyRef<'_, Sequence>],
    evidence: &[Evidence],
) -> PyResult<Vec<Py<PyAny>>> {
    if evidence.len() != sequences.len() {
        let message = format!("evidence of {} rows for {}", evidence.len(), sequences.len());
        return Err(PyValueError::new_err(message));
    }
    let evidence = evidence.iter().collect();
    step(py, pool, sequences, evidence, |sequence, taken| sequence.record(taken))
}

/// Steps every sequence on its own input.
fn step<T: Send>(
    py: Python<'_>,
    pool: &ThreadPool,
    sequences: &[PyRef<'_, Sequence>],
    inputs: Vec<T>,
    one: impl Fn(&mut tensorpow_engine::Sequence, T) -> Result<u32, Stopped> + Send + Sync,
) -> PyResult<Vec<Py<PyAny>>> {
    // A sequence that is named twice is in use when its second turn comes.
    let locked = sequences.iter().map(|sequence| {
        let state = sequence.lock()?;
        state.check().map(|()| state)
    });
    let mut locked = locked.collect::<PyResult<Vec<MutexGuard<'_, State>>>>()?;
    let work: Vec<_> = locked.iter_mut().map(|state| &mut **state).zip(inputs).collect();
    let outcomes: Vec<Outcome> = detached(py, || {
        let step = |(state, input)| Outcome::of(state, |sequence| one(sequence, input));
        if work.len() < 2 {
            work.into_iter().map(step).collect()
        } else {
            pool.install(|| work.into_par_iter().map(step).collect())
        }
    })?;
    outcomes.into_iter().map(|outcome| outcome.into_python(py)).collect()
}
