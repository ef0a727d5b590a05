//! The verifiable delay function: one proof made or judged, and the prover that streams them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use tensorpow_core::units::BlockHash;
use tensorpow_core::vdf::prover::{self, Checkpoints, construct};
use tensorpow_core::vdf::{DISCRIMINANT_BITS, Discriminant, Form, verify};

use crate::arrays::exactly;
use crate::fault::{detached, guarded};

/// Squarings between two looks for Ctrl-C: some tens of milliseconds.
const SLICE: u64 = 8192;
/// Squarings of the longest proof: samplers take the tick as 32 bits. spec: vdf §9
const MOST_TICKS: u64 = u32::MAX as u64;

fn read_challenge(challenge: &[u8]) -> PyResult<BlockHash> {
    exactly(challenge, "challenge").map(BlockHash::from_bytes)
}

/// Does the squarings and returns the proof of them.
#[pyfunction]
pub(crate) fn vdf_prove(
    py: Python<'_>,
    challenge: PyBackedBytes,
    ticks: u64,
) -> PyResult<Bound<'_, PyBytes>> {
    let challenge = read_challenge(&challenge)?;
    if ticks > MOST_TICKS {
        return Err(PyValueError::new_err(format!("ticks is {ticks}, at most {MOST_TICKS}")));
    }
    let failed = |why: String| PyRuntimeError::new_err(why);
    let d = detached(py, || Discriminant::from_challenge(challenge.as_bytes(), DISCRIMINANT_BITS))?
        .map_err(|why| failed(why.to_string()))?;
    let mut checkpoints = guarded(|| Checkpoints::new(Form::generator(&d)))?;
    while checkpoints.tick() < ticks {
        let next = ticks.min(checkpoints.tick() + SLICE);
        detached(py, || checkpoints.square_to(next, &d))?;
        py.check_signals()?;
    }
    let blob = detached(py, || construct(&d, &checkpoints, &|| false))?;
    blob.map(|blob| PyBytes::new(py, &blob)).map_err(|why| failed(why.to_string()))
}

/// Judges a proof as a node does.
#[pyfunction]
pub(crate) fn vdf_verify(
    py: Python<'_>,
    challenge: PyBackedBytes,
    tick: u64,
    blob: PyBackedBytes,
) -> PyResult<bool> {
    let challenge = read_challenge(&challenge)?;
    detached(py, || verify(&challenge, tick, &blob).is_ok())
}

/// A proof that a [`Prover`] made and verified.
#[pyclass(frozen, module = "tensorpow.vdf")]
#[derive(Debug)]
pub(crate) struct Published(prover::Published);

#[pymethods]
impl Published {
    #[getter]
    fn challenge(&self) -> &[u8] {
        self.0.challenge.as_bytes()
    }

    #[getter]
    fn tick(&self) -> u64 {
        self.0.tick
    }

    #[getter]
    fn blob(&self) -> &[u8] {
        &self.0.blob
    }
}

/// Squares in the background and publishes ever later proofs of one challenge.
#[pyclass(frozen, module = "tensorpow.vdf")]
#[derive(Debug)]
pub(crate) struct Prover(Mutex<prover::Prover>);

impl Prover {
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&mut prover::Prover) -> T + Send,
    ) -> PyResult<T> {
        detached(py, || body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl Prover {
    #[new]
    #[pyo3(signature = (challenge, *, chunk = 32_768, threads = 1))]
    fn new(py: Python<'_>, challenge: PyBackedBytes, chunk: u64, threads: u32) -> PyResult<Self> {
        let challenge = read_challenge(&challenge)?;
        let settings = prover::Settings { chunk, threads, ..prover::Settings::default() };
        let started = detached(py, || prover::Prover::start(challenge, settings))?;
        started.map(|prover| Self(Mutex::new(prover))).map_err(PyOSError::new_err)
    }

    /// The latest proof of the current challenge; waits for the first, `wait_s` at most.
    #[pyo3(signature = (wait_s = 0.0))]
    fn latest(&self, py: Python<'_>, wait_s: f64) -> PyResult<Option<Published>> {
        let mut patience = Duration::try_from_secs_f64(wait_s)
            .map_err(|_| PyValueError::new_err(format!("wait_s is {wait_s}, no time to wait")))?;
        loop {
            let latest = self.run(py, |prover| prover.latest())?;
            if latest.is_some() || patience.is_zero() {
                return Ok(latest.map(Published));
            }
            let nap = patience.min(Duration::from_millis(20));
            patience -= nap;
            detached(py, || std::thread::sleep(nap))?;
            py.check_signals()?;
        }
    }

    /// Turns to another challenge.
    fn reset(&self, py: Python<'_>, challenge: PyBackedBytes) -> PyResult<()> {
        let challenge = read_challenge(&challenge)?;
        self.run(py, |prover| prover.reset(challenge))
    }

    /// Squarings done for the current challenge.
    #[getter]
    fn ticks(&self, py: Python<'_>) -> PyResult<u64> {
        self.run(py, |prover| prover.progress().ticks)
    }

    /// Ends all work.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.run(py, prover::Prover::stop)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.stop(py)
    }
}
